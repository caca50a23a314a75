"""What a process uses, as /proc says (layer 1: standard library only; proc_pid_status(5), proc_pid_statm(5))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_SWITCHES = re.compile(rb"ctxt_switches:\s+(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one process has used so far, and holds now."""

    switches: int
    """Context switches of all threads: at least one for each time that one of them woke up."""
    cpu_s: float
    """CPU seconds of all living threads, as the scheduler counts them: in nanoseconds, not in ticks."""
    rss_bytes: int
    threads: int
    descriptors: int


def of(pid: int) -> Usage:
    """Return the usage of a living process; raises FileNotFoundError or ProcessLookupError for one that is gone."""
    process = Path(f"/proc/{pid}")
    threads = [process / "task" / thread for thread in os.listdir(process / "task")]
    statuses = [(thread / "status").read_bytes() for thread in threads]
    return Usage(
        switches=sum(int(count) for status in statuses for count in _SWITCHES.findall(status)),
        cpu_s=sum(int((thread / "schedstat").read_bytes().split()[0]) for thread in threads) / 1e9,
        rss_bytes=int((process / "statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        threads=len(threads),
        descriptors=len(os.listdir(process / "fd")),
    )
