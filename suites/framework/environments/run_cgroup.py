"""The cgroup of a run: limits on processes and memory, and one handle on everything natively started (layer 2).

Standard library only, for the keeper removes cgroups too. Under cgroup v2 the cgroup stands below the nearest
ancestor that passes the controllers on, so that nothing of the machine is reconfigured (cgroups(7), "no internal
processes"); under v1 below the launcher's own cgroup of each hierarchy.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from suites.framework import cgroups
from suites.framework.cgroups import PREFIX
from suites.framework.cleanup import DEADLINE_S, await_death
from suites.framework.facts import Fact, Finding
from suites.framework.model import Limits

LEAF = "workers"
CONTROLLERS = {Fact.CGROUP_PIDS: "pids", Fact.CGROUP_MEMORY: "memory"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCgroup:
    """The folders of a run's cgroup, one per hierarchy; none where it cannot be made, and `findings` say why."""

    paths: tuple[Path, ...]
    findings: tuple[Finding, ...]
    counterparts: tuple[Path, ...] = ()
    """Where the other hierarchies have folders of the same path, once a runtime has made containers below ours."""

    @classmethod
    def create(cls, run: str, limits: Limits, *, proc: Path = cgroups.SELF) -> RunCgroup:
        """Make the cgroup of `run` with its limits, as far as this user and machine allow.

        Several launchers may share a run, so the name holds the pid of this one.
        """
        if os.geteuid() != 0:
            return cls(paths=(), findings=_absent("mkdir in the cgroup file system", "needs root"))
        places = [(fact, _place(name, proc)) for fact, name in CONTROLLERS.items()]
        name = f"{PREFIX}{run}-{os.getpid()}"
        findings = tuple(_limit(fact, place, name, limits) for fact, place in places)
        folders = [place.folder(name) for _, place in places if isinstance(place, Place)]
        paths = tuple(dict.fromkeys(path for path in folders if path.is_dir()))
        return cls(paths=paths, findings=findings, counterparts=tuple(_counterparts(paths, proc)))

    @property
    def everywhere(self) -> tuple[Path, ...]:
        """Return every folder that may have to be removed."""
        return (*self.paths, *self.counterparts)

    @property
    def procs(self) -> tuple[str, ...]:
        """Return the ``cgroup.procs`` files into which a worker writes its pid before it forks."""
        leaves = (path / LEAF if (path / LEAF).is_dir() else path for path in self.paths)
        return tuple(str(leaf / "cgroup.procs") for leaf in leaves)

    def worker(self, name: str, *, processes: int) -> tuple[str, ...]:
        """Make a worker's own place with its limit of processes; return the ``cgroup.procs`` files to write to."""
        return tuple(str(self._place_of(path, name, processes) / "cgroup.procs") for path in self.paths)

    @staticmethod
    def _place_of(path: Path, name: str, processes: int) -> Path:
        """Return a folder below the run's where processes are limited, else the one where all workers stand."""
        own = path / f"{PREFIX}{name}"
        with suppress(OSError):
            if (path / "pids.max").exists():
                own.mkdir(exist_ok=True)
                (own / "pids.max").write_text(str(processes))
                return own
        return path / LEAF if (path / LEAF).is_dir() else path

    def memory_kills(self) -> int:
        """Return how many processes inside the kernel has killed because the memory was full (cgroup v2, v1)."""
        counters = (path / name for path in self.paths for name in ("memory.events", "memory.oom_control"))
        words = [word for file in counters for word in cgroups.words(file)]
        return sum(int(value) for name, value in pairwise(words) if name == "oom_kill")

    def remove(self) -> str:
        """Kill what is inside, remove the folders, and return why something is left, or an empty string."""
        return "; ".join(filter(None, (remove_cgroup(path) for path in self.everywhere)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The folder of one hierarchy in which the run's cgroup is made."""

    version: int
    parent: Path

    def folder(self, name: str) -> Path:
        """Return the run's folder."""
        return self.parent / name


def _place(controller: str, proc: Path) -> Place | str:
    """Return where a cgroup with this controller can be made, or why nowhere."""
    for hierarchy in cgroups.hierarchies(proc=proc):
        if controller not in hierarchy.controllers:
            continue
        if hierarchy.version == 1:
            return Place(version=1, parent=hierarchy.own if hierarchy.own.is_dir() else hierarchy.mount)
        for parent in _upwards(hierarchy):
            if controller in cgroups.words(parent / "cgroup.subtree_control"):
                return Place(version=2, parent=parent)
        return f"no cgroup from {hierarchy.own} upwards passes {controller} on in cgroup.subtree_control"
    return f"no cgroup file system with the controller {controller} is mounted"


def _counterparts(paths: Sequence[Path], proc: Path) -> Iterator[Path]:
    """Yield the folders of all hierarchies that have the path of one of these, and are none of them.

    An OCI runtime takes one path for all hierarchies (runtime-spec, config-linux.md#cgroups-path).
    """
    mounts = [hierarchy.mount for hierarchy in cgroups.hierarchies(proc=proc)]
    inside = {path.relative_to(mount) for path in paths for mount in mounts if path.is_relative_to(mount)}
    found = (mount / below for below in sorted(inside) for mount in mounts)
    yield from (path for path in dict.fromkeys(found) if path not in paths)


def _upwards(hierarchy: cgroups.Hierarchy) -> Iterator[Path]:
    yield from (path for path in (hierarchy.own, *hierarchy.own.parents) if path.is_relative_to(hierarchy.mount))


def _limit(fact: Fact, place: Place | str, name: str, limits: Limits) -> Finding:
    controller = CONTROLLERS[fact]
    probe = f"cgroup with a limit of {controller}"
    if isinstance(place, str):
        return _finding(fact, probe, place)
    folder = place.folder(name)
    try:
        folder.mkdir(exist_ok=True)
        for file, value in _limits(controller, place.version, limits).items():
            (folder / file).write_text(str(value))
        if place.version == 2:
            _pass_on(folder, controller)
    except OSError as error:
        return _finding(fact, probe, f"{folder}: {error.strerror}")
    return Finding(fact=fact, present=True, probe=probe, detail=f"cgroup v{place.version}, {folder}")


def _limits(controller: str, version: int, limits: Limits) -> dict[str, int]:
    if controller == "pids":
        return {"pids.max": limits.processes}
    return {"memory.max" if version == 2 else "memory.limit_in_bytes": limits.memory_bytes}


def _pass_on(folder: Path, controller: str) -> None:
    """Let workers stand in a leaf, so that cgroups with this controller can be made beside them."""
    (folder / "cgroup.subtree_control").write_text(f"+{controller}")
    (folder / LEAF).mkdir(exist_ok=True)


def _finding(fact: Fact, probe: str, detail: str) -> Finding:
    name = CONTROLLERS[fact]
    remedy = f"start as root; under cgroup v2: echo +{name} | sudo tee /sys/fs/cgroup/cgroup.subtree_control"
    return Finding(fact=fact, present=False, probe=probe, detail=detail, remedy=remedy)


def _absent(probe: str, detail: str) -> tuple[Finding, ...]:
    return tuple(_finding(fact, probe, detail) for fact in CONTROLLERS)


# ---- removal ---------------------------------------------------------------------------------------------------------


def remove_cgroup(path: Path, *, deadline_s: float = DEADLINE_S) -> str:
    """Kill every process at or below a run's cgroup and remove its folders, deepest first.

    Returns an empty string, or why something is left at the deadline.
    """
    if not path.name.startswith(PREFIX):
        return f"{path} is not removed: its name does not begin with {PREFIX}"
    end = time.monotonic() + deadline_s
    while path.is_dir():
        if time.monotonic() > end:
            return f"{path} is not removed within {deadline_s} s"
        _kill(path, deadline_s=max(0.0, end - time.monotonic()))
        for folder in _deepest_first(path):
            with suppress(OSError):  # busy until the kernel has let go of the last process: seen by the next round
                folder.rmdir()
    return ""


def _kill(path: Path, *, deadline_s: float) -> None:
    with suppress(OSError):
        (path / "cgroup.kill").write_text("1")  # cgroup v2 since Linux 5.14
    with ExitStack() as stack:
        pidfds = [fd for folder in _deepest_first(path) for fd in _hold(folder, stack)]
        for fd in pidfds:
            with suppress(OSError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        await_death(pidfds, deadline_s=deadline_s)
    _await_empty(path, deadline_s=deadline_s)


def _hold(folder: Path, stack: ExitStack) -> list[int]:
    """Return pidfds of the processes of one cgroup; a number that was used again meanwhile is no longer listed."""
    held = []
    for word in cgroups.words(folder / "cgroup.procs"):
        with suppress(OSError):
            pidfd = os.pidfd_open(int(word))
            stack.callback(os.close, pidfd)
            held.append((word, pidfd))
    still = set(cgroups.words(folder / "cgroup.procs"))
    return [pidfd for word, pidfd in held if word in still]


def _await_empty(path: Path, *, deadline_s: float) -> None:
    """Wait until the kernel says that no process is left, where it does (cgroup v2)."""
    end = time.monotonic() + deadline_s
    with suppress(OSError), (path / "cgroup.events").open("rb", buffering=0) as events:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        while b"populated 1" in os.pread(events.fileno(), 4096, 0) and (left := end - time.monotonic()) > 0:
            poller.poll(left * 1000)


def _deepest_first(path: Path) -> list[Path]:
    return [Path(folder) for folder, _, _ in os.walk(path, topdown=False)]
