"""What must agree in every run directory, however its run ended: announced, events, JUnit, verdict and summary."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema

from suites.framework.results import schema

VALIDATORS = {name: jsonschema.Draft202012Validator(document) for name, document in schema.documents().items()}
PLACES = {
    "run.json": "run.json",
    "verdict.json": "verdict.json",
    "*/facts*.json": "facts.json",
    "*/session.json": "session.json",
    "*/artefacts/*.manifest.json": "manifest.json",
}
LINES = {"*/events/*.jsonl": "events.json", "*/metrics/*.jsonl": "metrics.json"}

Node = tuple[str, str, str]
"""Environment, phase and node."""


@dataclass
class Told:
    """What the event files of a run say, read here once more without the code under test."""

    announced: set[Node] = field(default_factory=set)
    ended: dict[Node, list[str]] = field(default_factory=dict)
    torn: int = 0


def invalid(run: Path) -> Iterator[str]:
    """Yield every file and line of a run that its published schema refuses."""
    for pattern, name in PLACES.items():
        for path in sorted(run.glob(pattern)):
            yield from _refused(name, json.loads(path.read_bytes()), path)
    for pattern, name in LINES.items():
        for path in sorted(run.glob(pattern)):
            for line in path.read_bytes().split(b"\n")[:-1]:
                yield from _refused(name, json.loads(line), path)


def _refused(name: str, value: Any, path: Path) -> Iterator[str]:
    yield from (f"{path}: {error.message[:200]}" for error in VALIDATORS[name].iter_errors(value))


def told(run: Path) -> Told:
    """Return what was announced and how it ended."""
    found = Told()
    for path in sorted(run.glob("*/events/*.jsonl")):
        *lines, rest = path.read_bytes().split(b"\n")
        found.torn += bool(rest)
        where = path.parent.parent.name, path.name.partition(".")[0]
        for line in map(json.loads, lines):
            if line["event"] == "planned":
                found.announced.add((*where, line["node"]))
            elif line["event"] == "ended":
                found.ended.setdefault((*where, line["node"]), []).append(line["outcome"])
    return found


def cases(document: Path) -> list[tuple[Node, str]]:
    """Return node and tag of verdict of every test case of a JUnit file."""
    found = []
    for suite in ET.parse(document).getroot().iter("testsuite"):
        environment, _, phase = str(suite.get("name")).partition(".")
        listed = list(suite.iter("testcase"))
        for case in listed:
            properties = {each.get("name"): str(each.get("value")) for each in case.iter("property")}
            tags = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
            assert len(tags) <= 1, f"{properties['node']} has {tags}"
            found.append(((environment, phase, properties["node"]), tags[0] if tags else "passed"))
        counted = Counter(tag for _, tag in found[len(found) - len(listed) :])
        said = [int(suite.get(name, "-1")) for name in ("tests", "failures", "errors", "skipped")]
        assert said == [len(listed), counted["failure"], counted["error"], counted["skipped"]], f"{document}: {said}"
    return found


def disagreements(run: Path) -> Iterator[str]:
    """Yield everything in which announcements, ends, JUnit, verdict.json and summary.md of a run differ."""
    events, merged = told(run), cases(run / "results/junit.xml")
    junit = dict(merged)
    nodes = events.announced | events.ended.keys()
    yield from (f"{node} is lost" for node in sorted(nodes - junit.keys()))
    made_up = [node for node in junit.keys() - nodes if not node[2].startswith("(worker ")]
    yield from (f"{node} was never announced" for node in sorted(made_up))
    for node in sorted(events.announced - events.ended.keys()):
        if junit.get(node) != "error":
            yield f"{node} has no end and is {junit.get(node)}"
    if len(merged) != len(junit):
        yield "a node stands twice in junit.xml"
    each = [
        found for path in sorted((run / "results").glob("*.xml")) if path.name != "junit.xml" for found in cases(path)
    ]
    if Counter(each) != Counter(merged):
        yield "junit.xml is not the sum of its suites"
    yield from _verdict(run, junit.items())


def _verdict(run: Path, junit: Iterable[tuple[Node, str]]) -> Iterator[str]:
    verdict = json.loads((run / "verdict.json").read_bytes())
    counted = verdict["counts"]
    tags = Counter(tag for (_, phase, _), tag in junit if phase == "test")
    said = {
        "passed": counted["passed"],
        "failure": counted["failed"] + counted["xpassed"],
        "error": counted["errored"],
        "skipped": counted["skipped"] + counted["xfailed"] + counted["inconclusive"],
    }
    if not counted["standby"] and {name: tags[name] for name in said} != said:
        yield f"verdict.json counts {said}, JUnit {dict(tags)}"
    heading = (run / "summary.md").read_text().splitlines()[0]
    if heading != f"# Seatrial: {verdict['exit']} (exit {verdict['exit_code']})":
        yield f"summary.md says {heading!r}"
    page = run / "report.html"
    if page.exists() and not re.search(rf"exit\D{{0,20}}{verdict['exit_code']}\b", page.read_text()):
        yield "report.html does not say the exit code"
