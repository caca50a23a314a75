"""What an engine and its machine have of pods: shims, bundles, mounts, networks, states, records (layer 1).

Taken before a test and after its pods are deleted: what is there then and was not before was left behind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from suites.framework import mountinfo, proc
from suites.framework.pod import network
from suites.framework.pod.cri import Refused
from suites.framework.pod.engine import Engine
from suites.framework.waiting import Deadline, ticks

SETTLE_S = 5.0
"""What an engine gets to end a shim and take its mounts away, once it has said that a pod is removed."""
PROCESSES, MOUNTS, FILES = "processes", "mounts", "files"
_STATES = ("run/containerd/io.containerd.runtime.v2.task/k8s.io", "run/containerd/runc/k8s.io", "run/netns")
"""Below the engine's own root: bundles, states of OCI runtimes, network namespaces."""

Item = tuple[str, str, str]
"""A kind of `leaks.KINDS`, words that are the same in every run, and what tells it from others of those words."""


def take(engine: Engine) -> frozenset[Item]:
    """Return what there is now."""
    return frozenset(
        (*_processes(engine), *_mounts(engine), *_folders(engine), *_interfaces(engine), *_records(engine))
    )


def left(engine: Engine, before: frozenset[Item]) -> list[tuple[str, str]]:
    """Return kind and words of what is there now and was not before, given time to settle."""
    found: frozenset[Item] = frozenset()
    for _ in ticks(Deadline(SETTLE_S), every=0.01):
        reap(engine)
        if not (found := take(engine) - before):
            break
    return sorted({(kind, what) for kind, what, _ in found})


def reap(engine: Engine) -> None:
    """Reap the worker's children that have ended: shims, and orphans of containers."""
    for pid in proc.children(os.getpid()):
        if pid != engine.pid and proc.state(pid) == "Z":
            os.waitpid(pid, os.WNOHANG)


def _processes(engine: Engine) -> Iterator[Item]:
    """Yield the worker's children, which shims and orphans are; one that has ended is a zombie until it is reaped."""
    for pid in proc.children(os.getpid()):
        if pid != engine.pid and (stat := proc.stat(pid)) is not None:
            yield PROCESSES, stat.name, str(pid)


def _mounts(engine: Engine) -> Iterator[Item]:
    table = Path(f"/proc/{engine.pid}/mountinfo").read_bytes() if engine.alive else b""
    for number, point in mountinfo.points(table).items():
        yield MOUNTS, f"{Path(point).name} of a pod", str(number)


def _folders(engine: Engine) -> Iterator[Item]:
    for folder in _STATES:
        place = Path(f"/proc/{engine.pid}/root", folder)
        for name in os.listdir(place) if place.is_dir() else ():
            yield FILES, f"{place.parent.name}/{place.name}/ID", name


def _interfaces(engine: Engine) -> Iterator[Item]:
    for name in network.interfaces(engine.pid) if engine.alive else ():
        yield FILES, "network interface", name


def _records(engine: Engine) -> Iterator[Item]:
    assert engine.client is not None
    try:
        for each in engine.client.call("ListContainers", seconds=5).containers:
            yield FILES, "record of a container", each.id
        for each in engine.client.call("ListPodSandbox", seconds=5).items:
            yield FILES, "record of a pod", each.id
    except Refused:
        return
