"""What /proc says about processes (layer 1: standard library only; proc_pid_stat(5), proc_pid_task(5)).

A process that is gone is no error here: it has no state and no children.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PF_EXITING = 0x4
SO_ACCEPTCON = 1 << 16
"""Flag of a socket that listens (<linux/net.h>)."""
GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """Some fields of /proc/PID/stat."""

    name: str
    state: str
    """A letter, such as ``S``, ``T`` or ``Z``."""
    parent: int
    flags: int
    cpu: int
    """Clock ticks of user and system time, those of its reaped children included."""
    start: int
    """Clock ticks since boot: with the number it names a process for ever."""
    pages: int
    """Of its resident set."""


def stat(pid: int) -> Stat | None:
    """Return what the kernel says of a process, None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 -- read several times a case
            text = file.read()
    except GONE:
        return None
    name, _, rest = text.partition(b"(")[2].rpartition(b")")  # the name may hold anything, brackets too
    fields = rest.split()
    return Stat(
        name=name.decode(errors="replace"),
        state=fields[0].decode(),
        parent=int(fields[1]),
        flags=int(fields[6]),
        cpu=sum(map(int, fields[11:15])),
        start=int(fields[19]),
        pages=int(fields[21]),
    )


def children(pid: int, *, proc: Path = PROC) -> tuple[int, ...]:
    """Return the children of all threads of a process; none where the kernel does not list them."""
    found: list[int] = []
    with contextlib.suppress(*GONE):
        for task in sorted(os.listdir(f"{proc}/{pid}/task")):
            path = f"{proc}/{pid}/task/{task}/children"
            gone = contextlib.suppress(*GONE)  # a thread may end, its siblings live on
            with gone, open(path, "rb") as file:  # noqa: PTH123 -- read several times a case
                found += map(int, file.read().split())
    return tuple(found)


def descriptors(pid: int) -> tuple[int, ...]:
    """Return the numbers of a process's open descriptors; none when it is gone or somebody else's."""
    try:
        return tuple(sorted(map(int, os.listdir(f"/proc/{pid}/fd"))))
    except (*GONE, PermissionError):
        return ()


def environment(pid: int) -> bytes:
    """Return a process's environment as the kernel has it; empty when it is gone or somebody else's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 -- many times a case
            return file.read()
    except (*GONE, PermissionError):
        return b""


def words(pid: int) -> list[bytes]:
    """Return the words that a process was started with; none for one that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def opened(pid: int) -> tuple[str, ...]:
    """Return what a process's descriptors are open at, as /proc names it; none when it is gone or somebody else's."""
    found = []
    for number in descriptors(pid):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))  # noqa: PTH115 -- many times a case
    return tuple(found)


def descendants(pid: int) -> tuple[int, ...]:
    """Return children, their children and so on, parents first."""
    found: list[int] = []
    for child in children(pid):
        found += (child, *descendants(child))
    return tuple(found)


def listens(pid: int, end: str) -> bool:
    """Return whether a Unix socket with this end of its path listens in a process's network namespace (proc_net(5))."""
    try:
        rows = Path(f"/proc/{pid}/net/unix").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    return any(row.endswith(end) and int(row.split()[3], 16) & SO_ACCEPTCON for row in rows[1:])


def state(pid: int) -> str:
    """Return the letter of a process's state; empty when it is gone."""
    found = stat(pid)
    return found.state if found else ""


def exiting(pid: int) -> bool:
    """Return whether a process is gone or on its way out."""
    found = stat(pid)
    return found is None or bool(found.flags & PF_EXITING)


def describe(pid: int) -> str:
    """Return one line for a report: pid, parent, state and command."""
    found = stat(pid)
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except GONE:
        return f"{pid} gone"
    if found is None:
        return f"{pid} gone"
    return f"{pid} parent {found.parent} state {found.state} {command or f'[{found.name}]'}"
