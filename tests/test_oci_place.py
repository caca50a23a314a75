"""Folders that containers are given, settings of cgroups in both versions, and the words of a container's shell."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from suites.framework import cgroups
from suites.framework.cgroups import Hierarchy
from suites.framework.mounting import MS_BIND
from suites.framework.oci import cgroup, place, words
from suites.framework.oci.place import Place
from suites.framework.process import Status, exited, killed
from suites.framework.recorder import Recorder, Shell
from tests.contexts import bench
from tests.walled import behind


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Place]:
    """Yield a place that is removed with its bench."""
    made = bench(tmp_path)
    yield Place(made, "outside")
    assert () == made.settle()


def test_untouched_place_has_no_changes(beside: Place) -> None:
    """A place holds its marker with the nonce, and nothing is said of that."""
    assert [] == beside.changes()


def test_every_change_of_a_place_is_told(beside: Place) -> None:
    """A new entry, another text and a missing marker are told apart."""
    (beside.path / "new").mkdir()
    beside.marker.write_text("other")
    assert ["new was added", "marker was changed"] == beside.changes()
    beside.marker.unlink()
    (beside.path / "new").rmdir()
    assert ["marker was changed"] == beside.changes()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root")
def test_mount_in_a_place_is_taken_away_as_a_leak(tmp_path: Path) -> None:
    """What somebody has mounted in a place is a change and a leak, and the removal does not walk into it."""
    behind(__name__, "mount_and_settle", (tmp_path,), {}, before=(), user=False)


def libc_mount(source: Path, target: Path) -> int:
    """Mount a folder over another one, as a runtime does that nobody knows of."""
    return int(ctypes.CDLL(None).mount(os.fsencode(source), os.fsencode(target), b"", ctypes.c_ulong(MS_BIND), None))


def mount_and_settle(folder: Path) -> None:
    """Mount a place over a folder of another one, once for the test's time and once for ever."""
    made = bench(folder)
    given, other = Place(made, "given"), Place(made, "other")
    (given.path / "below").mkdir()
    (kept := folder / "kept").mkdir()
    (kept / "file").write_text("text")
    place.mount(made, other.path, given.path / "below", flags=MS_BIND)
    assert ["below was added", "below is a mount"] == given.changes()
    assert libc_mount(kept, other.path) == 0
    assert ["mount other"] == (left := [str(leak) for leak in made.settle()]), left
    assert "text" == (kept / "file").read_text()


def _hierarchy(folder: Path, version: int, *controllers: str) -> Hierarchy:
    return Hierarchy(version=version, mount=folder, own=folder, controllers=frozenset(controllers))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of hierarchies: memory in version 1, pids and cpu in version 2."""
    found = (_hierarchy(tmp_path / "memory", 1, "memory"), _hierarchy(tmp_path / "unified", 2, "pids", "cpu"))
    for each in found:
        (each.mount / "place").mkdir(parents=True)
    monkeypatch.setattr(cgroup, "_hierarchies", lambda: found)
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "file", "text", "value"),
    [
        ("memory.limit", "memory/place/memory.limit_in_bytes", "77\n", "77"),
        ("memory.kills", "memory/place/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "3"),
        ("memory.kills", "memory/place/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n", cgroups.NOWHERE),
        ("pids.limit", "unified/place/pids.max", "37\n", "37"),
        ("cpu.quota", "unified/place/cpu.max", "33000 77000\n", "33000"),
        ("cpu.period", "unified/place/cpu.max", "33000 77000\n", "77000"),
        ("cpu.period", "unified/place/cpu.max", "33000\n", cgroups.NOWHERE),
        ("cpu.shares", "unified/place/cpu.shares", "777\n", cgroups.NOWHERE),
    ],
)
def test_setting_is_read_where_its_version_has_it(
    machine: Path, setting: str, file: str, text: str, value: str
) -> None:
    """A setting is one word of one file, another one in each version; what is not there is nowhere."""
    (machine / file).write_text(text)
    assert value == cgroup.value("/place", setting)


@pytest.mark.usefixtures("machine")
def test_cgroup_that_does_not_exist_has_no_setting_and_no_name() -> None:
    """A path without folders has nothing; one with folders has a name for each hierarchy."""
    assert (cgroups.NOWHERE, []) == (cgroup.value("/other", "pids.limit"), cgroup.names("/other"))
    assert ["memory", "unified"] == cgroup.names("/place")


class Fake:
    """A recorder whose shell ends and says what it was told to."""

    def __init__(self, status: Status, text: str) -> None:
        """Keep the end and the words."""
        self._shell = Shell(status=status, text=text)

    def sh(self, script: str) -> Shell:
        """Return the end, whatever the script is."""
        assert script
        return self._shell


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (exited(0), "noise: more\n", "done"),
        (exited(1), "sh: can't create /new: Read-only file system\n", words.READ_ONLY),
        (exited(1), "dd: error: No space left on device\n64+0 records in\n", words.FULL),
        (killed(9), "", "killed by KILL"),
    ],
)
def test_complaint_is_the_end_of_the_first_line(status: Status, text: str, said: str) -> None:
    """Of an error the kernel's words remain, without the names of programs and files."""
    fake = cast("Recorder", Fake(status, text))
    assert said == words.complaint(fake, "true")
    assert ("written" if said == "done" else said) == words.writing(fake, "/new")


def test_reading_tells_content_and_error_apart() -> None:
    """A file's text comes without white space around it, an error without the program's name."""
    assert "a: b" == words.reading(cast("Recorder", Fake(exited(0), "a: b\n")), "/file")
    denied = cast("Recorder", Fake(exited(1), "cat: /file: Operation not permitted\n"))
    assert words.DENIED == words.reading(denied, "/file")
