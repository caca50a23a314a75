"""Every gate goes red for its offence and stays green without one, through the session ``gate`` and on a disk."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suites.framework import __main__ as launcher
from suites.framework.commands import gate as command
from suites.framework.errors import ExitCode
from suites.framework.events import format_line
from suites.framework.facts import Fact
from suites.framework.manifest import Entry, Manifest, Type
from suites.framework.model import METRICS, SCHEMA, Ended, Note, Outcome, Total
from suites.framework.results.gates import GATES
from suites.framework.results.manifest import write
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.verdict import judge
from suites.framework.results.view import load
from tests.fake_run import HOSTILE, START, FakeRun, failed, passed, skipped

ELF = Entry(path="bin/init", type=Type.FILE, mode="0755", size_bytes=9, sha256="ab" * 32)
README = Entry(path="README", type=Type.FILE, mode="0644", size_bytes=1, sha256="cd" * 32)
TOTALS = {name for name, kind in METRICS.items() if kind is Total}

Act = Callable[[FakeRun], object]


def made(fake: FakeRun, *entries: Entry, environment: str = "root-native", file: str = "tini.manifest.json") -> None:
    folder = fake.run.environment(environment) / "artefacts"
    write(folder / file, Manifest(schema=SCHEMA, entries=entries))


def total(fake: FakeRun, step: str, *, environment: str = "host", **used: float) -> None:
    """Append the total of a step of a build to the metrics, as its runner does."""
    (kind,) = TOTALS
    line = {"metric": kind, "t": START, "step": step, "source": "wait4", "wall_s": 0, "cpu_s": 0, "rss_bytes": 0} | used
    with (fake.run.environment(environment) / "metrics/build.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def limited(fake: FakeRun, limits: dict[str, float], *, name: str = "tini") -> None:
    fake.target(name, limits=limits)


def measured(fake: FakeRun, name: str, value: Any, *, node: str = "timed") -> None:
    fake.write(Note(name=name, value=value, node=node))


def compared(fake: FakeRun, verdict: str) -> None:
    remark(fake, {"metric": "init.wall", "baseline": "0.18", "verdict": verdict})


def remark(fake: FakeRun, value: Any) -> None:
    fake.write(Note(name="comparison", value=value), phase="performance", worker="launcher")


def acts(*calls: Act) -> Act:
    """Return all of them as one."""

    def act(fake: FakeRun) -> None:
        for call in calls:
            call(fake)

    return act


def timed(value: Any, **limits: float) -> Act:
    """Return a run in which a case of a target with limits measured something."""
    return acts(
        lambda fake: limited(fake, limits),
        lambda fake: fake.case("timed", passed("timed")),
        lambda fake: measured(fake, "forwarding_s", value),
    )


def built(**limits: float) -> Act:
    """Return a run in which tini was built in two steps, and something else in one."""
    return acts(
        lambda fake: limited(fake, limits),
        lambda fake: total(fake, "build::tini::configure", wall_s=2.5, cpu_s=2.0, rss_bytes=100),
        lambda fake: total(fake, "build::tini::make", wall_s=4.0, cpu_s=7.5, rss_bytes=300),
        lambda fake: total(fake, "build::tiny::make", wall_s=999.0, cpu_s=999.0, rss_bytes=999_999),
    )


def manifests(*entries: Entry, file: str = "tini.manifest.json", environment: str = "rootless-native") -> Act:
    """Return a run with the same name in two places: root-native has the usual content, the other place this."""
    return acts(
        lambda fake: made(fake, ELF, README),
        lambda fake: made(fake, *entries, file=file, environment=environment),
    )


RED: list[tuple[str, str, Act, str]] = [
    ("completed", "node without an end", lambda fake: fake.case("open", started=False), "interrupted"),
    ("passed", "failure", lambda fake: fake.case("n", failed("n")), "failed"),
    ("passed", "unexpected pass", lambda fake: fake.case("n", failed("n", outcome=Outcome.XPASSED)), "xpassed"),
    (
        "passed",
        "inconclusive",
        acts(
            lambda fake: fake.target("runc", role="standby"),
            lambda fake: fake.case("own", failed("own")),
            lambda fake: fake.case("ref", failed("ref"), target="runc", standby=True),
        ),
        "inconclusive",
    ),
    ("skips", "skip without a reason", lambda fake: fake.case("n", skipped("n", "")), "skipped, not explained"),
    (
        "skips",
        "promised fact",
        acts(
            lambda fake: fake.run.add(promised={"root-native": [Fact.DOCKER]}),
            lambda fake: fake.case("n", skipped("n", "missing:docker")),
        ),
        "promised: missing:docker",
    ),
    ("leaks", "mount", lambda fake: fake.write(Note(name="leaks", value={"mounts": 2})), "2 mounts"),
    (
        "controls",
        "null target passes",
        acts(
            lambda fake: fake.target("control:true", role="control"),
            lambda fake: fake.case("n", passed("n"), target="control:true"),
        ),
        "does nothing and passed",
    ),
    ("limits", "value", timed(0.3, forwarding_s=0.25), "forwarding_s is 0.3, the limit is 0.25"),
    ("limits", "value that is no number", timed("soon", forwarding_s=0.25), "forwarding_s is soon, the limit is"),
    ("limits", "not a number", timed(float("nan"), forwarding_s=0.25), "forwarding_s is nan"),
    ("limits", "wall time of steps", built(build_wall_s=6.4), "build_wall_s is 6.5, the limit is 6.4"),
    ("limits", "processor time of steps", built(build_cpu_s=9.4), "build_cpu_s is 9.5, the limit is 9.4"),
    ("limits", "memory of steps", built(build_rss_bytes=299), "build_rss_bytes is 300, the limit is 299"),
    ("artefacts", "added", manifests(ELF, README, replace(ELF, path="x")), "differs from root-native: x added"),
    ("artefacts", "removed", manifests(ELF), "README removed"),
    ("artefacts", "mode", manifests(replace(ELF, mode="4755"), README), "bin/init changed: mode 0755 -> 4755"),
    ("artefacts", "content", manifests(replace(ELF, sha256="ef" * 32), README), "sha256 abababababab -> efefefefefef"),
    ("artefacts", "type", manifests(replace(ELF, type=Type.LINK), README), "type file -> link"),
    ("artefacts", "unreadable", manifests(replace(ELF, trouble="Permission denied"), README), "not compared"),
    (
        "artefacts",
        "golden beside it",
        manifests(ELF, file="tini.golden.json", environment="root-native"),
        "differs from golden: README added",
    ),
    (
        "artefacts",
        "never made",
        lambda fake: made(fake, ELF, file="tini.golden.json"),
        "was not made, and there is a golden manifest of it",
    ),
    ("performance", "regression", lambda fake: compared(fake, "REGRESSION"), "REGRESSION: init.wall against 0.18"),
    ("performance", "unknown word", lambda fake: compared(fake, "FINE"), "FINE"),
    ("performance", "no verdict", lambda fake: compared(fake, ""), "no verdict: init.wall"),
    ("performance", "no table", lambda fake: remark(fake, 3), "no verdict: no metric against no baseline"),
]

GREEN: list[tuple[str, str, Act]] = [
    ("completed", "node with an end", lambda fake: fake.case("n", passed("n"))),
    ("passed", "expected failure", lambda fake: fake.case("n", failed("n", outcome=Outcome.XFAILED))),
    ("skips", "missing fact", lambda fake: fake.case("n", skipped("n", "missing:docker"))),
    ("leaks", "nothing", lambda fake: fake.write(Note(name="leaks", value={"mounts": 0}))),
    (
        "controls",
        "null target fails",
        acts(
            lambda fake: fake.target("control:true", role="control"),
            lambda fake: fake.case("n", failed("n", outcome=Outcome.XFAILED), target="control:true"),
        ),
    ),
    ("limits", "at the limit", timed(0.25, forwarding_s=0.25)),
    ("limits", "without a limit", timed(99.0, something_else_s=0.1)),
    ("limits", "steps at their limits", built(build_wall_s=6.5, build_cpu_s=9.5, build_rss_bytes=300)),
    ("limits", "steps without a limit", built()),
    ("artefacts", "equal", manifests(README, ELF)),
    ("artefacts", "equal to golden", manifests(README, ELF, file="tini.golden.json", environment="root-native")),
    ("artefacts", "another name", manifests(ELF, file="other.manifest.json")),
    *(
        ("performance", word, lambda fake, word=word: compared(fake, word))
        for word in ("PASS", "IMPROVED", "INCONCLUSIVE", "NO BASELINE")
    ),
]


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    """Return a run in which one case of tini passed."""
    found = FakeRun(tmp_path / "runs")
    found.target("tini")
    found.case("fine", passed("fine"))
    return found


def judged(fake: FakeRun, *words: str) -> tuple[int, dict[str, Any], dict[str, list[str]]]:
    """Let the session judge; return its code, verdict.json, and what it holds against each red gate."""
    fake.finish()
    code = launcher.main(["gate", "--runs", str(fake.path), *words])
    verdict = json.loads((fake.run.path / "verdict.json").read_text())
    gates = verdict["gates"]
    assert set(gates) == set(GATES)
    assert all((found["colour"] == "red") == bool(found["offences"]) for found in gates.values())
    red = {name: [each["why"] for each in found["offences"]] for name, found in gates.items() if found["offences"]}
    return code, verdict, red


@pytest.mark.parametrize(("gate", "what", "act", "said"), RED, ids=[f"{gate}-{what}" for gate, what, _, _ in RED])
def test_gate_is_red(
    fake: FakeRun, capsys: pytest.CaptureFixture[str], gate: str, what: str, act: Act, said: str
) -> None:
    """The offence stands in verdict.json and on the terminal, and the session ends with 2."""
    act(fake)
    code, _, red = judged(fake)
    assert (code, gate in red) == (ExitCode.GATE, True), what
    assert [why for why in red[gate] if said in why]
    assert set(red) <= {gate, "passed"}  # what has no end is an error too
    lines = capsys.readouterr().out.splitlines()
    (row,) = (line for line in lines if line.startswith(f"|{gate} "))
    assert " RED " in row
    assert f"gates red: {', '.join(name for name in GATES if name in red)} (exit 2)" in lines[-1]


@pytest.mark.parametrize(("gate", "what", "act"), GREEN, ids=[f"{gate}-{what}" for gate, what, _ in GREEN])
def test_gate_is_green(fake: FakeRun, gate: str, what: str, act: Act) -> None:
    """Nothing is held against a run that keeps to the rule of the gate, and the session ends with 0."""
    act(fake)
    code, verdict, red = judged(fake)
    assert (code, verdict["exit_code"], red) == (ExitCode.GREEN, 0, {}), f"{gate}: {what}"


def test_both_tables_hold_every_gate() -> None:
    """A gate that nobody has seen red, or green, is none."""
    assert list(GATES) == list(dict.fromkeys(gate for gate, *_ in RED))
    assert list(GATES) == list(dict.fromkeys(gate for gate, *_ in GREEN))


@pytest.mark.parametrize(("gate", "act"), [(gate, act) for gate, _, act, _ in RED], ids=[each[1] for each in RED])
def test_no_word_of_the_command_line_silences_a_gate(fake: FakeRun, gate: str, act: Act) -> None:
    """What is red without --strict and --golden stays red with them: they only ask for more."""
    act(fake)
    folder = fake.path / "golden"
    folder.mkdir()
    write(folder / "tini.manifest.json", Manifest(schema=SCHEMA, entries=(ELF, README)))
    _, _, before = judged(fake)
    code, _, after = judged(fake, "--strict", "--golden", str(folder))
    assert (code, gate in before) == (ExitCode.GATE, True)
    assert all(set(found) <= set(after[name]) for name, found in before.items())


# ---- what is asked for beyond the run --------------------------------------------------------------------------------


def test_strict_makes_inconclusive_red(fake: FakeRun) -> None:
    compared(fake, "INCONCLUSIVE")
    assert judged(fake)[0] == ExitCode.GREEN
    code, verdict, red = judged(fake, "--strict")
    assert (code, red) == (ExitCode.GATE, {"performance": ["INCONCLUSIVE: init.wall against 0.18"]})
    assert (verdict["strict"], verdict["exit_code"]) == (True, ExitCode.GATE)


def test_comparison_of_another_phase_is_none(fake: FakeRun) -> None:
    fake.write(Note(name="comparison", value={"verdict": "REGRESSION"}))
    assert judged(fake)[0] == ExitCode.GREEN


@pytest.mark.parametrize(
    ("made_here", "said"),
    [((ELF, README), []), ((ELF,), ["differs from golden: README removed"]), ((), ["differs from golden: README"])],
)
def test_golden_from_outside(fake: FakeRun, made_here: tuple[Entry, ...], said: list[str]) -> None:
    """Every environment's artefact of the same name must equal it, one that nobody made is red too."""
    folder = fake.path / "golden"
    folder.mkdir()
    write(folder / "tini.manifest.json", Manifest(schema=SCHEMA, entries=(ELF, README)))
    if made_here:
        made(fake, *made_here)
    code, verdict, red = judged(fake, "--golden", str(folder))
    if made_here:
        assert red == ({"artefacts": said} if said else {})
    else:
        assert red == {"artefacts": ["was not made, and there is a golden manifest of it"]}
    assert (code, verdict["golden"]) == (ExitCode.GATE if red else ExitCode.GREEN, ["tini"])


