"""The launcher's commands that start no run of their own: clean, report and doctor."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from suites.catalog import Kind
from suites.framework import __main__ as launcher
from suites.framework import cleanup
from suites.framework.cgroups import PREFIX
from suites.framework.cleanup import SCRATCH_MARKER, make_scratch
from suites.framework.commands import clean
from suites.framework.commands.clean import Remainder, scratches
from suites.framework.errors import ExitCode
from suites.framework.facts import Fact
from suites.framework.targets.profile import load
from tests.fake_run import FakeRun, failed, passed
from tests.walled import refusal

ROOT = Path(__file__).parents[1]
SECONDS = 120
NEVER = "4194303 1"
"""Pid and start time of a process that is not there."""


def abandoned(path: Path) -> Path:
    """Make a scratch folder whose launcher is gone."""
    (make_scratch(path) / "deep").mkdir()
    (path / SCRATCH_MARKER).write_text(NEVER)
    return path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Remainder]:
    """Let ``clean`` find what the test puts here, and nothing of this machine's."""
    remainders: list[Remainder] = []
    for source in ("scratches", "containers", "cgroups"):
        monkeypatch.setattr(clean, source, list)
    monkeypatch.setattr(clean, "old_runs", lambda _: remainders)
    return remainders


def test_folder_of_a_killed_command_is_a_remainder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command keeps in TMPDIR is gone at its end, and carries the marker by which `clean` knows it till then."""
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    with cleanup.scratch("doctor") as folder:
        assert [] == list(scratches(tmp_path))
        monkeypatch.setattr(cleanup, "in_use", lambda _: False)
        assert [f"scratch folder {folder}"] == [remainder.what for remainder in scratches(tmp_path)]
    assert [] == list(tmp_path.iterdir())


def test_only_abandoned_folders_of_ours_are_remainders(tmp_path: Path) -> None:
    """One that is in use, one without our marker and one with another name are not looked at."""
    gone = abandoned(tmp_path / "seatrial-gone")
    abandoned(tmp_path / "other")
    make_scratch(tmp_path / "seatrial-living")
    (tmp_path / "seatrial-foreign").mkdir()
    (remainder,) = scratches(tmp_path)
    assert f"scratch folder {gone}" == remainder.what
    assert remainder.remove is not None
    assert "" == remainder.remove()
    assert {"other", "seatrial-living", "seatrial-foreign"} == {path.name for path in tmp_path.iterdir()}


def test_what_nobody_can_judge_is_named_and_left_alone(
    found: list[Remainder], capsys: pytest.CaptureFixture[str]
) -> None:
    """A line says so, and it is neither removed nor counted as something to clean."""
    found.append(Remainder(what="a strange\x1bthing", remove=None))
    assert ExitCode.GREEN == launcher.main(["clean", "--apply"])
    assert ["leave alone a strange\\x1bthing", "nothing to clean"] == capsys.readouterr().out.splitlines()


def test_clean_shows_first_and_removes_with_apply(found: list[Remainder], capsys: pytest.CaptureFixture[str]) -> None:
    """Without --apply nothing is removed; with it everything is, and said so."""
    removed: list[str] = []
    found.append(Remainder(what="a thing", remove=lambda: removed.append("x") or ""))  # type: ignore[func-returns-value]
    assert ExitCode.GREEN == launcher.main(["clean"])
    assert ["would remove a thing", "nothing was removed: add -- --apply"] == capsys.readouterr().out.splitlines()
    assert [] == removed
    assert ExitCode.GREEN == launcher.main(["clean", "--apply"])
    assert "remove a thing\n" == capsys.readouterr().out
    assert ["x"] == removed


def test_what_cannot_be_removed_is_told(found: list[Remainder], capsys: pytest.CaptureFixture[str]) -> None:
    """A problem is a line, and the code that of the infrastructure; nothing at all is green."""
    assert ExitCode.GREEN == launcher.main(["clean", "--apply"])
    assert "nothing to clean\n" == capsys.readouterr().out
    found.append(Remainder(what="a thing", remove=lambda: "it is mounted"))
    assert ExitCode.INFRASTRUCTURE == launcher.main(["clean", "--apply"])
    assert "seatrial: it is mounted" in capsys.readouterr().out


def test_a_dead_launchers_cgroup_is_a_remainder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name ends in the launcher's pid: a living one's stays."""
    for name in (f"{PREFIX}a-4194303", f"{PREFIX}b-{os.getpid()}", f"{PREFIX}c"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(clean, "hierarchies", lambda: [type("Hierarchy", (), {"own": tmp_path})])
    assert [f"cgroup {tmp_path / PREFIX}a-4194303"] == [remainder.what for remainder in clean.cgroups()]


def test_without_an_engine_there_are_no_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Docker is cleaned all the same; a container that cannot be removed is a problem."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert [] == list(clean.containers())
    assert "" != clean._remove("0" * 64)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run directory with a failure of one target."""
    fake = FakeRun(tmp_path / "runs")
    fake.target("tini")
    fake.case("a", passed("a"))
    fake.case("b", failed("b"), cases=("SG-02",))
    fake.finish()
    fake.worker_ended("exit")
    return fake.run.path


def test_report_derives_everything_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The latest run is the default; its results are written and its code returned."""
    assert ExitCode.FAILED == launcher.main(["report", "--runs", str(run.parent)])
    assert "SG-02" in capsys.readouterr().out
    assert (run / "results/junit.xml").is_file()


def test_report_pins_the_failures_of_a_young_target(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A profile with the observed values is written once, and never over another file."""
    file = run.parent / "tini.toml"
    words = ["report", "--runs", str(run.parent), "--write-profile", str(file)]
    assert ExitCode.FAILED == launcher.main(words)
    text = file.read_text()
    assert 'case = "SG-02"' in text
    assert 'observed = "killed by TERM"' in text
    assert ExitCode.USAGE == launcher.main(words)
    assert f"{file} exists: a written profile is not overwritten" in capsys.readouterr().err
    assert text == file.read_text()


def test_report_pins_the_test_where_another_of_the_same_case_passed(tmp_path: Path) -> None:
    """A deviation without it would be expected of the other test too."""
    fake = FakeRun(tmp_path / "runs")
    fake.target("runc", kind="oci")
    for node, ended in {"t.py::test_one[runc-cli]": failed, "t.py::test_two[runc-cli]": passed}.items():
        fake.case(node, ended(node), target="runc", kind="oci", mode="cli", cases=("D10",))
    fake.finish()
    file = tmp_path / "runc.toml"
    launcher.main(["report", "--runs", str(tmp_path / "runs"), "--write-profile", str(file)])
    (pinned,) = load(file).deviation
    assert ("test_one",) == pinned.test
    assert (Kind.OCI,) == load(file).kinds


def test_report_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that is not there is one line."""
    code = launcher.main(["report", str(tmp_path / "none")])
    assert code in (ExitCode.USAGE, ExitCode.INFRASTRUCTURE)
    assert 1 == len(capsys.readouterr().err.splitlines())


def test_doctor_names_every_fact(tmp_path: Path) -> None:
    """The table has each fact; without an engine it says how Docker was asked, and stays green."""
    if reason := refusal(user=False):
        pytest.skip(reason)
    environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere/docker.sock", "COLUMNS": "200"}
    words = ["doctor", "--base", str(tmp_path), "--runs", "runs", "--cache", "cache", "--offline"]
    done = subprocess.run(
        [sys.executable, "-m", "suites.framework", *words, "--target", "reference"],
        cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, env=environment,
    )  # fmt: skip
    assert ExitCode.GREEN == done.returncode, done.stdout + done.stderr
    assert [] == [str(fact) for fact in Fact if fact not in done.stdout]
    assert "connect to the Docker engine" in done.stdout
    assert "reference" in done.stdout
