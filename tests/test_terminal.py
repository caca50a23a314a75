"""The end of a run on the terminal: what failed, why, how to see it again, and nothing a target printed acts."""

from __future__ import annotations

import io
import os
import shlex
from pathlib import Path

import pytest

from suites.framework.errors import ExitCode
from suites.framework.facts import Fact, Finding
from suites.framework.model import Evidence, Note
from suites.framework.results import reproduction, terminal
from suites.framework.results.result import Result
from suites.framework.results.verdict import judge
from tests.fake_run import HOSTILE, FakeRun, failed, passed, skipped

NODE = "suites/init/test_signals.py::test_term[tini-pid1-TERM]"


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    made = FakeRun(tmp_path / "runs", argv=("--target", "tini=../my builds/tini", "--target-env", "KEY=hush"))
    made.target("tini")
    return made


def rendered(fake: FakeRun, *, colour: bool = False, width: int = 160) -> str:
    view = fake.view()
    return terminal.render(view, judge(view), colour=colour, width=width, howto=lambda _: "first\nsecond\nthird")


def test_matrix_has_every_target_and_environment(fake: FakeRun) -> None:
    fake.target("dumb-init")
    fake.case("a", passed("a"))
    fake.case("b", failed("b"))
    fake.case("c", skipped("c", "not-offered"), target="dumb-init")
    fake.case("d", passed("d"), environment="rootless-native")
    fake.finish()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in rendered(fake).splitlines() if "|" in line]
    assert lines[:3] == [
        ["target", "root-native", "rootless-native"],
        ["dumb-init", "1 skipped", "-"],
        ["tini", "1 passed, 1 failed", "1 passed"],
    ]


def test_standby_reference_has_a_row_of_its_own(fake: FakeRun) -> None:
    fake.target("runc", role="standby")
    fake.case("ref", passed("ref"), target="runc", standby=True)
    fake.case("own", failed("own"))
    fake.finish()
    text = rendered(fake)
    assert "runc (reference)" in text
    assert "cases run / planned in root-native: 1 / 1" in text


def test_skips_are_grouped_by_fact_with_probe_and_remedy(fake: FakeRun) -> None:
    absent = {"present": False, "probe": "GET /version", "detail": "no such socket", "remedy": "start dockerd"}
    fake.run.add(findings=[Finding(fact=Fact.DOCKER, **absent)])  # type: ignore[arg-type]
    fake.run.write_facts("root-native", [Finding(fact=Fact.COMPILER, present=False, probe="cc --version")])
    for node, reason in (("a", "missing:docker"), ("b", "missing:docker"), ("c", "missing:compiler")):
        fake.case(node, skipped(node, reason))
    fake.case("d", skipped("d", "whim", "because"))
    fake.finish()
    text = rendered(fake)
    said = (
        "  2 x missing:docker  (root-native)\n      probed: GET /version: no such socket\n      remedy: start dockerd\n"
    )
    assert said in text
    assert "  1 x missing:compiler  (root-native)\n      probed: cc --version\n" in text
    assert "  1 x whim  NOT EXPLAINED  (root-native)\n      said: because\n      d\n" in text
    assert text.index("whim") < text.index("missing:docker  ")


def test_targets_that_could_not_be_had_are_named(fake: FakeRun) -> None:
    value = {"name": "crun", "fact": "packages", "reason": "apt-get: no network", "remedy": "go online"}
    for environment in ("root-native", "rootless-native"):
        fake.launcher("absent", value, environment)
    said = "targets not tried:\n  crun: apt-get: no network; go online  (root-native, rootless-native)\n"
    assert said in rendered(fake)


def test_failure_says_everything_a_reader_needs(fake: FakeRun) -> None:
    log = "\n".join(f"line {number}" for number in range(40))
    evidence = (Evidence(title="standard error", text=log), Evidence(title="signals", text="TERM from 0"))
    fake.case(NODE, failed(NODE, reason="crash", message="died", evidence=evidence), parameter="TERM")
    fake.write(Note(name="forwarding_s", value=0.25, node=NODE))
    fake.finish()
    text = rendered(fake)
    for expected in (
        "1. FAILED  SG-01 · TERM reaches the child · tini · root-native pid1 TERM",
        "reason      crash",
        "expected    exit 0",
        "actual      killed by TERM",
        "message     died",
        f"program     tini 0.19.0 sha256 {'ab' * 32} /x/tini",
        "test        suites/init/test_signals.py:12",
        "measured    forwarding_s 0.25",
        "   standard error:\n     | (25 lines before)\n     | line 25\n",
        "   signals:\n     | TERM from 0\n",
        "     first\n     second\n     third\n",
    ):
        assert expected in text
    assert "line 24\n" not in text


