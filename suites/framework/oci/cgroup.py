"""Where a container's cgroups are, in every hierarchy of the machine (layer 1; cgroups(7))."""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path

from suites.framework import cgroups
from suites.framework.cgroups import Hierarchy

PREFIX = "seatrial-"


@cache
def _hierarchies() -> tuple[Hierarchy, ...]:
    """Return the hierarchies of this worker, which do not change while it lives."""
    return tuple(cgroups.hierarchies())


@cache
def parent() -> str:
    """Return the cgroupsPath of this worker's own place: its limits hold for the containers below it too.

    A worker in a container sees its own place as the top.
    """
    limiting = sorted(_hierarchies(), key=lambda hierarchy: "pids" not in hierarchy.controllers)
    for hierarchy in limiting:
        inside = hierarchy.own.relative_to(hierarchy.mount)
        if inside.parts and inside.parts[-1].startswith(PREFIX):
            return f"/{inside}"
    return ""


def folders(path: str) -> list[Path]:
    """Return the folders that a cgroupsPath has now, one for each hierarchy in which it exists."""
    found = (hierarchy.mount / path.lstrip("/") for hierarchy in _hierarchies()) if path else ()
    return [folder for folder in found if folder.is_dir()]


def folder(path: str, controller: str) -> Path | None:
    """Return the folder of a cgroupsPath in the hierarchy of a controller, None where it is in none."""
    for hierarchy in _hierarchies():
        if controller in hierarchy.controllers and (found := hierarchy.mount / path.lstrip("/")).is_dir():
            return found
    return None


def version(controller: str) -> int:
    """Return the version of the hierarchy that has this controller; 0 where none has."""
    return next((each.version for each in _hierarchies() if controller in each.controllers), 0)


def thaw(path: str) -> None:
    """Let frozen processes go on, or no signal ends them (freezer: version 1 and 2)."""
    for place in folders(path):
        for file, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            with contextlib.suppress(OSError):
                if (place / file).exists():
                    (place / file).write_text(word)


def remove(path: str) -> bool:
    """Remove what is left of a cgroupsPath, where no process is in it; return whether there was something."""
    found = folders(path)
    for place in found:
        for below in sorted(cgroups.below(place), reverse=True):
            with contextlib.suppress(OSError):
                below.rmdir()
        with contextlib.suppress(OSError):
            place.rmdir()
    return bool(found)
