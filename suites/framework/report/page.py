"""The page: a view and its summary given to the template (layer 2; pure, the same view gives the same bytes)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from suites.framework.errors import ExitCode
from suites.framework.facts import Finding
from suites.framework.model import Role
from suites.framework.report import against as earlier
from suites.framework.report import grid, plots, words
from suites.framework.report.failure import Failures, failures, name, where
from suites.framework.report.privileges import privileges
from suites.framework.results import handlers, packages, parity, reproduction
from suites.framework.results.gates import Colour
from suites.framework.results.known import known
from suites.framework.results.plan import plan
from suites.framework.results.result import Result, Verdict
from suites.framework.results.terminal import Command, HowTo, no_howto
from suites.framework.results.verdict import Summary
from suites.framework.results.view import (
    HOST,
    View,
    counts,
    described,
    interrupted,
    leaks_line,
    logs_line,
    pace_lines,
    skip_groups,
)

TEMPLATE = "page.html.j2"
OFFENCES = 15
"""Offences of a gate, and rows of a list of differences, that are named."""
SLOWEST = 15
STEPS = 200
"""Steps of packages that are shown of one environment."""
KNOWN = 300
"""Reasons for which targets failed as expected."""
GROUPS = 60
"""Reasons of skips that are shown, and targets of the matrix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One target in one environment; `anchor` is where its first failure is explained."""

    text: str
    symbol: str
    tone: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What was probed in one environment, or on the host."""

    anchor: str
    name: str
    findings: tuple[Finding, ...]
    absent: int


def render(
    view: View,
    summary: Summary,
    *,
    command: Command | None = None,
    howto: HowTo = no_howto,
    against: View | None = None,
) -> str:
    """Return the text of report.html, compared with the run `against` where there is one."""
    again = command or (lambda result: reproduction.command(result, argv=view.run.argv))
    expected = known(view.results)
    explained = failures(view.problems, command=again, howto=howto)
    word, symbol, tone = words.EXITS[summary.exit_code]
    sheets = _sheets(view)
    return (
        _templates()
        .get_template(TEMPLATE)
        .render(
            view=view,
            summary=summary,
            word=word,
            symbol=symbol,
            tone=tone,
            code=int(summary.exit_code),
            counted=described(summary.counts) if summary.counts.planned else "no case was planned",
            start=words.moment(view.run.start),
            interrupted=interrupted(view),
            conclusions=_conclusions(view),
            gates=_gates(summary),
            matrix=_matrix(view, explained),
            environments=_environments(view),
            privileges=privileges(view.results),
            plan=plan(view.results),
            facts={sheet.name: sheet.anchor for sheet in sheets},
            failures=explained,
            skips=skip_groups(view)[:GROUPS],
            skips_more=len(skip_groups(view)[GROUPS:]),
            known=expected[:KNOWN],
            known_more=len(expected[KNOWN:]),
            leaks=leaks_line(view).partition(": ")[2],
            artefacts=parity.parities(view.artefacts),
            leaking=[result for result in view.problems if result.reason == "leak"][:OFFENCES],
            difference=_difference(view, against),
            curves=_curves(view),
            loads=_loads(view),
            tested=packages.tests(view.results),
            durations=_durations(view),
            pace=(*pace_lines(view), *handlers.lines(view)),
            slowest=_slowest(view),
            sheets=sheets,
            groups=grid.groups(view.results, explained.anchors),
            subjects=_subjects(view),
            logs=logs_line(view),
        )
    )


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=words.shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "line": words.line,
        "clipped": words.clipped,
        "seconds": words.seconds,
        "size": words.size,
        "moment": words.moment,
        "identity": id,
        "case": name,
        "where": where,
        "verdict": lambda result: f"{words.symbol(result)} {words.verdict_word(result)}",
        "tone": words.verdict_tone,
    }
    return made


def _environments(view: View) -> list[str]:
    found = {result.environment for result in view.results} | set(view.conclusions)
    return sorted(found, key=lambda at: (at == HOST, at))


def _conclusions(view: View) -> list[dict[str, Any]]:
    """Return how the sessions ended that ended otherwise than by their results."""
    labels = {ExitCode.CANNOT_RUN: "cannot run here", ExitCode.INTERRUPTED: "interrupted"}
    return [
        {
            "name": at,
            "code": found.code,
            "label": labels.get(ExitCode(found.code), "broken") if found.code in set(ExitCode) else "ended",
            "reason": found.reason,
        }
        for at, found in sorted(view.conclusions.items())
        if found.code not in (ExitCode.GREEN, ExitCode.FAILED, ExitCode.GATE)
    ]


def _gates(summary: Summary) -> list[dict[str, Any]]:
    return [
        {
            "name": gate,
            "red": found.colour is Colour.RED,
            "offences": [] if gate == "passed" else found.offences[:OFFENCES],
            "count": len(found.offences),
            "more": 0 if gate == "passed" else len(found.offences[OFFENCES:]),
        }
        for gate, found in summary.gates.items()
    ]


