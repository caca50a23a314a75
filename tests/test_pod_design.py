"""What a target may keep of pods that are gone, and what is a leak all the same."""

from __future__ import annotations

from suites.framework.calls import PodCall
from suites.framework.pod.inventory import ANCHOR, MOUNTS, PROCESSES, Design, Item

CALL = PodCall(anchor="reaper-runtime", group="mine/group")
SHIM: Item = (PROCESSES, "containerd-shim", "7")
POINT: Item = (MOUNTS, "shm of a pod", "8")


def anchors(count: int) -> frozenset[Item]:
    processes = {(PROCESSES, "reaper-runtime", str(number)) for number in range(count)}
    return frozenset(processes | {(MOUNTS, ANCHOR, str(number)) for number in range(count)})


def test_one_process_and_one_mount_are_kept_for_each_group() -> None:
    """A group is a namespace, or a name in it; pods of the same group have one anchor together."""
    design = Design(CALL)
    for namespace, group in (("a", ""), ("a", ""), ("a", "x"), ("b", "x")):
        design.add(namespace, {"mine/group": group, "other": "o"} if group else {})
    assert not design.beyond(anchors(3))
    assert 2 == len(design.beyond(anchors(4)))


def test_nothing_is_kept_without_a_pod_or_a_design() -> None:
    """A target whose profile names no anchor leaves a process like any other."""
    assert anchors(1) == Design(CALL).beyond(anchors(1))
    plain = Design(PodCall())
    plain.add("a", {})
    assert {(PROCESSES, "reaper-runtime", "0")} <= plain.beyond(anchors(1))


def test_anything_else_is_left_behind() -> None:
    """The allowance is for the anchors alone."""
    design = Design(CALL)
    design.add("a", {})
    assert {SHIM, POINT} == design.beyond(anchors(1) | {SHIM, POINT})
