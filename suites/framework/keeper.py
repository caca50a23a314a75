"""The keeper: a small process that cleans up after a launcher that was killed (layer 2, standard library only).

The kernel removes most of what a dead launcher leaves, by death signals and namespaces. The rest (containers,
cgroups, folders) stands in a journal, written before each thing is made. The keeper lives in a session of its own,
holds a pidfd on the launcher and the end of a pipe; unless ``done`` came through the pipe, it cleans when the
launcher dies, and then derives the reports of the unfinished run.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from suites.catalog import Place
from suites.framework.cleanup import (
    await_death,
    kill_process,
    remove_containers,
    remove_scratch,
    start_time,
)
from suites.framework.environments.run_cgroup import remove_cgroup
from suites.framework.errors import SeatrialError

ROOT = Path(__file__).parents[2]
"""The folder that holds ``suites``."""
DONE = b"done"
FINISH_S = 5.0
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

Entry = dict[str, Any]


class Keeper:
    """The launcher's side: starts the keeper, writes the journal, and dismisses the keeper at an ordinary end."""

    def __init__(self, process: subprocess.Popen[bytes], journal: Path) -> None:
        """Hold a keeper that was just started."""
        self.pid, self.journal = process.pid, journal
        self._process = process
        self._file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    @classmethod
    def start(cls, journal: Path, *, python: str = sys.executable) -> Keeper:
        """Start a keeper of this process; it is on duty at once, however long its interpreter takes to start."""
        journal.touch(mode=0o600)
        pidfd = os.pidfd_open(os.getpid())
        words = [python, "-m", __name__, "--launcher-pidfd", str(pidfd), "--journal", str(journal.absolute())]
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # nox waits for the end of the launcher's own output
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd=ROOT,
                pass_fds=(pidfd,),
                start_new_session=True,
            )
        finally:
            os.close(pidfd)
        return cls(process, journal)

    def record(self, **entry: Any) -> None:
        """Note one thing before it is made: see `clean` for the words. One write, so that no line is torn."""
        os.write(self._file, json.dumps(entry, default=str).encode() + b"\n")

    def record_process(self, pid: int) -> None:
        """Note a process that was just started, by pid and start time."""
        if (start := start_time(pid)) is not None:
            self.record(process=pid, start=start)

    def finish(self) -> None:
        """Tell the keeper to end without cleaning, wait for it, and remove the journal."""
        with suppress(OSError, ValueError):
            if self._process.stdin is not None:
                self._process.stdin.write(DONE)
                self._process.stdin.close()
        try:
            self._process.wait(FINISH_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self.journal.unlink(missing_ok=True)


def clean(entries: Iterable[Entry]) -> Iterator[str]:
    """Remove what the entries of a journal name, and yield what could not be removed.

    ``process`` with ``start``, ``containers`` (a run, with an ``environment``), ``cgroup``, ``scratch``, ``derive`` (a
    run directory). What may still write goes first, containers with workers in them too; then disk, engine and reports
    at the same time, because each of them is slow by itself.
    """
    recorded = list(entries)
    workers = [entry for entry in recorded if not str(entry.get("environment", "")).endswith(Place.NATIVE)]
    others = [entry for entry in recorded if entry not in workers]
    problems = _all("process", recorded) + _all("containers", workers) + _all("cgroup", recorded)
    with ThreadPoolExecutor() as pool:
        last = (("scratch", recorded), ("containers", others), ("derive", recorded))
        for found in pool.map(lambda pair: _all(*pair), last):
            problems += found
    yield from problems


def _all(kind: str, entries: Iterable[Entry]) -> list[str]:
    action = ACTIONS[kind]
    return [problem for entry in entries if kind in entry and (problem := _attempt(action, entry))]


def _attempt(action: Callable[[Entry], str], entry: Entry) -> str:
    try:
        return action(entry)
    except Exception as error:  # the next entry must be cleaned whatever happened to this one
        return f"{entry}: {error!r}"


def _derive(entry: Entry) -> str:
    from suites.framework.results.derive import derive  # here, because a keeper that is dismissed needs none of it
    from suites.framework.results.rundir import RunDirectory, invoking_user

    with suppress(SeatrialError):  # a report that cannot be made is no remainder of the run
        run = RunDirectory.open(Path(entry["derive"]))
        derive(run)
        if owner := invoking_user():
            run.hand_over(*owner)
    return ""


ACTIONS: dict[str, Callable[[Entry], str]] = {
    "process": lambda entry: kill_process(int(entry["process"]), int(entry["start"])),
    "containers": lambda entry: remove_containers(entry["containers"], environment=entry.get("environment", "")),
    "cgroup": lambda entry: remove_cgroup(Path(entry["cgroup"])),
    "scratch": lambda entry: remove_scratch(Path(entry["scratch"])),
    "derive": _derive,
}


def read_journal(journal: Path) -> list[Entry]:
    """Return the entries of a journal; a torn last line is left out."""
    entries = []
    for line in journal.read_bytes().splitlines():
        with suppress(ValueError):
            entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict)]


def dismissed(launcher: int, pipe: int) -> bool:
    """Wait until the launcher says that it is done (True) or is dead without having said so (False)."""
    said = b""
    while DONE not in said:
        ready = select.select([launcher, pipe], [], [])[0]
        if pipe in ready:
            word = os.read(pipe, 64)
            said += word
            if not word:
                await_death([launcher], deadline_s=float("inf"))
                return False
        elif launcher in ready:
            return DONE in said
    return True


def main(argv: list[str] | None = None) -> int:
    """Keep watch over the launcher, and clean when it dies."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="keeper")
    parser.add_argument("--launcher-pidfd", type=int, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args(argv)
    if dismissed(options.launcher_pidfd, sys.stdin.fileno()):
        return 0
    with suppress(OSError):  # root's keeper is in time on a busy machine too
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    problems = list(clean(read_journal(options.journal)))
    if problems:
        options.journal.with_suffix(".problems").write_text("\n".join(problems) + "\n")
    else:
        options.journal.unlink(missing_ok=True)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
