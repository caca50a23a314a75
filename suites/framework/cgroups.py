"""The cgroups this process is in, version 1, 2 and hybrid (layer 1: standard library only; cgroups(7))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

SELF = Path("/proc/self")
PREFIX = "seatrial-"
"""How the names of all cgroups begin that are made for a run."""
LIMITING = f"{PREFIX}limit-"
"""How the names of those begin that a test makes for itself, below a cgroup that the workers of a run may share."""
UNIFIED = ""
"""Key of the version 2 hierarchy."""
_ALONE = 2
"""Links of a folder without folders: its name, and its own entry for itself (inode(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """Where a process stands in one mounted hierarchy."""

    version: int
    mount: Path
    own: Path
    """The folder of its cgroup; where a container shows only a part of the hierarchy, the mount itself."""
    controllers: frozenset[str]
    """Version 1: those mounted together; version 2: those that the root of the mount offers."""


def hierarchies(*, proc: Path = SELF) -> list[Hierarchy]:
    """Return the mounted hierarchies and where a process stands in each (proc_pid_cgroup(5))."""
    paths = {names: path for _, names, path in (line.split(":", 2) for line in _lines(proc / "cgroup"))}
    found = {}  # by the mount: one that is mounted over another hides it
    for line in _lines(proc / "mountinfo"):
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            hierarchy = _hierarchy(head.split(" "), 1 if kind == "cgroup" else 2, options, paths)
            found[hierarchy.mount] = hierarchy
    return list(found.values())


def _hierarchy(fields: list[str], version: int, options: str, paths: dict[str, str]) -> Hierarchy:
    root, mount = fields[3], Path(fields[4])
    offered = set(options.split(","))
    together = next((names for names in paths if names and offered.issuperset(names.split(","))), "")
    path = paths.get(together if version == 1 else UNIFIED, "/")
    inside = os.path.relpath(path, root) if path.startswith(root) else "."
    names = together.split(",") if version == 1 else words(mount / "cgroup.controllers")
    own = Path(os.path.normpath(mount / inside))
    return Hierarchy(version=version, mount=mount, own=own, controllers=frozenset(filter(None, names)))


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def words(file: Path) -> list[str]:
    """Return the words of a control file, none where it cannot be read."""
    try:
        return file.read_text().split()
    except OSError:
        return []


def memberships(*, proc: Path = SELF) -> dict[str, Path]:
    """Return controller: folder of this process's cgroup as it is mounted here; UNIFIED stands for version 2."""
    found: dict[str, Path] = {}
    for hierarchy in hierarchies(proc=proc):
        names = [UNIFIED] if hierarchy.version == 2 else sorted(hierarchy.controllers)
        found |= dict.fromkeys(names, hierarchy.own)
    return found


def alone(folder: str | Path) -> bool:
    """Return whether no cgroup is below one, by its links: in a dozen hierarchies they are far faster than a look."""
    try:
        return os.stat(folder).st_nlink == _ALONE  # noqa: PTH116
    except FileNotFoundError:
        return True


def below(folder: Path) -> frozenset[Path]:
    """Return the cgroups directly below one."""
    if alone(folder):
        return frozenset()
    try:
        return frozenset(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return frozenset()


def controlled_by(controller: str, *, proc: Path = SELF) -> tuple[Path, bool] | None:
    """Return the own cgroup's folder in which this controller's limits are set, and whether it is version 2."""
    found = memberships(proc=proc)
    if controller in found:
        return found[controller], False
    unified = found.get(UNIFIED)
    if unified is not None and controller in words(unified / "cgroup.controllers"):
        return unified, True
    return None


# ---- settings and counters

NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """Where a setting or counter stands: a file, and the word in it (by its number, or behind a key)."""

    file: str
    word: int | str = 0

    def read(self, place: Path) -> str:
        """Return the word as it stands in a cgroup's folder; ``nowhere`` without such a file."""
        found = words(place / self.file)
        if isinstance(self.word, str):
            return dict(pairwise(found)).get(self.word, NOWHERE)
        return found[self.word] if self.word < len(found) else NOWHERE


KNOBS = {
    "pids.limit": {1: Knob(file="pids.max"), 2: Knob(file="pids.max")},
    "memory.limit": {1: Knob(file="memory.limit_in_bytes"), 2: Knob(file="memory.max")},
    "memory.reservation": {1: Knob(file="memory.soft_limit_in_bytes"), 2: Knob(file="memory.low")},
    "memory.swap": {1: Knob(file="memory.memsw.limit_in_bytes"), 2: Knob(file="memory.swap.max")},
    "memory.kills": {
        1: Knob(file="memory.oom_control", word="oom_kill"),
        2: Knob(file="memory.events", word="oom_kill"),
    },
    "cpu.quota": {1: Knob(file="cpu.cfs_quota_us"), 2: Knob(file="cpu.max", word=0)},
    "cpu.period": {1: Knob(file="cpu.cfs_period_us"), 2: Knob(file="cpu.max", word=1)},
    "cpu.shares": {1: Knob(file="cpu.shares")},
}
"""Setting of runtime-spec: version of the hierarchy: where the kernel has it (cgroups(7), cgroup-v2.rst). Shares have
no counterpart in version 2: runtimes convert them to a weight, by more than one formula."""