def test_only_a_crash_shows_the_whole_sum_of_the_program(fake: FakeRun) -> None:
    fake.case("n", failed("n", reason="exit"))
    fake.finish()
    assert "program     tini 0.19.0 sha256 abababababab /x/tini\n" in rendered(fake)


def test_command_runs_just_this_case_again(fake: FakeRun) -> None:
    fake.case(NODE, failed(NODE))
    fake.finish()
    (line,) = (line for line in rendered(fake).splitlines() if "nox -s" in line)
    words = shlex.split(line)[1:]
    assert words == [
        *("nox", "-s", "acceptance-root(native)", "--"),
        *("--target", "tini=../my builds/tini", "--case", "SG-01", "-k", "test_term[tini-pid1-TERM]"),
        *("--target-env", "KEY=${KEY}"),
    ]
    assert "hush" not in rendered(fake)


@pytest.mark.parametrize(
    ("node", "expression"),
    [
        ("a.py::test_a", "test_a"),
        ("a.py::Group::test_a[x-1]", "test_a[x-1]"),
        ("a.py::test_a[x::y]", "test_a[x::y]"),
        ("a.py::test_a[tini+g-control:none]", "test_a[tini+g-control:none]"),
        ("a.py::test_a[my init-not-'x']", "test_a and my and init-not- and x"),
        ("a.py::test_a[not or x]", "test_a and x"),
    ],
)
def test_expression_selects_the_node(node: str, expression: str) -> None:
    assert reproduction.selecting(node) == expression


@pytest.mark.parametrize(
    ("argv", "target", "words"),
    [
        ((), "tini", "tini"),
        (("--target=tini=/a b",), "tini", "'tini=/a b'"),
        (("--target", "mine=init:./x"), "mine", "mine=init:./x"),
        (("--target", "mine=init:./x"), "mine+g", "mine+g=init:./x"),
        (("--target", "tini"), "tini", "tini"),
        (("--target", "other=/x"), "tini", "tini"),
    ],
)
def test_target_is_given_as_it_was(fake: FakeRun, argv: tuple[str, ...], target: str, words: str) -> None:
    fake.case("n", failed("n"), target=target)
    (result,) = fake.view().results
    expected = f'nox -s "acceptance-root(native)" -- --target {words} --case SG-01 -k n'
    assert reproduction.command(result, argv=argv) == expected


def test_options_that_change_a_case_are_carried_over(fake: FakeRun) -> None:
    fake.case("n", failed("n"))
    (result,) = fake.view().results
    command = reproduction.command(result, argv=("--wrap", "strace -f", "--profile=p.toml", "--workers", "3"))
    assert command.endswith("-k n --profile p.toml --wrap 'strace -f'")


def test_caller_s_command_is_used(fake: FakeRun) -> None:
    fake.case("n", failed("n"))
    view = fake.view()

    def command(result: Result) -> str:
        return f"make {result.node}"

    assert "again       make n\n" in terminal.render(view, judge(view), command=command)


def test_after_twenty_failures_a_line_each(fake: FakeRun) -> None:
    for number in range(23):
        fake.case(f"n{number:02}", failed(f"n{number:02}"))
    fake.finish()
    text = rendered(fake)
    assert text.count("nox -s") == 20
    assert "and 3 more:\n" in text
    assert text.count("SG-01 · TERM reaches the child · tini · root-native pid1: killed by TERM") == 3


def test_what_follows_from_a_reference_stands_last(fake: FakeRun) -> None:
    fake.case("a", skipped("a", "inconclusive"))
    fake.case("b", failed("b"))
    fake.case("c", failed("c"), phase="preflight")
    fake.finish()
    text = rendered(fake)
    assert text.index("-k c") < text.index("-k b") < text.index("-k a")


def test_null_target_that_passed_is_shown(fake: FakeRun) -> None:
    fake.target("control:true", role="control")
    fake.case("n", passed("n"), target="control:true")
    fake.finish()
    assert "PASSED BY A NULL TARGET" in rendered(fake)
    assert "control:true does nothing and passed" in rendered(fake)


def test_flaky_is_shown(fake: FakeRun) -> None:
    for worker, end in (("0", passed("n")), ("1", failed("n"))):
        fake.case("n", end, worker=worker)
        fake.finish(worker=worker)
    assert "FAILED (flaky: passed, failed)" in rendered(fake)
    assert "1 failed, 1 flaky" in rendered(fake)