def _matrix(view: View, explained: Failures) -> list[dict[str, Any]]:
    cells: dict[tuple[bool, str, str], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in view.results:
        cells[_row(result)][result.environment].append(result)
    names = _environments(view)
    return [
        {
            "target": words.line(" ".join(key[1:])),
            "step": key[0],
            "cells": [_cell(cells[key].get(at, ()), explained) for at in names],
        }
        for key in sorted(cells, key=lambda key: (key[0], key[2] == f"({Role.CONTROL})", key))
    ]


def _row(result: Result) -> tuple[bool, str, str]:
    if not result.target:
        return True, f"({result.phase})", ""
    role = "" if result.role is Role.TARGET else f"({result.role})"
    return False, result.shown_target, role.replace(f"({Role.STANDBY})", "(reference for what failed)")


def _cell(results: Sequence[Result], explained: Failures) -> Cell | None:
    if not results:
        return None
    decisive = words.worst(results)
    good = any(result.verdict is Verdict.PASSED for result in results) and not decisive.red
    return Cell(
        text=described(counts(results)) if not all(result.standby for result in results) else words.tallied(results),
        symbol="✓" if good else words.symbol(decisive),
        tone=words.GOOD if good else words.verdict_tone(decisive),
        anchor=next((explained.anchors[id(result)] for result in results if result.red), ""),
    )


def _sheets(view: View) -> tuple[Sheet, ...]:
    found = [("the host", view.run.findings), *sorted(view.facts.items())]
    return tuple(
        Sheet(
            anchor=f"facts-{number}",
            name=at,
            findings=tuple(sorted(dict.fromkeys(findings), key=lambda finding: (finding.present, finding.fact))),
            absent=sum(not finding.present for finding in findings),
        )
        for number, (at, findings) in enumerate(found, start=1)
        if findings
    )


def _difference(view: View, against: View | None) -> dict[str, Any] | None:
    if against is None:
        return None
    found = earlier.compare(view, against)
    changes = (
        ("Newly failing", found.failing, words.BAD),
        ("Newly skipped", found.idle, words.UNSURE),
        ("Newly passing", found.passing, words.GOOD),
    )
    return {
        "run": found.run,
        "start": words.moment(found.start),
        "then": described(counts(result for result in against.results if result.is_case)),
        "nothing": found.nothing,
        "changes": [(title, tone, rows[: SLOWEST * 10], len(rows)) for title, rows, tone in changes if rows],
        "slower": (found.slower[:SLOWEST], len(found.slower)),
        "apart": [("New", _named(found.new)), ("Gone", _named(found.gone))],
    }


def _named(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return the cases of results by environment and target."""
    found: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        found[result.environment, result.target or result.phase].append(result)
    return [
        {
            "where": words.line(" · ".join(reversed(key))),
            "count": len(found[key]),
            "said": words.tallied(found[key]),
            "cases": words.clipped(", ".join(sorted({name(result) for result in found[key]}, key=grid.natural)), 1500),
        }
        for key in sorted(found)
    ]


def _durations(view: View) -> list[plots.Durations]:
    walls: dict[str, list[float]] = defaultdict(list)
    for result in view.results:
        if result.ran and result.is_case:
            walls[result.environment].append(result.wall_s)
    return [plots.durations(at, walls[at]) for at in sorted(walls)]


def _curves(view: View) -> list[plots.Curves]:
    """Return what workers and steps of builds used; those of packages have a table of their own."""
    found = {at: packages.others(metrics) for at, metrics in sorted(view.metrics.items())}
    return [plots.curves(at, metrics) for at, metrics in found.items() if metrics.samples or metrics.totals]


def _loads(view: View) -> list[plots.Loads]:
    found: dict[str, list[packages.PackageStep]] = defaultdict(list)
    for step in packages.steps(view.metrics):
        found[step.place].append(step)
    return [plots.loads(at, steps[:STEPS]) for at, steps in found.items()]


def _slowest(view: View) -> list[Result]:
    ran = [result for result in view.results if result.ran and result.is_case and result.wall_s > 0]
    return sorted(ran, key=lambda result: (-result.wall_s, result.environment, result.node))[:SLOWEST]


def _subjects(view: View) -> list[dict[str, Any]]:
    """Return the programs of the run with the environments they were tried in."""
    found: dict[Any, set[str]] = defaultdict(set)
    for result in view.results:
        if result.target:
            found[result.target, result.role.value, result.subject].add(result.environment)
    return [
        {"name": target, "role": role, "subject": subject, "environments": ", ".join(sorted(at))}
        for (target, role, subject), at in sorted(found.items(), key=lambda item: repr(item[0]))
    ][:GROUPS]
