"""Starting a program through the payload's ``launch``, which prepares terminal, signals and namespaces (layer 1)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence

from suites.framework import process
from suites.framework.process import Child
from suites.framework.waiting import Capture, Deadline, Waiter

REPORT = 9
"""The descriptor over which ``launch`` tells the program's pid; closed by the program's exec."""
LAUNCH_S = 20.0


class NotLaunched(Exception):
    """The program was not executed; `step` is the operation that failed (``exec``, ``unshare``), `why` its error."""

    def __init__(self, step: str, why: str) -> None:
        """Say which step failed and how."""
        self.step, self.why = step, why
        super().__init__(f"{step}: {why}")


def launch(
    words: Sequence[str | bytes],
    *,
    payload: Sequence[str],
    options: Sequence[str],
    environment: Mapping[str, str],
    fds: Mapping[int, int],
    waiter: Waiter,
) -> Child:
    """Return the process that now executes `words`, a child of this one; raises NotLaunched.

    With option ``--pid1`` it is PID 1 of a namespace of its own, still with its exact wait status.
    """
    reading, writing = os.pipe()
    try:
        launcher = process.spawn(
            [*payload, "launch", "--report", str(REPORT), *options, "--", *words],
            environment=environment,
            fds={**fds, REPORT: writing},
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    lines = _report(reading, waiter)
    if lines is None or "pid" not in lines:
        launcher.kill()
        step, _, why = (lines or {}).get("error", "report: none came").partition(": ")
        raise NotLaunched(step, why)
    child = _hold(int(lines["pid"]), launcher, waiter)
    if "error" in lines:
        child.kill()
        step, _, why = lines["error"].partition(": ")
        raise NotLaunched(step, why)
    return child


def _report(fd: int, waiter: Waiter) -> dict[str, str] | None:
    """Read the report to its end, which is the program's exec; None when the end does not come."""
    capture, deadline, more = Capture(fd, title="launch", limit=4096), Deadline(LAUNCH_S), True
    while more and waiter.wait((fd,), deadline):
        more = capture.drain()
    capture.close()
    lines = capture.data.decode(errors="replace").splitlines()
    return None if more else {key: value for key, _, value in (line.partition(" ") for line in lines)}


def _hold(pid: int, launcher: Child, waiter: Waiter) -> Child:
    """Return the process `pid`; where ``launch`` forked it, it is ours as soon as ``launch`` has ended."""
    if pid == launcher.pid:
        child = launcher
    else:
        child = Child.adopt(pid)
        launcher.wait(Deadline(LAUNCH_S), waiter)
        launcher.kill()
    child.started = time.monotonic()
    return child
