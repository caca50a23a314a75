"""Hundreds of pods one after the other, and a node that has no room: what fails says so, and then it works again."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from suites.catalog import Privilege
from suites.framework import cgroups, mountinfo, proc
from suites.framework.facts import Fact
from suites.framework.marks import case, requires, tier, weight, within
from suites.framework.observation import NotOffered, Unmet
from suites.framework.oci import cgroup
from suites.framework.pod import inventory, strain
from suites.framework.pod.calibration import LAST
from suites.framework.pod.cri import Refused
from suites.framework.pod.engine_driver import place_of_pods
from suites.framework.pod.pod import Pod
from suites.framework.pod.pods import LONG_S, Pods
from suites.framework.waiting import Deadline, ticks

ROUNDS, EACH = 5, 10
"""Of one part of four, and pods of each."""
STAYS = "trap 'kill $!; exit 0' TERM; sleep 1000 & echo ready; wait"
"""A program that waits to be ended."""
RUNTIME = Path("/run/containerd/runc")
"""Where runc's shim has its runtimes keep their states."""
FULL = "no space left on device"
PLACES = {
    "sandboxes": "{root}/io.containerd.grpc.v1.cri/sandboxes",
    "containers": "{root}/io.containerd.grpc.v1.cri/containers",
    "state": "/run",
}
"""Where an engine and its runtimes keep what a pod needs: names and addresses, the status, bundles and states."""


@tier(4)
@weight(60)
@case("G8")
@pytest.mark.parametrize("quarter", ["first", "second", "third", "fourth"])
def test_two_hundred_pods_do_not_grow(pods: Pods, quarter: str) -> None:
    """After 200 pods, ten at a time and in four parts, there is no more of anything than before (14 of the plan).

    Descriptors of the engine, mounts, cgroups, processes; the rate and the engine's memory are noted.

    Why: what is lost with each of them is seen in the slope before it is seen in production.
    By hand:
        for n in $(seq 20); do for i in $(seq 10); do kubectl run g8-$i --image=busybox --restart=Never -- true & done
        wait; kubectl delete pod g8-1 g8-2 g8-3 g8-4 g8-5 g8-6 g8-7 g8-8 g8-9 g8-10; done
        ls /proc/$(pidof containerd)/fd | wc -l; findmnt | wc -l; pgrep --count containerd-shim   # always the same
    """
    seconds, held, resident = list[float](), list[dict[str, int]](), list[float]()
    for _ in range(ROUNDS):
        began = time.monotonic()
        made = pods.together(EACH, pods.shell("echo done"))
        assert [(0, b"done\n")] * EACH == [(pod.main.ended().code, pod.main.settled("stdout")) for pod in made]
        with ThreadPoolExecutor(max_workers=EACH) as pool:
            list(pool.map(Pod.delete, made))
        seconds.append(time.monotonic() - began)
        assert [] == pods.left()
        held.append(_settled(pods, held[0]) if held else _held(pods))
        resident.append(_resident(pods))
    figures = {
        "pods_per_s": EACH / statistics.median(seconds),
        "round_s_more_per_round": _slope(seconds),
        "engine_bytes": resident[-1],
        "engine_bytes_more_per_pod": _slope(resident) / EACH,
        **{f"{name}_more_per_pod": _slope([float(each[name]) for each in held]) / EACH for name in held[0]},
    }
    for name, value in figures.items():
        pods.note(f"{quarter}_{name}", value)
    assert {} == {name: number for name, number in held[-1].items() if number > held[0][name]}


def _settled(pods: Pods, first: dict[str, int]) -> dict[str, int]:
    """Return how much there is of each kind, given time to be no more than it was at first."""
    held = first
    for _ in ticks(Deadline(inventory.SETTLE_S), every=0.05):
        held = _held(pods)
        if all(number <= first[name] for name, number in held.items()):
            break
    return held


def _held(pods: Pods) -> dict[str, int]:
    """Return how much of each kind the engine and its node have; the same for the same pods."""
    pid = pods.engine.pid
    return {
        "descriptors": len(proc.descriptors(pid)),
        "mounts": len(mountinfo.points(Path(f"/proc/{pid}/mountinfo").read_bytes())),
        "cgroups": sum(len(cgroups.below(folder)) for folder in cgroup.folders(place_of_pods())),
        "processes": len(proc.descendants(pid)),
    }


def _resident(pods: Pods) -> float:
    """Return the bytes of memory that the engine has."""
    lines = Path(f"/proc/{pods.engine.pid}/status").read_text().splitlines()
    return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _slope(values: list[float]) -> float:
    """Return by how much values grow from one to the next (least squares)."""
    return statistics.linear_regression(range(len(values)), values).slope


