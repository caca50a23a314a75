"""Hostile targets, through the real launcher in every environment: contained, that target's failure, nothing left.

The programs stand in tests/hostile. They only ever run below the launcher, and that inside a safety net: a PID
namespace of its own, in which the launcher is no more than a descendant of PID 1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import pytest

from suites.framework.results.result import Result, Verdict
from suites.framework.results.view import View, load
from tests.attacks import at_once, environment_words, launched, obstacle, precious_folder
from tests.safety_net import Report

FOLDER = Path(__file__).parent / "hostile"
ENVIRONMENTS = ("root-native", "rootless-native", "root-container", "rootless-container")
NATIVE = (
    *("daemons", "deaf", "descriptors", "files", "flood", "fork_bomb", "kill_all_int", "kill_all_kill"),
    *("kill_all_term", "kill_group", "lock_scratch", "memory", "mounts", "reboot", "replace_home", "stop_all"),
    "take_terminal",
)
CONTAINED = ("daemons", "fork_bomb", "kill_all_kill", "mounts", "reboot", "replace_home", "take_terminal")
"""In containers, where a launch takes longer, those for which a container is another wall."""
HOSTILE = {name: NATIVE if name.endswith("native") else CONTAINED for name in ENVIRONMENTS}
LEAVING = ("daemons", "files", "mounts")
"""Those that do their work as an init, and leave something behind."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run of the launcher against all hostile targets gave."""

    report: Report
    view: View
    precious: tuple[str, ...]
    """What is still in a folder of somebody else's that targets mounted and linked into theirs."""

    def results(self, target: str) -> dict[str, Result]:
        """Return the results of a target by mode."""
        return {result.mode: result for result in self.view.results if result.target == target}


def attack(environment: str, folder: Path) -> Outcome:
    """Run the launcher against the reference and all hostile targets of an environment."""
    precious = precious_folder(folder)
    precious.chmod(0o777)
    words = [*environment_words(environment), "--case", "EX-01", "-k", "254", "--target", "reference"]
    for name in HOSTILE[environment]:
        copy = folder / name
        copy.write_text((FOLDER / name).read_text().replace("@PRECIOUS@", str(precious)))
        copy.chmod(0o755)
        words += ["--target", f"{name}=init:{copy}"]
    report, run = launched(words, folder)
    return Outcome(report=report, view=load(run), precious=tuple(os.listdir(precious)))


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[Outcome]]]:
    """Attack all environments at the same time: most of it is waiting for deadlines."""
    with at_once([name for name in ENVIRONMENTS if not obstacle(name)], attack) as begun:
        yield begun


@pytest.fixture
def outcome(outcomes: dict[str, Future[Outcome]], environment: str) -> Outcome:
    """Return what came of the attack in one environment."""
    if why := obstacle(environment):
        pytest.skip(why)
    return outcomes[environment].result()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_machine_the_shell_and_the_run_go_on(outcome: Outcome) -> None:
    """The launcher ends red, not broken; the terminal is still its shell's; nothing is left behind or destroyed."""
    assert 1 == outcome.report.pid, "the net is no net"
    assert 1 == outcome.report.code, outcome.report.output[-3000:]
    assert {} == outcome.report.left
    assert ("canary",) == outcome.precious
    assert {Verdict.PASSED} == {result.verdict for result in outcome.results("reference").values()}
    assert [] == [result.node for result in outcome.view.results if result.verdict is Verdict.ERRORED]
    assert not [line for line in outcome.report.output.splitlines() if line.startswith("Traceback")]


@pytest.mark.parametrize(
    ("environment", "name"), [(environment, name) for environment in ENVIRONMENTS for name in HOSTILE[environment]]
)
def test_a_hostile_target_has_failed(outcome: Outcome, name: str) -> None:
    """What it did is its own failure in each mode, neither an error of the harness nor a pass."""
    results = outcome.results(name)
    expected = dict.fromkeys(("plain", "pid1"), Verdict.FAILED)
    if name == "daemons":
        expected["pid1"] = Verdict.PASSED  # they end with the namespace whose PID 1 was their init
    assert expected == {mode: result.verdict for mode, result in results.items()}
    if name in LEAVING:
        assert {"leak"} == {result.reason for result in results.values() if result.verdict is Verdict.FAILED}


def test_every_hostile_program_is_tried() -> None:
    """None is forgotten, except the one that takes as long as the longest case may."""
    assert {path.name for path in FOLDER.iterdir()} == {*NATIVE, "trace_parent"}
