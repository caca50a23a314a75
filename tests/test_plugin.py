"""The plugin: a worker's tests, run for real, and what their event file says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from suites.catalog import Mode
from suites.framework.facts import Fact
from suites.framework.identity import container_id
from suites.framework.model import Control, Deviation, Outcome, Profile, Role, Selection, Started
from suites.framework.planning import bare
from tests.contexts import MINE, findings, target
from tests.workers import SECONDS, Result, result, until, work, worker

pytest_plugins = ["pytester"]
PLAIN = {"modes": (Mode.PLAIN,)}
NULL = Profile(name="null", control=Control(reason="it does nothing", plain=("*",), pid1=("*",)))
SOURCE = '''
@case("SG-01")
def test_passes(init):
    """It passes.

    Why: it can."""
    assert "exit 0" == run_it(init)

def test_fails(init):
    with init.start() as run:
        run.child.ready()
        run.note("seen", 7)
        assert "exit 1" == "exit 0"

def test_skips(init):
    pytest.skip("no reason")

def test_is_silent(init):
    pass

def test_breaks(init):
    run_it(init)
    {}["x"]

@pytest.fixture
def broken():
    raise OSError(28, "No space left on device")

def test_has_a_broken_fixture(init, broken):
    pass

@pytest.fixture
def breaks_afterwards():
    yield
    raise OSError(5, "afterwards")

def test_has_a_fixture_that_breaks_afterwards(init, breaks_afterwards):
    run_it(init)

def test_leaves_a_process(init):
    run_it(init)
    script = "exec sleep 64 & until read x </proc/$!/comm && [ $x = sleep ]; do :; done"
    subprocess.run(["/bin/sh", "-c", script], check=True)

def test_leaves_a_file(init, bench):
    run_it(init)
    (bench.home / "rubbish").touch()

def test_leaves_a_descriptor(init):
    run_it(init)
    os.open(os.devnull, os.O_RDONLY)

@requires(Fact.OVERLAY)
def test_lacks(init):
    run_it(init)

@requires(Fact.SETUID)
def test_lacks_what_was_promised(init):
    run_it(init)

@offered("group", "graceful")
def test_is_not_offered(init):
    run_it(init)

def test_times_out(init):
    with init.start() as run:
        run.child.ready()
        run.ended(within=0.01)

@case("EX-01")
def test_deviates_as_known(init):
    run_it(init)
    assert "exit 0" == "exit 3"

@case("EX-02")
def test_deviates_otherwise(init):
    run_it(init)
    assert "exit 0" == "exit 4"

@case("EX-03")
def test_deviates_no_more(init):
    run_it(init)

@pytest.mark.parametrize("word", ["a", "b"])
@case("EX-04")
def test_deviates_in_a_parameter(init, word):
    run_it(init)
    assert "fine" == f"odd {word}"

@case("EX-06")
@modes(Mode.DOCKER)
def test_makes_no_sense_here(init):
    pass

@case("EX-05")
@tier(4)
def test_is_for_the_night(init):
    pass

def test_has_no_target(terminal, context, here):
    assert terminal.master > 2 and context.run and here.name
'''
DEVIATIONS = (
    Deviation(case=("EX-01",), observed="exit 3", reason="bug 7"),
    Deviation(case=("EX-02",), observed="exit 3", reason="bug 7"),
    Deviation(case=("init:EX-03",), observed="exit 3", reason="bug 7"),
    Deviation(case=("EX-04",), observed="odd {parameter}", reason="bug 8", parameter=("a",)),
)
EXPECTED = {
    "passes": (Outcome.PASSED, ""),
    "fails": (Outcome.FAILED, ""),
    "skips": (Outcome.SKIPPED, ""),
    "is_silent": (Outcome.FAILED, ""),
    "breaks": (Outcome.ERRORED, ""),
    "has_a_broken_fixture": (Outcome.ERRORED, ""),
    "has_a_fixture_that_breaks_afterwards": (Outcome.ERRORED, ""),
    "leaves_a_process": (Outcome.FAILED, "leak"),
    "leaves_a_file": (Outcome.FAILED, "leak"),
    "leaves_a_descriptor": (Outcome.ERRORED, "leak"),
    "lacks": (Outcome.SKIPPED, "missing:overlay"),
    "lacks_what_was_promised": (Outcome.FAILED, "missing:setuid"),
    "is_not_offered": (Outcome.SKIPPED, "not-offered"),
    "times_out": (Outcome.FAILED, "timeout"),
    "deviates_as_known": (Outcome.XFAILED, ""),
    "deviates_otherwise": (Outcome.FAILED, ""),
    "deviates_no_more": (Outcome.XPASSED, ""),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Return what one worker wrote about every sort of test."""
    return work(
        tmp_path_factory.mktemp("run"),
        SOURCE,
        **PLAIN,
        targets=(target(profile=Profile(name="reference", deviation=DEVIATIONS)),),
        findings=findings(Fact.OVERLAY, Fact.SETUID),
        promises=(Fact.SETUID,),
    )


