"""JUnit XML: one suite per environment and phase, from which a table of verdicts can be read back (layer 2; pure)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from suites.framework.results.escaping import visible
from suites.framework.results.result import Result, Verdict

FAILURES = frozenset({Verdict.FAILED, Verdict.XPASSED})
"""Verdicts that become ``<failure>``; errored becomes ``<error>``, the others ``<skipped>`` or nothing."""


def suites(results: Iterable[Result]) -> dict[str, str]:
    """Return the text of a file for every suite, by its name ``<environment>.<phase>``."""
    groups = _grouped(results)
    return {name: _document([_suite(name, groups[name])]) for name in sorted(groups)}


def merged(results: Iterable[Result]) -> str:
    """Return one file with every suite."""
    groups = _grouped(results)
    return _document([_suite(name, groups[name]) for name in sorted(groups)])


def _grouped(results: Iterable[Result]) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[f"{result.environment}.{result.phase}"].append(result)
    return groups


def _document(found: Sequence[ET.Element]) -> str:
    root = ET.Element("testsuites", name="seatrial")
    root.extend(found)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in found)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


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
    if result.flaky:
        yield "flaky", " ".join(result.attempts)


def _verdict(case: ET.Element, result: Result) -> None:
    match result.verdict:
        case Verdict.PASSED:
            return
        case Verdict.FAILED:
            element = ET.SubElement(case, "failure", type=result.reason or "failed")
        case Verdict.XPASSED:
            element = ET.SubElement(case, "failure", type="xpass")
        case Verdict.ERRORED:
            element = ET.SubElement(case, "error", type=result.reason or "errored")
        case Verdict.XFAILED:
            element = ET.SubElement(case, "skipped", type="xfail")
        case Verdict.INCONCLUSIVE:
            element = ET.SubElement(case, "skipped", type="inconclusive")
        case Verdict.SKIPPED:
            element = ET.SubElement(case, "skipped", type="skip")
    element.set("type", visible(element.get("type", "")))
    element.set("message", visible(result.message or result.reason or result.verdict))
    element.text = _difference(result) or None


def _difference(result: Result) -> str:
    if not (result.expected or result.actual):
        return ""
    return visible(f"expected: {result.expected}\nactual:   {result.actual}")


def _evidence(result: Result) -> str:
    return "\n".join(f"--- {visible(piece.title)} ---\n{visible(piece.text)}" for piece in result.evidence)
