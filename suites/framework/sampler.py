"""What steps and workers use, measured while they run: one line on disk for each moment (layer 1).

Driven from the loops that wait for them; no thread.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from suites.framework import codec
from suites.framework.model import METRICS, Sample, Total

INTERVAL_S = 0.5
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_NAMES = {kind: name for name, kind in METRICS.items()}


class MetricsFile:
    """The only writer of one metrics file; each line is one os.write, so it is on disk as soon as it was measured."""

    def __init__(self, path: Path) -> None:
        """Open the file for appending."""
        self._fd = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)

    def write(self, metric: Sample | Total) -> None:
        """Append one line. A full disk loses it: what is measured must not end what it measures."""
        line = json.dumps({"metric": _NAMES[type(metric)], **codec.encode(metric)}, separators=(",", ":"))
        with suppress(OSError):
            os.write(self._fd, line.encode() + b"\n")

    def close(self) -> None:
        """Close the descriptor; calling it again does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a process and everything below it uses at one moment. Seconds, bytes and a count."""

    cpu_s: float
    rss_bytes: int
    processes: int


Row = tuple[int, int, int]
"""Of one process: its parent, its clock ticks (of its reaped children too) and its resident pages."""


def scan() -> dict[int, Row]:
    """Return all processes of the machine, by number: one look at /proc serves every step (proc_pid_stat(5))."""
    rows = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _fields(name)):
            rows[int(name)] = (int(fields[1]), sum(map(int, fields[11:15])), int(fields[21]))
    return rows


def _fields(name: str) -> list[bytes]:
    """Return what stands behind the name, from the state on; nothing of a process that is gone."""
    with suppress(OSError):
        fd = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 4096).rpartition(b")")[2].split()
        finally:
            os.close(fd)
    return []


def use(pid: int) -> Use | None:
    """Return what a process and its descendants use, None when it is gone."""
    return _uses([pid], scan())[pid]


def _uses(pids: Collection[int], rows: Mapping[int, Row]) -> dict[int, Use | None]:
    """Return what each of some processes uses, its descendants included."""
    below: dict[int, list[int]] = {}
    for pid, (parent, _, _) in rows.items():
        below.setdefault(parent, []).append(pid)
    return {pid: _sum([rows[number] for number in _tree(pid, below)]) if pid in rows else None for pid in pids}


def _tree(pid: int, below: Mapping[int, list[int]]) -> set[int]:
    """Return a process and its descendants; a set, for what is read while processes die may even be a circle."""
    found, new = set[int](), [pid]
    while new:
        if (number := new.pop()) not in found:
            found.add(number)
            new += below.get(number, ())
    return found


def _sum(rows: Collection[Row]) -> Use:
    return Use(
        cpu_s=sum(ticks for _, ticks, _ in rows) * _TICK_S,
        rss_bytes=sum(pages for _, _, pages in rows) * _PAGE_BYTES,
        processes=len(rows),
    )


@dataclass(frozen=True, slots=True)
class _Watched:
    pid: int
    node: Callable[[], str]


class Sampler:
    """Writes what the steps that it was told of use, every half second, when it is called."""

    def __init__(
        self,
        metrics: MetricsFile,
        *,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        scan: Callable[[], Mapping[int, Row]] = scan,
    ) -> None:
        """Take the file; times in it are Unix seconds advanced by the monotonic clock, as those of the events."""
        self._metrics, self._interval_s, self._clock, self._scan = metrics, interval_s, clock, scan
        self._epoch = now() - clock()
        self._due = clock()
        self._watched: dict[str, _Watched] = {}

    def watch(self, step: str, pid: int, *, node: Callable[[], str] = str) -> None:
        """Measure a process under this name from now on; `node` says which case it has been at for long."""
        self._watched[step] = _Watched(pid, node)

    def tick(self) -> None:
        """Measure, if it is time to."""
        if self._clock() < self._due or not self._watched:
            return
        self._due = self._clock() + self._interval_s
        uses = _uses([watched.pid for watched in self._watched.values()], self._scan())
        for step, watched in self._watched.items():
            if found := uses[watched.pid]:
                self._metrics.write(Sample(t=self.t, step=step, node=watched.node(), **codec.encode(found)))

    def end(self, step: str, *, wall_s: float, cpu_s: float, rss_bytes: int, source: str = "wait4") -> None:
        """Write the totals of a step that is over, and measure it no more."""
        self._watched.pop(step, None)
        self._metrics.write(Total(t=self.t, step=step, wall_s=wall_s, cpu_s=cpu_s, rss_bytes=rss_bytes, source=source))

    def forget(self, step: str) -> None:
        """Measure a step no more."""
        self._watched.pop(step, None)

    @property
    def t(self) -> float:
        """Return the time for a line, Unix seconds."""
        return self._epoch + self._clock()
