"""The example of a wrapper stays short enough to be read, and the cases accept it as they accept anybody's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from suites.framework.commands.run import run
from suites.framework.errors import ExitCode
from suites.framework.options import parse
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import load

CHECKOUT = Path(__file__).parents[1]
EXAMPLE = CHECKOUT / "fixtures/wrappers/example.sh"
CASES = ("W1", "W2", "W6", "W11", "W13", "W3", "W27", "W48")


def test_the_example_is_as_long_as_an_example_may_be() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60


@pytest.mark.skipif(os.geteuid() != 0, reason="starts workers as root")
def test_the_cases_accept_the_example(tmp_path: Path) -> None:
    """Really run, as somebody would with a wrapper of his own: nothing fails, and what it lacks is *not offered*."""
    target = ["--target", f"example=buildscripts:{EXAMPLE}", "--profile", str(EXAMPLE.with_suffix(".toml"))]
    chosen = [word for case in CASES for word in ("--case", case)]
    where = ["--runs", str(tmp_path / "runs"), "--cache", str(tmp_path / "cache"), "--workers", "2", "--offline"]
    words = ["run", "--privilege", "root", "--place", "native", "--suite", "buildscripts"]
    assert ExitCode.GREEN == run(parse([*words, *target, *chosen, *where], checkout=CHECKOUT))
    view = load(RunDirectory.open(tmp_path / "runs/latest"))
    passed = [result for result in view.results if result.target == "example" and result.verdict == "passed"]
    assert set(CASES) - {"W11", "W13"} <= {case for result in passed for case in result.cases}
