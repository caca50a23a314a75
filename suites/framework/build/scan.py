"""Programs that a build made, found by looking: for tools that do not name their products (layer 2)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from suites.framework.build.user import Builder
from suites.framework.errors import UsageError
from suites.framework.targets.executable import inspect

Snapshot = dict[Path, tuple[int, int, int]]
"""Inode, size and time of change of each regular file with an x bit."""


def snapshot(top: Path, builder: Builder) -> Snapshot:
    """Return the executable files below ``top``, those of git's own folder left out."""
    with builder.acting():
        return dict(_files(top))


def made_since(before: Snapshot, top: Path, builder: Builder) -> list[Path]:
    """Return the programs that are new or changed: ELF programs, or scripts where there is none of those."""
    fresh = sorted(path for path, state in snapshot(top, builder).items() if before.get(path) != state)
    with builder.acting():
        forms = {path: form for path in fresh if (form := _form(path))}
    binaries = [path for path, form in forms.items() if form == "elf"]
    return binaries or list(forms)


def _files(top: Path) -> Iterator[tuple[Path, tuple[int, int, int]]]:
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            state = Path(folder, name).lstat()
            if stat.S_ISREG(state.st_mode) and state.st_mode & 0o111:
                yield Path(folder, name), (state.st_ino, state.st_size, state.st_mtime_ns)


def _form(path: Path) -> str:
    try:
        return inspect(path).form
    except UsageError:
        return ""
