"""What a test leaves behind: processes, mounts, cgroups, files, descriptors (layer 1).

A leaked process is a living descendant of the worker that nobody holds; tokens in environments can be scrubbed by
a target, descent cannot. Only this worker's own paths are looked at, never the machine's.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from suites.framework import cgroups, mountinfo, mounting, proc
from suites.framework.waiting import Deadline, Waiter, ticks

PROCESSES = "processes"
KINDS = {
    PROCESSES: "process",
    "mounts": "mount",
    "cgroups": "cgroup",
    "files": "file",
    "descriptors": "descriptor",
}
"""What can be left behind, in the plural and in the singular."""
HELD = 3
"""Folders above a home that are the run's own, whose permissions a target of the same user can take away."""
SWEEP_S = 10.0
"""A worker that cannot get rid of what a target left is of no further use after this time."""


class Owner(StrEnum):
    """Who left something: the program under test, or Seatrial itself."""

    TARGET = "target"
    HARNESS = "harness"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One thing left behind; `what` is stable text (``process sleep 60``), no numbers that change from run to run."""

    owner: Owner
    kind: str
    """One of `KINDS`."""
    what: str

    def __str__(self) -> str:
        """Return ``process sleep 60``."""
        return f"{KINDS[self.kind]} {self.what}"


def own_cgroups(*, contained: bool) -> tuple[Path, ...]:
    """Return the folders of the cgroups that were made for this worker's run, or (`contained`) for its container."""
    folders = {folder for folder in cgroups.memberships().values() if os.access(folder, os.W_OK)}
    return tuple(sorted(folder for folder in folders if contained or folder.name.startswith(cgroups.PREFIX)))


def _fds() -> frozenset[str]:
    listing = _open("/proc/self/fd")
    try:
        return frozenset(os.listdir(listing)) - {str(listing)}  # its number will be used again
    finally:
        os.close(listing)