@pytest.mark.parametrize("case", EXPECTED)
def test_every_sort_of_test_has_its_outcome(case: str, run: Result) -> None:
    """Passed, failed, skipped, errored, expected and unexpected, each for its reason."""
    ended = run.ended[f"{case}[reference-plain]"]
    assert EXPECTED[case] == (ended.outcome, ended.reason), ended


def test_a_known_deviation_may_hold_for_one_parameter(run: Result) -> None:
    """The parameter stands in the observation, and another one is a failure."""
    found = {ended.actual: ended.outcome for case, ended in run.ended.items() if case.startswith("deviates_in")}
    assert {"odd a": Outcome.XFAILED, "odd b": Outcome.FAILED} == found


def test_the_verdict_has_what_a_reader_needs(run: Result) -> None:
    """Expected, actual and evidence of a failure; cost of all; nothing of the sort for what passed."""
    failed, passed = run.ended["fails[reference-plain]"], run.ended["passes[reference-plain]"]
    assert ("exit 1", "exit 0") == (failed.expected, failed.actual)
    assert {"init", "records", "processes"} <= {evidence.title for evidence in failed.evidence}
    assert (0, True) == (len(passed.evidence), 0 < passed.target_s <= passed.wall_s)
    assert [7] == run.notes("seen")


def test_the_harness_own_failure_has_its_traceback(run: Result) -> None:
    """An error that is not the target's is told with the phase in which it came."""
    titles = {
        case: [evidence.title for evidence in run.ended[f"{case}[reference-plain]"].evidence] for case in EXPECTED
    }
    assert "traceback of call" in titles["breaks"]
    assert "traceback of setup" in titles["has_a_broken_fixture"]
    assert "traceback of teardown" in titles["has_a_fixture_that_breaks_afterwards"]
    assert "left behind" in titles["leaves_a_descriptor"]


def test_no_record_is_a_failure(run: Result) -> None:
    """A test that nothing under the target took part in says what it waited for."""
    assert "none came" == run.ended["is_silent[reference-plain]"].actual


def test_what_was_left_is_counted(run: Result) -> None:
    """The worker's last note has the number of leaks of each kind."""
    (left,) = run.notes("leaks")
    assert {"processes": 1, "mounts": 0, "cgroups": 0, "files": 1, "descriptors": 1} == left


def test_every_announced_node_ends(run: Result) -> None:
    """Planned, started and ended are the same nodes; what was not asked for is in none of them."""
    planned = [event.node.partition("::test_")[2] for event in run.planned]
    assert planned == run.started == list(run.ended)
    assert not [case for case in planned if "night" in case or "no_sense" in case]
    assert run.finished is not None
    assert len(planned) == sum(run.finished.values())


def test_the_announcement_says_what_will_run(run: Result) -> None:
    """Cases, target, mode, title, line and requirements."""
    (event,) = [event for event in run.planned if "test_passes" in event.node]
    assert (("SG-01",), "reference", "init", "plain") == (event.cases, event.target, event.kind, event.mode)
    assert ("It passes.", "test_it.py", False) == (event.title, event.file, event.standby)
    assert event.line > 1
    assert ("proc-children",) == event.requires
    assert "no target" in next(event.title for event in run.planned if not event.target).replace("_", " ")


def test_the_worker_says_who_it_is(run: Result) -> None:
    """Environment, ids and versions as the kernel and the interpreter say."""
    assert (MINE, "test", "test.1", 1) == (run.begun.environment, run.begun.phase, run.begun.worker, run.begun.pid)
    assert 16 == len(run.begun.cap_eff)
    assert {"python", "pytest", "psutil", "kernel"} == run.begun.versions.keys()
    assert container_id() == run.begun.container


def test_the_log_tells_the_same_outcomes(run: Result) -> None:
    """What pytest says is only a log, yet expected failures and skips stand there as such."""
    assert 1 == run.code
    assert "2 xfailed" in run.output
    assert "3 skipped" in run.output


def test_a_reference_on_standby_runs_only_what_failed(tmp_path: Path) -> None:
    """It is announced after the failure of a target, as standing by; where nobody failed it leaves no trace."""
    source = """
@case("A")
def test_a(init):
    assert run_it(init) == ("exit 0" if init.target.name == "tini" else "exit 1")

@case("B")
def test_b(init):
    run_it(init)
"""
    found = work(tmp_path, source, **PLAIN, targets=(target(), target("tini", role=Role.STANDBY)))
    assert ["a[reference-plain]", "a[tini-plain]", "b[reference-plain]"] == list(found.ended)
    assert [False, True] == [event.standby for event in found.planned if "test_a" in event.node]
    assert Outcome.PASSED == found.ended["a[tini-plain]"].outcome


