"""Where a container's cgroups are, in every hierarchy of the machine (layer 1; cgroups(7))."""

from __future__ import annotations

import contextlib
import os
from functools import cache
from pathlib import Path

from suites.framework import cgroups
from suites.framework.cgroups import Hierarchy


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
        if inside.parts and inside.parts[-1].startswith(cgroups.PREFIX):
            return f"/{inside}"
    return ""


def folders(path: str) -> list[Path]:
    """Return the folders that a cgroupsPath has now, one for each hierarchy in which it exists."""
    found = (f"{hierarchy.mount}/{path.lstrip('/')}" for hierarchy in _hierarchies()) if path else ()
    return [Path(folder) for folder in found if not cgroups.alone(os.path.dirname(folder)) and os.path.isdir(folder)]  # noqa: PTH112, PTH120


def folder(path: str, controller: str) -> Path | None:
    """Return the folder of a cgroupsPath in the hierarchy of a controller, None where it is in none."""
    for hierarchy in _hierarchies():
        if controller in hierarchy.controllers and (found := hierarchy.mount / path.lstrip("/")).is_dir():
            return found
    return None


def version(controller: str) -> int:
    """Return the version of the hierarchy that has this controller; 0 where none has."""
    return next((each.version for each in _hierarchies() if controller in each.controllers), 0)


@cache
def _freezers() -> tuple[tuple[str, str, str], ...]:
    """Return mount, file and the word that thaws, of each hierarchy that can freeze."""
    able = (each for each in _hierarchies() if each.version == 2 or "freezer" in each.controllers)
    of = {1: ("freezer.state", "THAWED"), 2: ("cgroup.freeze", "0")}
    return tuple((str(each.mount), *of[each.version]) for each in able)


def thaw(path: str) -> None:
    """Let frozen processes go on, or no signal ends them (freezer: version 1 and 2)."""
    for mount, file, word in _freezers() if path else ():
        with contextlib.suppress(OSError), open(f"{mount}/{path.lstrip('/')}/{file}", "r+") as state:  # noqa: PTH123
            state.write(word)


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


def value(path: str, setting: str) -> str:
    """Return what the kernel has for a setting (`cgroups.KNOBS`) in a container's cgroup; ``nowhere`` without one."""
    controller = setting.partition(".")[0]
    place, knob = folder(path, controller), cgroups.KNOBS[setting].get(version(controller))
    if place is None or knob is None:
        return cgroups.NOWHERE
    return knob.read(place)


def limits_swap() -> bool:
    """Return whether this kernel limits swap."""
    knob = cgroups.KNOBS["memory.swap"].get(version("memory"))
    own = (each.own for each in _hierarchies() if "memory" in each.controllers)
    return knob is not None and any((folder / knob.file).exists() for folder in own)


def names(path: str) -> list[str]:
    """Return the controllers in whose hierarchies a cgroupsPath exists, ``unified`` for version 2."""
    found = folders(path)
    return sorted(
        {
            ",".join(sorted(each.controllers)) if each.version == 1 else "unified"
            for each in _hierarchies()
            if each.mount / path.lstrip("/") in found
        }
    )
