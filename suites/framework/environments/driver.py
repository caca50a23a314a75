"""What every environment's driver offers: start a worker, stop it, say how it ended (layer 2, standard library only).

A worker's standard input is its lifeline: the launcher holds the other end, the byte ``s`` asks for an orderly end,
and end of file means that the launcher is dead. A worker becomes a readable descriptor, so that one poll serves
all workers of all environments. Nothing here waits.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from suites.catalog import Environment

STOP = b"s"
"""What `Worker.stop` writes to the lifeline."""
NOT_EXECUTED = (125, 126, 127)
"""Exit codes with which the wall's programs say that they did not execute the worker (setpriv(1), unshare(1))."""
TAIL_BYTES = 2000


class Ending(StrEnum):
    """How a worker ended."""

    EXIT = "exit"
    SIGNAL = "signal"
    OOM = "oom"
    NOT_STARTED = "not-started"
    KILLED = "killed"
    """Ended by us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnd:
    """The end of a worker: an exit code or the number of a signal, and a sentence for a person."""

    how: Ending
    code: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A path of this machine that a container sees at the same place."""

    path: str
    writable: bool = False


class Worker(Protocol):
    """A started worker process."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when the worker is over."""

    def stop(self) -> None:
        """Ask for an orderly end. May be called again, and after the end; never raises."""

    def kill(self) -> None:
        """End the worker and everything in its namespaces at once."""

    def end(self) -> WorkerEnd:
        """Reap the worker and remove what it ran in, once `fileno` is readable. May be called again."""


class Driver(Protocol):
    """Starts workers in one environment."""

    @property
    def environment(self) -> Environment:
        """Return the environment in which the workers run."""

    def start(
        self, argv: Sequence[str], *, name: str, env: Mapping[str, str], log: Path, keep: Sequence[int] = ()
    ) -> Worker:
        """Start the worker whose Python command line is `argv`; its stdout and stderr are appended to `log`.

        Call it from a thread that outlives the worker: PR_SET_PDEATHSIG counts threads (prctl(2)).
        `keep` are descriptors that a native worker inherits under their numbers; a container takes none.
        A worker that cannot be started is returned too, and has ended as `Ending.NOT_STARTED`.
        """

    def close(self) -> None:
        """End the workers that still live and remove whatever the driver made."""


class NeverStarted:
    """A worker that is over before it began."""

    def __init__(self, detail: str, *, code: int = 127) -> None:
        """Remember why it did not start."""
        self._end = WorkerEnd(how=Ending.NOT_STARTED, code=code, detail=detail)
        self._over = os.eventfd(1, os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return a descriptor that is readable already."""
        return self._over

    def stop(self) -> None:
        """Do nothing."""

    def kill(self) -> None:
        """Do nothing."""

    def end(self) -> WorkerEnd:
        """Return why it did not start."""
        if self._over >= 0:
            os.close(self._over)
            self._over = -1
        return self._end


def judge(status: int, *, killed: bool, log: Path) -> WorkerEnd:
    """Return the end that `status` means: an exit code, or minus the number of a signal (as subprocess says it)."""
    if killed and status == -signal.SIGKILL:
        return WorkerEnd(how=Ending.KILLED, code=signal.SIGKILL, detail="killed by the launcher")
    if status < 0:
        return WorkerEnd(how=Ending.SIGNAL, code=-status, detail=f"killed by {signal_name(-status)}")
    if status in NOT_EXECUTED:
        return WorkerEnd(how=Ending.NOT_STARTED, code=status, detail=tail(log) or f"exit status {status}")
    return WorkerEnd(how=Ending.EXIT, code=status, detail=f"exit status {status}")


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9, or ``signal 64`` where there is no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def tail(log: Path) -> str:
    """Return the last words of a worker's log, at most 2000 bytes; empty where there is no log."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL_BYTES))
            return stream.read().decode(errors="replace").strip()
    except OSError:
        return ""
