"""Hostile wrappers of build scripts, through the real launcher: contained, that target's failure, nothing left.

The program is tests/hostile_wrapper with one evil filled in. It only ever runs below the launcher, and that inside
a safety net: a PID namespace of its own, in which the launcher is no more than a descendant of PID 1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest

from suites.framework.results.result import Result, Verdict
from suites.framework.results.view import View, load
from suites.framework.subjects import FIXTURES
from tests.attacks import at_once, environment_words, launched, obstacle, precious_folder
from tests.safety_net import Report

PROGRAM = Path(__file__).with_name("hostile_wrapper")
HARMLESS = "harmless"
EXITS, REFUSED = "W2", "W11"
"""The cases that each is tried with: how a script that fails is told, and a root that is none."""
CHOSEN = "first_command_that_fails or cli-slash"
"""Of the roots that are none, `/`."""
EVILS = {
    "nonsense": (EXITS, "[]"),
    "nonsense-state": (EXITS, "unknown"),
    "never-ends": (EXITS, "it was still running at the deadline"),
    "floods": (EXITS, "it was still running at the deadline"),
    "floods-errors": (EXITS, "it was still running at the deadline"),
    "floods-its-log": (EXITS, ""),
    "deletes-its-root": (EXITS, ""),
    "locks-its-root": (EXITS, ""),
    "obeys": (REFUSED, "'evil added'"),
}
"""Evil: the case that must notice it, and how what is observed there reads; empty where the case looks elsewhere."""
QUIET = frozenset({"floods-its-log", "deletes-its-root", "locks-its-root"})
"""What they do is not what the case is about: it has a verdict, whatever that is, and nothing breaks."""
ENVIRONMENTS = ("root-native", "rootless-native")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run of the launcher against all hostile wrappers gave."""

    report: Report
    view: View
    precious: tuple[str, ...]
    """What is still in a folder of somebody else's that wrappers put in the place of their roots."""
    root: tuple[set[str], set[str]]
    """What stands in `/`, before and after."""
    size: int
    """Bytes of the run directory."""

    def results(self, target: str, case: str) -> list[Result]:
        """Return the results of a target in a case."""
        return [result for result in self.view.results if result.target == target and case in result.cases]


def profile(folder: Path) -> Path:
    """Write the reference's profile for wrappers of one's own, which are scripts of a folder."""
    text = (FIXTURES / "targets/reference-wrapper.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("title", "reference-for", "binary", "version"))]
    path = folder / "profile.toml"
    path.write_text("\n".join((*lines[:2], 'binary = "wrapper"', *lines[2:], "")))
    return path


def attack(environment: str, folder: Path) -> Outcome:
    """Run the launcher against a wrapper for each evil."""
    precious = precious_folder(folder)
    words = [*environment_words(environment), "--profile", str(profile(folder))]
    words += [word for case in (EXITS, REFUSED) for word in ("--case", f"buildscripts:{case}")]
    words += ["-k", CHOSEN]
    text = PROGRAM.read_text().replace("@PRECIOUS@", str(precious))
    for name in (HARMLESS, *EVILS):
        (folder / name).mkdir()
        shutil.copyfile(FIXTURES / "wrappers/reference.sh", folder / name / "reference.sh")
        (folder / name / "wrapper").write_text(text.replace("@EVIL@", name))
        for program in (folder / name).iterdir():
            program.chmod(0o755)
        words += ["--target", f"{name}=buildscripts:{folder / name}"]
    before = set(os.listdir("/"))
    report, run = launched(words, folder)
    after = set(os.listdir("/"))
    files = [path for path in run.path.rglob("*") if path.is_file() and not path.is_symlink()]
    return Outcome(
        report=report,
        view=load(run),
        precious=tuple(os.listdir(precious)),
        root=(before, after),
        size=sum(path.stat().st_size for path in files),
    )


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[Outcome]]]:
    """Attack in both environments at the same time: most of it is waiting for deadlines."""
    with at_once([name for name in ENVIRONMENTS if not obstacle(name)], attack) as begun:
        yield begun


@pytest.fixture
def outcome(outcomes: dict[str, Future[Outcome]], environment: str) -> Outcome:
    """Return what came of the attack in one environment."""
    if why := obstacle(environment):
        pytest.skip(why)
    return outcomes[environment].result()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_machine_and_the_run_go_on(outcome: Outcome) -> None:
    """The launcher ends red, not broken; nothing is left behind, destroyed, or written at `/`; no flood is kept."""
    assert 1 == outcome.report.pid, "the net is no net"
    assert 1 == outcome.report.code, outcome.report.output[-3000:]
    assert {} == outcome.report.left
    assert ("canary",) == outcome.precious
    assert outcome.root[0] == outcome.root[1]
    assert outcome.size < 16 << 20
    assert [] == [result.node for result in outcome.view.results if result.verdict is Verdict.ERRORED]
    assert not [line for line in outcome.report.output.splitlines() if line.startswith("Traceback")]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_without_evil_the_wrapper_passes(outcome: Outcome) -> None:
    """What fails is the evil, not the program that does it."""
    found = [result for case in (EXITS, REFUSED) for result in outcome.results(HARMLESS, case)]
    assert {Verdict.PASSED} == {result.verdict for result in found}
    assert 3 == len(found)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("evil", EVILS)
def test_the_evil_is_the_failure(outcome: Outcome, evil: str) -> None:
    """What the wrapper did is a failure of its own, in the words of what was observed; others of it are no errors."""
    case, words = EVILS[evil]
    found = outcome.results(evil, case)
    assert found
    if evil in QUIET:
        assert {result.verdict for result in found} <= {Verdict.PASSED, Verdict.FAILED}
    else:
        failed = [result for result in found if result.verdict is Verdict.FAILED]
        assert len(found) == len(failed)
        assert [] == [result.actual for result in failed if words not in result.actual]
