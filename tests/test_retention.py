"""Retention: what is old goes, and nothing else: no latest, failing, running or baseline run, and no stranger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from suites.framework import __main__ as launcher
from suites.framework import retention
from suites.framework.cleanup import SCRATCH_MARKER, make_scratch
from suites.framework.commands import clean
from suites.framework.errors import ExitCode
from suites.framework.results import summary, terminal
from suites.framework.results.derive import derive
from suites.framework.results.rundir import RunDirectory
from suites.framework.retention import BASELINE, DAY_S, LOGS_DAYS, RESULTS_DAYS, Survey, survey
from tests.fake_run import START, FakeRun, passed

FOREIGN = {
    "no run.json": lambda path: (path / "run.json").unlink(),
    "empty": lambda path: (path / "run.json").write_text(""),
    "truncated": lambda path: (path / "run.json").write_text((path / "run.json").read_text()[:40]),
    "newer": lambda path: (path / "run.json").write_text('{"schema": 2}'),
    "no table": lambda path: (path / "run.json").write_text("[]"),
    "no time": lambda path: change(path, start=-1e300),
    "no number": lambda path: (path / "run.json").write_text(
        '{"schema": 1, "id": "r", "start": NaN, "argv": [], "versions": {}}'
    ),
    "nested": lambda path: (path / "run.json").write_text("[" * 100_000),
    "folder": lambda path: ((path / "run.json").unlink(), (path / "run.json").mkdir()),
    "bad id": lambda path: change(path, id="../x"),
}
"""Ways in which a folder is no run directory of ours, or not certainly one."""


def made(runs: Path, name: str, *, age: float, code: int = 0) -> Path:
    """Return a run of so many days before `START`, with a log."""
    run = RunDirectory.create(runs, run=name, now=lambda: START - age * DAY_S)
    (run.environment("root-native") / "logs/test.1.log").write_text("said")
    (run.path / "framework.jsonl").write_text("{}\n")
    (run.path / "verdict.json").write_text(json.dumps({"exit_code": code}))
    return run.path


def change(path: Path, **fields: object) -> None:
    data = json.loads((path / "run.json").read_text()) | fields
    (path / "run.json").write_text(json.dumps(data))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return a folder whose latest run is of today."""
    folder = tmp_path / "runs"
    made(folder, "today", age=0)
    return folder


def surveyed(runs: Path) -> Survey:
    latest = (runs / "latest").readlink()
    if latest != Path("today"):  # made last, not the latest of the story
        (runs / "latest").unlink()
        (runs / "latest").symlink_to("today")
    return survey(runs, now=lambda: START)


def due(runs: Path) -> list[str]:
    return [each.what.partition(",")[0].replace(f"{runs}/", "") for each in surveyed(runs).due]


# ---- what goes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (LOGS_DAYS - 0.1, []),
        (LOGS_DAYS + 0.1, ["logs of old"]),
        (RESULTS_DAYS - 0.1, ["logs of old"]),
        (RESULTS_DAYS + 0.1, ["run directory old"]),
    ],
)
def test_age_is_counted_from_the_start(runs: Path, age: float, expected: list[str]) -> None:
    os.utime(made(runs, "old", age=age))  # touched today, which does not matter
    assert due(runs) == expected


def test_survey_changes_nothing(runs: Path) -> None:
    made(runs, "old", age=100)
    assert due(runs) == ["run directory old"]
    before = {path: path.lstat().st_mtime_ns for path in runs.rglob("*")}
    surveyed(runs)
    assert before == {path: path.lstat().st_mtime_ns for path in runs.rglob("*")}


def test_old_run_is_removed_whole(runs: Path) -> None:
    old = made(runs, "old", age=100)
    (found,) = surveyed(runs).due
    assert found.remove() == ""
    assert not old.exists()
    assert (runs / "today/run.json").is_file()


def test_logs_go_before_results_and_the_report_says_so(runs: Path) -> None:
    """The results stay, and every text made of them tells since when the logs are gone; once gone they are not due."""
    fake = FakeRun(runs)
    fake.case("a", passed("a"))
    fake.finish()
    (fake.run.environment("root-native") / "logs/test.0.log").write_text("said")
    later = START + 40 * DAY_S
    made(runs, "newer", age=0)
    what = f"logs of {fake.run.path}, of 2026-11-21"
    assert what in [found.what for found in survey(runs, now=lambda: later).due]
    assert retention.remove_logs(fake.run.path, now=lambda: later) == ""
    assert fake.run.record().logs_removed == later
    assert not (fake.run.path / "root-native/logs").exists()
    assert (fake.run.path / "root-native/events").is_dir()
    derived = derive(fake.run)
    said = "logs: removed on 2026-12-31, the results were kept"
    assert said.replace("-", "") in summary.render(derived.view, derived.summary).replace("-", "").replace("\\", "")
    assert said in terminal.render(derived.view, derived.summary)
    assert what not in [found.what for found in survey(runs, now=lambda: later).due]


