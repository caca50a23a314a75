"""A small file system of the test's own, mounted over a folder in the worker's mount namespace (layer 1; tmpfs(5))."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

from suites.framework import mounting
from suites.framework.bench import Bench
from suites.framework.errors import InfrastructureError
from suites.framework.mounting import MS_RDONLY

BLOCKS = "blocks"
"""Full in that nothing can be written any more; empty files and folders can be made."""
INODES = "inodes"
"""Full in that no file or folder can be made."""
OPTIONS = {BLOCKS: "size=64k,mode=700", INODES: "nr_inodes=16,mode=700"}
_FILLER = "filler"


class Volume:
    """A tmpfs that can be full, or read-only; unmounted when the test is over."""

    def __init__(self, bench: Bench, folder: Path, *, options: str, readonly: bool = False) -> None:
        """Mount it over `folder`; takes CAP_SYS_ADMIN."""
        self.folder = folder
        flags = MS_RDONLY if readonly else 0
        try:
            mounting.mount("tmpfs", folder, kind="tmpfs", flags=flags, options=options)
        except OSError as error:
            raise InfrastructureError("a small file system for a test", why=error.strerror or "") from error
        self._mounted = True
        bench.own(self.unmount)

    def unmount(self) -> None:
        """Take it away, with whatever is in it; safe to repeat."""
        if self._mounted:
            mounting.detach(self.folder)
        self._mounted = False

    def fill(self, what: str) -> None:
        """Use up its blocks or its inodes."""
        (self.folder / _FILLER).mkdir()
        with contextlib.suppress(_Full):
            for number in range(1 << 16):
                _write(self.folder / _FILLER / str(number), b"-" * 4096 if what == BLOCKS else b"")

    def empty(self) -> None:
        """Make room again."""
        for file in (self.folder / _FILLER).iterdir():
            file.unlink()
        (self.folder / _FILLER).rmdir()


class _Full(Exception):
    """No space is left."""


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _Full from None
