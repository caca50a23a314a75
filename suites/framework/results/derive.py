"""Writing every derived file of a run (layer 2): the same events give the same bytes."""

from __future__ import annotations

from dataclasses import dataclass

from suites.framework.results import junit, summary
from suites.framework.results.rundir import RunDirectory, write_json, write_whole
from suites.framework.results.terminal import Command, HowTo, no_howto
from suites.framework.results.verdict import Summary, judge
from suites.framework.results.view import View, load


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """What was read and what follows from it, for the terminal and the exit code."""

    view: View
    summary: Summary


def derive(run: RunDirectory, *, command: Command | None = None, howto: HowTo = no_howto) -> Derived:
    """Read the run directory and write results/*.xml, summary.md and verdict.json, under the run's lock.

    Raises UsageError for a damaged or newer directory, InfrastructureError when the disk is full.
    """
    with run.locked():
        view = load(run)
        found = judge(view)
        folder = run.path / "results"
        folder.mkdir(exist_ok=True)
        for name, text in junit.documents(view.results).items():
            write_whole(folder / f"{name}.xml", text)
        write_whole(run.path / "summary.md", summary.render(view, found, command=command, howto=howto))
        write_json(run.path / "verdict.json", found)
    return Derived(view=view, summary=found)
