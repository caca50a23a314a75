"""What is there of pods, and what was not there before."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suites.framework import mountinfo
from suites.framework.calls import PodCall
from suites.framework.pod import inventory, network
from suites.framework.pod.cri import Refused

MOUNTS = {"20": "/"}
NO_DESIGN = inventory.Design(PodCall())


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return an engine that is this process, on a machine on which nobody else works; who is left gets little time."""
    states = tmp_path / "run/containerd/k8s.io"
    states.mkdir(parents=True)
    monkeypatch.setattr(mountinfo, "points", lambda listed: MOUNTS if listed else {})
    monkeypatch.setattr(network, "interfaces", lambda _: iter(("eth0",)))
    monkeypatch.setattr(inventory, "SETTLE_S", 0.05)
    monkeypatch.setattr(inventory, "_STATES", (str(states).lstrip("/"), "nowhere/at/all"))
    records = {"ListContainers": SimpleNamespace(containers=[]), "ListPodSandbox": SimpleNamespace(items=[])}

    def call(verb: str, *, seconds: float) -> Any:
        assert seconds > 0
        return records[verb]

    client = SimpleNamespace(call=call)
    return SimpleNamespace(pid=os.getpid(), alive=True, client=client, records=records, states=states)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Yield a child, which is ended in the end."""
    child = subprocess.Popen(["sleep", "1000"])
    yield child
    child.kill()
    child.wait()


def test_what_was_there_before_is_not_left(engine: Any, sleeper: subprocess.Popen[bytes]) -> None:
    """Nor is anything else of a machine at rest."""
    assert ("processes", "sleep", str(sleeper.pid)) in inventory.take(engine, NO_DESIGN)
    assert [] == inventory.left(engine, inventory.take(engine, NO_DESIGN), NO_DESIGN)


def test_processes_are_left(engine: Any, request: pytest.FixtureRequest) -> None:
    """A child that was not there before is named by its program, however many there are."""
    before = inventory.take(engine, NO_DESIGN)
    request.getfixturevalue("sleeper")
    assert [("processes", "sleep")] == inventory.left(engine, before, NO_DESIGN)


def test_who_has_ended_is_reaped(engine: Any) -> None:
    """A shim that ends meanwhile is no leak, and no zombie stays."""
    before = inventory.take(engine, NO_DESIGN)
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert [] == inventory.left(engine, before, NO_DESIGN)
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, 0)
    child.returncode = 0


def test_states_mounts_and_interfaces_are_left(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words that are the same in every run; two of a sort are told once."""
    before = inventory.take(engine, NO_DESIGN)
    for name in ("0123", "4567"):
        (engine.states / name).mkdir()
    monkeypatch.setattr(mountinfo, "points", lambda _: {**MOUNTS, "9999": "/run/x/rootfs"})
    monkeypatch.setattr(network, "interfaces", lambda _: iter(("eth0", "veth1234")))
    assert [
        ("files", "containerd/k8s.io/ID"),
        ("files", "network interface"),
        ("mounts", "rootfs of a pod"),
    ] == inventory.left(engine, before, NO_DESIGN)


def test_records_are_left(engine: Any) -> None:
    """What the engine itself still knows."""
    before = inventory.take(engine, NO_DESIGN)
    engine.records["ListContainers"].containers.append(SimpleNamespace(id="c"))
    engine.records["ListPodSandbox"].items.append(SimpleNamespace(id="p"))
    left = inventory.left(engine, before, NO_DESIGN)
    assert [("files", "record of a container"), ("files", "record of a pod")] == left


def test_an_engine_that_does_not_answer_has_no_records(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor mounts and interfaces where it has ended; what is on the machine is found all the same."""

    def refuse(verb: str, *, seconds: float) -> Any:
        assert seconds > 0
        raise Refused(verb, "UNAVAILABLE", "gone")

    before = inventory.take(engine, NO_DESIGN)
    monkeypatch.setattr(engine, "client", SimpleNamespace(call=refuse))
    monkeypatch.setattr(engine, "alive", False)
    (engine.states / "0123").mkdir()
    assert [("files", "containerd/k8s.io/ID")] == inventory.left(engine, before, NO_DESIGN)
    assert "mounts" not in {kind for kind, _, _ in inventory.take(engine, NO_DESIGN)}
