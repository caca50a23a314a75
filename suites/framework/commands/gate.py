"""``gate``: judge one or several run directories by every gate (layer 2)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TextIO

from rich import box
from rich.table import Table
from rich.text import Text

from suites.framework.errors import ExitCode
from suites.framework.options import LATEST, Options
from suites.framework.results import artefacts, inspection, parity, terminal
from suites.framework.results.derive import derive
from suites.framework.results.escaping import one_line, visible
from suites.framework.results.gates import Colour, Demand, Gate, Offence
from suites.framework.results.merging import merge
from suites.framework.results.rundir import RunDirectory, write_json
from suites.framework.results.verdict import Summary, judge
from suites.framework.results.view import load

FIRST = 3
"""Offences of a gate that the table names; verdict.json has all."""
_WORDS = {True: {Colour.GREEN: "✔ green", Colour.RED: "✘ red"}, False: {Colour.GREEN: "green", Colour.RED: "RED"}}


def gate(options: Options) -> ExitCode:
    """Judge, show the table and write verdict.json; return 2 for any red gate, else the exit code of the run."""
    demand = Demand(strict=options.strict, golden=artefacts.golden(options.golden) if options.golden else {})
    runs = [RunDirectory.open(path) for path in options.run_directories or (options.runs / LATEST,)]
    run = runs[0] if len(runs) == 1 else _merged(runs, options)
    with run.locked():
        view = load(run)
        summary = judge(view, demand=demand)
        write_json(run.path / "verdict.json", summary)
    inspection.show(run, view)
    show(run, summary, artefacts=parity.lines(view.artefacts))
    return code(summary)


def code(summary: Summary) -> ExitCode:
    """Return how the session ends: a red gate says more than what made it red."""
    return ExitCode.GATE if summary.red_gates else ExitCode(summary.exit_code)


def _merged(runs: Sequence[RunDirectory], options: Options) -> RunDirectory:
    merged = merge(runs, options.runs, argv=options.words)
    derive(merged)
    return merged


# ---- the table -------------------------------------------------------------------------------------------------------


def show(
    run: RunDirectory,
    summary: Summary,
    *,
    stream: TextIO | None = None,
    environment: Mapping[str, str] = os.environ,
    artefacts: Sequence[str] = (),
) -> None:
    """Write the table to `stream` (standard output): symbols and colours on a terminal, ASCII elsewhere.

    `artefacts` are lines above it.
    """
    out = stream or sys.stdout
    width, colour = terminal.manner(out, environment)
    above = "".join(f"{line}\n" for line in artefacts)
    terminal.put(out, above + render(run, summary, width=width, colour=colour))


def render(run: RunDirectory, summary: Summary, *, width: int = terminal.PLAIN_WIDTH, colour: bool = False) -> str:
    """Return the table of the gates; the last line holds verdict, exit code and the path of verdict.json."""
    buffer = StringIO()
    page = terminal.console(buffer, width=width, colour=colour)
    page.print(_table(summary, colour=colour))
    page.print(_last_line(run, summary))
    return "\n".join(line.rstrip() for line in buffer.getvalue().split("\n"))


def _table(summary: Summary, *, colour: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD if colour else box.ASCII2, pad_edge=False)
    for heading in ("gate", "", "offences", "first of them"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "offences" else "left")
    for name, found in summary.gates.items():
        word = Text(_WORDS[colour][found.colour], style="bold red" if found.offences else "green")
        table.add_row(name, word, str(len(found.offences)), _first(found))
    return table


def _first(found: Gate) -> Text:
    lines = [_shown(offence) for offence in found.offences[:FIRST]]
    if more := len(found.offences) - FIRST:
        lines += [f"and {more} more"] if more > 0 else []
    return Text("\n".join(lines))


def _shown(offence: Offence) -> str:
    return one_line(f"{' '.join(filter(None, (offence.environment, offence.node)))}: {offence.why}")


def _last_line(run: RunDirectory, summary: Summary) -> Text:
    ends, red = code(summary), ", ".join(summary.red_gates)
    said = f"gates red: {red}" if red else f"all {len(summary.gates)} gates are green"
    if not red and ends is not ExitCode.GREEN:
        said += f", and the run is {summary.exit}"
    line = Text("seatrial: ")
    line.append(f"{said} (exit {int(ends)})", style="bold red" if ends else "bold green")
    return line.append(f" · {visible(str(run.path / 'verdict.json'))}")
