"""A launcher's name tells whether it lives, and says "gone" only where that is certain."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from suites.framework import launcher, proc
from suites.framework.cleanup import RUN_LABEL
from suites.framework.commands import clean
from suites.framework.environments import engine
from suites.framework.environments.engine import ContainerState
from suites.framework.launcher import alive, gone

SCRIPT = "from suites.framework import launcher; print(launcher.name())"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return the file of a machine's id."""
    file = tmp_path / "machine-id"
    file.write_text("0123456789abcdef0123456789abcdef\n")
    return file


@pytest.fixture(scope="module")
def dead() -> str:
    """Return the name of a process of this machine that is gone."""
    return subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def changed(name: str, place: int, word: str) -> str:
    words = name.strip().split(":")
    words[place] = word
    return ":".join(words)


def test_living_process_is_not_gone(machine: Path) -> None:
    assert not gone(launcher.name())
    assert not gone(launcher.name(machine=machine), machine=machine)


def test_ended_process_is_gone(dead: str) -> None:
    assert gone(dead.strip())


def test_number_used_again_is_another_process() -> None:
    assert gone(changed(launcher.name(), 4, "1"))
    assert not alive(os.getpid(), 1)
    assert alive(os.getpid())


def test_machine_started_again_ended_everything(machine: Path) -> None:
    assert gone(changed(launcher.name(machine=machine), 1, "another-boot"), machine=machine)


def test_another_machine_may_have_it_alive(machine: Path, dead: str) -> None:
    """One engine may serve several machines: what they run is not ours to judge."""
    elsewhere = changed(changed(dead, 0, "0" * 16), 1, "another-boot")
    assert not gone(elsewhere, machine=machine)
    assert not gone(changed(dead, 1, "another-boot"), machine=machine.parent / "absent")


def test_another_pid_namespace_may_have_it_alive(dead: str) -> None:
    assert not gone(changed(dead, 2, "1"))


@pytest.mark.parametrize("name", ["", "a", "a:b:c:d:e", "::::", "a:b:c:1:-1", "\x00:\x00:1:2:3"])
def test_name_that_is_none_says_nothing(name: str) -> None:
    assert not gone(name)


def test_what_proc_hides_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidepid the processes of others have no /proc entry, or one that may not be read."""
    for hidden in (lambda _: None, _refused):
        monkeypatch.setattr(proc, "stat", hidden)
        assert alive(os.getpid(), 1)
        assert not alive(4194303, 1)


def _refused(_: int) -> None:
    raise PermissionError


class FakeEngine:
    """An engine with a container for each launcher."""

    def __init__(self, *launchers: str) -> None:
        """Take what their labels say."""
        self.launchers = launchers

    def __enter__(self) -> FakeEngine:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def list_labelled(self, labels: dict[str, str]) -> list[str]:
        """Return a name for each."""
        assert labels == {RUN_LABEL: ""}
        return [f"container{number}" for number in range(len(self.launchers))]

    def inspect(self, container: str) -> ContainerState:
        """Return one that runs."""
        made_by = self.launchers[int(container.removeprefix("container"))]
        return ContainerState(running=True, exit_code=0, oom_killed=False, error="", launcher=made_by)


def test_only_containers_of_launchers_that_are_gone_are_remainders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dead: str
) -> None:
    """Neither the temporary folder nor the user matters; one that does not say who made it is named and stays."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    living, elsewhere = launcher.name(), changed(launcher.name(), 2, "1")
    monkeypatch.setattr(engine, "connect", lambda: FakeEngine(living, dead.strip(), elsewhere, ""))
    found = [(remainder.what.partition(":")[0], remainder.remove is not None) for remainder in clean.containers()]
    assert found == [("container container1", True), ("container container3", False)]
