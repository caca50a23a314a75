"""The launcher from its words to its exit code, and one whole session in its environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from suites.framework import __main__ as launcher
from suites.framework import cases
from suites.framework.errors import ExitCode, InfrastructureError, UsageError
from suites.framework.model import Outcome, Reason
from suites.framework.options import Options
from suites.framework.results.rundir import RUN_VARIABLE, RunDirectory
from suites.framework.results.view import load
from tests.contexts import MINE
from tests.walled import refusal

ROOT = Path(__file__).parents[1]
SECONDS = 120
PRIVILEGE = MINE.partition("-")[0]


def test_cases_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """As a table, as JSON, and one explained."""
    assert ExitCode.GREEN == launcher.main(["cases"])
    known = len(cases.load(ROOT))
    assert known == len(capsys.readouterr().out.splitlines())
    assert ExitCode.GREEN == launcher.main(["cases", "--json"])
    assert known == len(json.loads(capsys.readouterr().out)["cases"])
    assert ExitCode.GREEN == launcher.main(["cases", "--explain", "SG-01"])
    assert capsys.readouterr().out.startswith("init SG-01: ")


@pytest.mark.parametrize("words", [["cases", "--explain", "SG-00"], ["dance"], [], ["run", "--tier", "9"]])
def test_wrong_words_are_one_line_and_64(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong is said once, on standard error, without a traceback."""
    assert ExitCode.USAGE == launcher.main(words)
    out, err = capsys.readouterr()
    assert ("", 1) == (out, len(err.splitlines()))
    assert err.startswith("seatrial: ")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("a", why="b", remedy="c"), ExitCode.USAGE, "seatrial: a: b; c"),
        (InfrastructureError("disk full"), ExitCode.INFRASTRUCTURE, "seatrial: disk full"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, "seatrial: interrupted"),
    ],
)
def test_every_end_has_its_code(
    error: BaseException, code: ExitCode, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors and interruptions become a line and a code."""

    def fail(_: Options) -> ExitCode:
        raise error

    monkeypatch.setitem(launcher.COMMANDS, "cases", fail)
    assert code == launcher.main(["cases"])
    assert line == capsys.readouterr().err.strip()


def test_a_reader_that_goes_away_is_an_interruption() -> None:
    """``cases | head -1`` is no traceback, and never success."""
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "suites.framework", "cases"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, timeout=SECONDS)
    os.close(writing)
    assert b"Traceback" not in done.stderr
    assert done.returncode != 0


@pytest.mark.parametrize("command", sorted(launcher.COMMANDS))
def test_every_command_has_words_and_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command of the table is one that the parser knows."""
    with pytest.raises(SystemExit, match="0"):
        launcher.main([command, "--help"])
    assert command in capsys.readouterr().out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where a run may write; skip where no worker can be walled in."""
    if reason := refusal(user=False):
        pytest.skip(reason)
    return tmp_path


def run(folder: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run a session in this user's native environment; return it and its run directory."""
    fixed = ["--base", str(folder), "--runs", "runs", "--cache", "cache", "--privilege", PRIVILEGE, "--offline"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEATRIAL_")}
    command = [sys.executable, "-m", "suites.framework", "run", *fixed, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, env=environment)
    return done, folder / "runs/latest"


def test_a_session_goes_from_words_to_a_verdict(folder: Path) -> None:
    """The reference passes a case in both modes: exit 0, results derived, nothing left in the temporary folder."""
    done, directory = run(folder, "--target", "reference", "--case", "EX-01", "--case", "RP-01", "--workers", "2")
    assert ExitCode.GREEN == done.returncode, done.stdout + done.stderr
    assert {"run.json", MINE, "results"} <= {path.name for path in directory.iterdir()}
    assert (directory / "results/junit.xml").is_file()
    facts = json.loads((directory / MINE / "facts.json").read_text())
    assert facts
    assert not list(Path("/tmp").glob(f"seatrial-{directory.resolve().name}*"))


def test_a_target_that_fails_is_red(folder: Path) -> None:
    """A program that only exits fails its case: exit 1, and what was seen is shown."""
    done, _ = run(folder, "--target", "mine=init:/bin/true", "--case", "EX-01", "--workers", "1")
    assert ExitCode.FAILED == done.returncode, done.stdout + done.stderr
    assert "EX-01" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--target", "nobody"], "nobody"),
        (["--target", "mine=init:./missing"], "missing"),
        (["--case", "SG-00"], "unknown case SG-00"),
        (["--failed", "never"], "never"),
    ],
)
def test_a_session_that_cannot_begin_says_why(words: list[str], line: str, folder: Path) -> None:
    """Unknown targets, paths, cases and runs are usage errors of one line."""
    done, _ = run(folder, *words)
    assert done.returncode in (ExitCode.USAGE, ExitCode.INFRASTRUCTURE), done.stdout + done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_hooks_stand_around_each_phase(tmp_path: Path) -> None:
    """An executable hears of both phases; one that fails makes the phase errored, and the run red."""
    if said := refusal(user=False):
        pytest.skip(said)
    hook, calls = tmp_path / "hook", tmp_path / "calls"
    hook.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n[ "$1 $2" != "end test" ]\n')
    hook.chmod(0o755)
    words = ["--target", "reference", "--case", "EX-02", "--hook", str(hook), "--workers", "1"]
    words += ["--runs", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache"), "--privilege", PRIVILEGE]
    given = {name: value for name, value in os.environ.items() if name != RUN_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-m", "suites.framework", "run", *words],
        env={**given, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ["start preflight", "end preflight", "start test", "end test"] == [
        line.strip() for line in calls.read_text().splitlines()
    ]
    assert ExitCode.FAILED == done.returncode, done.stdout + done.stderr
    results = {result.node: result for result in load(RunDirectory.open(tmp_path / "runs/latest")).results}
    assert (Outcome.ERRORED, Reason.HOOK) == (results["hook::test"].outcome, results["hook::test"].reason)
    assert "hook::preflight" not in results
    assert all(result.outcome is Outcome.PASSED for result in results.values() if result.cases)
