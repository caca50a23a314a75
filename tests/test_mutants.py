"""The session that proves the suites: a killed mutant is green, a survivor or a broken reference is red."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from suites.catalog import Kind
from suites.framework.commands import mutants as command
from suites.framework.commands.mutants import Mutant, kills, mutants, read
from suites.framework.errors import ExitCode, InfrastructureError, UsageError
from suites.framework.model import Outcome
from suites.framework.options import parse
from suites.framework.results.result import Result

CHECKOUT = Path(__file__).parents[1]
CAUGHT = Mutant(
    id="caught",
    bug="a missing command is reported as a general error",
    find="code = 127 if isinstance",
    replace="code = 1 if isinstance",
    killed_by=("EX-04",),
)
HARMLESS = Mutant(
    id="harmless",
    bug="none: a comment changes",
    find="# none left",
    replace="# nobody left",
    killed_by=("EX-04",),
)


def result(target: str, case: str, outcome: Outcome, *, reason: str = "", mode: str = "plain") -> Result:
    return Result(
        environment="root-native",
        phase="test",
        worker="1",
        node=f"n[{target}-{mode}]",
        cases=(case,),
        target=target,
        mode=mode,
        outcome=outcome,
        reason=reason,
    )


def test_a_fault_is_one_place() -> None:
    """A text that stands nowhere or twice is refused: nobody knows what it would change."""
    assert CAUGHT.apply("code = 127 if isinstance") == "code = 1 if isinstance"
    for text in ("", "code = 127 if isinstance code = 127 if isinstance"):
        with pytest.raises(UsageError, match="times in the reference"):
            CAUGHT.apply(text)


def test_the_list_is_read_and_its_cases_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A malformed list and a case that does not exist are one clear error."""
    assert len(read(Kind.INIT)) >= 15
    (tmp_path / "mutants").mkdir()
    monkeypatch.setattr(command, "FIXTURES", tmp_path)
    for text, words in (("[[mutant]]\nid = 1", "missing"), ("[[", "cannot be read")):
        (tmp_path / "mutants/init.toml").write_text(text)
        with pytest.raises(UsageError, match=words):
            read(Kind.INIT)
    (tmp_path / "mutants/init.toml").write_text(
        '[[mutant]]\nid = "x"\nbug = "b"\nfind = "f"\nreplace = "r"\nkilled_by = ["ZZ-99"]'
    )
    with pytest.raises(UsageError, match="unknown case ZZ-99"):
        read(Kind.INIT)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([result("mutant:caught", "EX-04", Outcome.FAILED)], "killed"),
        ([result("mutant:caught+g", "EX-04", Outcome.FAILED)], "killed"),
        ([result("mutant:caught", "EX-04", Outcome.PASSED)], "missed"),
        ([result("mutant:caught", "EX-04", Outcome.FAILED, reason="crash")], "missed"),
        ([result("mutant:caught", "EX-04", Outcome.ERRORED)], "errored"),
        ([result("mutant:other", "EX-04", Outcome.FAILED)], "missed"),
        ([], "missed"),
    ],
)
def test_only_an_assertion_in_a_named_case_kills(found: Sequence[Result], verdict: str) -> None:
    """A crash, an error of ours, another mutant's failure and silence are no kill."""
    assert {"EX-04": verdict} == kills(found, CAUGHT)


def test_a_mode_limits_where_a_kill_counts() -> None:
    """A fault that shows as PID 1 only is not proven by a failure as an ordinary process."""
    limited = Mutant(**{**{name: getattr(CAUGHT, name) for name in Mutant.__slots__}, "mode": "pid1"})
    assert {"EX-04": "missed"} == kills([result("mutant:caught", "EX-04", Outcome.FAILED)], limited)
    assert {"EX-04": "killed"} == kills([result("mutant:caught", "EX-04", Outcome.FAILED, mode="pid1")], limited)


def test_a_survivor_is_red(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Really run: the matrix names the killed one and the survivor, and the exit code is 1; without it 0."""
    options = parse(
        ["mutants", "--suite", "init", "--runs", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache")],
        checkout=CHECKOUT,
    )
    for chosen, code in (((CAUGHT, HARMLESS), ExitCode.FAILED), ((CAUGHT,), ExitCode.GREEN)):
        monkeypatch.setattr(command, "read", lambda _kind, chosen=chosen: chosen)
        try:
            assert code == mutants(options)
        except InfrastructureError as error:  # pragma: no cover
            pytest.fail(str(error))
        said = capsys.readouterr().out
        assert "caught    EX-04 killed" in said or "caught  EX-04 killed" in said
        assert ("harmless  EX-04 missed" in said) == (code is ExitCode.FAILED)