@pytest.mark.parametrize("content", [None, "{", '{"schema": 2}'])
def test_golden_that_cannot_be_read_is_refused(
    fake: FakeRun, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    """A comparison with nothing is no comparison: wrong usage, in one line."""
    folder = fake.path / "golden"
    folder.mkdir()
    if content is not None:
        (folder / "tini.manifest.json").write_text(content)
    fake.finish()
    assert launcher.main(["gate", "--runs", str(fake.path), "--golden", str(folder)]) == ExitCode.USAGE
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is damaged"), ('{"schema": 9}', "newer Seatrial"), ('{"schema": 1, "entries": [{}]}', "is damaged")],
)
def test_manifest_that_cannot_be_read_is_red(fake: FakeRun, content: str, said: str) -> None:
    (fake.run.environment("root-native") / "artefacts/tini.manifest.json").write_text(content)
    code, _, red = judged(fake)
    assert code == ExitCode.GATE
    assert said in red["artefacts"][0]
    assert str(fake.path) not in red["artefacts"][0]


def test_first_differing_paths_are_named_and_the_others_counted(fake: FakeRun) -> None:
    many = tuple(replace(ELF, path=f"f{number}") for number in range(9))
    manifests(ELF, README, *many)(fake)
    (why,) = judged(fake)[2]["artefacts"]
    assert why == "differs from root-native: f0 added; f1 added; f2 added; f3 added; f4 added; and 4 more"


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_limit_is_that_of_the_nodes_own_target(fake: FakeRun) -> None:
    limited(fake, {"forwarding_s": 0.1}, name="other")
    fake.case("timed", passed("timed"))
    measured(fake, "forwarding_s", 0.3)
    assert judged(fake)[0] == ExitCode.GREEN


