"""Tests of what is said to be left of a container."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from suites.framework.oci.container import NO_STATE, Container
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.traces import NOTHING, Traces


@dataclass
class Fake:
    """Stands for a runtime and its container at once."""

    files: list[str] = field(default_factory=list)
    told: str = NO_STATE
    cgroup: str = ""
    seconds: float = 0.05
    mounts: dict[str, str] = field(default_factory=dict)

    def left(self) -> list[str]:
        """Return the state files."""
        return self.files

    def status(self) -> str:
        """Return what state says."""
        return self.told


def _traces(fake: Fake) -> Traces:
    return Traces(cast(Runtime, fake), cast(Container, fake), mounts=lambda: fake.mounts)


@contextmanager
def _child(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield child
    finally:
        child.stdin.close()
        child.stdout.close()
        child.wait()


def test_nothing_is_left_where_nothing_came() -> None:
    """What was there before is no trace."""
    with _child("cat"):
        assert _traces(Fake(files=["root/lock"])).found() == NOTHING


def test_registered_id_is_a_trace() -> None:
    """An id that state knows is told with its status."""
    fake = Fake()
    traces = _traces(fake)
    fake.told = "stopped"
    assert traces.found() == "the id (stopped)"


def test_living_process_is_a_trace() -> None:
    """A child that came and lives on is told by its name."""
    traces = _traces(Fake())
    with _child("cat"):
        assert traces.found() == "process cat"
    assert traces.found() == NOTHING


def test_dead_process_is_none() -> None:
    """A child that has ended and was not reaped yet is no trace."""
    traces = _traces(Fake(seconds=10.0))
    with _child("true"):
        assert traces.found() == NOTHING


def test_process_that_is_about_to_end_is_waited_for() -> None:
    """A child that ends before the deadline is no trace."""
    traces = _traces(Fake(seconds=10.0))
    with _child("sleep", "0.2"):
        assert traces.found() == NOTHING


def test_mount_is_a_trace() -> None:
    """Mounts that came are told, those that were there are not."""
    fake = Fake(mounts={"21": "/proc"})
    traces = _traces(fake)
    assert traces.found() == NOTHING
    fake.mounts = {"21": "/proc", "99": "/somewhere"}
    assert traces.found() == "mounts"


def test_state_file_is_a_trace_beside_an_equal_one() -> None:
    """Files are counted: another container's file of the same name does not hide a new one."""
    fake = Fake(files=["root/ID/state.json"])
    traces = _traces(fake)
    fake.files = ["root/ID/state.json", "root/ID/state.json", "root/ID"]
    assert traces.found() == "file root/ID, file root/ID/state.json"


def test_cgroup_of_the_container_is_a_trace() -> None:
    """A folder of the container's cgroup path is told."""
    assert _traces(Fake(cgroup="/")).found() == "cgroups"
