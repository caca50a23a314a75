"""``build`` end to end: what is printed, recorded and returned, and that a run takes what was built."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from suites.framework.commands.build import build, requests
from suites.framework.errors import ExitCode, UsageError
from suites.framework.options import Options, parse
from suites.framework.results.rundir import RUN_VARIABLE, RunDirectory
from suites.framework.results.view import View, load
from suites.framework.subjects import FIXTURES
from suites.framework.targets.catalogue import load_catalogue
from tests.projects import MAKEFILE, project, write

ROOT = Path(__file__).parents[1]
AS_ROOT = ("--build-as-root",)
INIT = """\
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) { execvp(argv[1], argv + 1); return 127; }
"""


@pytest.fixture(autouse=True)
def every_launch_is_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the run of the nox that runs these tests: its sessions would share one directory."""
    monkeypatch.delenv(RUN_VARIABLE, raising=False)


def options(folder: Path, *words: str) -> Options:
    places = (f"--base={folder}", f"--runs={folder}/runs", f"--cache={folder}/cache")
    return parse(["build", *places, *AS_ROOT, *words], checkout=ROOT)


def view(folder: Path) -> View:
    return load(RunDirectory.open(folder / "runs/latest"))


def launch(folder: Path, command: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    places = (f"--base={folder}", f"--runs={folder}/runs", f"--cache={folder}/cache")
    return subprocess.run(
        [sys.executable, "-m", "suites.framework", command, *places, *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_build_is_told_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tool, manifest, products and run directory are printed; events, log, metrics and manifest are in the run."""
    project(tmp_path / "source", "make", **{"CMakeLists.txt": ""})
    (tmp_path / "source/CMakeLists.txt").unlink()
    assert build(options(tmp_path, "mine=source")) is ExitCode.GREEN
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mine: ")
    assert lines[0].endswith(" s, make with Makefile")
    assert " * prog: " in lines[1]
    assert "dynamic (/lib" in lines[1]
    assert "LDFLAGS=-static" in lines[3]
    assert "PASSED (exit 0): steps: 1 passed" in lines[-1]
    assert lines[-1].endswith(str((tmp_path / "runs/latest").resolve()))
    (result,) = view(tmp_path).results
    assert (result.environment, result.phase, result.node, result.target) == (
        "host",
        "build",
        "build::mine::make",
        "mine",
    )
    host = tmp_path / "runs/latest/host"
    assert "cc -o prog" in (host / "logs/build.mine.make.log").read_text()
    assert (host / "metrics/build.jsonl").read_text().count('"metric":"total"') == 1
    entries = json.loads((host / "artefacts/mine.manifest.json").read_text())["entries"]
    assert [entry["path"] for entry in entries] == ["prog"]
    assert (tmp_path / "runs/latest/results/host.build.xml").is_file()
    assert not (host / "build.journal.jsonl").exists()


def test_an_unchanged_tree_is_not_built_again(tmp_path: Path) -> None:
    """No step is executed, and a finished node says so."""
    project(tmp_path / "source", "make", **{f"d{number}/f{index}": "x" for number in range(10) for index in range(50)})
    assert launch(tmp_path, "build", "mine=source", *AS_ROOT).returncode == 0
    done = launch(tmp_path, "build", "mine=source", *AS_ROOT)
    assert "mine: unchanged, make with Makefile" in done.stdout
    assert [result.node for result in view(tmp_path).results] == ["build::mine::cached"]


def test_a_failing_build_is_one_paragraph_and_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Step, status, the end of the log and where the whole one is; exit code 1."""
    project(tmp_path / "bad", "make", Makefile="all:\n\tseq 100\n\t@echo broken; exit 3\n")
    project(tmp_path / "good", "make")
    assert build(options(tmp_path, "bad=bad", "good=good")) is ExitCode.FAILED
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert lines[0].startswith("bad: build::bad::make failed: exit status 2")
    assert "broken" in lines
    assert len(lines) == 42
    assert lines[-1] == f"the whole log: {(tmp_path / 'runs/latest').resolve()}/host/logs/build.bad.make.log"
    assert "good: " in printed.out
    assert {result.node: str(result.verdict) for result in view(tmp_path).results} == {
        "build::bad::make": "failed",
        "build::good::make": "passed",
    }


def test_a_missing_tool_skips_and_a_promised_one_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """77 when nothing could be built, with the package to install; red when it was promised."""
    write(tmp_path / "source", {"Cargo.toml": ""})
    write(tmp_path / "bin", {"nothing": "#!/bin/sh\n"})
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert build(options(tmp_path, "mine=source")) is ExitCode.CANNOT_RUN
    assert "mine: not built: cargo --version: cargo is not on PATH; apt-get install cargo" in capsys.readouterr().out
    (result,) = view(tmp_path).results
    assert (str(result.verdict), result.reason) == ("skipped", "missing:cargo")
    conclusion = json.loads((tmp_path / "runs/latest/host/session.json").read_text())
    assert conclusion["code"] == 77
    assert "cargo is not on PATH" in conclusion["reason"]
    assert build(options(tmp_path, "mine=source", "--promise", "cargo")) is ExitCode.FAILED
    assert "cargo was promised and is missing" in view(tmp_path).results[0].message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "'nothing' names no checkout; write NAME=DIR"),
        (["=x"], "names no checkout"),
        (["x="], "names no checkout"),
        (["a b=x"], "names no checkout"),
        (["../x=y"], "names no checkout"),
        (["x=a", "y=b", "x=c"], "x is given 2 times"),
        (["reference=x"], "reference is a target of Seatrial's own"),
        (["control:none=x"], "names no checkout"),
        (["tini=x", "--profile", "p.toml"], "applies to no target"),
    ],
)
def test_wrong_words_are_refused(words: Sequence[str], message: str, tmp_path: Path) -> None:
    """Before there is a run directory."""
    write(tmp_path, {"p.toml": ""})
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        build(options(tmp_path, *words))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "nowhere cannot be built: No such file or directory"),
        ("file", "file is not a directory"),
        ("empty", "nothing in .*empty says how it is built: looked for Cargo.toml"),
    ],
)
def test_what_cannot_be_built_is_code_64(
    place: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and the same in the run directory."""
    write(tmp_path, {"file": "", "empty/readme": ""})
    assert build(options(tmp_path, f"mine={place}")) is ExitCode.USAGE
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error)


def test_words_of_the_command(tmp_path: Path) -> None:
    """The executable stands after #, unless there is a folder of that name; the profile comes from the catalogue."""
    (tmp_path / "odd#name").mkdir()
    catalogue = load_catalogue(FIXTURES / "targets")
    one, two, three = requests(options(tmp_path, "a=odd#name", "b=odd#x", "tini=/t"), catalogue)
    assert (one.directory, one.executable) == (tmp_path / "odd#name", "")
    assert (two.directory, two.executable) == (tmp_path / "odd", "x")
    assert (three.directory, three.profile) == (Path("/t"), catalogue["tini"])


def test_a_build_that_misbehaves_ends(tmp_path: Path) -> None:
    """It reads an empty stdin, and a daemon that it forked is gone with it."""
    text = f"{MAKEFILE}\tcat\n\t(setsid sleep 987.25 >/dev/null 2>&1 &)\n"
    project(tmp_path / "source", "make", Makefile=text)
    done = launch(tmp_path, "build", "mine=source", *AS_ROOT)
    assert done.returncode == 0, done.stderr
    assert "987.25" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def test_a_run_takes_what_was_built_by_name(tmp_path: Path) -> None:
    """--target NAME after `build` tries the build of that name and says so."""
    project(tmp_path / "source", "make", **{"prog.c": INIT})
    assert launch(tmp_path, "build", "tini=source#prog", *AS_ROOT).returncode == 0
    done = run(tmp_path, "tini")
    assert f"tini: built from {tmp_path / 'source'} at " in done.stderr
    (target,) = (result for result in view(tmp_path).results if result.is_case and result.target == "tini")
    assert (str(target.role), target.subject.path) == ("target", str(tmp_path / "source"))


def test_a_checkout_given_to_a_run_is_built_first(tmp_path: Path) -> None:
    """One command from checkout to verdict; the build is a phase of the same run."""
    project(tmp_path / "source", "make", **{"prog.c": INIT})
    run(tmp_path, "mine=init:source#prog")
    results = {(result.environment, result.phase, result.target) for result in view(tmp_path).results}
    assert ("host", "build", "mine") in results
    assert any(phase == "test" and target == "mine" for _, phase, target in results)


def test_a_checkout_that_does_not_build_is_absent_from_the_run(tmp_path: Path) -> None:
    """Other targets go on; the build's node is red."""
    project(tmp_path / "source", "make", Makefile="all:\n\tfalse\n")
    done = run(tmp_path, "mine=source", "reference")
    found = view(tmp_path)
    assert done.returncode == 1
    assert [absent.name for absent in found.absent] == ["mine"]
    assert any(result.target == "reference" and result.ran for result in found.results if result.is_case)
    assert "FAILED  build::mine::make" in done.stdout


def run(folder: Path, *targets: str) -> subprocess.CompletedProcess[str]:
    privilege = "root" if os.geteuid() == 0 else "rootless"
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed")
    given = [word for target in targets for word in ("--target", target)]
    words = (f"--privilege={privilege}", "--place=native", "--case", "EX-02", "-k", "plain", *AS_ROOT)
    return launch(folder, "run", *given, *words)
