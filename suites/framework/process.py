"""Spawning, holding and reaping processes by pidfd (layer 1).

The worker is PID 1 of its namespace or a child subreaper, so every descendant ends up as its child and leaves
its exact wait status here. No process is ever asked for by number alone: numbers are used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from suites.framework import signals
from suites.framework.waiting import Capture, Deadline, Waiter

ALL_SIGNALS = tuple(number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP))
HIGH_FD = 200
"""Source descriptors are moved above this, and above where they go, before they are laid out for a child: none is
overwritten by another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a process ended (wait(2)): an exit code, or the number of the signal that killed it."""

    code: int | None = None
    signal: int | None = None

    @classmethod
    def of(cls, wait_status: int) -> Status:
        """Return the status for the integer that wait(2) gives."""
        if os.WIFSIGNALED(wait_status):
            return cls(signal=os.WTERMSIG(wait_status))
        return cls(code=os.WEXITSTATUS(wait_status))

    def __str__(self) -> str:
        """Return ``exit 143`` or ``killed by TERM``: two different results."""
        return f"exit {self.code}" if self.signal is None else f"killed by {signals.name(self.signal)}"

    __repr__ = __str__


def exited(code: int) -> Status:
    """Return the status of a process that called exit(2) with `code`."""
    return Status(code=code)


def killed(number: int) -> Status:
    """Return the status of a process that died by this signal."""
    return Status(signal=number)


@dataclass(slots=True)
class Child:
    """A child of this process, from its spawning to its reaping. Times on the monotonic clock, in seconds."""

    pid: int
    pidfd: int
    started: float
    ended: float = 0.0
    status: Status | None = None
    cpu_s: float = 0.0
    rss_bytes: int = 0
    """Of the largest process of it. 0 where that was no larger than ours, which execve(2) counts as the child's own."""

    @classmethod
    def adopt(cls, pid: int, *, started: float | None = None) -> Child:
        """Take hold of an unreaped child of this process by its number; it started now, unless that is known."""
        return cls(pid=pid, pidfd=os.pidfd_open(pid), started=time.monotonic() if started is None else started)

    def send(self, number: int) -> None:
        """Send a signal; one to a process that has ended is dropped as the kernel would."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def wait(self, deadline: Deadline, waiter: Waiter) -> Status | None:
        """Return the status once the process has ended, or None when the deadline passes first."""
        if self.status is None and waiter.wait((self.pidfd,), deadline):
            self._reap()
        return self.status

    def kill(self) -> Status:
        """Kill the process if it lives, reap it, and return its status."""
        if self.status is None:
            self.send(signal.SIGKILL)
            self._reap()
        assert self.status is not None
        return self.status

    def _reap(self) -> None:
        _, wait_status, usage = os.wait4(self.pid, 0)
        self.ended = time.monotonic()
        self.status = Status.of(wait_status)
        self.cpu_s = usage.ru_utime + usage.ru_stime
        ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.rss_bytes = usage.ru_maxrss * 1024 if usage.ru_maxrss > ours else 0
        os.close(self.pidfd)
        self.pidfd = -1

    @property
    def life(self) -> tuple[float, float]:
        """Return when it was started and reaped; where it is not, now."""
        return self.started, self.ended or time.monotonic()

    @property
    def alive_s(self) -> float:
        """Return the seconds from start to reaping (or to now)."""
        began, ended = self.life
        return ended - began


def covered(lives: Iterable[tuple[float, float]]) -> float:
    """Return the seconds in which at least one of several was under way, each given by its beginning and its end."""
    seconds, until = 0.0, 0.0
    for began, ended in sorted(lives):
        seconds += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return seconds


def spawn(argv: Sequence[str | bytes], *, environment: Mapping[str, str], fds: Mapping[int, int]) -> Child:
    """Start a program in a session of its own with exactly the descriptors `fds` (its number: ours).

    All signals are unblocked and at their default. `argv[0]` is a path. Raises OSError as posix_spawn(3) does.
    """
    least = max(HIGH_FD, *(inside + 1 for inside in fds)) if fds else HIGH_FD
    moved = {inside: fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, least) for inside, ours in fds.items()}
    started = time.monotonic()  # posix_spawn returns when the program is executed, which takes most of its time
    try:
        pid = os.posix_spawn(
            argv[0],
            list(argv),
            environment,
            file_actions=[
                *((os.POSIX_SPAWN_CLOSE, number) for number in (0, 1, 2) if number not in fds),
                *((os.POSIX_SPAWN_DUP2, ours, inside) for inside, ours in moved.items()),
            ],
            setsigmask=(),
            setsigdef=ALL_SIGNALS,
            setsid=True,
        )
    finally:
        for ours in moved.values():
            os.close(ours)
    return Child.adopt(pid, started=started)


def dismiss(pid: int) -> None:
    """Kill a process that we started and that another process has adopted; one that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        finally:
            os.close(pidfd)


def output_of(argv: Sequence[str], *, environment: Mapping[str, str], seconds: float) -> tuple[Status | None, str]:
    """Run a short command without input; return its status (None past the deadline, then killed) and its output."""
    reading, writing = os.pipe()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    waiter = Waiter()
    capture = waiter.add(Capture(reading, title="output", limit=65536))
    try:
        child = spawn(argv, environment=environment, fds={0: null, 1: writing, 2: writing})
    except OSError:
        waiter.finish()
        raise
    finally:
        os.close(null)
        os.close(writing)
    status = child.wait(Deadline(seconds), waiter)
    child.kill()
    waiter.finish()
    return status, capture.data.decode(errors="replace").strip()
