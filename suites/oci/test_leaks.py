"""What is left of containers that are gone: nothing (runtime.md#delete, "MUST delete the resources")."""

from __future__ import annotations

import copy
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from suites.framework.marks import case, tier, weight
from suites.framework.oci import config, place
from suites.framework.oci.container import Container
from suites.framework.oci.inventory import Inventory
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.spec import Spec
from suites.framework.waiting import Deadline

LIFECYCLES = 20
FAILURES = 10
QUARTER = 250
PAGE = os.sysconf("SC_PAGE_SIZE")


@case("L01")
@weight(6)
def test_lifecycles_leave_nothing(runtime: Runtime) -> None:
    """After 20 lifecycles there are no more mounts, cgroups, processes, files and descriptors (runtime.md#delete).

    Why: a node that runs for a year creates a million containers; whatever each of them leaves brings it down.
    By hand:
        findmnt | wc -l; find /sys/fs/cgroup -type d | wc -l   # before and after
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID; $RUNTIME delete ID   # 20 times
    """
    container = runtime.container()
    container.spec["process"]["args"] = container.bundle.once(0)
    before = Inventory.take(runtime)
    for _ in range(LIFECYCLES):
        container.cycle()
    assert "nothing" == Inventory.take(runtime).beyond(before)


@case("L04")
@tier(4)
@pytest.mark.parametrize("quarter", ["first", "second", "third", "fourth"])
def test_thousand_lifecycles_do_not_grow(runtime: Runtime, quarter: str) -> None:
    """After 1,000 lifecycles, in four parts of 250, nothing has grown; time and memory are noted (runtime.md#delete).

    Why: what is lost in each of them is seen in the slope before it is seen in production.
    By hand: as L01, 1,000 times, with time(1) and ps -o rss
    """
    container = runtime.container()
    container.spec["process"]["args"] = container.bundle.once(0)
    before, seconds, resident = Inventory.take(runtime), list[float](), list[float]()
    for _ in range(QUARTER):
        began = time.monotonic()
        container.cycle()
        seconds.append(time.monotonic() - began)
        resident.append(float(PAGE * int(Path("/proc/self/statm").read_text().split()[1])))
    grown = Inventory.take(runtime).beyond(before)
    figures = {
        "lifecycle_s": statistics.median(seconds),
        "lifecycle_s_more_per_1000": 1000 * slope(seconds),
        "worker_bytes": resident[-1],
        "worker_bytes_more_per_1000": 1000 * slope(resident),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "grown": grown,
    }
    for name, value in figures.items():
        runtime.bench.note(f"{quarter}_{name}", value)
    assert "nothing" == grown


def slope(values: list[float]) -> float:
    """Return by how much values grow from one to the next (least squares)."""
    return statistics.linear_regression(range(len(values)), values).slope


@case("L02")
@tier(3)
def test_nobody_holds_a_deleted_container(runtime: Runtime) -> None:
    """After delete no process has the root file system or the program's output open (runtime.md#delete).

    Why: a helper that stays behind keeps the disk full and its reader waiting, and names no container.
    By hand:
        $RUNTIME kill ID KILL; $RUNTIME delete ID; fuser -vm BUNDLE/rootfs; rm -r BUNDLE/rootfs
    """
    container = runtime.container()
    container.running()
    container.stop()
    container.delete().ok()
    assert "nobody" == holders(container.folder)
    assert "at its end" == output(runtime, container)
    assert "no mount" == ("a mount" if place.mounted(container.folder) else "no mount")
    shutil.rmtree(container.bundle.rootfs)


def holders(folder: Path) -> str:
    """Return the names of the processes that have something below a folder open, as root, or as directory."""
    found = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid() and holds(pid, folder)]
    names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in found}
    return ", ".join(sorted(names)) or "nobody"


def holds(pid: str, folder: Path) -> bool:
    """Return whether a process has a descriptor, its root, or its directory below a folder."""
    process = Path("/proc", pid)
    try:
        links = [process / "root", process / "cwd", process / "exe", *(process / "fd").iterdir()]
    except OSError:  # it is gone, or somebody else's
        return False
    return any(target(link).startswith(f"{folder}/") for link in links)


def target(link: Path) -> str:
    """Return where a link of /proc leads, nowhere when it is gone."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


def output(runtime: Runtime, container: Container) -> str:
    """Return whether the streams that create and the program wrote to have come to their end."""
    assert container.creation is not None
    deadline = Deadline(runtime.seconds)
    for capture in container.creation.streams.values():
        while capture.fd >= 0 and runtime.waiter.wait((capture.fd,), deadline):
            if not capture.drain():
                runtime.waiter.remove(capture)
        if capture.fd >= 0:
            return "still open"
    return "at its end"


@case("L03")
def test_failed_creates_leave_nothing(runtime: Runtime) -> None:
    """After 10 creates that failed at different steps there is no more than before (runtime.md, "Errors").

    Why: a pod that cannot start is tried again every few seconds, for days.
    By hand:
        # config.json: "hooks": {"createRuntime": [{"path": "/bin/false"}]}
        $RUNTIME create --bundle BUNDLE ID   # 10 times; findmnt, ps, ls STATE_ROOT
    """
    container = runtime.container()
    sound = container.spec
    before = Inventory.take(runtime)
    for number in range(FAILURES):
        broken = list(BROKEN)[number % len(BROKEN)]
        container.spec = copy.deepcopy(sound)
        BROKEN[broken](container.spec)
        assert f"{broken}: refused" == f"{broken}: {container.create().outcome}"
        assert container.creation is not None
        container.creation.close()
    assert "nothing" == Inventory.take(runtime).beyond(before)
    container.spec = sound
    container.running()


def without_root(spec: Spec) -> None:
    """Name a root file system that is not there."""
    spec["root"]["path"] = "absent"


def binding_nothing(spec: Spec) -> None:
    """Bind what is not there."""
    spec["mounts"].append(config.bind("/absent", "/mnt"))


def of_no_type(spec: Spec) -> None:
    """Mount a file system that no kernel has."""
    spec["mounts"].append({"destination": "/mnt", "type": "seatrialfs", "source": "none"})


def joining_nothing(spec: Spec) -> None:
    """Join a namespace that is not there."""
    namespace = next(each for each in spec["linux"]["namespaces"] if each["type"] == "uts")
    namespace["path"] = "/proc/absent"


def with_failing_hook(spec: Spec) -> None:
    """Have a hook fail when the namespaces are made and the init is there."""
    spec["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}


BROKEN: dict[str, Callable[[Spec], None]] = {
    "no root file system": without_root,
    "a bind mount of nothing": binding_nothing,
    "a mount of no type": of_no_type,
    "a namespace that is not there": joining_nothing,
    "a hook that fails": with_failing_hook,
}
"""Ways to fail, from the first check of a bundle to an init that waits already."""
