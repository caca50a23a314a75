"""``clean``: what earlier runs left behind on this machine, shown first, removed with ``--apply`` (layer 2).

Only what carries our marker or label is looked at, and only if the launcher that made it is gone.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from suites.framework import cleanup
from suites.framework.cgroups import hierarchies
from suites.framework.environments import engine as docker
from suites.framework.environments.run_cgroup import PREFIX, remove_cgroup
from suites.framework.errors import ExitCode, SeatrialError
from suites.framework.options import Options
from suites.framework.results.rundir import RunDirectory

RUNS_DAYS = 90
DAY_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Remainder:
    """One thing that can go, and how; `remove` returns why it could not, or an empty text."""

    what: str
    remove: Callable[[], str]


def clean(options: Options) -> ExitCode:
    """List remainders; with ``--apply`` remove them. Returns 3 when something could not be removed."""
    found = [*scratches(), *containers(), *cgroups(), *old_runs(options.runs)]
    problems = []
    for remainder in found:
        print(f"{'remove' if options.apply else 'would remove'} {remainder.what}")
        if options.apply and (problem := remainder.remove()):
            problems.append(problem)
    for problem in problems:
        print(f"seatrial: {problem}")
    if not found:
        print("nothing to clean")
    elif not options.apply:
        print("nothing was removed: add -- --apply")
    return ExitCode.INFRASTRUCTURE if problems else ExitCode.GREEN


def scratches(folder: Path | None = None) -> Iterator[Remainder]:
    """Yield scratch folders whose launcher is gone."""
    for path in sorted((folder or Path(tempfile.gettempdir())).glob("seatrial-*")):
        if (path / cleanup.SCRATCH_MARKER).is_file() and not cleanup.in_use(path):
            yield Remainder(what=f"scratch folder {path}", remove=partial(cleanup.remove_scratch, path))


def containers() -> Iterator[Remainder]:
    """Yield containers of runs none of whose launchers lives."""
    live = {path.name for path in Path(tempfile.gettempdir()).glob("seatrial-*") if cleanup.in_use(path)}
    try:
        with docker.connect() as engine:
            for container in engine.list_labelled({cleanup.RUN_LABEL: ""}):
                if not any(engine.inspect(container).run in name for name in live):
                    yield Remainder(what=f"container {container[:12]}", remove=partial(_remove, container))
    except docker.EngineError:
        return  # no engine, no containers of ours


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
            if path not in seen and pid.isdigit() and cleanup.start_time(int(pid)) is None:
                seen.add(path)
                yield Remainder(what=f"cgroup {path}", remove=partial(remove_cgroup, path))


def old_runs(runs: Path, *, now: Callable[[], float] = time.time) -> Iterator[Remainder]:
    """Yield run directories older than 90 days, by the start in run.json; the latest stays."""
    latest = (runs / "latest").resolve()
    for path in sorted(runs.glob("*/run.json")):
        try:
            run = RunDirectory.open(path.parent)
            start = run.record().start
        except SeatrialError:
            continue
        if run.path != latest and not path.parent.is_symlink() and now() - start > RUNS_DAYS * DAY_S:
            yield Remainder(what=f"run directory {run.path}", remove=partial(_remove_run, run.path))


def _remove_run(path: Path) -> str:
    if points := cleanup.mounts_below(path):
        return f"{path} is not removed: mounted below it: {', '.join(points)}"
    shutil.rmtree(path, ignore_errors=True)
    return f"{path} could not be removed" if path.exists() else ""
