"""Ends before the end: Ctrl-C, signals and kill -9 of every process of a run, at the worst and at random moments.

Whatever is hit, nothing is left soon after, and the run directory says what did not finish.
"""

from __future__ import annotations

import random
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest

from suites.framework import events
from suites.framework.errors import ExitCode
from suites.framework.results.result import Verdict
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import View, load
from tests import safety_net
from tests.accounting import disagreements, invalid
from tests.attacks import obstacle
from tests.safety_net import Harm, Report
from tests.test_hostile import FOLDER

KILL, INTERRUPT, TERMINATE, HANG_UP = signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP
PRIVILEGE = "rootless" if obstacle("root-native") else "root"
MOMENTS = random.Random(3)
"""Seeded: a failure can be repeated."""
LASTING_S = 5.0
"""About how long the run lasts that is harmed."""

Attempt = Callable[..., tuple[Report, View | None]]


@pytest.fixture(scope="module")
def cache() -> Iterator[Path]:
    """Keep one cache for all runs."""
    folder = Path(tempfile.mkdtemp(prefix="interruption-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def attempt(cache: Path) -> Iterator[Attempt]:
    """Return a function that harms a run and reads what it left in its run directory, if it got that far."""
    folder = Path(tempfile.mkdtemp(prefix="interruption-"))
    folder.chmod(0o755)
    runs = folder / "runs"

    def run(
        harm: Harm | None, *words: str, place: str = "native", parent: bool = False, terminal: bool = False
    ) -> tuple[Report, View | None]:
        run_id = f"harmed-{secrets.token_hex(4)}"
        line = [sys.executable, "-m", "suites.framework", "run", "--privilege", PRIVILEGE, "--place", place]
        line += ["--target", "reference", "--suite", "init", "--runs", str(runs), "--cache", str(cache), *words]
        report = safety_net.run(line, run_id=run_id, scratch=str(folder), harm=harm, parent=parent, terminal=terminal)
        made = (runs / run_id / "run.json").exists()
        return report, read(RunDirectory.open(runs / run_id)) if made else None

    yield run
    shutil.rmtree(folder)


def read(run: RunDirectory) -> View:
    """Read a run directory as anybody would: every file is valid, and what was planned is accounted for."""
    for file in run.event_files():
        log = events.read(file.path)
        assert (0, 0) == (log.foreign, log.newer)
        numbers = [record.seq for record in log.records]
        assert sorted(set(numbers)) == numbers
    for path in (run.path / "results").glob("*.xml"):
        ElementTree.parse(path)
    if (run.path / "verdict.json").exists():
        assert [] == [*invalid(run.path), *disagreements(run.path)]
    return load(run)


def unfinished(view: View | None) -> int:
    """Return how many nodes did not finish; each of them is an error."""
    assert view is not None
    left = [result for result in view.results if not result.completed]
    assert {Verdict.ERRORED} >= {result.verdict for result in left}
    suite = ElementTree.parse(view.path / "results" / "junit.xml").getroot()
    assert len(left) <= len(suite.findall(".//error"))
    return len(left)


@pytest.mark.parametrize(
    "numbers",
    [(INTERRUPT,), (INTERRUPT, INTERRUPT), (TERMINATE,), (HANG_UP, TERMINATE)],
    ids=lambda numbers: "+".join(signal.Signals(number).name for number in numbers),
)
def test_an_interrupted_launcher_cleans_up_and_says_so(attempt: Attempt, numbers: tuple[int, ...]) -> None:
    """Exit code 130, nothing left, results so far kept, what did not finish is an error; repeats change nothing."""
    report, view = attempt(Harm(victim="launcher", numbers=numbers, passed="::", after=0.3))
    assert report.harmed
    assert (ExitCode.INTERRUPTED, {}) == (report.code, report.left), report.output[-2000:]
    assert unfinished(view)
    assert view is not None
    assert any(result.verdict is Verdict.PASSED for result in view.results)


def test_ctrl_c_at_a_terminal(attempt: Attempt) -> None:
    """The key reaches the whole foreground group, but no worker: they stand in sessions of their own."""
    report, view = attempt(Harm(victim="launcher", keys="\x03", running="::", after=0.3), terminal=True)
    assert report.harmed
    assert (ExitCode.INTERRUPTED, {}) == (report.code, report.left), report.output[-2000:]
    assert unfinished(view)


@pytest.mark.parametrize("victim", ["launcher", "parent"])
def test_a_killed_launcher_leaves_nothing(attempt: Attempt, victim: str) -> None:
    """The kernel ends the workers and the keeper does the rest, reports included; also when it was nox that died."""
    report, view = attempt(Harm(victim=victim, numbers=(KILL,), running="::", after=0.3), parent=victim == "parent")
    assert report.harmed
    assert (-KILL, {}) == (report.code, report.left)
    assert unfinished(view)


@pytest.mark.parametrize("victim", ["worker", "wall"])
def test_a_killed_worker_is_an_error_and_the_run_goes_on(attempt: Attempt, victim: str) -> None:
    """What it was doing is an error, everything else has its result, and the launcher ends red."""
    slow = ("--target", f"deaf=init:{FOLDER / 'deaf'}", "--case", "EX-01", "-k", "254", "--workers", "1")
    report, view = attempt(Harm(victim=victim, numbers=(KILL,), running="deaf-pid1"), *slow)
    assert report.harmed
    assert (ExitCode.FAILED, {}) == (report.code, report.left), report.output[-2000:]
    assert 1 == unfinished(view)
    assert view is not None
    verdicts = {(result.target, result.mode): result.verdict for result in view.results if result.phase == "test"}
    assert Verdict.ERRORED == verdicts["deaf", "pid1"]
    assert (Verdict.FAILED, Verdict.PASSED) == (verdicts["deaf", "plain"], verdicts["reference", "plain"])


def test_a_killed_keeper_is_no_harm(attempt: Attempt) -> None:
    """Without its keeper a run ends as it would have."""
    report, _ = attempt(Harm(victim="keeper", numbers=(KILL,), running="::"), "--case", "EX-01")
    assert report.harmed
    assert (ExitCode.GREEN, {}) == (report.code, report.left), report.output[-2000:]


@pytest.mark.parametrize("moment", [round(MOMENTS.uniform(0, LASTING_S), 2) for _ in range(2)])
@pytest.mark.parametrize(
    ("victim", "number"), [("launcher", KILL), ("parent", KILL), ("launcher", INTERRUPT)], ids=["kill", "nox", "Ctrl-C"]
)
def test_at_any_moment_nothing_is_left(attempt: Attempt, victim: str, number: int, moment: float) -> None:
    """From first instruction to last: there is nothing afterwards, and what is written is valid."""
    harm = Harm(victim=victim, numbers=(number,), after=moment)
    report, view = attempt(harm, "--case", "EX-01", parent=victim == "parent")
    assert {} == report.left
    if view is not None and (view.path / "results").exists():
        unfinished(view)


@pytest.mark.skipif(bool(obstacle(f"{PRIVILEGE}-container")), reason=obstacle(f"{PRIVILEGE}-container") or "-")
@pytest.mark.parametrize("number", [KILL, INTERRUPT], ids=["kill", "Ctrl-C"])
def test_containers_go_with_the_launcher(attempt: Attempt, number: int) -> None:
    """Containers are removed by label, whoever dies."""
    report, view = attempt(Harm(victim="launcher", numbers=(number,), running="::", after=0.3), place="container")
    assert report.harmed
    assert {} == report.left
    assert unfinished(view)


def test_two_runs_at_once(attempt: Attempt) -> None:
    """Two launchers neither wait for each other nor see each other's processes."""
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: attempt(None, "--case", "EX-01"), range(2)))
    assert [(ExitCode.GREEN, {})] * 2 == [(report.code, report.left) for report, _ in both]