def test_offence_names_the_node(fake: FakeRun) -> None:
    timed(0.3, forwarding_s=0.25)(fake)
    assert judged(fake)[1]["gates"]["limits"]["offences"] == [
        {"environment": "root-native", "node": "timed", "why": "forwarding_s is 0.3, the limit is 0.25"}
    ]


def test_variants_are_built_once(fake: FakeRun) -> None:
    limited(fake, {"build_wall_s": 1.0}, name="tini+g")
    built(build_wall_s=1.0)(fake)
    (offence,) = judged(fake)[1]["gates"]["limits"]["offences"]
    assert (offence["environment"], offence["node"]) == ("host", "build::tini::*")


def test_limit_is_not_kept_by_keeping_it_once(fake: FakeRun) -> None:
    """A node seen twice is one result; what either measured counts."""
    limited(fake, {"forwarding_s": 0.25})
    for worker, value in (("0", 0.3), ("1", 0.1)):
        fake.case("timed", passed("timed"), worker=worker)
        fake.write(Note(name="forwarding_s", value=value, node="timed"), worker=worker)
    assert len(judged(fake)[2]["limits"]) == 1


def test_totals_of_a_torn_or_foreign_line_are_left_out(fake: FakeRun) -> None:
    built(build_wall_s=6.5)(fake)
    path = fake.run.path / "host/metrics/build.jsonl"
    whole = path.read_text()
    path.write_text(f'{whole}[]\n{{"metric": "total"}}\n{whole.splitlines()[0]}')
    assert judged(fake)[0] == ExitCode.GREEN


