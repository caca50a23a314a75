"""The worked example of CONTRIBUTING.md is a profile that loads, is as short as promised, and works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from suites.framework import cases
from suites.framework.errors import ExitCode
from suites.framework.targets.profile import check_cases, load

CHECKOUT = Path(__file__).parents[1]
PRIVILEGE = "root" if os.geteuid() == 0 else "rootless"
MYINIT = """\
#!/bin/sh
[ "$1" = --version ] && echo "myinit 0.1" && exit
[ "$1" = -q ] && shift
[ "$1" = -- ] && shift
command -v "$1" >/dev/null && { "$@"; exit $?; }
echo "myinit: $1: not found" >&2
exit 1
"""
DEVIATION = "[[deviation]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a session said of myinit: its exit code, and how often each case ended how."""

    code: int
    seen: dict[str, set[str]]
    """Outcomes by case."""
    output: str


def example() -> str:
    """Return the block of TOML that begins as a profile does."""
    blocks = re.findall(
        r"^```toml\n(schema = .*?)^```$", (CHECKOUT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert 1 == len(blocks)
    return str(blocks[0])


def tried(folder: Path, *, profile: str, program: str) -> Trial:
    """Run EX-01 and EX-04 against `program`, through the launcher, as the guide says."""
    (folder / "myinit.toml").write_text(profile)
    (folder / "myinit").write_text(program)
    (folder / "myinit").chmod(0o755)
    words = [f"--privilege={PRIVILEGE}", f"--base={folder}", "--runs=runs", "--offline", "--case=EX-01", "--case=EX-04"]
    words += ["--target", "myinit=init:./myinit", "--profile", "myinit.toml"]
    done = subprocess.run(
        [sys.executable, "-m", "suites.framework", "run", *words],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "SEATRIAL_RUN": f"contributing-{os.getpid()}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == ExitCode.CANNOT_RUN:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    return Trial(code=done.returncode, seen=outcomes(folder / "runs/latest"), output=done.stdout + done.stderr)


def outcomes(run: Path) -> dict[str, set[str]]:
    planned: dict[str, tuple[str, ...]] = {}
    seen: dict[str, set[str]] = {}
    files = sorted(run.glob("*/events/test.*.jsonl"))
    for event in (json.loads(line) for file in files for line in file.read_text().splitlines()):
        if event["event"] == "planned" and event["target"].startswith("myinit"):
            planned[event["node"]] = tuple(event["cases"])
        elif event["event"] == "ended" and event["node"] in planned:
            for case in planned[event["node"]]:
                seen.setdefault(case, set()).add(event["outcome"])
    return seen


def test_example_loads_and_names_cases_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "myinit.toml"
    path.write_text(example())
    profile = load(path)
    check_cases(profile, {case.id for case in cases.load(CHECKOUT)})
    assert ("myinit", [("EX-04",)]) == (profile.name, [deviation.case for deviation in profile.deviation])


def test_example_is_as_short_as_promised() -> None:
    assert len(example().partition(DEVIATION)[0].splitlines()) <= 30


def test_example_works_and_its_deviation_is_expected(tmp_path: Path) -> None:
    trial = tried(tmp_path, profile=example(), program=MYINIT)
    assert ({"EX-01": {"passed"}, "EX-04": {"xfailed"}}, ExitCode.GREEN) == (trial.seen, trial.code), trial.output


def test_without_the_deviation_it_fails(tmp_path: Path) -> None:
    trial = tried(tmp_path, profile=example().partition(DEVIATION)[0], program=MYINIT)
    assert ({"EX-01": {"passed"}, "EX-04": {"failed"}}, ExitCode.FAILED) == (trial.seen, trial.code), trial.output


def test_mended_program_makes_the_deviation_red(tmp_path: Path) -> None:
    trial = tried(tmp_path, profile=example(), program=MYINIT.replace("exit 1", "exit 127"))
    assert ({"EX-01": {"passed"}, "EX-04": {"xpassed"}}, ExitCode.FAILED) == (trial.seen, trial.code), trial.output
