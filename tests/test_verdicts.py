"""From events to verdicts: nothing that was announced gets lost, and nobody is blamed for a broken machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suites.framework.errors import UsageError
from suites.framework.events import EventLog
from suites.framework.model import SCHEMA, Finished, Note, Outcome, Reason, Role
from suites.framework.results.merging import merge
from suites.framework.results.result import SEVERITY, Result, Verdict
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import load
from tests.fake_run import FakeRun, begun, failed, passed, planned, skipped


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "runs")


def only(fake: FakeRun) -> Result:
    (result,) = fake.view().results
    return result


def test_result_is_what_was_planned_and_how_it_ended(fake: FakeRun) -> None:
    fake.target("tini")
    fake.case("n", failed("n", reason="exit", wall_s=0.25, rss_bytes=4096), parameter="TERM")
    fake.write(Note(name="forwarding_s", value=0.1, node="n"))
    fake.finish()
    result = only(fake)
    assert (result.environment, result.phase, result.worker, result.node) == ("root-native", "test", "0", "n")
    assert (result.cases, result.mode, result.parameter, result.line) == (("SG-01",), "pid1", "TERM", 12)
    assert (result.verdict, result.reason, result.expected) == (Verdict.FAILED, "exit", "exit 0")
    assert (result.wall_s, result.rss_bytes, result.measured) == (0.25, 4096, (("forwarding_s", 0.1),))
    assert (result.shown_target, result.role, result.subject.sha256) == ("tini 0.19.0", Role.TARGET, "ab" * 32)
    assert result.completed
    assert result.ran


@pytest.mark.parametrize(
    ("how", "more", "reason", "words"),
    [
        ("signal", {"code": 11, "detail": "dying words"}, Reason.CRASH, "test.0 was killed by SEGV while this ran"),
        ("exit", {"code": 3}, Reason.CRASH, "ended with exit code 3 while this ran"),
        ("oom", {"code": 9}, Reason.OOM, "for want of memory"),
        ("killed", {}, Reason.CRASH, "killed by the launcher"),
        ("timeout", {"node": "running"}, Reason.TIMEOUT, "took too long"),
        ("interrupted", {}, Reason.INTERRUPTED, "was interrupted"),
    ],
)
def test_node_without_an_end_is_an_error_with_the_worker_s_fate(
    fake: FakeRun, how: str, more: dict[str, Any], reason: Reason, words: str
) -> None:
    fake.case("done", passed("done"))
    fake.case("running")
    fake.case("waiting", started=False)
    fake.worker_ended(how, **more)
    done, running, waiting = sorted(fake.view().results, key=lambda result: result.node)
    assert done.verdict is Verdict.PASSED
    assert (running.verdict, running.reason) == (Verdict.ERRORED, reason)
    assert words in running.message
    assert [piece.text for piece in running.evidence] == ([more["detail"]] if "detail" in more else [])
    expected = Reason.INTERRUPTED if how == "interrupted" else Reason.NOT_STARTED
    assert (waiting.verdict, waiting.reason, waiting.started) == (Verdict.ERRORED, expected, False)
    assert not running.completed
    assert not waiting.completed


def test_nothing_announced_is_lost_when_launcher_and_worker_are_killed(fake: FakeRun) -> None:
    fake.case("n")
    result = only(fake)
    assert (result.verdict, result.reason, result.completed) == (Verdict.ERRORED, Reason.INTERRUPTED, False)


def test_torn_end_is_no_end(fake: FakeRun) -> None:
    fake.case("n", passed("n"))
    path = fake.run.events("root-native", "test", "0")
    path.write_bytes(path.read_bytes()[:-10])
    view = fake.view()
    assert [result.verdict for result in view.results] == [Verdict.ERRORED]
    assert view.torn == 1


def test_end_without_an_announcement_still_counts(fake: FakeRun) -> None:
    fake.write(failed("n"))
    fake.finish()
    assert only(fake).verdict is Verdict.FAILED


@pytest.mark.parametrize(("how", "code"), [("signal", 11), ("exit", 4), ("exit", 0), ("oom", 0)])
def test_worker_that_died_before_it_planned_is_one_error(fake: FakeRun, how: str, code: int) -> None:
    fake.write()
    fake.worker_ended(how, code=code)
    result = only(fake)
    assert (result.node, result.verdict, result.completed) == ("(worker test.0)", Verdict.ERRORED, False)


def test_worker_that_vanished_with_the_launcher_before_it_planned_is_one_error(fake: FakeRun) -> None:
    fake.write()
    result = only(fake)
    assert (result.node, result.reason, result.completed) == ("(worker test.0)", Reason.INTERRUPTED, False)


@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_worker_that_was_ended_after_its_last_word_is_no_error(fake: FakeRun, how: str) -> None:
    fake.case("n", passed("n"))
    fake.finish()
    fake.worker_ended(how)
    assert [result.node for result in fake.view().results] == ["n"]


def test_launcher_that_says_nothing_about_itself_is_no_error(fake: FakeRun) -> None:
    fake.write(begun(worker="launcher"), worker="launcher")
    assert fake.view().results == ()


def test_worker_that_never_wrote_is_one_error(fake: FakeRun) -> None:
    fake.worker_ended("not-started", worker="test.3", detail="exec format error")
    result = only(fake)
    assert (result.worker, result.reason, result.started) == ("3", Reason.NOT_STARTED, False)
    assert result.evidence[0].text == "exec format error"


def test_worker_with_an_empty_share_is_no_result(fake: FakeRun) -> None:
    fake.write(Finished(counts={}))
    fake.worker_ended("exit", code=5)
    assert fake.view().results == ()


@pytest.mark.parametrize(("code", "errors"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_worker_whose_pytest_broke_is_an_error_although_every_node_ended(fake: FakeRun, code: int, errors: int) -> None:
    fake.case("n", passed("n"))
    fake.finish()
    fake.worker_ended("exit", code=code)
    assert sum(result.verdict is Verdict.ERRORED for result in fake.view().results) == errors


def test_nodes_that_another_worker_took_over_are_not_lost_twice(fake: FakeRun) -> None:
    fake.case("crashes")
    fake.case("later", started=False)
    fake.worker_ended("signal", code=11)
    fake.case("later", passed("later"), worker="1")
    fake.finish(worker="1")
    crashed, later = fake.view().results
    assert (crashed.node, crashed.verdict) == ("crashes", Verdict.ERRORED)
    assert (later.node, later.verdict, later.attempts, later.flaky) == ("later", Verdict.PASSED, (), False)


# ---- inconclusive ----


def reference_and_target(fake: FakeRun, reference: Outcome, *, standby: bool = True, **plan: Any) -> Result:
    fake.target("runc", role="standby" if standby else "reference")
    fake.target("tini")
    fake.case("ref", failed("ref", outcome=reference), target="runc", standby=standby, **plan)
    fake.case("own", failed("own", message="no signal came"))
    fake.finish()
    return next(result for result in fake.view().results if result.node == "own")


@pytest.mark.parametrize("standby", [True, False])
@pytest.mark.parametrize("reference", [Outcome.FAILED, Outcome.ERRORED])
def test_failure_that_the_reference_shares_is_inconclusive(fake: FakeRun, reference: Outcome, standby: bool) -> None:
    result = reference_and_target(fake, reference, standby=standby)
    assert (result.outcome, result.reason, result.verdict) == (Outcome.SKIPPED, "inconclusive", Verdict.INCONCLUSIVE)
    assert "runc 0.19.0" in result.message
    assert "no signal came" in result.message


@pytest.mark.parametrize("reference", [Outcome.PASSED, Outcome.XFAILED, Outcome.XPASSED, Outcome.SKIPPED])
def test_reference_that_passes_deviates_or_did_not_run_excuses_nobody(fake: FakeRun, reference: Outcome) -> None:
    assert reference_and_target(fake, reference).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    "plan",
    [
        {"mode": "plain"},
        {"parameter": "HUP"},
        {"environment": "rootless-native"},
        {"phase": "other"},
        {"title": "else"},
    ],
)
def test_reference_excuses_only_the_very_same_case(fake: FakeRun, plan: dict[str, Any]) -> None:
    if "environment" in plan:
        fake.target("runc", role="standby", environment=plan["environment"])
    assert reference_and_target(fake, Outcome.FAILED, **plan).verdict is Verdict.FAILED


def test_one_reference_that_passes_is_enough_to_blame_the_target(fake: FakeRun) -> None:
    fake.target("crun", role="reference")
    fake.case("crun", passed("crun"), target="crun")
    assert reference_and_target(fake, Outcome.FAILED).verdict is Verdict.FAILED


def test_reference_that_was_cut_off_excuses_nobody(fake: FakeRun) -> None:
    fake.target("runc", role="standby")
    fake.case("own", failed("own"))
    fake.case("ref", target="runc", standby=True)
    fake.worker_ended("interrupted")
    own = next(result for result in fake.view().results if result.node == "own")
    assert own.verdict is Verdict.FAILED


def test_failing_reference_itself_stays_failed(fake: FakeRun) -> None:
    fake.target("runc", role="reference")
    fake.case("ref", failed("ref"), target="runc")
    assert only(fake).verdict is Verdict.FAILED


# ---- seen twice ----


def ending(node: str, verdict: Verdict) -> object:
    if verdict is Verdict.INCONCLUSIVE:
        return skipped(node, "inconclusive")
    return failed(node, outcome=Outcome(verdict.value))


@pytest.mark.parametrize("index", range(len(SEVERITY) - 1))
@pytest.mark.parametrize("swap", [False, True])
def test_of_two_verdicts_the_worse_counts(fake: FakeRun, index: int, swap: bool) -> None:
    worse, better = SEVERITY[index], SEVERITY[index + 1]
    for worker, verdict in enumerate((better, worse) if swap else (worse, better)):
        fake.write(planned("n"), ending("n", verdict), worker=str(worker))  # type: ignore[arg-type]
        fake.finish(worker=str(worker))
    result = only(fake)
    assert result.verdict is worse
    assert set(result.attempts) == {worse, better}
    # a machine that cannot run a case does not make it flaky
    assert result.flaky is (Verdict.SKIPPED not in (worse, better))


def test_the_same_verdict_twice_is_not_flaky(fake: FakeRun) -> None:
    for worker in "01":
        fake.case("n", passed("n"), worker=worker)
        fake.finish(worker=worker)
    assert (only(fake).verdict, only(fake).flaky) == (Verdict.PASSED, False)


def test_file_continued_by_a_second_worker_keeps_both(fake: FakeRun) -> None:
    fake.case("n", passed("n"))
    fake.finish()
    fake.write(begun())
    fake.case("n", failed("n"))
    fake.finish()
    assert (only(fake).verdict, only(fake).flaky) == (Verdict.FAILED, True)


def test_merged_runs_count_the_worse_and_show_it_as_flaky(tmp_path: Path) -> None:
    runs = []
    for name, end in (("a", passed("n")), ("b", failed("n"))):
        fake = FakeRun(tmp_path / name)
        fake.run.update(lambda record, name=name: record.__class__(**fields(record) | {"id": name}))  # type: ignore[misc]
        fake.target("tini", version=name)
        fake.case("n", end)
        fake.finish()
        runs.append(fake.run)
    merged = merge(runs, tmp_path / "merged")
    (result,) = load(merged).results
    assert (result.verdict, result.flaky, result.subject.version) == (Verdict.FAILED, True, "b")
    assert merged.record().merged == ("a", "b")
    again = merge([merged, merged], tmp_path / "again")
    assert load(again).results == load(merged).results
    assert again.record().merged == ("a", "b")


def fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__slots__}  # type: ignore[attr-defined]


def test_reference_of_another_machine_excuses_nobody(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        fake = FakeRun(tmp_path / name)
        fake.run.update(lambda record, name=name: record.__class__(**fields(record) | {"id": name}))  # type: ignore[misc]
        fake.target("runc", role="reference")
        node, target = ("own", "tini") if name == "a" else ("ref", "runc")
        fake.case(node, failed(node), target=target)
        fake.finish()
        runs.append(fake.run)
    assert {result.verdict for result in load(merge(runs, tmp_path / "merged")).results} == {Verdict.FAILED}


def test_steps_of_the_launcher_are_results(fake: FakeRun) -> None:
    fake.case("provision tini", passed("provision tini"), environment="host", phase="provision", worker="launcher")
    result = only(fake)
    assert (result.environment, result.phase, result.verdict, result.is_case) == ("host", "provision", "passed", False)


def test_newer_run_is_refused_by_name(fake: FakeRun) -> None:
    with EventLog(fake.run.events("root-native", "test", "9")) as log:
        log.write(begun(schema=SCHEMA + 1))
    with pytest.raises(UsageError, match=r"test\.9\.jsonl was written by a newer Seatrial: schema 2, this one knows 1"):
        fake.view()


def test_unreadable_notes_of_the_launcher_do_no_harm(fake: FakeRun) -> None:
    fake.launcher("target", {"name": "tini", "role": "captain"})
    fake.launcher("worker-ended", {"worker": "test.0", "how": "melted", "code": None, "detail": None})
    fake.write(Note(name="target", value="x"), worker="launcher")
    fake.case("n")
    assert (only(fake).reason, only(fake).role) == (Reason.CRASH, Role.TARGET)


def test_order_does_not_depend_on_the_files(tmp_path: Path) -> None:
    orders = []
    for turn in ("01", "10"):
        fake = FakeRun(tmp_path / turn)
        for worker, node in zip(turn, "ab", strict=True):
            fake.case(node, passed(node), worker=worker)
            fake.finish(worker=worker)
        orders.append([result.node for result in fake.view().results])
    assert orders == [["a", "b"], ["a", "b"]]


def test_opened_again_from_disk_it_is_the_same(fake: FakeRun) -> None:
    fake.case("n", passed("n"))
    assert load(RunDirectory.open(fake.run.path)).results == fake.view().results
