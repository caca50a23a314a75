"""What an engine and its machine have of pods: shims, bundles, mounts, networks, states, records (layer 1).

Taken before a test and after its pods are deleted: what is there then and was not before was left behind.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from suites.framework import mountinfo, proc, process
from suites.framework.calls import PodCall
from suites.framework.leaks import Leak, Owner
from suites.framework.pod import network
from suites.framework.pod.cri import Refused
from suites.framework.pod.engine import Engine
from suites.framework.waiting import Deadline, ticks

SETTLE_S = 5.0
"""What an engine gets to end a shim and take its mounts away, once it has said that a pod is removed."""
PROCESSES, MOUNTS, FILES = "processes", "mounts", "files"
_STATES = ("run/containerd/io.containerd.runtime.v2.task/k8s.io", "run/containerd/runc/k8s.io", "run/netns")
"""Below the engine's own root: bundles, states of OCI runtimes, network namespaces."""

ANCHOR = "anchor of a group"

Item = tuple[str, str, str]
"""A kind of `leaks.KINDS`, words that are the same in every run, and what tells it from others of those words."""


class Design:
    """What a target keeps of pods that are gone, as its profile says: one process and one mount for each group."""

    def __init__(self, call: PodCall) -> None:
        """Take a target's conventions; there is no group before a pod is asked for."""
        self.call = call
        self._groups: set[tuple[str, str]] = set()

    def add(self, namespace: str, annotations: Mapping[str, str]) -> None:
        """Count the group of a pod that is asked for."""
        self._groups.add((namespace, annotations.get(self.call.group, "")))

    def beyond(self, found: frozenset[Item]) -> frozenset[Item]:
        """Return what of it is more than the design allows."""
        allowed = [*self.anchors(found)[: len(self._groups)], *self._points(found)[: len(self._groups)]]
        return found.difference(allowed)

    def anchors(self, found: frozenset[Item]) -> list[Item]:
        """Return the processes among it by which groups are kept."""
        return sorted(item for item in found if self.call.anchor and item[:2] == (PROCESSES, self.call.anchor))

    @staticmethod
    def _points(found: frozenset[Item]) -> list[Item]:
        return sorted(item for item in found if item[:2] == (MOUNTS, ANCHOR))


def take(engine: Engine, design: Design) -> frozenset[Item]:
    """Return what there is now."""
    folders = (*_folders(engine), *_interfaces(engine), *_states(engine, design.call.state))
    return frozenset((*_processes(engine), *_mounts(engine, design.call.anchors), *folders, *_records(engine)))


def left(engine: Engine, before: frozenset[Item], design: Design) -> list[tuple[str, str]]:
    """Return kind and words of what is there now and was not before, given time to settle."""
    found: frozenset[Item] = frozenset()
    for _ in ticks(Deadline(SETTLE_S), every=0.01):
        reap(engine)
        if not (found := design.beyond(take(engine, design) - before)):
            break
    return sorted({(kind, what) for kind, what, _ in found})


def end(engine: Engine, before: frozenset[Item]) -> None:
    """End the processes that were not there before: what is to be said of them was said, or they are kept by design."""
    for _, _, pid in frozenset(_processes(engine)) - before:
        for each in (int(pid), *proc.descendants(int(pid))):
            process.dismiss(each)
    for _ in ticks(Deadline(SETTLE_S), every=0.01):
        reap(engine)
        if not frozenset(_processes(engine)) - before:
            break


def end_shim(sandbox: str) -> list[Leak]:
    """End the shim of a sandbox, as somebody on the node would; return what was ended."""
    found = [pid for pid in proc.children(os.getpid()) if sandbox.encode() in proc.words(pid)]
    for pid in found:
        process.dismiss(pid)
    return [Leak(owner=Owner.TARGET, kind=PROCESSES, what="containerd-shim of a pod that did not stop") for _ in found]


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


def _mounts(engine: Engine, anchors: str) -> Iterator[Item]:
    table = Path(f"/proc/{engine.pid}/mountinfo").read_bytes() if engine.alive else b""
    for number, point in mountinfo.points(table).items():
        kept = anchors and str(Path(point).parent) == anchors
        yield MOUNTS, ANCHOR if kept else f"{Path(point).name} of a pod", str(number)


def _folders(engine: Engine) -> Iterator[Item]:
    for folder in _STATES:
        place = Path(f"/proc/{engine.pid}/root", folder)
        for name in os.listdir(place) if place.is_dir() else ():
            yield FILES, f"{place.parent.name}/{place.name}/ID", name


def _interfaces(engine: Engine) -> Iterator[Item]:
    for name in network.interfaces(engine.pid) if engine.alive else ():
        yield FILES, "network interface", name


def _states(engine: Engine, state: str) -> Iterator[Item]:
    """Yield what a target has of containers; a folder of its own that has another name is none."""
    front, _, back = state.partition("{id}")
    place = Path(f"/proc/{engine.pid}/root{front}")
    for name in os.listdir(place) if state and place.is_dir() else ():
        if re.fullmatch(rf"[0-9a-f]{{64}}{re.escape(back)}", name):
            yield FILES, state.replace("{id}", "ID"), name


def _records(engine: Engine) -> Iterator[Item]:
    assert engine.client is not None
    try:
        for each in engine.client.call("ListContainers", seconds=5).containers:
            yield FILES, "record of a container", each.id
        for each in engine.client.call("ListPodSandbox", seconds=5).items:
            yield FILES, "record of a pod", each.id
    except Refused:
        return
