"""Removing what a run made: processes, containers, folders (layer 2, standard library; the engine is loaded if needed).

Serves both the launcher at its ordinary end and the keeper after the launcher's death. Every function removes only
what can be proved to be ours, does so within a deadline, and returns an empty string or why something was left.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from suites.framework import launcher, proc
from suites.framework.errors import InfrastructureError

SCRATCH_MARKER = ".seatrial-scratch"
"""Name of the file that a folder must hold to be removed recursively."""
DEADLINE_S = 2.0
RUN_LABEL = "seatrial.run"
ENVIRONMENT_LABEL = "seatrial.environment"


# ---- processes -------------------------------------------------------------------------------------------------------


def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (proc_pid_stat(5)); None when there is none."""
    found = proc.stat(pid)
    return found.start if found else None


def signal_process(pid: int, number: int, *, parent: int) -> bool:
    """Signal a process if it still is a child of `parent`, and say whether; a number used again is not touched."""
    with ExitStack() as stack:
        pidfd = _open(pid, stack)
        found = proc.stat(pid)
        if pidfd is None or found is None or found.parent != parent:
            return False
        return _send(pidfd, number)


def kill_process(pid: int, start: int, *, deadline_s: float = DEADLINE_S) -> str:
    """Kill a process that started at `start` and its children, and wait until they are dead.

    The children go first: behind a wall the only child is PID 1 of the namespace, and its end is the end of all.
    """
    with ExitStack() as stack:
        pidfd = _open(pid, stack)
        if pidfd is None or start_time(pid) != start:
            return ""
        below = [(child, fd) for child in proc.children(pid) if (fd := _open(child, stack)) is not None]
        held = [fd for child, fd in below if child in proc.children(pid)]
        for fd in (*held, pidfd):
            _send(fd, signal.SIGKILL)
        left = await_death([*held, pidfd], deadline_s=deadline_s)
    return f"process {pid} does not die within {deadline_s} s" if left else ""


def await_death(pidfds: Iterable[int], *, deadline_s: float) -> list[int]:
    """Wait until the processes behind all pidfds are dead; return those that are not by the deadline."""
    waiting, end = set(pidfds), time.monotonic() + deadline_s
    while waiting and (remaining := end - time.monotonic()) > 0:
        waiting -= set(_readable(waiting, remaining))
    return sorted(waiting)


def _readable(descriptors: Iterable[int], seconds: float) -> list[int]:
    poller = select.poll()
    for fd in descriptors:
        poller.register(fd, select.POLLIN)
    return [fd for fd, _ in poller.poll(None if seconds == float("inf") else seconds * 1000)]


def _open(pid: int, stack: ExitStack) -> int | None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    stack.callback(os.close, pidfd)
    return pidfd


def _send(pidfd: int, number: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    return True


# ---- containers ------------------------------------------------------------------------------------------------------


def remove_containers(run: str, *, environment: str = "") -> str:
    """Remove every container that carries the label of this run (and environment), running or not."""
    from suites.framework.environments.engine import EngineError, connect  # the SDK costs 0.2 s and may be absent

    try:
        with connect() as engine:
            engine.remove_labelled({RUN_LABEL: run, **({ENVIRONMENT_LABEL: environment} if environment else {})})
    except EngineError as error:
        return str(error)
    return ""


# ---- folders ---------------------------------------------------------------------------------------------------------


def make_scratch(path: Path) -> Path:
    """Make a private folder that `remove_scratch` will remove."""
    path.mkdir(mode=0o700, parents=True)
    (path / SCRATCH_MARKER).write_text(f"{os.getpid()} {start_time(os.getpid())}")
    return path


@contextmanager
def scratch(purpose: str) -> Iterator[Path]:
    """Yield a private folder in TMPDIR, and remove it; who is killed meanwhile leaves one that `clean` knows."""
    folder = make_scratch(Path(tempfile.gettempdir()) / f"seatrial-{purpose}-{secrets.token_hex(4)}")
    try:
        yield folder
    finally:
        problem = remove_scratch(folder)
    if problem:
        raise InfrastructureError("a folder of this command is left", why=problem)


def in_use(path: Path) -> bool:
    """Return whether the process that made a scratch folder still lives."""
    try:
        pid, _, start = (path / SCRATCH_MARKER).read_text().partition(" ")
    except OSError:
        return False
    return pid.isdigit() and start.isdigit() and launcher.alive(int(pid), int(start))


def remove_scratch(path: Path, *, deadline_s: float = 0.5) -> str:
    """Remove a folder with our marker in which nothing is mounted.

    The marker goes last, so that what is left of an interrupted removal can be removed later. A process that was
    killed a moment ago may still finish a system call that makes a file: such a folder is emptied again until the
    deadline.
    """
    if not os.path.lexists(path):
        return ""
    if refusal := _refusal(path):
        return f"{path} is not removed: {refusal}"
    end = time.monotonic() + deadline_s
    while left := _empty(path):
        if time.monotonic() > end:
            return f"{path} is not removed: {', '.join(sorted(left)[:5])} cannot be"
    (path / SCRATCH_MARKER).unlink()
    path.rmdir()
    return ""


def mounts_below(path: Path, *, table: Path = Path("/proc/self/mountinfo")) -> list[str]:
    """Return the mount points at or below a path (proc_pid_mountinfo(5))."""
    top = os.path.realpath(path)
    points = (_unescape(line.split()[4]) for line in table.read_text(errors="surrogateescape").splitlines())
    return [point for point in points if point == top or point.startswith(f"{top}/")]


def _refusal(path: Path) -> str:
    if not stat.S_ISDIR(path.lstat().st_mode):
        return "it is not a folder"
    try:
        marked = stat.S_ISREG((path / SCRATCH_MARKER).lstat().st_mode)
    except OSError:
        marked = False
    if not marked:
        return f"it holds no {SCRATCH_MARKER}"
    mounted = mounts_below(path)
    return f"mounted below it: {', '.join(mounted)}" if mounted else ""


def _empty(path: Path) -> set[str]:
    _make_writable(path)
    for entry in path.iterdir():
        if entry.name == SCRATCH_MARKER:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink()
    return set(os.listdir(path)) - {SCRATCH_MARKER}


def _make_writable(path: Path) -> None:
    """Undo what a target did to the modes of its folders: an ordinary user cannot remove from those otherwise."""
    if os.geteuid() == 0:
        return
    for folder, below, _ in os.walk(path, followlinks=False):
        for name in below:
            if Path(folder, name).is_symlink():
                continue
            with suppress(OSError):
                Path(folder, name).chmod(0o700)


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
