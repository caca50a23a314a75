"""summary.md, for a pull request or the step summary of a CI (layer 2; pure)."""

from __future__ import annotations

from collections.abc import Iterator

from suites.framework.results import packages, parity, reproduction
from suites.framework.results.escaping import fenced, markdown, markup, tail
from suites.framework.results.gates import Colour
from suites.framework.results.known import known
from suites.framework.results.plan import Cell, plan
from suites.framework.results.result import Result
from suites.framework.results.terminal import Command, HowTo, no_howto
from suites.framework.results.verdict import Summary
from suites.framework.results.view import View, described, leaks_line, logs_line, matrix, skip_groups

FULL = 50
"""Failures that are shown with their evidence: a step summary holds 1 MiB."""
EVIDENCE_LINES = 40
EVIDENCE_CHARACTERS = 4000
"""Of one piece of evidence; its end is kept."""
ABSENT_COLUMNS = ("name", "environment", "reason", "remedy")
KNOWN = 60
"""Reasons for which targets failed as expected."""
STEPS = 200
"""Steps of packages that are shown."""
NODES = 10
"""Offending nodes of a gate that are named."""


def render(view: View, summary: Summary, *, command: Command | None = None, howto: HowTo = no_howto) -> str:
    """Return the text of summary.md."""
    again = command or (lambda result: reproduction.command(result, argv=view.run.argv))
    parts = [
        f"# Seatrial: {summary.exit} (exit {int(summary.exit_code)})",
        *_matrix(view),
        *_environments(summary),
        *_skips(view),
        *_absent(view),
        *_problems(view, again, howto),
        *_known(view),
        *_gates(summary),
        *_artefacts(view),
        *_plan(view),
        *_packages(view),
        markdown(leaks_line(view)),
        *filter(None, [markdown(logs_line(view))]),
        f"Run {markdown(summary.run)}"
        + (f", merged from {markdown(', '.join(summary.merged))}" if summary.merged else ""),
    ]
    return "\n\n".join(parts) + "\n"