@tier(3)
@weight(8)
@case("G9")
@within(privilege=Privilege.ROOT)
@pytest.mark.parametrize("where", PLACES)
def test_full_disk_refuses_pods_and_nothing_else(pods: Pods, where: str) -> None:
    """Where no space is left a pod is refused with these words, one that runs can be removed, and then all works again.

    Why: a full disk is when a node needs its runtime to clean up, not to leave what nobody knows of (write(2), ENOSPC).
    By hand:
        mount -t tmpfs -o size=1m tmpfs /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes
        dd if=/dev/zero of=/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/filler; kubectl run g9 ...
        kubectl describe pod g9   # no space left on device
    """
    folder = Path(PLACES[where].format(root=pods.engine.root))
    before = pods.run(pods.shell(STAYS))
    before.main.says("ready")
    with strain.full(pods.engine, folder):
        said = _refusal(pods)
        if folder == strain.RUN:
            before.main.stop(grace=LONG_S)
            before.delete()
    assert FULL == (FULL if FULL in said else said or "not refused")
    if folder != strain.RUN:
        before.delete()
    assert (0, []) == (pods.living(at_most=0), pods.left())
    after = pods.run(pods.shell("echo again"))
    assert (0, b"again\n") == (after.main.ended().code, after.main.settled("stdout"))


@tier(3)
@case("G9")
@within(privilege=Privilege.ROOT)
def test_runtime_without_space_for_its_state_leaves_nothing(pods: Pods) -> None:
    """A runtime that cannot write its state refuses the pod, leaves nothing, and then works again (write(2), ENOSPC).

    Why: an init without a state is one that nobody will ever end.
    By hand:
        mount -t tmpfs -o size=1m tmpfs /run/containerd/runc; dd if=/dev/zero of=/run/containerd/runc/filler
        kubectl run g9 --image=busybox --restart=Never -- sleep 1000; kubectl describe pod g9
        pgrep --full 'runc.*init'; ls /run/containerd/runc/k8s.io   # nothing
    """
    if not pods.engine.handlers[pods.target.name].binary:
        raise NotOffered("a state below the root of runc's shim")
    with strain.full(pods.engine, RUNTIME) as folder:
        assert "refused" == ("refused" if _refusal(pods) else "not refused")
        assert 0 == len([*folder.glob("k8s.io/*")])
    assert (0, []) == (pods.living(at_most=0), pods.left())
    after = pods.run(pods.shell("echo again"))
    assert (0, b"again\n") == (after.main.ended().code, after.main.settled("stdout"))


def _refusal(pods: Pods) -> str:
    """Return what is said against a pod; nothing where it runs."""
    try:
        pod = pods.run(pods.shell(STAYS))
    except Unmet as unmet:
        return unmet.__cause__.words if isinstance(unmet.__cause__, Refused) else str(unmet)
    said = pod.main.status().refusal
    pod.delete()
    return said


@tier(3)
@case("G9")
@within(privilege=Privilege.ROOT)
def test_full_log_does_not_hold_its_program(pods: Pods) -> None:
    """A program whose log has no space left goes on, and ends with its own code (CRI logging; write(2), ENOSPC).

    Why: a service that stops because nobody empties its log is worse than lines that are lost.
    By hand:
        mount -t tmpfs -o size=1m tmpfs /var/log/pods; dd if=/dev/zero of=/var/log/pods/filler
        kubectl run g9 --image=busybox --restart=Never -- sh -c 'seq 1 40000; exit 3'   # Error, 3
    """
    (pods.folder / "logs").mkdir(exist_ok=True)
    with strain.full(pods.engine, pods.folder / "logs"):
        pod = pods.run(pods.shell(f"seq 1 {LAST}; touch /all; trap 'kill $!; exit 3' TERM; sleep 1000 & wait"))
        assert 0 == pod.main.shell("until test -e /all; do sleep 0.01; done").code
        pod.main.stop(grace=LONG_S)
        assert 3 == pod.main.ended().code
        pod.delete()
    after = pods.run(pods.shell("echo again"))
    assert (0, b"again\n") == (after.main.ended().code, after.main.settled("stdout"))


@tier(3)
@case("G10")
@requires(Fact.CGROUP_PIDS)
def test_exec_is_within_the_limit_of_its_container(pods: Pods) -> None:
    """Where a container may have no more processes a command in it starts none either, and the pod runs on (pids.max).

    Why: a fork bomb that comes in by exec takes the node's processes where it is outside of the container's cgroup.
    By hand:
        echo $(cat pids.current) >pids.max   # in the container's cgroup, on the node
        kubectl exec g10 -- sh -c '/bin/true; echo forked'   # can't fork: Resource temporarily unavailable
    """
    pod = pods.run(pods.shell(STAYS))
    pod.main.says("ready")
    forking = "/bin/busybox true; echo forked"
    assert b"forked\n" == pod.main.shell(forking).stdout
    with strain.crowded(list(pods.driver.identifiers(pod.name))[-1]):
        said = pod.main.execute("/bin/sh", "-c", forking)
        assert "not forked" == ("forked" if b"forked" in said.stdout else "not forked")
        assert "Running" == pod.phase()
    assert b"forked\n" == pod.main.shell(forking).stdout
    pod.main.stop(grace=LONG_S)
    assert (0, b"ready\n") == (pod.main.ended().code, pod.main.settled("stdout"))
