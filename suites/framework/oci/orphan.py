"""Processes that calls of a runtime left to the worker and that nobody holds (layer 1; prctl(2), CHILD_SUBREAPER)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from suites.framework import proc
from suites.framework.process import Child
from suites.framework.waiting import Deadline, ticks

SWEEP_S = 2.0


class Orphans:
    """The worker's children that came since this was made; `held` gives those that somebody will reap himself."""

    def __init__(self, held: Callable[[], Iterable[int]]) -> None:
        """Remember the children that are there already."""
        self._before = frozenset(proc.children(os.getpid()))
        self._held = held

    def alive(self) -> list[int]:
        """Return the pids of those that live, having reaped those that have ended."""
        known = self._before | set(self._held())
        found = [pid for pid in proc.children(os.getpid()) if pid not in known]
        return [pid for pid in found if not os.waitpid(pid, os.WNOHANG)[0]]

    def remain(self, seconds: float) -> list[str]:
        """Return the names (proc_pid_comm(5)) of those that live `seconds` from now; at once when none is left."""
        for _ in ticks(Deadline(seconds)):
            if not self.alive():
                return []
        stats = [proc.stat(pid) for pid in self.alive()]
        return sorted({stat.name for stat in stats if stat is not None})

    def remove(self) -> None:
        """Kill and reap them, and what becomes an orphan by that; who makes new ones faster is left to the census."""
        for _ in ticks(Deadline(SWEEP_S)):
            if not (pids := self.alive()):
                break
            for pid in pids:
                Child.adopt(pid).kill()
