"""Gates and exit code: every gate goes red for its offence, and for no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from suites.framework.errors import ExitCode
from suites.framework.facts import Fact
from suites.framework.model import Note, Outcome
from suites.framework.results import schema
from suites.framework.results.derive import derive
from suites.framework.results.gates import GATES
from suites.framework.results.verdict import Summary, judge
from tests.fake_run import FakeRun, failed, passed, skipped
from tests.test_events import conforms


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    """Return a run in which one case passed."""
    made = FakeRun(tmp_path / "runs")
    made.target("tini")
    made.case("fine", passed("fine"))
    return made


def judged(fake: FakeRun, *also: ExitCode) -> Summary:
    return judge(fake.view(), also=also)


def red(fake: FakeRun) -> dict[str, list[str]]:
    summary = judged(fake)
    return {name: [offence.node for offence in summary.gates[name].offences] for name in summary.red_gates}


def test_green(fake: FakeRun) -> None:
    fake.finish()
    summary = judged(fake)
    assert (summary.exit_code, summary.exit, summary.red_gates) == (ExitCode.GREEN, "green", ())
    assert set(summary.gates) == {*GATES}


def test_completed_is_red_for_a_node_without_an_end_even_when_the_worker_exits_0(fake: FakeRun) -> None:
    fake.case("open", started=False)
    fake.worker_ended("exit", code=0)
    assert red(fake) == {"completed": ["open"], "passed": ["open"]}


def test_completed_is_red_for_lines_that_may_have_been_announcements(fake: FakeRun) -> None:
    path = fake.run.events("root-native", "test", "0")
    path.write_bytes(path.read_bytes() + b"\xff\n\xff\n")
    fake.finish()
    assert red(fake) == {"completed": ["root-native/events/test.0.jsonl"]}
    assert judged(fake).foreign == 2


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.ERRORED, Outcome.XPASSED])
def test_passed_is_red_and_the_exit_code_1(fake: FakeRun, outcome: Outcome) -> None:
    fake.case("n", failed("n", outcome=outcome))
    fake.finish()
    assert red(fake) == {"passed": ["n"]}
    assert judged(fake).exit_code is ExitCode.FAILED


def test_inconclusive_is_red_and_the_exit_code_1(fake: FakeRun) -> None:
    fake.target("runc", role="standby")
    fake.case("own", failed("own"))
    fake.case("ref", failed("ref"), target="runc", standby=True)
    fake.finish()
    assert sorted(red(fake)["passed"]) == ["own", "ref"]
    assert judged(fake).exit_code is ExitCode.FAILED
    assert (judged(fake).counts.inconclusive, judged(fake).counts.failed, judged(fake).counts.standby) == (1, 0, 1)


def test_expected_failure_is_green(fake: FakeRun) -> None:
    fake.case("n", failed("n", outcome=Outcome.XFAILED))
    fake.finish()
    assert judged(fake).exit_code is ExitCode.GREEN


@pytest.mark.parametrize("reason", ["missing:docker", "not-offered"])
def test_explained_skip_is_green(fake: FakeRun, reason: str) -> None:
    fake.case("n", skipped("n", reason))
    fake.finish()
    assert judged(fake).exit_code is ExitCode.GREEN
    assert (judged(fake).counts.run, judged(fake).counts.planned) == (1, 2)


@pytest.mark.parametrize("reason", ["", "Skipped: later", "missing:", "missing:luck", "timeout", "precluded"])
def test_any_other_skip_is_red(fake: FakeRun, reason: str) -> None:
    fake.case("n", skipped("n", reason))
    fake.finish()
    assert red(fake) == {"skips": ["n"]}
    assert judged(fake).exit_code is ExitCode.GATE


def test_skip_for_a_promised_fact_is_red(fake: FakeRun) -> None:
    fake.run.add(promised={"root-native": [Fact.DOCKER]})
    fake.case("n", skipped("n", "missing:docker"))
    fake.case("m", skipped("m", "missing:compiler"))
    fake.finish()
    assert red(fake) == {"skips": ["n"]}
    assert judged(fake).gates["skips"].offences[0].why == "skipped, promised: missing:docker"


def test_promise_of_one_environment_is_not_asked_of_another(fake: FakeRun) -> None:
    fake.run.add(promised={"root-container": [Fact.DOCKER, Fact.PACKAGES]})
    fake.case("n", skipped("n", "missing:docker"))
    fake.launcher("absent", {"name": "crun", "fact": "packages", "reason": "no network"})
    fake.finish()
    assert red(fake) == {}
    fake.case("o", skipped("o", "missing:docker"), environment="root-container")
    fake.finish()
    assert red(fake) == {"skips": ["o"]}


def test_promise_of_any_environment_is_asked_of_the_host(fake: FakeRun) -> None:
    fake.case("step", skipped("step", "missing:meson"), environment="host")
    fake.finish()
    assert red(fake) == {}
    fake.run.add(promised={"rootless-native": [Fact.MESON]})
    assert red(fake) == {"skips": ["step"]}


def test_target_that_cannot_be_had_is_red_only_when_what_it_needs_was_promised(fake: FakeRun) -> None:
    fake.launcher("absent", {"name": "crun", "fact": "packages", "reason": "no network"})
    fake.finish()
    assert red(fake) == {}
    fake.run.add(promised={"root-native": [Fact.PACKAGES]})
    assert red(fake) == {"skips": ["crun"]}


def test_leaks_is_red_for_what_was_left_behind(fake: FakeRun) -> None:
    fake.write(Note(name="leaks", value={"processes": 0, "mounts": 2}))
    fake.finish()
    assert red(fake) == {"leaks": ["(after the last case)"]}
    assert judged(fake).gates["leaks"].offences[0].why == "2 mounts"
    assert judged(fake).exit_code is ExitCode.GATE


def test_leaks_is_red_for_a_case_that_failed_for_one_but_not_for_a_known_one(fake: FakeRun) -> None:
    fake.case("known", failed("known", outcome=Outcome.XFAILED, reason="leak"))
    fake.finish()
    assert red(fake) == {}
    fake.case("new", failed("new", reason="leak"))
    assert red(fake) == {"passed": ["new"], "leaks": ["new"]}


def test_controls_is_red_when_a_null_target_passes_anything(fake: FakeRun) -> None:
    fake.target("control:true", role="control")
    fake.case("n", passed("n"), target="control:true")
    fake.finish()
    assert red(fake) == {"controls": ["n"]}
    assert judged(fake).exit_code is ExitCode.GATE


@pytest.mark.parametrize("outcome", [Outcome.XPASSED, Outcome.FAILED, Outcome.ERRORED])
def test_controls_is_red_when_a_control_differs_from_its_list(fake: FakeRun, outcome: Outcome) -> None:
    fake.target("control:shell", role="control")
    fake.case("n", failed("n", outcome=outcome), target="control:shell")
    fake.finish()
    assert red(fake) == {"controls": ["n"]}
    assert judged(fake).exit_code is ExitCode.FAILED


@pytest.mark.parametrize("outcome", [Outcome.XFAILED, Outcome.PASSED])
def test_controls_is_green_when_a_control_keeps_to_its_list(fake: FakeRun, outcome: Outcome) -> None:
    fake.target("control:shell", role="control")
    fake.case("n", failed("n", outcome=outcome), target="control:shell")
    fake.finish()
    assert judged(fake).exit_code is ExitCode.GREEN


# ---- the exit code ----


def test_session_in_which_everything_was_skipped_is_skipped_never_green(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path)
    fake.case("probe", passed("probe"), phase="preflight")
    fake.finish(phase="preflight")
    fake.case("n", skipped("n", "missing:docker"))
    fake.finish()
    assert judged(fake).exit_code is ExitCode.CANNOT_RUN


def test_run_without_a_case_is_not_green(tmp_path: Path) -> None:
    fake = FakeRun(tmp_path)
    fake.run.conclude("root-native", ExitCode.GREEN)
    assert judged(fake).exit_code is ExitCode.CANNOT_RUN


def test_run_that_was_killed_before_it_wrote_anything_is_interrupted(tmp_path: Path) -> None:
    assert judged(FakeRun(tmp_path)).exit_code is ExitCode.INTERRUPTED


def test_environment_that_cannot_run_does_not_speak_for_the_others(fake: FakeRun) -> None:
    fake.finish()
    fake.run.conclude("root-container", ExitCode.CANNOT_RUN, "no Docker")
    assert judged(fake).exit_code is ExitCode.GREEN
    assert judged(fake).cannot_run == {"root-container": "no Docker"}
    assert judge(fake.view().only("root-container")).exit_code is ExitCode.CANNOT_RUN


def test_code_of_a_session_is_that_of_its_environment(fake: FakeRun) -> None:
    fake.finish()
    fake.case("n", failed("n"), environment="rootless-native")
    fake.finish(environment="rootless-native")
    assert judge(fake.view().only("root-native")).exit_code is ExitCode.GREEN
    assert judge(fake.view().only("rootless-native")).exit_code is ExitCode.FAILED
    assert judged(fake).exit_code is ExitCode.FAILED


def spoil(fake: FakeRun, what: str) -> None:
    match what:
        case "interrupted":
            fake.case("cut")
            fake.worker_ended("interrupted")
        case "concluded":
            fake.run.conclude("root-native", ExitCode.INTERRUPTED, "SIGINT")
        case "not-started":
            fake.worker_ended("not-started", worker="test.7")
        case "disk-full":
            fake.case("d", failed("d", outcome=Outcome.ERRORED, reason="disk-full"))
        case "failed":
            fake.case("f", failed("f"))
        case _:
            fake.case("s", skipped("s", ""))


@pytest.mark.parametrize(
    ("what", "code"),
    [
        (("interrupted", "not-started", "failed", "gate"), 130),
        (("concluded",), 130),
        (("not-started", "failed", "gate"), 3),
        (("disk-full",), 3),
        (("failed", "gate"), 1),
        (("gate",), 2),
        ((), 0),
    ],
)
def test_the_first_code_that_holds_is_taken(fake: FakeRun, what: tuple[str, ...], code: int) -> None:
    for each in what:
        spoil(fake, each)
    if not {"interrupted", "not-started"} & set(what):
        fake.finish()
    assert judged(fake).exit_code == code


def test_codes_that_the_launcher_knows_of_count(fake: FakeRun) -> None:
    fake.finish()
    assert judged(fake, ExitCode.USAGE).exit_code is ExitCode.USAGE
    assert judged(fake, ExitCode.USAGE, ExitCode.INTERRUPTED).exit_code is ExitCode.INTERRUPTED


def test_conclusion_that_follows_from_the_events_changes_nothing(fake: FakeRun) -> None:
    fake.finish()
    before = judged(fake)
    fake.run.conclude("root-native", ExitCode.GREEN)
    assert judged(fake) == before


# ---- verdict.json ----


def test_verdict_json_conforms_to_its_schema(fake: FakeRun) -> None:
    fake.case("n", skipped("n", "nobody knows"))
    fake.finish()
    derive(fake.run)
    wanted: dict[str, Any] = json.loads((schema.FOLDER / "verdict.json").read_text())
    found = json.loads((fake.run.path / "verdict.json").read_text())
    assert conforms(found, wanted)
    assert not conforms(found | {"exit_code": 7}, wanted)
    assert found["exit_code"] == 2
    assert found["gates"]["skips"]["offences"][0]["node"] == "n"
    assert found["environments"]["root-native"] == found["counts"]
    assert (found["counts"]["planned"], found["counts"]["run"]) == (2, 1)


def test_run_json_conforms_to_its_schema(fake: FakeRun) -> None:
    wanted = json.loads((schema.FOLDER / "run.json").read_text())
    assert conforms(json.loads((fake.run.path / "run.json").read_text()), wanted)
