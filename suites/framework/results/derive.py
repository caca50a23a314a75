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


def derive(
    run: RunDirectory, *, command: Command | None = None, howto: HowTo = no_howto, against: View | None = None
) -> Derived:
    """Read the run directory and write results/*.xml, summary.md, report.html and verdict.json, under the run's lock.

    `against` is an earlier run that report.html compares this one with. Raises UsageError for a damaged or newer
    directory, InfrastructureError when the disk is full.
    """
    from suites.framework.report import page  # here: jinja2 takes 0.15 s, for which no run waits at its start

    with run.locked():
        view = load(run)
        found = judge(view)
        folder = run.path / "results"
        folder.mkdir(exist_ok=True)
        for name, document in junit.documents(view.results).items():
            write_whole(folder / f"{name}.xml", document)
        write_whole(run.path / "summary.md", summary.render(view, found, command=command, howto=howto))
        text = page.render(view, found, command=command, howto=howto, against=against)
        write_whole(run.path / "report.html", text)
        write_json(run.path / "verdict.json", found)
    return Derived(view=view, summary=found)
