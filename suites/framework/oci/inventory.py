"""What a worker and its runtime possess at one moment, to be compared after many containers (layer 1).

Only this test's own places are looked at, and elsewhere only names that hold the id of one of its containers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from suites.framework import cgroups, leaks, mountinfo, proc

if TYPE_CHECKING:
    from suites.framework.oci.runtime import Runtime

ELSEWHERE = ("/run", "/run/*", "/tmp", "/dev/shm", "/var/lib/*")  # noqa: S108 -- looked at, never written to
"""Where runtimes put files of their containers that were told to go into a state root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Names by kind; the kinds are those of `leaks.KINDS`."""

    mounts: frozenset[str]
    cgroups: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]
    descriptors: frozenset[str]

    @classmethod
    def take(cls, runtime: Runtime) -> Inventory:
        """Look now; processes that are about to end are given their time."""
        ids = {container.id for container in runtime.containers}
        runtime.orphans.remain(runtime.seconds)
        return cls(
            mounts=frozenset(mountinfo.points()),
            cgroups=frozenset(_cgroups(runtime.cgroup, ids)),
            processes=frozenset(map(str, runtime.orphans.alive())),
            files=frozenset((*runtime.left(), *os.listdir(runtime.bench.home), *_named_after(ids))),
            descriptors=frozenset(map(str, proc.descriptors(os.getpid()))),
        )

    def beyond(self, before: Inventory) -> str:
        """Return how much is here that was not before, such as ``20 mounts, 1 process``; ``nothing`` at best."""
        added = {each.name: len(getattr(self, each.name) - getattr(before, each.name)) for each in fields(self)}
        words = (f"{more} {kind if more > 1 else leaks.KINDS[kind]}" for kind, more in added.items() if more)
        return ", ".join(words) or "nothing"


def _cgroups(place: str, ids: set[str]) -> Iterator[str]:
    """Yield the cgroups at the place of this worker's containers, and those named after them beside it, everywhere."""
    for hierarchy in cgroups.hierarchies():
        own = hierarchy.mount / place.lstrip("/")
        for folder in {own, hierarchy.own, hierarchy.mount}:
            below = cgroups.below(folder)
            yield from (str(path) for path in below if (place and folder == own) or _is_named(path, ids))


def _named_after(ids: set[str]) -> Iterator[str]:
    for pattern in ELSEWHERE:
        for folder in Path("/").glob(pattern.lstrip("/")):
            yield from (str(path) for path in _entries(folder) if _is_named(path, ids))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_named(path: Path, ids: set[str]) -> bool:
    return any(name in path.name for name in ids)
