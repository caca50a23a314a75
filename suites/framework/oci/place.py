"""Folders of the worker's side that containers are given or must not reach, and mounts made there (layer 1).

Everything stands in the test's own folder. Before a folder is removed, what a runtime has mounted in it is found and
taken away: a removal that walks into a mount may empty something of the machine's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from suites.framework import mountinfo, mounting
from suites.framework.bench import Bench
from suites.framework.errors import InfrastructureError
from suites.framework.leaks import Leak, Owner
from suites.framework.mounting import MS_BIND, MS_SHARED

MARKER = "marker"
"""Name of the file that tells a place."""


class Place:
    """A folder beside the bundle, with a marker that holds the test's nonce."""

    def __init__(self, bench: Bench, name: str) -> None:
        """Make the folder; it is removed with the test."""
        self.path = bench.make_folder() / name
        self._bench = bench
        self.path.mkdir(mode=0o755)
        bench.own(self._remove)
        self.marker = self.path / MARKER
        self.marker.write_text(bench.nonce)

    def changes(self) -> list[str]:
        """Return what is not as it was made: entries, the marker's text, mounts."""
        found = [f"{name} was added" for name in sorted(os.listdir(self.path)) if name != MARKER]
        if not self.marker.is_file() or self.marker.read_text() != self._bench.nonce:
            found.append(f"{MARKER} was changed")
        return found + [f"{Path(point).name} is a mount" for point in mounted(self.path)]

    def _remove(self) -> None:
        detach(self._bench, {self.path.name: self.path})
        shutil.rmtree(self.path)


def mounted(*folders: Path) -> list[str]:
    """Return the mount points of this mount namespace at these folders and below, in the order of mounting."""
    tops = tuple(f"{folder}/" for folder in folders)
    return [point for point in mountinfo.points().values() if f"{point}/".startswith(tops)]


def detach(bench: Bench, folders: Mapping[str, Path]) -> None:
    """Take away what is mounted at folders and below, as leaks of the target, whose names stand for their paths."""
    points = mounted(*folders.values())
    for point in reversed(points):
        shown, folder = next(item for item in folders.items() if f"{point}/".startswith(f"{item[1]}/"))
        bench.found(Leak(owner=Owner.TARGET, kind="mounts", what=shown + point.removeprefix(str(folder))))
        mounting.detach(point)
    if points and (left := mounted(*folders.values())):
        raise InfrastructureError("a mount in a test's folder withstands", why=left[0])


def mount(bench: Bench, source: str | Path, target: Path, *, kind: str = "", flags: int = 0) -> None:
    """Mount something in the worker's namespace until the test is over (mount(2)); OSError as the kernel says."""
    mounting.mount(source, target, kind=kind, flags=flags)
    if flags != MS_SHARED:
        bench.own(lambda: mounting.detach(target))


def share(bench: Bench, path: Path) -> None:
    """Make a folder a mount of its own, from which and into which mounts spread (mount_namespaces(7))."""
    mount(bench, path, path, flags=MS_BIND)
    mount(bench, "none", path, flags=MS_SHARED)
