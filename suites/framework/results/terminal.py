"""What stands on the terminal at the end of a run (layer 2; rendered by a pure function)."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import StringIO
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from suites.framework.errors import ExitCode
from suites.framework.model import Reason
from suites.framework.results import handlers, parity, reproduction
from suites.framework.results.escaping import indented, one_line, tail, visible
from suites.framework.results.result import Result, Verdict
from suites.framework.results.verdict import Summary
from suites.framework.results.view import (
    HOST,
    SkipGroup,
    View,
    counts,
    described,
    leaks_line,
    logs_line,
    matrix,
    pace_lines,
    skip_groups,
)

FULL = 20
"""Failures that are shown with everything; the others get a line each."""
EVIDENCE_LINES = 15
CRASHES = frozenset({Reason.CRASH, Reason.SIGNAL, Reason.OOM})
PLAIN_WIDTH = 160
"""Columns where nobody says how wide the terminal is; only tables are fitted to it."""

Command = Callable[[Result], str]
HowTo = Callable[[Result], str]

_STYLES = {
    Verdict.FAILED: "bold red",
    Verdict.ERRORED: "bold red",
    Verdict.XPASSED: "bold magenta",
    Verdict.INCONCLUSIVE: "bold yellow",
    Verdict.PASSED: "bold red",  # only a null target's
}
_WORDS = {
    ExitCode.GREEN: "PASSED",
    ExitCode.FAILED: "FAILED",
    ExitCode.GATE: "GATE RED",
    ExitCode.INFRASTRUCTURE: "BROKEN INFRASTRUCTURE",
    ExitCode.USAGE: "WRONG USAGE",
    ExitCode.CANNOT_RUN: "SKIPPED",
    ExitCode.INTERRUPTED: "INTERRUPTED",
}


def no_howto(_: Result) -> str:
    """Return nothing: a case without instructions."""
    return ""


def show(
    view: View,
    summary: Summary,
    *,
    stream: TextIO | None = None,
    environment: Mapping[str, str] = os.environ,
    command: Command | None = None,
    howto: HowTo = no_howto,
) -> None:
    """Write the report to `stream` (standard output): coloured on a terminal, plain in CI and under NO_COLOR."""
    out = stream or sys.stdout
    width, colour = manner(out, environment)
    put(out, render(view, summary, width=width, colour=colour, command=command, howto=howto))


def manner(out: TextIO, environment: Mapping[str, str]) -> tuple[int, bool]:
    """Return how many columns a stream has, and whether it is a person's terminal that shows colours."""
    width = 0
    with suppress(OSError):
        width = os.get_terminal_size(out.fileno()).columns
    plain = bool(environment.get("NO_COLOR") or environment.get("CI")) or environment.get("TERM") == "dumb"
    return width or PLAIN_WIDTH, out.isatty() and not plain


def put(out: TextIO, text: str) -> None:
    """Write a text, with what the stream's encoding lacks written as an escape."""
    encoding = out.encoding or "utf-8"
    out.write(text.encode(encoding, "backslashreplace").decode(encoding))
    out.flush()


def console(buffer: StringIO, *, width: int, colour: bool) -> Console:
    """Return a console that writes into a buffer and takes nothing from the environment."""
    return Console(
        file=buffer,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=True,
        _environ={},
    )


def render(
    view: View,
    summary: Summary,
    *,
    width: int = PLAIN_WIDTH,
    colour: bool = False,
    command: Command | None = None,
    howto: HowTo = no_howto,
) -> str:
    """Return the whole report; its last line holds verdict, exit code and the run directory's absolute path."""
    again = command or (lambda result: reproduction.command(result, argv=view.run.argv))
    buffer = StringIO()
    page = console(buffer, width=width, colour=colour)
    if view.results:
        page.print(_matrix(view, colour=colour))
    for text in (
        *_skips(view),
        *_absent(view),
        *_problems(view.problems, again, howto),
        *_gates(summary),
        *_environments(summary),
    ):
        page.print(text)
    for said in (*parity.lines(view.artefacts), *pace_lines(view), *handlers.lines(view), leaks_line(view)):
        page.print(said)
    if gone := logs_line(view):
        page.print(gone)
    page.print(f"report: {visible(str(view.path.absolute() / 'report.html'))}")
    page.print(_last_line(view, summary))
    return "\n".join(line.rstrip() for line in buffer.getvalue().split("\n"))


# ---- parts -----------------------------------------------------------------------------------------------------------


def _matrix(view: View, *, colour: bool) -> Table:
    rows = matrix(view)
    names = sorted({name for cells in rows.values() for name in cells})
    table = Table(box=box.SIMPLE_HEAD if colour else box.ASCII2, pad_edge=False)
    for heading in ("target", *names):
        table.add_column(Text(visible(heading)), overflow="fold")
    for row, cells in rows.items():
        table.add_row(Text(visible(row)), *(Text(described(cells[name]) if name in cells else "-") for name in names))
    return table


def _skips(view: View) -> Iterator[Text]:
    groups = skip_groups(view)
    if groups:
        yield Text(f"\nskipped: {sum(len(group.results) for group in groups)}", style="bold")
    yield from (_skip(group) for group in groups)


