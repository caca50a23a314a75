"""JUnit XML: one suite per environment and phase, from which a table of verdicts can be read back (layer 2; pure)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import assert_never

from suites.framework.results import packages
from suites.framework.results.escaping import visible
from suites.framework.results.result import Result, Verdict

FAILURES = frozenset({Verdict.FAILED, Verdict.XPASSED})
"""Verdicts that become ``<failure>``; errored becomes ``<error>``, the others ``<skipped>`` or nothing."""


MERGED = "junit"
"""Name of the document that holds all suites."""


def documents(results: Iterable[Result]) -> dict[str, str]:
    """Return the text of one file for every suite by its name ``<environment>.<phase>``, and of `MERGED`."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[f"{result.environment}.{result.phase}"].append(result)
    found = {name: _suite(name, groups[name]) for name in sorted(groups)}
    written = {name: _written(suite) for name, suite in found.items()}
    own = {name: _document([suite], [written[name]]) for name, suite in found.items()}
    return own | {MERGED: _document(list(found.values()), list(written.values()))}


def _written(suite: ET.Element) -> str:
    ET.indent(suite, level=1)
    return f"  {ET.tostring(suite, encoding='unicode')}\n"


def _document(suites: Sequence[ET.Element], written: Sequence[str]) -> str:
    root = ET.Element("testsuites", name="seatrial")
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    root.text = "\n"
    begin, end = ET.tostring(root, encoding="unicode").split("\n")
    return "\n".join(('<?xml version="1.0" encoding="utf-8"?>', begin, f"{''.join(written)}{end}", ""))


def _suite(name: str, results: Sequence[Result]) -> ET.Element:
    suite = ET.Element("testsuite", name=visible(name))
    suite.extend(_case(result) for result in results)
    suite.set("tests", str(len(results)))
    suite.set("failures", str(sum(result.verdict in FAILURES for result in results)))
    suite.set("errors", str(sum(result.verdict is Verdict.ERRORED for result in results)))
    suite.set("skipped", str(sum(_is_skipped(result) for result in results)))
    suite.set("time", f"{sum(result.wall_s for result in results):.6f}")
    with suppress(OverflowError, ValueError, OSError):  # a foreign clock may have said anything
        began = datetime.fromtimestamp(min(result.t for result in results), UTC)
        suite.set("timestamp", began.strftime("%Y-%m-%dT%H:%M:%S"))
    return suite


def _is_skipped(result: Result) -> bool:
    return result.verdict in (Verdict.SKIPPED, Verdict.XFAILED, Verdict.INCONCLUSIVE)


def _case(result: Result) -> ET.Element:
    file, _, name = result.node.partition("::")
    case = ET.Element("testcase", name=visible(name or result.node), time=f"{result.wall_s:.6f}")
    case.set("classname", visible(file.removesuffix(".py").replace("/", ".") if name else result.phase))
    if result.file:
        case.set("file", visible(result.file))
        case.set("line", str(result.line))
    properties = ET.SubElement(case, "properties")
    for key, value in _properties(result):
        ET.SubElement(properties, "property", name=visible(key), value=visible(value))
    _verdict(case, result)
    if result.evidence:
        ET.SubElement(case, "system-out").text = _evidence(result)
    return case


def _properties(result: Result) -> Iterable[tuple[str, str]]:
    yield from (("case", case) for case in result.cases)
    yield "target", result.shown_target
    yield "kind", result.kind
    yield "environment", result.environment
    yield "mode", result.mode
    yield "reason", result.reason
    yield "node", result.node
    yield "parameter", result.parameter
    yield "role", result.role.value
    for tests in packages.tests([result]):
        yield "package", tests.package
        yield from ((f"tests.{word}", str(getattr(tests, word))) for word in packages.OUTCOMES)
    if result.flaky:
        yield "flaky", " ".join(result.attempts)


def _verdict(case: ET.Element, result: Result) -> None:
    if found := _element(result):
        tag, kind = found
        element = ET.SubElement(case, tag, type=visible(kind))
        element.set("message", visible(result.message or result.reason or result.verdict))
        element.text = _difference(result) or None


def _element(result: Result) -> tuple[str, str] | None:
    """Return the tag and type that stand for a verdict."""
    match result.verdict:
        case Verdict.PASSED:
            return None
        case Verdict.FAILED:
            return "failure", result.reason or "failed"
        case Verdict.XPASSED:
            return "failure", "xpass"
        case Verdict.ERRORED:
            return "error", result.reason or "errored"
        case Verdict.XFAILED:
            return "skipped", "xfail"
        case Verdict.INCONCLUSIVE:
            return "skipped", "inconclusive"
        case Verdict.SKIPPED:
            return "skipped", "skip"
        case unknown:
            assert_never(unknown)


def _difference(result: Result) -> str:
    if not (result.expected or result.actual):
        return ""
    return visible(f"expected: {result.expected}\nactual:   {result.actual}")


def _evidence(result: Result) -> str:
    return "\n".join(f"--- {visible(piece.title)} ---\n{visible(piece.text)}" for piece in result.evidence)
