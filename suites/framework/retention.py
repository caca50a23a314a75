"""How long runs are kept: results 90 days, logs 30 days, counted from the start in run.json (layer 2).

Only what is certainly one of our run directories is looked at, links are not followed and mounts not entered. Kept
whatever their age: the latest run, the latest one that failed, one that may still be running, and one that holds a file
named ``baseline``, which a person puts there (``touch runs/<id>/baseline``).
"""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from suites.framework import cleanup
from suites.framework.errors import ExitCode, SeatrialError
from suites.framework.results.rundir import LATEST, RunDirectory, write_json

RESULTS_DAYS = 90
LOGS_DAYS = 30
DAY_S = 86400.0
BASELINE = "baseline"
"""Name of the file that makes a run one to be kept for ever."""
FRAMEWORK_LOG = "framework.jsonl"
"""The launcher's own log, in the run directory itself."""
PASSING = (ExitCode.GREEN, ExitCode.CANNOT_RUN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run directory that can be read."""

    path: Path
    start: float
    """Unix seconds."""

    @property
    def day(self) -> str:
        """Return the day on which it started."""
        return time.strftime("%Y-%m-%d", time.gmtime(self.start))


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """What is old enough to go, and how; `remove` returns why it could not, or an empty text."""

    what: str
    remove: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What can go from a folder of runs, and what is left alone because nobody can say what it is."""

    due: tuple[Due, ...] = ()
    strange: tuple[str, ...] = ()


def survey(runs: Path, *, now: Callable[[], float] = time.time) -> Survey:
    """Return what can go from a folder of run directories; nothing is changed."""
    found, strange = _read(runs)
    kept = {path.resolve() for path in (runs / LATEST, *_latest_failing(found))}
    may_go = [run for run in found if run.path.resolve() not in kept and not _keeps(run.path)]
    due = [each for run in may_go if (each := _due(run, now() - run.start, now))]
    return Survey(due=tuple(due), strange=tuple(strange))


def _due(run: Run, age_s: float, now: Callable[[], float]) -> Due | None:
    if age_s > RESULTS_DAYS * DAY_S:
        return Due(what=f"run directory {run.path}, of {run.day}", remove=partial(remove_run, run.path))
    if age_s > LOGS_DAYS * DAY_S and logs(run.path):
        return Due(what=f"logs of {run.path}, of {run.day}", remove=partial(remove_logs, run.path, now=now))
    return None


# ---- what there is ---------------------------------------------------------------------------------------------------


def _read(runs: Path) -> tuple[list[Run], list[str]]:
    """Return the runs of a folder, and a line for each entry that is none."""
    found, strange = [], []
    for path in _folders(runs):
        try:
            found.append(_run(path))
        except SeatrialError as error:
            strange.append(": ".join(filter(None, (error.what, error.why))))
        except OSError as error:
            strange.append(f"{path} cannot be read: {error.strerror}")
    return found, strange


def _folders(runs: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in sorted(os.scandir(runs), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield Path(entry.path)


def _run(path: Path) -> Run:
    start = RunDirectory.open(path).record().start
    if not (math.isfinite(start) and 0 < start < 2**40):
        raise SeatrialError(f"{path / 'run.json'} is damaged", why=f"{start} is no time")
    return Run(path=path, start=start)


def _latest_failing(runs: Iterable[Run]) -> list[Path]:
    failing = [run for run in runs if _failed(run.path / "verdict.json")]
    return [max(failing, key=lambda run: (run.start, run.path.name)).path] if failing else []


def _failed(verdict: Path) -> bool:
    """Return whether a verdict says so; without one nothing is known to have failed."""
    try:
        code = json.loads(verdict.read_bytes())["exit_code"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return code not in PASSING


def _keeps(path: Path) -> bool:
    return os.path.lexists(path / BASELINE) or running(path)


def running(path: Path) -> bool:
    """Return whether a session of this run may live: its journal, which the keeper removes, names a folder in use."""
    return any(_in_use(journal) for journal in path.glob("*/journal.jsonl"))


def _in_use(journal: Path) -> bool:
    try:
        lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
        scratches = [Path(line["scratch"]) for line in lines if "scratch" in line]
    except (OSError, ValueError, TypeError, RecursionError):
        return True  # somebody else's, or a line just being written
    return not scratches or any(cleanup.in_use(scratch) for scratch in scratches)


def logs(path: Path) -> list[Path]:
    """Return what a run directory holds of logs."""
    folders = [folder for folder in sorted(path.glob("*/logs")) if _is_folder(folder.parent) and _is_folder(folder)]
    own = path / FRAMEWORK_LOG
    return [folder for folder in folders if any(folder.iterdir())] + ([own] if _is_file(own) else [])


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _is_file(path: Path) -> bool:
    return os.path.lexists(path) and stat.S_ISREG(path.lstat().st_mode)


# ---- removing --------------------------------------------------------------------------------------------------------


def remove_run(path: Path) -> str:
    """Remove a run directory, run.json last: what is left of an interrupted removal is still known as ours."""
    return _exclusively(path, _remove_run)


def remove_logs(path: Path, *, now: Callable[[], float] = time.time) -> str:
    """Remove the logs of a run; that they are gone stands in run.json before they are."""
    run, file = RunDirectory(path), path / "run.json"

    def remove(path: Path) -> str:
        owner = file.stat()
        write_json(file, replace(run.record(), logs_removed=now()))
        if os.geteuid() == 0:
            os.chown(file, owner.st_uid, owner.st_gid)
        return "; ".join(filter(None, map(_gone, logs(path))))

    return _exclusively(path, remove)


def _exclusively(path: Path, action: Callable[[Path], str]) -> str:
    """Do something to a run directory that nobody uses and nothing is mounted in; return why not."""
    try:
        if not _is_folder(path) or running(path):
            return f"{path} is not touched: it is in use"
        if points := cleanup.mounts_below(path):
            return f"{path} is not touched: mounted below it: {', '.join(points)}"
        with FileLock(path / ".lock", timeout=0):
            return action(path)
    except Timeout:
        return f"{path} is not touched: a session writes its reports"
    except SeatrialError as error:
        return str(error)
    except OSError as error:
        return f"{path} could not be removed: {error.strerror}"


def _remove_run(path: Path) -> str:
    marker = path / "run.json"
    problems = [problem for entry in sorted(path.iterdir()) if entry != marker and (problem := _gone(entry))]
    if problems:
        return "; ".join(problems)
    marker.unlink()
    path.rmdir()
    return ""


def _gone(path: Path) -> str:
    """Remove a file, a link or a folder with everything below it; return why something is left."""
    try:
        if _is_folder(path):
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        return f"{path} could not be removed: {error.strerror}"
    return ""
