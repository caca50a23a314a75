"""Calls that are killed, state that is damaged, disks that are full: afterwards there is a way on.

The specification asks little here (runtime.md, "Errors"); these are the robustness that orchestrators count on.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from suites.catalog import Privilege
from suites.framework import mounting
from suites.framework.marks import case, offered, tier, weight, within
from suites.framework.oci import cgroup, config, place, volume
from suites.framework.oci.container import NO_STATE, Container
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.traces import NOTHING, Traces
from suites.framework.oci.volume import Volume
from suites.framework.process import exited, killed

KILLS, MANY_KILLS = 12, 100
ORPHANS = "orphans: "
NOT_A_STATE = {
    "nothing": b"",
    "not-json": b"\x00\xffgarbage\n",
    "open-ended": b'{"pid": ' + b"[" * 2048,
    "null": b"null",
    "list": b"[]",
    "number": b"1",
}


@case("K01")
@weight(8)
@offered("force")
def test_killed_create_can_be_cleaned_up(runtime: Runtime) -> None:
    """After a create that was killed at any point, a forced delete leaves no process and the id is free (runc#4757).

    Why: an out-of-memory killer or a restarted node agent ends calls anywhere; an id that stays blocked, or an init
    that nobody knows, needs a human. Files and mounts that the killed call alone knew of are noted.
    By hand:
        timeout -s KILL 0.01 setsid $RUNTIME create --bundle BUNDLE ID   # 12 times, at other moments
        $RUNTIME delete --force ID; $RUNTIME create --bundle BUNDLE ID; $RUNTIME delete --force ID
    """
    container, orphans = runtime.container(), "gone"
    for _ in crashes(runtime, container, times=KILLS):
        left = cleaned_up(runtime, container)
        if left.startswith(ORPHANS):  # remembered: the id has to be free all the same
            orphans = left
            runtime.orphans.remove()
            cgroup.remove(container.cgroup)
        else:
            assert "gone" == left
        container.create().ok()
        container.delete(force=True).ok()
        assert killed(SIGKILL) == container.ended()
    container.running()
    assert "gone" == orphans


@case("K13")
@tier(4)
@offered("force")
def test_many_killed_creates_can_be_cleaned_up(runtime: Runtime) -> None:
    """After 100 creates that were killed at random points, each id is free (runc#4534, runc#4757).

    Why: a cgroup that nobody removes stays until the machine restarts, and thousands slow every one of its users. How
    many of them are left, and processes, is noted; none would be right.
    By hand: as K01, 100 times; ls -d /sys/fs/cgroup/*/CGROUPSPATH
    """
    container, left = runtime.container(), Counter[str]()
    for _ in crashes(runtime, container, times=MANY_KILLS):
        left[cleaned_up(runtime, container)] += 1
        runtime.orphans.remove()
        left["with a cgroup"] += cgroup.remove(container.cgroup)
    runtime.bench.note("afterwards", dict(left))
    assert [] == [words for words in left if words.startswith("delete")]
    container.running()


def crashes(runtime: Runtime, container: Container, *, times: int) -> Iterator[None]:
    """Kill creates of a container at random points, spread over the time that the latest undisturbed one took."""
    recorder = container.running()
    length = _undisturbed(container, 0.0)
    container.delete(force=True).ok()
    assert killed(SIGKILL) == container.ended()
    recorder.close()
    seed, caught, residue = secrets.randbits(32), 0, Residue(runtime)
    chance = random.Random(seed)  # noqa: S311 -- a point in time, not a secret
    runtime.bench.note("seed", seed)
    runtime.bench.note("create_s", length)
    for number in range(times):
        caught += container.crash_create((number + chance.random()) / times * length)
        tidy(container)
        residue.remove()
        yield
        length = _undisturbed(container, length)
    runtime.bench.note("killed_before_their_end", caught)
    runtime.bench.note("left_by_killed_calls", dict(residue.removed))


def _undisturbed(container: Container, before: float) -> float:
    """Return the seconds of the latest create where it came to its end: a busy machine is not so all the time."""
    creation = container.creation
    return creation.child.alive_s if creation is not None and creation.child.status == exited(0) else before


def tidy(container: Container) -> None:
    """Remove what a killed create left beside its pid file, which is the caller's: runc refuses to find it there."""
    for file in container.folder.iterdir():
        if file.name not in ("config.json", config.ROOTFS):
            file.unlink()


class Residue:
    """What calls make in the folder for temporary files for themselves, and nobody knows of when they are killed."""

    def __init__(self, runtime: Runtime) -> None:
        """Look at what is there before."""
        self._home, self.removed = runtime.bench.home, Counter[str]()
        self._names, self._points = set(os.listdir(self._home)), set(place.mounted(self._home))

    def remove(self) -> None:
        """Remove what has come since, and count it."""
        points = [point for point in place.mounted(self._home) if point not in self._points]
        for point in reversed(points):
            mounting.detach(point)
        files = [path for path in self._home.iterdir() if path.name not in self._names and path.is_file()]
        for path in files:
            path.unlink()
        self.removed.update(mounts=len(points), files=len(files))


def cleaned_up(runtime: Runtime, container: Container) -> str:
    """Force a container's deletion; return ``gone``, or what there is of it then."""
    outcome = container.delete(force=True).outcome
    status = container.status()
    if status != NO_STATE or outcome not in ("done", "refused"):
        return f"delete --force: {outcome}, then state: {status}"
    orphans = runtime.orphans.remain(runtime.seconds)
    return f"{ORPHANS}{', '.join(orphans)}" if orphans else "gone"


@case("K02")
@offered("force")
def test_truncated_state_file(runtime: Runtime) -> None:
    """A state file that was cut off fails in order, and a forced delete frees the id (crash consistency).

    Why: a machine that lost power has such files; the id must not be blocked for ever.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; truncate -s 100 STATE_ROOT/ID/state.json
        $RUNTIME state ID; $RUNTIME delete --force ID; $RUNTIME create --bundle BUNDLE ID
    """
    container = runtime.container()
    recorder = container.running()
    whole = state_of(container)
    with replaced(container.state_file, whole[: len(whole) // 2]):
        assert "state: refused" == f"state: {container.query().outcome}"
        assert "delete --force: done" == f"delete --force: {container.delete(force=True).outcome}"
        assert NO_STATE == container.status()
    recorder.close()
    assert container.init is not None
    container.init.kill()
    cgroup.remove(container.cgroup)
    container.running()


@case("K03")
@tier(3)
@pytest.mark.parametrize("content", NOT_A_STATE)
def test_state_file_that_is_none(runtime: Runtime, content: str) -> None:
    """A state file that holds no state makes state fail in order; the program goes on (robustness).

    Why: who reads a crash instead of an error cannot tell a broken file from a broken runtime.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID; echo null >STATE_ROOT/ID/state.json
        $RUNTIME state ID
    """
    container = runtime.container()
    recorder = container.running()
    state_of(container)
    with replaced(container.state_file, NOT_A_STATE[content]):
        assert "state: refused" == f"state: {container.query().outcome}"
    assert "running" == container.status()
    recorder.state()


def state_of(container: Container) -> bytes:
    """Return what the runtime keeps of a container."""
    assert container.state_file.is_file(), "no state file where the profile says"
    return container.state_file.read_bytes()


@contextlib.contextmanager
def replaced(file: Path, content: bytes) -> Iterator[None]:
    """Have a file hold something else for a while; give it back what it held unless it was removed."""
    held = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            if file.read_bytes() == content:
                file.write_bytes(held)


@case("K05")
def test_init_that_dies_before_start(runtime: Runtime) -> None:
    """A created container whose init has died is stopped: it cannot be started, only deleted (runtime.md#state).

    Why: the out-of-memory killer does not wait for start; a start that hangs then blocks a whole node agent.
    By hand:
        $RUNTIME create --bundle BUNDLE --pid-file PID ID; kill -KILL $(cat PID)
        $RUNTIME state ID; $RUNTIME start ID; $RUNTIME delete ID
    """
    container = runtime.container()
    container.create().ok()
    assert container.init is not None
    container.init.send(SIGKILL)
    assert killed(SIGKILL) == container.ended()
    assert "stopped" == container.becomes("stopped")
    assert "refused" == container.start().outcome
    assert "not executed" == container.executed()
    container.delete().ok()
    assert NO_STATE == container.status()
    container.running()


@case("K06")
@tier(2)
@within(privilege=Privilege.ROOT)
@pytest.mark.parametrize("full", [volume.BLOCKS, volume.INODES])
def test_full_state_root(runtime: Runtime, full: str) -> None:
    """A create that finds its state root full fails and leaves nothing; with room again it works (runtime.md, Errors).

    Why: a full disk is when a node needs its runtime to clean up, not to leave inits without a state.
    By hand:
        mount -t tmpfs -o size=64k tmpfs STATE_ROOT; dd if=/dev/zero of=STATE_ROOT/filler
        $RUNTIME create --bundle BUNDLE ID; rm STATE_ROOT/filler; $RUNTIME create --bundle BUNDLE ID
    """
    container = runtime.container()
    root = Volume(runtime.bench, runtime.state_root, options=volume.OPTIONS[full])
    traces = Traces(runtime, container)
    root.fill(full)
    assert "refused" == container.create().outcome
    root.empty()
    assert NOTHING == traces.found()
    container.running()


@case("K07")
@tier(3)
@within(privilege=Privilege.ROOT)
def test_read_only_state_root(runtime: Runtime) -> None:
    """A create that cannot write to its state root fails and leaves nothing (runtime.md, "Errors").

    Why: a read-only /run must be an error message, not a container that no later call finds.
    By hand:
        mount -t tmpfs -o ro tmpfs STATE_ROOT; $RUNTIME create --bundle BUNDLE ID; umount STATE_ROOT
        $RUNTIME create --bundle BUNDLE ID
    """
    container = runtime.container()
    root = Volume(runtime.bench, runtime.state_root, options="mode=700", readonly=True)
    traces = Traces(runtime, container)
    assert "refused" == container.create().outcome
    assert NOTHING == traces.found()
    root.unmount()
    container.running()
