"""Hostile OCI runtimes, through the real launcher natively as root: contained, that target's failure, nothing left.

The program is tests/hostile_runtime with one evil filled in. It only ever runs below the launcher, and that inside
a safety net: a PID namespace of its own, in which the launcher is no more than a descendant of PID 1.
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
from tests.attacks import at_once, launched, precious_folder
from tests.safety_net import Report

PROGRAM = Path(__file__).with_name("hostile_runtime")
HARMLESS = "harmless"
ALL_VERBS = "A10"
EVILS = {
    "pivots": "it gave its caller another root",
    "pivots-away": "it gave its caller another root",
    "renames": "it gave its caller another host name",
    "remounts": "it gave its caller read-only mounts",
    "signals": "stopped",
    "foreign-pid-file": "the pid it tells is no such process",
    "mounts": "mount BUNDLE/rootfs/theirs, mount BUNDLE/rootfs/own",
    "fills": "file root/big, ",
    "daemonises": "process daemonises",
    "flood": "it ",
    "noise": "it printed something else",
    "invalid-json": "it printed something else",
    "no-object": "it printed something else",
}
"""Evil: how what is observed in the case of start begins.

Who prints 1 GB has either not ended at the deadline or, where that was in time, printed something else.
"""
LIES = {
    "foreign-pid": ("C02", "the caller's"),
    "another-id": ("C01", "['created: the id of another container']"),
}
"""Evil: the case that must notice what state says, and what is observed in it."""
HANGS = {f"hangs-{verb}": f"{verb} ended" for verb in ("create", "start", "state", "kill", "delete")}
"""Evil: what was expected in the case of all verbs."""
PROFILE = """schema = 1
kinds = ["oci"]

[call.oci]
handshake-s = 0.5
"""
"""A runtime of one's own that gives up early, so that the deadline of a call is short."""
SETTINGS = ("hostname", "core_pattern", "pid_max", "panic", "shmmni")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run of the launcher against hostile runtimes gave."""

    report: Report
    view: View
    precious: tuple[str, ...]
    """What is still in a folder of somebody else's that targets mounted below theirs."""
    changed: dict[str, object]
    """What of the machine is not as it was: before and after."""

    def results(self, target: str) -> dict[str, Result]:
        """Return the results of a target by case."""
        return {result.cases[0]: result for result in self.view.results if result.target == target}


def machine() -> dict[str, object]:
    """Return what a runtime with root's privilege could change on the machine."""
    rows = Path("/proc/self/mountinfo").read_text().splitlines()
    own = [
        row for row in rows if not any(word in row for word in ("docker", "nsfs", " /tmp/"))
    ]  # others make and remove
    return {
        "the mount table": own,
        "the host name": os.uname().nodename,
        "/dev": sorted(os.listdir("/dev")),
        "/proc/sys": {name: Path("/proc/sys/kernel", name).read_text() for name in SETTINGS},
        "the root": os.listdir("/"),
    }


def attack(group: str, folder: Path) -> Outcome:
    """Run the launcher against a runtime for each evil."""
    precious = precious_folder(folder)
    evils, cases = GROUPS[group]
    words = ["--privilege", "root", "--place", "native"]
    if set(evils) & set(HANGS):
        (folder / "early.toml").write_text(PROFILE)
        words += ["--profile", str(folder / "early.toml")]
    words += [word for case in cases for word in ("--case", f"oci:{case}")]
    text = PROGRAM.read_text().replace("@PRECIOUS@", str(precious))
    for name in evils:
        copy = folder / name
        copy.write_text(text.replace("@EVIL@", name))
        copy.chmod(0o755)
        words += ["--target", f"{name}=oci:{copy}"]
    before = machine()
    report, run = launched(words, folder)
    after = machine()
    return Outcome(
        report=report,
        view=load(run),
        precious=tuple(os.listdir(precious)),
        changed={what: (before[what], after[what]) for what in before if before[what] != after[what]},
    )


GROUPS = {
    "evil": ((HARMLESS, *EVILS), ("A02",)),
    "lying": ((HARMLESS, *LIES), ("C01", "C02")),
    "hanging": ((HARMLESS, *HANGS), (ALL_VERBS,)),
}
"""Which runtimes are given which cases, in one run each."""


@pytest.fixture(scope="module")
def outcomes() -> Iterator[dict[str, Future[Outcome]]]:
    """Attack with all groups at the same time: most of it is waiting for deadlines."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with at_once(GROUPS, attack) as begun:
        yield begun


@pytest.mark.parametrize("group", GROUPS)
def test_the_machine_and_the_run_go_on(outcomes: dict[str, Future[Outcome]], group: str) -> None:
    """The launcher ends red, not broken; the machine is as it was; nothing is left behind or destroyed."""
    outcome = outcomes[group].result()
    assert 1 == outcome.report.pid, "the net is no net"
    assert 1 == outcome.report.code, outcome.report.output[-3000:]
    assert {} == outcome.report.left
    assert {} == outcome.changed
    assert ("canary",) == outcome.precious
    assert not [line for line in outcome.report.output.splitlines() if line.startswith("Traceback")]


@pytest.mark.parametrize("group", GROUPS)
def test_without_evil_the_program_passes(outcomes: dict[str, Future[Outcome]], group: str) -> None:
    """What fails is the evil, not the program that does it."""
    results = outcomes[group].result().results(HARMLESS)
    assert dict.fromkeys(GROUPS[group][1], Verdict.PASSED) == {case: result.verdict for case, result in results.items()}


@pytest.mark.parametrize("evil", EVILS)
def test_the_evil_is_the_failure(outcomes: dict[str, Future[Outcome]], evil: str) -> None:
    """What the runtime did is its one failure, no error of the harness."""
    (result,) = outcomes["evil"].result().results(evil).values()
    assert (Verdict.FAILED, EVILS[evil]) == (result.verdict, result.actual[: len(EVILS[evil])])


@pytest.mark.parametrize("evil", LIES)
def test_a_lie_is_noticed(outcomes: dict[str, Future[Outcome]], evil: str) -> None:
    """The case that looks at what state says tells what is wrong with it; none is an error of the harness."""
    results = outcomes["lying"].result().results(evil)
    case, words = LIES[evil]
    assert (Verdict.FAILED, words) == (results[case].verdict, results[case].actual)
    assert Verdict.ERRORED not in {result.verdict for result in results.values()}


@pytest.mark.parametrize("evil", HANGS)
def test_a_verb_that_hangs_is_named(outcomes: dict[str, Future[Outcome]], evil: str) -> None:
    """A call that does not end is killed at its deadline, and the failure names the verb."""
    result = outcomes["hanging"].result().results(evil)[ALL_VERBS]
    assert (Verdict.FAILED, "timeout", HANGS[evil]) == (result.verdict, result.reason, result.expected)
