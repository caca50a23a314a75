"""``clean``: what earlier runs left behind on this machine, shown first, removed with ``--apply`` (layer 2).

Only what carries our marker or label is looked at, and only if the launcher that made it is gone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from suites.framework import cleanup, launcher, retention
from suites.framework.cgroups import PREFIX, hierarchies
from suites.framework.environments import engine as docker
from suites.framework.environments.run_cgroup import remove_cgroup
from suites.framework.errors import ExitCode, SeatrialError
from suites.framework.options import Options
from suites.framework.results.escaping import visible

STRANGE = 20
"""Entries of the folder of runs that are named although they are no runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remainder:
    """One thing that can go, and how; `remove` returns why it could not, or an empty text."""

    what: str
    remove: Callable[[], str] | None
    """None for what is named and left alone, because nobody can say whose it is."""


def clean(options: Options) -> ExitCode:
    """List remainders; with ``--apply`` remove them. Returns 3 when something could not be removed."""
    found = [*scratches(), *containers(), *cgroups(), *old_runs(options.runs)]
    removable = [remainder for remainder in found if remainder.remove]
    problems = [problem for remainder in found if (problem := _treated(remainder, apply=options.apply))]
    for problem in problems:
        print(f"seatrial: {problem}")
    if not removable:
        print("nothing to clean")
    elif not options.apply:
        print("nothing was removed: add -- --apply")
    return ExitCode.INFRASTRUCTURE if problems else ExitCode.GREEN


def _treated(remainder: Remainder, *, apply: bool) -> str:
    """Show one remainder, remove it if asked to, and return why it could not be."""
    if remainder.remove is None:
        print(f"leave alone {visible(remainder.what)}")
        return ""
    print(f"{'remove' if apply else 'would remove'} {visible(remainder.what)}")
    return visible(remainder.remove()) if apply else ""


def scratches(folder: Path | None = None) -> Iterator[Remainder]:
    """Yield scratch folders whose launcher is gone."""
    for path in sorted((folder or Path(tempfile.gettempdir())).glob("seatrial-*")):
        if (path / cleanup.SCRATCH_MARKER).is_file() and not cleanup.in_use(path):
            yield Remainder(what=f"scratch folder {path}", remove=partial(cleanup.remove_scratch, path))


def containers() -> Iterator[Remainder]:
    """Yield containers whose launcher is gone, and lines about those of which nobody can say."""
    try:
        with docker.connect() as engine:
            for container in engine.list_labelled({cleanup.RUN_LABEL: ""}):
                yield from _container(container, engine.inspect(container).launcher)
    except docker.EngineError:
        return  # no engine, no containers of ours


def _container(container: str, made_by: str) -> Iterator[Remainder]:
    """Yield a container unless its launcher may live: of another user, temporary folder, machine or pid namespace."""
    if launcher.gone(made_by):
        yield Remainder(what=f"container {container[:12]}", remove=partial(_remove, container))
    elif not made_by:
        said = "does not say who made it; if that run is over: docker rm --force --volumes"
        yield Remainder(what=f"container {container[:12]}: it {said} {container[:12]}", remove=None)


def _remove(container: str) -> str:
    try:
        with docker.connect() as engine:
            engine.remove(container)
    except SeatrialError as error:
        return str(error)
    return ""


def cgroups() -> Iterator[Remainder]:
    """Yield cgroups of launchers that are gone; the name ends in the launcher's pid."""
    seen = set()
    for hierarchy in hierarchies():
        for path in sorted(hierarchy.own.glob(f"{PREFIX}*")):
            pid = path.name.rpartition("-")[2]
            if path not in seen and pid.isdigit() and not launcher.alive(int(pid)):
                seen.add(path)
                yield Remainder(what=f"cgroup {path}", remove=partial(remove_cgroup, path))


def old_runs(runs: Path) -> Iterator[Remainder]:
    """Yield run directories and logs that were kept long enough, and lines about what is left alone."""
    found = retention.survey(runs)
    yield from (Remainder(what=due.what, remove=due.remove) for due in found.due)
    yield from (Remainder(what=line, remove=None) for line in found.strange[:STRANGE])
    if more := found.strange[STRANGE:]:
        yield Remainder(what=f"{len(more)} other entries of {runs} that are no run directories", remove=None)
