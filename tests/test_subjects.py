"""The subjects of a run where an ordinary user's workers can reach them."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.catalog import Kind
from suites.framework.facts import Fact, Finding
from suites.framework.model import Profile, Role, Target
from suites.framework.subjects import Subjects, within_reach

COMPILER = Finding(fact=Fact.COMPILER, present=True, probe="cc")


def subjects_of(program: Path, libraries: str) -> Subjects:
    """Return one target with its libraries, and a payload beside it."""
    target = Target(
        name="mine",
        kind=Kind.INIT,
        role=Role.TARGET,
        argv=(str(program), "-g"),
        path="/home/me/mine",
        sha256="00",
        version="1",
        profile=Profile(),
        environment={"LD_LIBRARY_PATH": libraries},
    )
    return Subjects(targets=(target,), absent=(), payload=(str(program.parent / "payload"),), findings=(COMPILER,))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return a folder with a program and a library."""
    (tmp_path / "cache/bin").mkdir(parents=True)
    (tmp_path / "cache/lib").mkdir()
    for name in ("bin/mine", "bin/payload", "lib/libm.so"):
        (tmp_path / "cache" / name).write_text(name)
    return tmp_path / "cache"


def test_what_nobody_else_can_enter_is_copied(cache: Path, tmp_path: Path) -> None:
    """Program, payload and libraries of a closed cache are moved together; options and foreign paths are not."""
    (cache / "bin").chmod(0o700)
    moved = within_reach(subjects_of(cache / "bin/mine", f"/elsewhere:{cache / 'lib'}"), tmp_path / "copies")
    (target,) = moved.targets
    program, option = target.argv
    assert ("mine", "-g", "bin/mine") == (Path(program).name, option, Path(program).read_text())
    assert [str(Path(program).parent / "payload")] == list(moved.payload)
    foreign, libraries = target.environment["LD_LIBRARY_PATH"].split(":")
    assert ("/elsewhere", "lib/libm.so") == (foreign, Path(libraries, "libm.so").read_text())
    for folder in (Path(program).parent, Path(libraries)):
        assert tmp_path / "copies" == folder.parent
        assert 0o755 == folder.stat().st_mode & 0o777


def test_what_everybody_can_enter_stays(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that is open to all the way down is used where it is."""
    monkeypatch.setattr("suites.framework.subjects._open_to_all", lambda folder: folder.is_relative_to(cache))
    found = subjects_of(cache / "bin/mine", "")
    assert found == within_reach(found, tmp_path / "copies")
    assert not (tmp_path / "copies").exists()