# ---- codes -----------------------------------------------------------------------------------------------------------


def test_red_gate_says_more_than_the_failure_behind_it(fake: FakeRun) -> None:
    """verdict.json holds the code of the run; only the session's own is 2."""
    fake.case("n", failed("n"))
    code, verdict, _ = judged(fake)
    assert (code, verdict["exit_code"], verdict["exit"]) == (2, 1, "failed")


@pytest.mark.parametrize("code", [ExitCode.INTERRUPTED, ExitCode.INFRASTRUCTURE, ExitCode.USAGE])
def test_green_gates_of_a_run_that_broke_do_not_make_it_green(
    fake: FakeRun, capsys: pytest.CaptureFixture[str], code: ExitCode
) -> None:
    fake.run.conclude("root-container", code, "why")
    assert judged(fake)[0] == code
    assert "all 8 gates are green, and the run is" in capsys.readouterr().out


def test_run_in_which_nothing_ran_is_not_green(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path).conclude("root-native", ExitCode.GREEN)
    assert launcher.main(["gate", "--runs", str(tmp_path)]) == ExitCode.CANNOT_RUN


# ---- several runs ----------------------------------------------------------------------------------------------------


def second(fake: FakeRun) -> FakeRun:
    """Return a run of another machine."""
    other = FakeRun(fake.path.parent / "elsewhere")
    other.run.update(lambda record: replace(record, id="other"))
    other.target("tini")
    other.case("fine", passed("fine"))
    return other


