"""What a runtime may do to its caller, the worker: root, mounts, host name; noticed and undone (layer 1).

A configuration without a mount or a UTS namespace, or a defect, makes a runtime work on the worker's own. That is
private to the worker; but what it executes afterwards would meet another root (pivot_root(2)).
"""

from __future__ import annotations

import ctypes
import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

from suites.framework import mountinfo, mounting
from suites.framework.errors import InfrastructureError
from suites.framework.mounting import libc

OPEN_TREE, MOVE_MOUNT = 428, 429
"""System calls since Linux 5.2, with these numbers on every architecture (open_tree(2), move_mount(2))."""
OPEN_TREE_CLONE, AT_RECURSIVE, MOVE_MOUNT_F_EMPTY_PATH, AT_FDCWD = 1, 0x8000, 4, -100


@cache
def spare() -> int:
    """Return a copy of the worker's mounts that is attached nowhere; -1 where none can be made.

    To be called once before the first test: the descriptor is the worker's for its lifetime.
    """
    return _clone()


def _clone() -> int:
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    return int(libc().syscall(OPEN_TREE, AT_FDCWD, b"/", ctypes.c_uint(flags)))


class Caller:
    """The worker as it was before the first call.

    `aside` is a folder that the worker may write to, over which a foreign root is put for a moment.
    """

    def __init__(self, aside: Path) -> None:
        """Hold on to the root and remember the host name."""
        self._root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._identity, self._name = self._of("/"), os.uname().nodename
        self._directory, self._aside = Path.cwd(), os.fsencode(os.path.relpath(aside, "/"))
        self._own, self._mounts = aside, mountinfo.table()

    @staticmethod
    def _of(folder: str) -> tuple[int, int]:
        found = os.stat(folder)  # noqa: PTH116 -- once for every call
        return found.st_dev, found.st_ino

    def undo(self) -> str:
        """Return in words what is not as it was, having restored it; empty when nothing has changed."""
        found = []
        if self._of("/") != self._identity:
            self._return()
            found.append("another root")
        if os.statvfs(self._own).f_flag & os.ST_RDONLY:
            mountinfo.restore_options(self._mounts)
            found.append("read-only mounts")
        if os.uname().nodename != self._name:
            with suppress(OSError):
                socket.sethostname(self._name)
            found.append("another host name")
        return " and ".join(found)

    def _return(self) -> None:
        """Go back to the root that is held, or to the copy of it where it was unmounted."""
        os.fchdir(self._root)
        copied = not self._pivoted() and self._replaced()
        if self._of("/") != self._identity:
            why = os.strerror(ctypes.get_errno())
            raise InfrastructureError("the worker's root was taken away by a target, for good", why=why)
        mounting.detach(b"/" + self._aside)
        os.chdir(self._directory)
        if copied:
            os.dup2(again := _clone(), spare(), inheritable=False)
            os.close(again)

    def _pivoted(self) -> bool:
        """Make the current directory the root, also of every process that has the foreign one (pivot_root(2))."""
        return int(libc().pivot_root(b".", self._aside)) == 0

    def _replaced(self) -> bool:
        """Make the copy the root."""
        libc().syscall(MOVE_MOUNT, spare(), b"", AT_FDCWD, b"/", MOVE_MOUNT_F_EMPTY_PATH)
        with suppress(OSError):
            os.fchdir(spare())
        return self._pivoted()

    def close(self) -> None:
        """Let go."""
        os.close(self._root)