def _table(heading: list[str], rows: list[list[str]]) -> str:
    lines = (heading, ["---"] * len(heading), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _matrix(view: View) -> Iterator[str]:
    rows = matrix(view)
    names = sorted({name for cells in rows.values() for name in cells})
    if rows:
        yield _table(
            ["target", *map(markdown, names)],
            [
                [markdown(row), *(described(cells[name]) if name in cells else "-" for name in names)]
                for row, cells in rows.items()
            ],
        )


def _environments(summary: Summary) -> Iterator[str]:
    rows = [
        [markdown(name), str(counted.run), str(counted.planned), markdown(summary.cannot_run.get(name, ""))]
        for name, counted in summary.environments.items()
        if counted.planned or name in summary.cannot_run
    ]
    if rows:
        yield _table(["environment", "cases run", "planned", "cannot run"], rows)


def _skips(view: View) -> Iterator[str]:
    if groups := skip_groups(view):
        yield "## Skipped"
        yield _table(
            ["reason", "cases", "environments", "probed", "remedy"],
            [
                [
                    markdown(group.reason) + ("" if group.explained else " **not explained**"),
                    str(len(group.results)),
                    markdown(", ".join(group.environments)),
                    markdown("; ".join((*group.probes, *group.messages))),
                    markdown("; ".join(group.remedies)),
                ]
                for group in groups
            ],
        )


def _known(view: View) -> Iterator[str]:
    if found := known(view.results):
        yield "## Failed as expected"
        yield _table(
            ["target", "cases", "seen", "why", "environments"],
            [
                [
                    markdown(each.target),
                    markdown(", ".join(each.cases)),
                    markdown("; ".join(each.seen)),
                    markdown(each.reason),
                    markdown(", ".join(each.environments)),
                ]
                for each in found[:KNOWN]
            ],
        )
        if len(found) > KNOWN:
            yield f"and {len(found) - KNOWN} more reasons, in report.html"


def _absent(view: View) -> Iterator[str]:
    if view.absent:
        yield "## Targets not tried"
        yield _table(
            ["target", "environment", "reason", "remedy"],
            [[markdown(getattr(target, word)) for word in ABSENT_COLUMNS] for target in view.absent],
        )


def _problems(view: View, again: Command, howto: HowTo) -> Iterator[str]:
    problems = view.problems
    if problems:
        yield "## Failures"
    for result in problems[:FULL]:
        yield _problem(result, again(result), howto(result))
    if len(problems) > FULL:
        yield "\n".join(f"- {_heading(result)}" for result in problems[FULL:])


def _problem(result: Result, again: str, howto: str) -> str:
    """Return a folded failure. The blank line after the summary makes the rest Markdown again."""
    said = [("expected", result.expected), ("actual", result.actual), ("message", result.message)]
    if result.subject.sha256:
        said.append(("program", f"{result.shown_target}\nsha256 {result.subject.sha256}\n{result.subject.path}"))
    said += [(piece.title, tail(piece.text[-EVIDENCE_CHARACTERS:], lines=EVIDENCE_LINES)) for piece in result.evidence]
    said += [("again", again), ("by hand", howto)]
    blocks = [f"{markdown(title)}\n\n{fenced(text)}" for title, text in said if text]
    heading = " · ".join(markup(part) for part in _parts(result))
    return "\n\n".join((f"<details><summary>{heading}</summary>", *blocks, "</details>"))


def _heading(result: Result) -> str:
    return " · ".join(markdown(part) for part in _parts(result))


def _parts(result: Result) -> Iterator[str]:
    verdict = "passed by a null target" if result.null_passed else result.verdict.value
    flaky = " (flaky)" if result.flaky else ""
    where = " ".join(filter(None, (result.environment, result.mode, result.parameter)))
    reason = result.reason if result.reason != result.verdict else ""
    parts = (verdict + flaky, " ".join(result.cases) or result.node, result.title, result.shown_target, where, reason)
    return (part for part in parts if part)


def _gates(summary: Summary) -> Iterator[str]:
    yield "## Gates"
    yield _table(
        ["gate", "", "offending"],
        [
            [
                name,
                gate.colour.value if gate.colour is Colour.GREEN else f"**{gate.colour.value}**",
                _offending(summary, name),
            ]
            for name, gate in summary.gates.items()
        ],
    )


def _artefacts(view: View) -> Iterator[str]:
    if said := parity.lines(view.artefacts):
        yield "## Artefacts"
        yield "\n".join(f"- {markdown(line)}" for line in said)


def _plan(view: View) -> Iterator[str]:
    if found := plan(view.results):
        yield "## Plan"
        heading = ["point", "what should be", "cases", "target", *found.environments]
        rows = [
            [str(row.point.number), row.point.title, ", ".join(row.point.cases), row.target, *map(_met, row.cells)]
            for row in found.rows
        ]
        yield _table(heading, [list(map(markdown, row)) for row in rows])


def _met(cell: Cell) -> str:
    if cell.decisive is None:
        return "not asked"
    return f"{cell.decisive.verdict.value}{f' ({cell.others})' if cell.others else ''}"


def _packages(view: View) -> Iterator[str]:
    tested, steps = packages.tests(view.results), packages.steps(view.metrics)
    if tested or steps:
        yield "## Packages"
    if tested:
        rows = [[each.wrapper, each.package, each.environment, str(each)] for each in tested]
        yield _table(["wrapper", "package", "environment", "its own tests"], [list(map(markdown, row)) for row in rows])
    if steps:
        heading = ["wrapper", "package", "step", "environment", "wall s", "CPU s", "SBU", "largest process MB"]
        table = _table(heading, [_took(step) for step in steps[:STEPS]])
        yield "\n\n".join(("<details><summary>what each step took</summary>", table, "</details>"))


def _took(step: packages.PackageStep) -> list[str]:
    words = map(markdown, (step.wrapper, step.package, step.step, step.place))
    return [*words, f"{step.wall_s:.2f}", f"{step.cpu_s:.2f}", packages.sbu(step), f"{step.rss_bytes / 1e6:.1f}"]


def _offending(summary: Summary, gate: str) -> str:
    offences = summary.gates[gate].offences
    named = "; ".join(f"{offence.environment} {offence.node}: {offence.why}" for offence in offences[:NODES])
    return markdown(named + (f"; and {len(offences) - NODES} more" if len(offences) > NODES else ""))