def together(fake: FakeRun, other: FakeRun) -> tuple[int, dict[str, Any], Path]:
    for each in (fake, other):
        each.finish()
    words = ["gate", "--runs", str(fake.path), str(fake.run.path), str(other.run.path)]
    code = launcher.main(words)
    merged = (fake.path / "latest").resolve()
    return code, json.loads((merged / "verdict.json").read_text()), merged


def test_several_runs_are_judged_as_a_new_one(fake: FakeRun) -> None:
    """Artefacts, totals and comparisons of all sources count in the merged run, which is a whole run directory."""
    other = second(fake)
    built(build_wall_s=6.5)(fake)
    built(build_wall_s=6.5)(other)  # another machine's steps are not added to this one's
    made(fake, ELF, README)
    made(other, ELF)
    compared(other, "REGRESSION")
    code, verdict, merged = together(fake, other)
    assert code == ExitCode.GATE
    assert verdict["merged"] == ["20261121T101530-3f9a", "other"]
    assert [name for name, found in verdict["gates"].items() if found["offences"]] == ["artefacts", "performance"]
    (offence,) = verdict["gates"]["artefacts"]["offences"]
    assert offence["why"] == "differs from root-native of 20261121T101530-3f9a: README removed"
    assert (merged / "results/junit.xml").is_file()
    assert not (fake.run.path / "verdict.json").exists()


def test_session_that_broke_elsewhere_is_not_forgotten(fake: FakeRun) -> None:
    """A run that left no event counts by its conclusion, the worst of all sources."""
    other = second(fake)
    fake.run.conclude("root-container", ExitCode.CANNOT_RUN, "no Docker")
    other.run.conclude("root-container", ExitCode.INFRASTRUCTURE, "no image")
    fake.run.conclude("rootless-native", ExitCode.CANNOT_RUN, "no user")
    other.run.conclude("rootless-native", ExitCode.GREEN)
    code, verdict, _ = together(fake, other)
    assert code == ExitCode.INFRASTRUCTURE
    assert verdict["cannot_run"] == {}


def test_merged_again_it_is_the_same(fake: FakeRun) -> None:
    """Names that an earlier merge gave are kept."""
    other = second(fake)
    made(fake, ELF)
    made(other, README)
    _, before, merged = together(fake, other)
    assert launcher.main(["gate", "--runs", str(fake.path), str(merged), str(fake.run.path)]) == ExitCode.GATE
    after = json.loads((fake.path / "latest/verdict.json").read_text())
    assert after["gates"]["artefacts"] == before["gates"]["artefacts"]


# ---- the table -------------------------------------------------------------------------------------------------------


class Screen(io.StringIO):
    """A terminal of a person."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def shown(fake: FakeRun, stream: io.StringIO, **environment: str) -> str:
    fake.finish()
    summary = judge(load(fake.run))
    command.show(fake.run, summary, stream=stream, environment=environment)
    return stream.getvalue()


def test_table_is_ascii_where_no_person_looks(fake: FakeRun) -> None:
    fake.case("n", failed("n"))
    for text in (shown(fake, io.StringIO()), shown(fake, Screen(), CI="true"), shown(fake, Screen(), TERM="dumb")):
        assert text.replace("·", "").isascii()
        assert "RED" in text
    assert "\x1b[" in shown(fake, Screen())
    assert "✘ red" in shown(fake, Screen())


def test_what_a_target_said_does_not_act_on_the_terminal(fake: FakeRun) -> None:
    fake.case("n", skipped("n", "", HOSTILE))
    text = shown(fake, io.StringIO())
    assert r"\x1b[31m" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_table_names_the_first_offences_and_counts_the_others(fake: FakeRun) -> None:
    for number in range(9):
        fake.case(f"n{number}", failed(f"n{number}"))
    text = shown(fake, io.StringIO())
    assert "n2: failed" in text
    assert "n3: failed" not in text
    assert "and 6 more" in text


def test_gate_writes_nothing_but_the_verdict(fake: FakeRun) -> None:
    """The report that another session derived stays as it is."""
    fake.finish()
    before = set(fake.run.path.rglob("*"))
    judged(fake)
    assert {path.name for path in set(fake.run.path.rglob("*")) - before} <= {"verdict.json", ".lock"}


def test_an_end_that_was_announced_nowhere_is_judged(fake: FakeRun) -> None:
    """The line of a failure counts even where the announcement was lost."""
    path = fake.run.events("root-native", "test", "5")
    path.write_bytes(format_line(1, START, Ended(node="lost", outcome=Outcome.FAILED)))
    assert "passed" in judged(fake)[2]
