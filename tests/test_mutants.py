"""The session that proves the suites: a killed mutant is green, a survivor or a broken reference is red."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import Kind, Privilege
from suites.framework.commands import mutants as command
from suites.framework.commands.mutants import Mutant, kills, mutants, read
from suites.framework.errors import CannotRunError, ExitCode, InfrastructureError, UsageError
from suites.framework.model import Outcome, Role
from suites.framework.options import parse
from suites.framework.provisioning.staging import PYTHON
from suites.framework.results.result import Result
from suites.framework.session import Session
from suites.framework.subjects import Subjects
from tests.contexts import target

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
        ([result("mutant:caught", "EX-04", Outcome.XFAILED)], "missed"),
        ([result("mutant:caught", "EX-04", Outcome.XPASSED)], "missed"),
        ([result("mutant:caught", "EX-04", Outcome.SKIPPED, reason="missing:overlay")], "skipped"),
        ([result("mutant:caught", "EX-04", Outcome.SKIPPED, reason="not-offered")], "skipped"),
        ([result("mutant:caught", "EX-04", Outcome.SKIPPED)], "missed"),
        (
            [
                result("mutant:caught", "EX-04", Outcome.SKIPPED, reason="not-offered"),
                result("mutant:caught", "EX-04", Outcome.FAILED),
            ],
            "killed",
        ),
        ([], "missed"),
    ],
)
def test_only_an_assertion_in_a_named_case_kills(found: Sequence[Result], verdict: str) -> None:
    """A crash, an error of ours, a known deviation, another mutant's failure, a skip and silence are no kill."""
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


def test_faults_of_ordinary_users_are_tried_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root tries them beside its own; an ordinary user tries all that there is as himself."""
    user = replace(CAUGHT, id="user", privilege=Privilege.ROOTLESS)
    for uid, parts in (
        (0, {"root-native": [CAUGHT], "rootless-native": [user]}),
        (1000, {"rootless-native": [CAUGHT, user]}),
    ):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert parts == {here.name: part for here, part in command._by_environment([CAUGHT, user]).items()}


def test_without_a_user_the_rest_is_tried_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nobody can be the user the others still count; with nothing else there is no verdict."""
    words = ["mutants", "--suite", "init", "--runs", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache")]
    options = parse(words, checkout=CHECKOUT)
    user = replace(CAUGHT, id="user", privilege=Privilege.ROOTLESS)
    execute = Session.execute

    def without_user(session: Session, found: Subjects) -> None:
        if session.here.privilege is Privilege.ROOTLESS:
            raise CannotRunError("rootless-native cannot run here", why="no user", remedy="name one")
        execute(session, found)

    monkeypatch.setattr(Session, "execute", without_user)
    monkeypatch.setattr(command, "read", lambda _kind: (CAUGHT, user))
    assert ExitCode.GREEN == mutants(options)
    said = capsys.readouterr().out
    assert "1 mutants are not tried: rootless-native cannot run here" in said
    assert "1 of 1 mutants killed" in said
    monkeypatch.setattr(command, "read", lambda _kind: (user,))
    with pytest.raises(CannotRunError, match="no user"):
        mutants(options)


def test_a_front_carries_the_faults_of_what_stands_behind_it(tmp_path: Path) -> None:
    """For runtimes the proxy is changed, once for each mutant, and the real runtime follows behind it unchanged."""
    runc = target("runc", kind=Kind.OCI, argv=("/opt/runc",))
    row = '"start": pretend(0)'
    lost = Mutant(id="lost", bug="b", find='"start": execute', replace=row, killed_by=("A02",), base="runc")
    options = parse(["mutants", "--cache", str(tmp_path / "cache")], checkout=CHECKOUT)
    plain, faulty = command._with_faults([lost], [runc], tmp_path, options)
    assert [Role.REFERENCE, Role.TARGET] == [plain.role, faulty.role]
    assert ["runc", "mutant:lost"] == [plain.name, faulty.name]
    assert [("A02",)] * 2 == [plain.only, faulty.only]
    for made, row in ((plain, '"start": execute,'), (faulty, '"start": pretend(0),')):
        interpreter, script, behind = made.argv[:3], Path(made.argv[3]), made.argv[4:]
        assert (PYTHON, ("/opt/runc", "--")) == (interpreter, behind)
        assert row in script.read_text()


def test_a_fault_of_the_shim_is_in_front_of_that(tmp_path: Path) -> None:
    """A runtime whose shim has the fault is itself as it was; the unchanged script is a reference too."""
    runc = target("runc", kind=Kind.POD, argv=("/opt/runc",))
    row = '"Wait": late(9)'
    fields: dict[str, Any] = {"bug": "b", "base": "runc", "kind": "pod"}
    late = Mutant(id="late", find='"Wait": passed', replace=row, file="shim.py", killed_by=("A9",), **fields)
    other = Mutant(id="other", find='"kill": execute', replace='"kill": pretend(0)', killed_by=("E2",), **fields)
    options = parse(["mutants", "--cache", str(tmp_path / "cache")], checkout=CHECKOUT)
    plain, fronted, faulty, proxied = command._with_faults([late, other], [runc], tmp_path, options)
    assert [("A9", "E2"), ("A9",), ("A9",), ("E2",)] == [each.only for each in (plain, fronted, faulty, proxied)]
    assert [Role.REFERENCE] * 2 + [Role.TARGET] * 2 == [each.role for each in (plain, fronted, faulty, proxied)]
    assert ["runc+shim", "mutant:late"] == [fronted.name, faulty.name]
    for made, row in ((fronted, '"Wait": passed,'), (faulty, '"Wait": late(9),')):
        front = made.call.pod.front
        assert (("/opt/runc",), PYTHON, ("containerd-shim-runc-v2",)) == (made.argv, front[:3], front[4:])
        assert row in Path(front[3]).read_text()
    assert ((), ()) == (plain.call.pod.front, proxied.call.pod.front)


def test_only_what_is_asked_for_is_tried() -> None:
    """``--suite`` and ``--case`` choose; a fault without a base is the reference's; nothing left is one clear error."""
    options = parse(["mutants", "--suite", "init", "--case", "EX-04"], checkout=CHECKOUT)
    chosen = list(command._chosen(Kind.INIT, options))
    assert {("EX-04",)} == {mutant.killed_by for mutant in chosen}
    assert {"reference"} == {mutant.base for mutant in chosen}
    with pytest.raises(UsageError, match="no mutant is listed"):
        mutants(parse(["mutants", "--suite", "init", "--case", "A01"], checkout=CHECKOUT))