def test_a_null_target_passes_nothing(tmp_path: Path) -> None:
    """A control that must fail everything fails everything, even what its profile does not offer."""
    source = """
@offered("group")
@case("A")
def test_a(init):
    run_it(init)

@case("B")
def test_b(init):
    init.start().close()
"""
    found = work(
        tmp_path, source, targets=(target("control:true", role=Role.CONTROL, profile=NULL, argv=("/bin/true",)),)
    )
    assert 4 == len(found.ended)
    assert {Outcome.XFAILED} == {ended.outcome for ended in found.ended.values()}
    assert 0 == found.code


def test_a_control_that_passes_what_it_must_fail_is_red(tmp_path: Path) -> None:
    """A control that works is an unexpected pass, and the suite is broken."""
    found = work(
        tmp_path, "def test_a(init):\n    run_it(init)\n", **PLAIN, targets=(target("control:x", profile=NULL),)
    )
    assert Outcome.XPASSED == found.ended["a[control:x-plain]"].outcome


def test_a_target_that_cannot_be_executed_has_failed(tmp_path: Path) -> None:
    """It is the target's failure, with the system's words, and not the harness's."""
    found = work(tmp_path, "def test_a(init):\n    run_it(init)\n", targets=(target("x", argv=("/nowhere/x",)),))
    assert {(Outcome.FAILED, "No such file or directory")} == {(e.outcome, e.actual) for e in found.ended.values()}


def test_exitfirst_ends_after_the_first_failure(tmp_path: Path) -> None:
    """What follows was announced and does not run."""
    source = "def test_a(init):\n    assert 1 == 2\ndef test_b(init):\n    run_it(init)\n"
    found = work(tmp_path, source, **PLAIN, selection=Selection(exitfirst=True))
    assert (2, ["a[reference-plain]"]) == (len(found.planned), list(found.ended))


def test_repetitions_are_nodes_of_their_own(tmp_path: Path) -> None:
    """An exact node is chosen with all its repetitions."""
    source = "def test_a(init):\n    run_it(init)\ndef test_b(init):\n    run_it(init)\n"
    selection = Selection(repeat=3, nodes=("test_it.py::test_b[reference-plain]",))
    found = work(tmp_path, source, **PLAIN, selection=selection)
    assert {"b[reference-plain]", "b[reference-plain-r2]", "b[reference-plain-r3]"} == found.ended.keys()
    assert "test_it.py::test_b[reference-plain]" == bare("test_it.py::test_b[reference-plain-r3]")


@pytest.mark.parametrize("split", [{"workers": 2}, {"selection": [Selection(shard=(part, 2)) for part in (1, 2)]}])
def test_workers_and_shards_share_everything_once(split: dict[str, Any], tmp_path: Path) -> None:
    """The union of the parts is the whole and no node is in two of them."""
    source = "".join(f"@case('C{number}')\ndef test_{number}(init):\n    run_it(init)\n" for number in range(4))
    parts = []
    for part in (1, 2):
        folder = tmp_path / str(part)
        folder.mkdir()
        how = {"workers": 2, "worker": part} if "workers" in split else {"selection": split["selection"][part - 1]}
        parts.append(set(work(folder, source, **PLAIN, **how).ended))
    assert {f"{number}[reference-plain]" for number in range(4)} == parts[0] | parts[1]
    assert [2, 2, 0] == [len(parts[0]), len(parts[1]), len(parts[0] & parts[1])]


def test_an_interruption_leaves_the_node_open(tmp_path: Path) -> None:
    """The launcher's word ends the run in order: the running node has no end, the worker no last event."""
    source = "def test_a(init):\n    with init.start() as run:\n        run.child.ready()\n        run.stays(50)\n"
    with worker(tmp_path, source, **PLAIN) as (process, path):
        until(path, lambda event: isinstance(event, Started))
        assert process.stdin is not None
        process.stdin.write(b"s")
        process.stdin.flush()
        process.wait(SECONDS)
        found = result(tmp_path, process.returncode, path)
    assert (2, ["a[reference-plain]"], {}, None) == (found.code, found.started, found.ended, found.finished)
    assert found.notes("leaks")


def test_a_fact_is_a_parameter_of_preflight(tmp_path: Path) -> None:
    """A test that asks for a fact runs once for each that makes sense here."""
    found = work(tmp_path, "def test_fact(fact):\n    assert fact in Fact\n", phase="preflight", targets=())
    assert {"fact[setuid]", "fact[docker-command]"} <= found.ended.keys()
    assert {Outcome.PASSED} == {ended.outcome for ended in found.ended.values()}


def test_without_a_context_only_the_marks_are_known(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an ordinary pytest the plugin changes nothing but the list of marks."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    found = pytester.runpytest_subprocess("-p", "suites.framework.plugin", "--markers")
    found.stdout.fnmatch_lines(["@pytest.mark.case(*ids)*", "@pytest.mark.tier(number)*"])
    pytester.makepyfile("def test_a(): pass")
    pytester.runpytest_subprocess("-p", "suites.framework.plugin").assert_outcomes(passed=1)