@pytest.mark.parametrize("colour", [False, True])
def test_nothing_a_target_printed_acts_on_the_terminal(fake: FakeRun, colour: bool) -> None:
    evidence = (Evidence(title=HOSTILE, text=HOSTILE),)
    end = failed(HOSTILE, reason=HOSTILE, message=HOSTILE, expected=HOSTILE, actual=HOSTILE, evidence=evidence)
    fake.target("[red]" + HOSTILE, version=HOSTILE, path=HOSTILE)
    fake.case(HOSTILE, end, title=HOSTILE, target="[red]" + HOSTILE, parameter=HOSTILE)
    fake.case("s", skipped("s", HOSTILE, HOSTILE))
    fake.finish()
    text = rendered(fake, colour=colour)
    assert "\x1b[31m" not in text.replace("\x1b[1;31m", "")
    assert not set(text) & set("\x00\u202e\udcff\r")
    assert "[red]<b>" in text
    assert ("\x1b" in text) is colour


def test_narrow_terminal_keeps_commands_in_one_line(fake: FakeRun) -> None:
    fake.case(NODE, failed(NODE))
    fake.finish()
    assert any(line.startswith("   again") and "KEY" in line for line in rendered(fake, width=40).splitlines())


def test_last_lines_are_leaks_and_the_verdict_with_code_and_path(fake: FakeRun) -> None:
    fake.case("n", failed("n"))
    fake.case("m", passed("m"))
    fake.finish()
    *_, leaks, page, last, end = rendered(fake).split("\n")
    assert page == f"report: {fake.run.path.absolute()}/report.html"
    assert leaks == "leaks: 0 processes, 0 mounts, 0 containers, 0 files"
    assert last == f"seatrial: FAILED (exit 1): 1 passed, 1 failed; gates red: passed · {fake.run.path.absolute()}"
    assert end == ""


def test_leaks_line_names_what_was_found_and_where_nobody_looked(fake: FakeRun) -> None:
    fake.case("n", failed("n", reason="leak"))
    fake.write(Note(name="leaks", value={"processes": 2, "cgroups": 1, "fds": 0}))
    fake.case("m", passed("m"), environment="rootless-native")
    assert (
        "leaks: 2 processes, 0 mounts, 0 containers, 0 files, 1 cgroups; 1 cases failed for what their target left"
        " behind; not checked in rootless-native\n"
    ) in rendered(fake)


def test_green_and_skipped_runs_say_so(fake: FakeRun) -> None:
    fake.run.conclude("root-container", ExitCode.CANNOT_RUN, "no Docker: start it")
    text = rendered(fake)
    assert "cases run / planned in root-container: 0 / 0, no Docker: start it" in text
    assert "seatrial: SKIPPED (exit 77): no case was planned · /" in text
    fake.case("n", passed("n"))
    fake.finish()
    assert "seatrial: PASSED (exit 0): 1 passed · /" in rendered(fake)


class Terminal(io.StringIO):
    """A stream that claims to be one."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "coloured"),
    [
        (Terminal, {}, True),
        (Terminal, {"NO_COLOR": "1"}, False),
        (Terminal, {"CI": "true"}, False),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {}, False),
        (io.StringIO, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_only_on_a_terminal(
    fake: FakeRun, stream: type[io.StringIO], environment: dict[str, str], coloured: bool
) -> None:
    fake.case("n", failed("n"))
    fake.finish()
    out, view = stream(), fake.view()
    terminal.show(view, judge(view), stream=out, environment=environment)
    assert ("\x1b[" in out.getvalue()) is coloured


def test_stream_that_knows_only_ascii_gets_every_line(fake: FakeRun) -> None:
    fake.case("n", failed("n", actual="schön"))
    fake.finish()
    raw, view = io.BytesIO(), fake.view()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    terminal.show(view, judge(view), stream=stream, environment={})
    assert b"actual      sch\\xf6n" in raw.getvalue()


def test_width_is_that_of_the_terminal(fake: FakeRun) -> None:
    import fcntl
    import struct
    import termios

    for environment in ("root-native", "root-container", "rootless-native", "rootless-container"):
        fake.case("n", passed("n"), environment=environment)
        fake.finish(environment=environment)
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    view = fake.view()
    with os.fdopen(theirs, "w") as stream:
        terminal.show(view, judge(view), stream=stream, environment={"NO_COLOR": "1"})
        text = os.read(ours, 65536).decode()
    os.close(ours)
    assert max(len(line.rstrip()) for line in text.splitlines() if "|" in line) <= 50
