"""The cgroups this process is in, version 1, 2 and hybrid (layer 1; cgroups(7))."""

from __future__ import annotations

import os
from pathlib import Path

UNIFIED = ""
"""Key of the version 2 hierarchy."""


def memberships(*, proc: Path = Path("/proc/self")) -> dict[str, Path]:
    """Return controller: folder of this process's cgroup as it is mounted here; UNIFIED stands for version 2."""
    paths: dict[str, str] = {}
    for line in (proc / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    found: dict[str, Path] = {}
    for line in (proc / "mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        root, point = left.split(" ")[3:5]
        kind, _, options = right.split(" ", 2)
        if kind == "cgroup2":
            names: list[str] = [UNIFIED]
        elif kind == "cgroup":
            names = [name for name in options.split(",") if name in paths]
        else:
            continue
        for name in names:
            if name in paths:
                found[name] = Path(os.path.normpath(Path(point) / os.path.relpath(paths[name], root)))
    return found


def below(folder: Path) -> frozenset[Path]:
    """Return the cgroups directly below one."""
    try:
        return frozenset(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return frozenset()


def controlled_by(controller: str, *, proc: Path = Path("/proc/self")) -> tuple[Path, bool] | None:
    """Return the own cgroup's folder in which this controller's limits are set, and whether it is version 2."""
    found = memberships(proc=proc)
    if controller in found:
        return found[controller], False
    unified = found.get(UNIFIED)
    if unified is not None and controller in (unified / "cgroup.controllers").read_text().split():
        return unified, True
    return None