class Census:
    """The worker's possessions before a test, to be compared after it: what it finds then is where the next begins."""

    def __init__(self, scratch: Path, *, groups: tuple[Path, ...]) -> None:
        """Count now; `scratch` is the folder that targets may write to."""
        self._scratch, self._cgroups = scratch, groups
        self._above, self._home = _open(scratch.parent), _open(scratch)  # held, or their numbers would be used again
        held = (self._home, self._above, *_reachable(scratch.parents[1:HELD]))
        self._modes = {folder: os.fstat(folder).st_mode & 0o7777 for folder in held}
        self._present = frozenset(os.listdir(self._home))
        self._mounts, self._fds = mountinfo.table(), _fds()
        self._children = frozenset(proc.children(os.getpid()))
        self._folders = self._cgroup_folders()

    def close(self) -> None:
        """Let the folders go."""
        for folder in self._modes:
            os.close(folder)

    def _cgroup_folders(self) -> frozenset[Path]:
        found = frozenset[Path]().union(*map(cgroups.below, self._cgroups))
        return frozenset(folder for folder in found if not folder.name.startswith(cgroups.LIMITING))

    def settle(self, is_payload: Callable[[int], bool]) -> tuple[Leak, ...]:
        """Return what is there and was not before, having removed it; `is_payload` tells our own programs."""
        gone = (*self._processes(is_payload), *self._mount_points(), *self._cgroup_leaks(), *self._files())
        return (*gone, *self._descriptors())

    def unlock(self) -> None:
        """Give the home and the folders above it the permissions back that a target took away."""
        for folder, mode in self._modes.items():
            with contextlib.suppress(OSError):
                os.fchmod(folder, mode)

    def _processes(self, is_payload: Callable[[int], bool]) -> tuple[Leak, ...]:
        """Kill and reap every process that came since; a payload of ours is no leak, the target's own helper is."""
        found: dict[str, None] = {}
        children: tuple[int, ...] = ()
        for _ in ticks(Deadline(SWEEP_S)):
            children = proc.children(os.getpid())
            left = [pid for pid in children if pid not in self._children]
            if not left:
                break
            for pid in left:
                if proc.state(pid) not in "Z" and not is_payload(pid):
                    found[self._command(pid)] = None
            _kill(left, crowd=len(left) > 64)
        self._children = frozenset(children)
        return tuple(Leak(owner=Owner.TARGET, kind=PROCESSES, what=command) for command in list(found)[:5])

    @staticmethod
    def _command(pid: int) -> str:
        return proc.describe(pid).partition(" state ")[2].partition(" ")[2][:120] or "unknown"

    def _mount_points(self) -> tuple[Leak, ...]:
        if (table := mountinfo.table()) == self._mounts:  # nearly always
            return ()
        before, now = mountinfo.points(self._mounts), mountinfo.points(table)
        walled = os.getpid() == 1  # otherwise others mount here, and only what is below the scratch folder is ours
        if walled and not {number for number, point in before.items() if point == "/"} <= now.keys():
            self._mounts = table
            return (Leak(owner=Owner.TARGET, kind="mounts", what="/ and all below, replaced"),)
        added = [point for number, point in now.items() if number not in before]
        added = added if walled else [point for point in added if point.startswith(f"{self._scratch}/")]
        for point in reversed(added):
            mounting.detach(point)
        changed = mountinfo.restore_options(self._mounts) if walled else []
        self._mounts = mountinfo.table()
        found = (*added, *(f"{point} with other options" for point in changed))
        return tuple(Leak(owner=Owner.TARGET, kind="mounts", what=what) for what in found)

    def _cgroup_leaks(self) -> tuple[Leak, ...]:
        found = self._cgroup_folders()
        added = sorted(found - self._folders)
        for path in [path for folder in added for path, _, _ in os.walk(folder, topdown=False)]:
            with contextlib.suppress(OSError):
                Path(path).rmdir()
        self._folders = self._cgroup_folders() if added else found
        return tuple(Leak(owner=Owner.TARGET, kind="cgroups", what=folder.name) for folder in added)

    def _files(self) -> tuple[Leak, ...]:
        """Empty the home, never into a mount that withstood: it may show the machine."""
        top = str(self._scratch)
        if any(f"{point}/".startswith(f"{top}/") for point in mountinfo.points().values()):
            return ()
        replaced = self._restore_home()
        left = sorted(set(os.listdir(self._home)) - self._present)
        for name in left:
            _remove(name, above=self._home)
        self._present = frozenset(os.listdir(self._home)) if left else self._present
        words = (*(["(the home itself, replaced)"] if replaced else []), *left[:5])
        return tuple(Leak(owner=Owner.TARGET, kind="files", what=name) for name in words)

    def _restore_home(self) -> bool:
        """Undo what a target did to its home's permissions, or to the home itself; return whether it was replaced.

        Who follows a link that now stands there would empty somebody else's folder.
        """
        name, above = self._scratch.name, self._above
        self.unlock()
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(name, dir_fd=above, follow_symlinks=False), os.fstat(self._home)):
                return False
            _remove(name, above=above)
        os.mkdir(name, dir_fd=above)
        os.dup2(again := _open(name, above=above), self._home, inheritable=False)
        os.close(again)
        self._present = frozenset()
        return True

    def _descriptors(self) -> tuple[Leak, ...]:
        added, found = [], _fds()
        for number in sorted(found - self._fds):
            with contextlib.suppress(OSError):
                added.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        self._fds = found
        return tuple(Leak(owner=Owner.HARNESS, kind="descriptors", what=target) for target in added)


def _open(folder: str | Path, *, above: int | None = None) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)


def _reachable(folders: Iterable[Path]) -> list[int]:
    found = []
    for folder in folders:
        with contextlib.suppress(OSError):
            found.append(_open(folder))
    return found


def _remove(name: str, *, above: int) -> None:
    """Remove a file, or a folder whatever its permissions and those below it are; links are not followed."""
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=above)
        return
    with contextlib.suppress(OSError, RecursionError):
        os.chmod(name, 0o700, dir_fd=above)
        folder = _open(name, above=above)
        try:
            for entry in os.listdir(folder):
                _remove(entry, above=folder)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=above)


def _kill(pids: list[int], *, crowd: bool) -> None:
    if crowd and os.getpid() == 1:  # a fork bomb outruns one kill per process, not a kill of the whole namespace
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
        _reap(pid)


def _reap(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if Waiter().wait((pidfd,), Deadline(1.0)):
            os.waitpid(pid, 0)
    except ChildProcessError:
        pass
    finally:
        os.close(pidfd)