def _skip(group: SkipGroup) -> Text:
    text = Text(f"  {len(group.results)} x {one_line(group.reason)}")
    text.append("" if group.explained else "  NOT EXPLAINED", style="bold red")
    text.append(f"  ({', '.join(map(one_line, group.environments))})")
    for label, lines in (("probed", group.probes), ("said", group.messages), ("remedy", group.remedies)):
        for line in lines:
            text.append(f"\n      {label}: {one_line(line)}")
    if not group.explained:
        for result in group.results[:FULL]:
            text.append(f"\n      {one_line(result.node)}")
    return text


def _absent(view: View) -> Iterator[Text]:
    said: dict[str, list[str]] = defaultdict(list)
    for target in view.absent:
        line = f"  {one_line(target.name)}: {one_line(target.reason)}"
        said[f"{line}; {one_line(target.remedy)}" if target.remedy else line].append(target.environment)
    if said:
        yield Text("\ntargets not tried:", style="bold")
    for line, environments in said.items():
        yield Text(f"{line}  ({', '.join(map(one_line, environments))})")


def _problems(problems: Sequence[Result], again: Command, howto: HowTo) -> Iterator[Text]:
    for number, result in enumerate(problems[:FULL], start=1):
        yield _problem(number, result, again(result), howto(result))
    if len(problems) > FULL:
        yield Text(f"\nand {len(problems) - FULL} more:", style="bold")
    for result in problems[FULL:]:
        yield Text(f"  {_heading(result)}: {one_line(result.actual or result.message or result.reason)}")


def _problem(number: int, result: Result, again: str, howto: str) -> Text:
    text = Text(f"\n{number}. ")
    text.append(_word(result), style=_STYLES[result.verdict])
    text.append(f"  {_heading(result)}", style="bold")
    for label, value in _facts(result):
        lines = visible(value).strip("\n").replace("\n", "\n" + " " * 15)
        text.append(f"\n   {label:<11} {lines}")
    for piece in result.evidence:
        text.append(f"\n   {one_line(piece.title)}:\n")
        text.append(indented(visible(tail(piece.text, lines=EVIDENCE_LINES)), "     | "))
    if again:
        text.append(f"\n   {'again':<11} {one_line(again)}", style="cyan")
    if howto:
        text.append(f"\n   by hand:\n{indented(visible(howto.strip()), '     ')}")
    return text


def _word(result: Result) -> str:
    if result.null_passed:
        return "PASSED BY A NULL TARGET"
    flaky = f" (flaky: {', '.join(result.attempts)})" if result.flaky else ""
    return ("passed unexpectedly" if result.verdict is Verdict.XPASSED else result.verdict.value).upper() + flaky


def _heading(result: Result) -> str:
    """Return case, title, target, environment, mode and parameter on one line."""
    where = " ".join(filter(None, (result.environment, result.mode, result.parameter)))
    target = f"{result.target} ({result.role})" if result.target and result.role != "target" else result.target
    parts = (" ".join(result.cases) or result.node, result.title, target, where)
    return " · ".join(one_line(part) for part in parts if part)


def _facts(result: Result) -> Iterator[tuple[str, str]]:
    if result.reason:
        yield "reason", result.reason
    if result.expected or result.actual:
        yield "expected", result.expected
        yield "actual", result.actual
    if result.message and result.message not in (result.reason, result.actual):
        yield "message", result.message
    if result.subject.sha256 or result.subject.version:
        yield "program", _program(result)
    if result.file:
        yield "test", f"{result.file}:{result.line}"
    if result.measured:
        yield "measured", ", ".join(f"{name} {value}" for name, value in result.measured)


def _program(result: Result) -> str:
    subject = result.subject
    shown = subject.sha256 if result.reason in CRASHES else subject.sha256[:12]
    return " ".join(filter(None, (result.shown_target, f"sha256 {shown}" if shown else "", subject.path)))


def _gates(summary: Summary) -> Iterator[Text]:
    for name in summary.red_gates:
        offences = summary.gates[name].offences
        yield Text(f"gate {name} is red: {len(offences)}", style="bold red")
        for offence in offences[:FULL] if name != "passed" else ():
            yield Text(f"  {one_line(f'{offence.environment} {offence.node}: {offence.why}')}")


def _environments(summary: Summary) -> Iterator[Text]:
    for name, counted in summary.environments.items():
        reason = summary.cannot_run.get(name, "")
        if counted.planned or reason:
            shown = f"cases run / planned in {one_line(name)}: {counted.run} / {counted.planned}"
            yield Text(f"{shown}, {one_line(reason)}" if reason else shown)
    if summary.torn or summary.foreign:
        yield Text(f"event lines that could not be read: {summary.torn} torn at the end, {summary.foreign} others")


def _without_cases(view: View) -> str:
    return f"steps: {described(counts(view.results))}" if view.environments == (HOST,) else "no case was planned"


def _last_line(view: View, summary: Summary) -> Text:
    word, code = _WORDS[summary.exit_code], int(summary.exit_code)
    style = "bold green" if code == 0 else "bold yellow" if code == ExitCode.CANNOT_RUN else "bold red"
    counted = described(summary.counts) if summary.counts.planned else _without_cases(view)
    gates = f"; gates red: {', '.join(summary.red_gates)}" if summary.red_gates else ""
    line = Text("seatrial: ")
    line.append(f"{word} (exit {code})", style=style)
    return line.append(f": {counted}{gates} · {visible(str(view.path.absolute()))}")
