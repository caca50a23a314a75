"""The noxfile's own few lines: what it reads from the run directory after a session."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from suites.catalog import Environment, Place, Privilege
from suites.framework.errors import ExitCode

HERE = Environment(privilege=Privilege.ROOT, place=Place.NATIVE)


@pytest.fixture(scope="module")
def imported() -> ModuleType:
    """Return the noxfile as nox imports it: once, for its sessions are registered by that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEATRIAL_RUN", "run-of-a-test")
        spec = importlib.util.spec_from_file_location("the_noxfile", Path(__file__).parents[1] / "noxfile.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def noxfile(imported: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the noxfile in a run of the test's own."""
    monkeypatch.setenv("SEATRIAL_RUN", "run-of-a-test")
    return imported


def session(folder: Path, *words: str) -> Any:
    return SimpleNamespace(posargs=list(words), invoked_from=str(folder))


@pytest.mark.parametrize("words", [[], ["--target", "tini"], ["--runs"]])
def test_a_session_without_a_conclusion_ran(noxfile: ModuleType, tmp_path: Path, words: list[str]) -> None:
    """Whatever words were given, none included: no session.json means that nothing was skipped."""
    assert "" == noxfile.skipped(session(tmp_path, *words), HERE.name)


@pytest.mark.parametrize("form", ["--runs", "--runs="])
@pytest.mark.parametrize(("code", "said"), [(ExitCode.CANNOT_RUN, "no root here"), (ExitCode.GREEN, "")])
def test_a_session_that_cannot_run_says_why(
    noxfile: ModuleType, tmp_path: Path, form: str, code: ExitCode, said: str
) -> None:
    """The reason of a 77 is read where the run directory really is, relative to where nox was invoked."""
    folder = tmp_path / "mine" / "run-of-a-test" / "root-native"
    folder.mkdir(parents=True)
    (folder / "session.json").write_text(json.dumps({"code": int(code), "reason": "no root here"}))
    words = [form, "mine"] if form == "--runs" else ["--runs=mine"]
    assert said == noxfile.skipped(session(tmp_path, *words), HERE.name)


@pytest.mark.parametrize(
    ("words", "planned"),
    [
        ([], True),
        (["--suite", "init"], False),
        (["--suite=init", "--suite", "pod"], True),
        (["--target", "tini"], False),
        (["--target", "tini", "--target=runc"], True),
        (["--target", "mine=pod:./m"], True),
        (["--target", "mine=oci:./m"], False),
        (["--target", "runc=oci:./m"], False),
        (["--target", "control:success"], True),
        (["--target", "nobody-knows=./m"], False),
        (["--suite", "init", "--target", "runc"], False),
        (["--target", "nobody-knows=./m", "--profile", "mine.toml"], True),
        (["--target", "mine=init:./m", "--profile=mine.toml"], False),
    ],
)
def test_what_pods_need_is_installed_where_they_are_planned(
    noxfile: ModuleType, words: list[str], planned: bool
) -> None:
    """By the suites that are named, else by the kinds of the targets; without either everything is planned."""
    assert planned == noxfile.plans_pods(words)
