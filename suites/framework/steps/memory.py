"""A limit on the memory of a step where no cgroup can hold it (layer 2: standard library only).

RLIMIT_AS and RLIMIT_DATA are no substitute: they count one process, and what it reserves instead of what it uses.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from suites.framework import proc
from suites.framework.sampler import INTERVAL_S

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def private_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants without files and libraries, which they share."""
    return sum(_private_pages(number) for number in (pid, *proc.descendants(pid))) * _PAGE_BYTES


def _private_pages(pid: int) -> int:
    """Return resident less shared pages (proc_pid_statm(5)); 0 for a process that is gone."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/statm").read_bytes().split()
        return int(fields[1]) - int(fields[2])
    return 0


class MemoryWatch:
    """Looks every half second whether a step needs more memory than it may; a cgroup would notice at once."""

    def __init__(self, limit_bytes: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the limit."""
        self._limit_bytes, self._clock, self._due = limit_bytes, clock, clock()

    def exceeded(self, pid: int) -> bool:
        """Measure, if it is time to; return whether it is too much."""
        if self._clock() < self._due:
            return False
        self._due = self._clock() + INTERVAL_S
        return private_bytes(pid) > self._limit_bytes
