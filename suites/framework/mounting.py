"""Mounting and unmounting in the mount namespace of this process (layer 1; mount(2), umount2(2))."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

MS_RDONLY, MS_REMOUNT, MS_BIND, MS_SHARED = 1, 1 << 5, 1 << 12, 1 << 20
_MNT_DETACH = 2


@cache
def libc() -> ctypes.CDLL:
    """Return the C library, whose errors are kept for ctypes.get_errno()."""
    return ctypes.CDLL(None, use_errno=True)


def mount(source: str | Path, target: str | Path, *, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount something; OSError as the kernel says."""
    words = (os.fsencode(source), os.fsencode(target), kind.encode())
    if libc().mount(*words, ctypes.c_ulong(flags), options.encode() or None) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def detach(point: str | bytes | Path) -> None:
    """Take a mount away with all below it, in use or not; where none is, or it withstands, nothing happens."""
    libc().umount2(os.fsencode(point), _MNT_DETACH)
