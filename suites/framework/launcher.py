"""Who a launcher is, for whoever meets what it left and has to know whether it lives (layer 2, standard library)."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from suites.framework import proc

LABEL = "seatrial.launcher"
"""Label of every container, with what `name` returned when it was made."""
MACHINE = Path("/etc/machine-id")


def name(*, machine: Path = MACHINE) -> str:
    """Return a name of this process that no other process of this or another machine or boot has."""
    own = proc.stat(os.getpid())
    return ":".join((*_surroundings(machine), str(os.getpid()), str(own.start if own else 0)))


def gone(named: str, *, machine: Path = MACHINE) -> bool:
    """Return whether the process with this name is gone for certain.

    One of another machine (an engine may serve several) or of another pid namespace may live.
    """
    words = named.split(":")
    if len(words) != 5 or not (words[3].isdigit() and words[4].isdigit()):
        return False
    host, boot, namespace = _surroundings(machine)
    if words[1] != boot:
        return bool(host) and words[0] == host  # the same machine, started again
    return words[2] == namespace and not alive(int(words[3]), int(words[4]))


def alive(pid: int, start: int | None = None) -> bool:
    """Return False only for a process that is gone for certain, its number unused or used again.

    `start` is in clock ticks since boot. Where /proc hides the processes of others (hidepid, proc(5)), one that
    exists is taken for the one that is meant.
    """
    with suppress(PermissionError):
        if found := proc.stat(pid):
            return start is None or found.start == start
    try:
        os.close(os.pidfd_open(pid))
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # out of descriptors: not known
    return True


def _surroundings(machine: Path) -> tuple[str, str, str]:
    """Return machine, boot and pid namespace; the machine's id is private (machine-id(5)), hence its digest."""
    try:
        number = machine.read_bytes().strip()
    except OSError:
        number = b""
    host = hashlib.sha256(b"seatrial" + number).hexdigest()[:16] if len(number) >= 32 else ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return host, boot, str(Path("/proc/self/ns/pid").stat().st_ino)
