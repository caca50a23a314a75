"""The mounts of this process's namespace, as the kernel lists them (layer 1; proc_pid_mountinfo(5))."""

from __future__ import annotations

import contextlib
import os
import re
import select
from collections.abc import Mapping
from functools import cache, lru_cache

from suites.framework import mounting
from suites.framework.mounting import MS_BIND, MS_REMOUNT

MS_OF_OPTION = {
    "ro": 1,
    "nosuid": 1 << 1,
    "nodev": 1 << 2,
    "noexec": 1 << 3,
    "nosymfollow": 1 << 8,
    "noatime": 1 << 10,
    "nodiratime": 1 << 11,
    "relatime": 1 << 21,
}
"""Options of a mount that mountinfo names, and the flags that stand for them (mount(2))."""
_ESCAPE = re.compile(rb"\\([0-7]{3})")
"""How mountinfo writes white space and backslashes."""


class _Table:
    """The list of one namespace, read again only where the kernel says that it has changed.

    Reading is dear where there are many mounts, and it is asked for several times a case; a poll is not
    (proc_pid_mounts(5)). The descriptor stays open as long as the process lives.
    """

    def __init__(self) -> None:
        self._fd, self._poll, self._text = _open(), select.poll(), b""
        self._poll.register(self._fd, select.POLLPRI)

    def read(self) -> bytes:
        """Return the list as seen from the root that this process has now."""
        if self._poll.poll(0) or not self._text:
            os.dup2(again := _open(), self._fd, inheritable=False)  # its root is that of the moment of opening
            os.close(again)
            with open(self._fd, "rb", buffering=0, closefd=False) as file:
                self._text = file.readall()
        return self._text


def _open() -> int:
    return os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)


@cache
def _table(namespace: int) -> _Table:  # noqa: ARG001 -- a forked process may go to another
    return _Table()


def table() -> bytes:
    """Return the mounts of this namespace as the kernel lists them."""
    return _table(os.stat("/proc/self/ns/mnt").st_ino).read()  # noqa: PTH116 -- several times a case


def points(listed: bytes | None = None) -> Mapping[str, str]:
    """Return mount id: mount point, of the mounts there are now or of an earlier list."""
    return _points(table() if listed is None else listed)


@lru_cache(maxsize=2)
def _points(listed: bytes) -> Mapping[str, str]:
    rows = (line.split(b" ") for line in listed.split(b"\n")[:-1])
    return {row[0].decode(): os.fsdecode(_unescaped(row[4])) for row in rows}


def _unescaped(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), field) if b"\\" in field else field


def restore_options(before: bytes) -> list[str]:
    """Give mounts that have other options (ro, nosuid and the like) than `before` their old ones; return where.

    Those of the mount, not of its file system, which other mount namespaces share.
    """
    where, were, are = points(before), _options(before), _options(table())
    changed = {number: where[number] for number in were.keys() & are.keys() if were[number] != are[number]}
    for number, point in changed.items():
        flags = sum(bit for word, bit in MS_OF_OPTION.items() if word in were[number])
        with contextlib.suppress(OSError):
            mounting.mount("none", point, flags=MS_REMOUNT | MS_BIND | flags)
    return sorted(changed.values())


def _options(listed: bytes) -> dict[str, frozenset[str]]:
    rows = (line.split(b" ") for line in listed.split(b"\n")[:-1])
    return {row[0].decode(): frozenset(row[5].decode().split(",")) for row in rows}