def test_interrupted_removal_is_finished_the_next_time(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """run.json goes last, and what it says about the logs is written first."""
    old = made(runs, "old", age=100)
    monkeypatch.setattr(retention, "_gone", lambda path: f"{path}: no")
    (found,) = surveyed(runs).due
    assert "no" in found.remove()
    assert (old / "run.json").is_file()
    assert due(runs) == ["run directory old"]
    assert "no" in retention.remove_logs(old)
    assert RunDirectory.open(old).record().logs_removed > 0


# ---- what stays ------------------------------------------------------------------------------------------------------


def test_latest_stays(tmp_path: Path) -> None:
    made(tmp_path, "only", age=1000)
    assert survey(tmp_path, now=lambda: START).due == ()


def test_latest_that_failed_stays(runs: Path) -> None:
    """By its start, not its name; older failures and what could not run are no reason to keep."""
    made(runs, "a-failed", age=100, code=1)
    made(runs, "b-failed-before", age=110, code=2)
    made(runs, "c-cannot-run", age=95, code=77)
    made(runs, "d-no-verdict", age=95)
    (runs / "d-no-verdict/verdict.json").write_text("{")
    assert due(runs) == [f"run directory {name}" for name in ("b-failed-before", "c-cannot-run", "d-no-verdict")]


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/nowhere")])
def test_baseline_stays(runs: Path, make: Callable[[Path], None]) -> None:
    make(made(runs, "old", age=1000) / BASELINE)
    assert due(runs) == []


@pytest.mark.parametrize("age", [LOGS_DAYS + 1, RESULTS_DAYS + 1])
def test_running_stays(runs: Path, tmp_path: Path, age: float) -> None:
    """Its journal names a scratch folder whose launcher lives, wherever temporary folders are; a dead one's goes."""
    old = made(runs, "old", age=age)
    scratch, journal = make_scratch(tmp_path / "elsewhere"), old / "root-native/journal.jsonl"
    journal.write_text(f'{{"derive": "x"}}\n{{"scratch": "{scratch}"}}\n')
    assert due(runs) == []
    assert "it is in use" in retention.remove_run(old)
    assert "it is in use" in retention.remove_logs(old)
    (scratch / SCRATCH_MARKER).write_text("4194303 1")
    assert len(due(runs)) == 1


@pytest.mark.parametrize("text", ["", '{"der', "[]", '"x"', '{"scratch": 3}', '{"derive": "x"}'])
def test_journal_that_says_nothing_keeps_the_run(runs: Path, text: str) -> None:
    (made(runs, "old", age=100) / "root-native/journal.jsonl").write_text(text + "\n")
    assert due(runs) == []


def test_run_whose_reports_are_being_written_stays(runs: Path) -> None:
    old = made(runs, "old", age=100)
    with RunDirectory.open(old).locked():
        assert "a session writes its reports" in retention.remove_run(old)
    assert (old / "run.json").is_file()


def test_links_are_not_followed(runs: Path, tmp_path: Path) -> None:
    """A link among the runs is no run, and one inside of a run is removed without what it points at."""
    elsewhere = tmp_path / "elsewhere"
    made(elsewhere, "old", age=100)
    (runs / "link").symlink_to(elsewhere / "old")
    assert due(runs) == []
    old = made(runs, "own", age=100)
    (old / "rootless-native").symlink_to(elsewhere / "old/root-native")
    (old / "root-native/logs/away").symlink_to(elsewhere)
    assert retention.remove_logs(old) == ""
    assert (elsewhere / "old/root-native/logs/test.1.log").is_file()
    assert retention.remove_run(old) == ""
    assert (elsewhere / "old/root-native/logs/test.1.log").is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_mounts_are_not_crossed(runs: Path) -> None:
    """A run with something mounted in it stays as it is."""
    old = made(runs, "old", age=100)
    logs, script = old / "root-native/logs", (
        "import sys; from pathlib import Path; from suites.framework import retention\n"
        "path = Path(sys.argv[1]); print(retention.remove_run(path)); print(retention.remove_logs(path))"
    )  # fmt: skip
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$1" && shift && exec "$@"', "sh", logs,
         sys.executable, "-c", script, old],
        capture_output=True, text=True, check=True, cwd=launcher.CHECKOUT,
    )  # fmt: skip
    assert done.stdout.count(f"mounted below it: {logs}") == 2
    assert (logs / "test.1.log").is_file()


@pytest.mark.parametrize("spoil", FOREIGN.values(), ids=list(FOREIGN))
def test_stranger_is_named_and_never_removed(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object]
) -> None:
    """The session says what it leaves alone, whatever its age, and removes the rest all the same."""
    old, strange = made(runs, "old", age=100), made(runs, "strange", age=1000)
    spoil(strange)
    before = sorted(strange.rglob("*"))
    surveyed(runs)
    for source in ("scratches", "containers", "cgroups"):
        monkeypatch.setattr(clean, source, list)
    monkeypatch.setattr(retention, "survey", lambda runs: survey(runs, now=lambda: START))
    assert launcher.main(["clean", "--runs", str(runs), "--apply"]) == ExitCode.GREEN
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("leave alone") and str(strange) in line]
    assert sorted(strange.rglob("*")) == before
    assert not old.exists()


def test_folder_of_runs_that_is_not_there_is_clean(tmp_path: Path) -> None:
    assert survey(tmp_path / "absent") == Survey()
    (tmp_path / "file").touch()
    assert survey(tmp_path / "file") == Survey()
