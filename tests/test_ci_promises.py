"""`.ci/promises` against the facts, and against what is really found on the machine that runs `.ci/run`."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from suites.catalog import ENVIRONMENTS, Environment
from suites.framework.build import availability
from suites.framework.errors import ExitCode
from suites.framework.facts import Fact
from suites.framework.probes import PROBES
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.debian import Packages, probe_packages
from suites.framework.results.rundir import RUN_VARIABLE, RunDirectory

CHECKOUT = Path(__file__).parents[1]
USER = "seatrial"
"""The account that .ci/run makes: where it is, this is that machine."""
FACTS = set(Fact)
PERSONAL = {Fact.CARGO, Fact.GO}
"""Toolchains that people install for themselves, below their home: whether they work there is not the machine's."""
NAMES = [here.name for here in ENVIRONMENTS]


def lines() -> list[tuple[str, list[str]]]:
    """Return each promised fact with the environments that it is limited to."""
    rows = (line.partition("#")[0].split() for line in (CHECKOUT / ".ci/promises").read_text().splitlines())
    return [(row[0], row[1:]) for row in rows if row]


def promised(environment: str) -> set[str]:
    return {fact for fact, names in lines() if not names or environment in names}


def promised_by_the_script(here: Environment, tmp_path: Path) -> set[str]:
    """Return what .ci/run itself reads from the list, by running its function with a nox that only writes down."""
    text = (CHECKOUT / ".ci/run").read_text()
    function = text[text.index("\nacceptance() {") : text.index("\n}\n", text.index("\nacceptance() {")) + 3]
    nox = tmp_path / ".venv/bin/nox"
    nox.parent.mkdir(parents=True)
    nox.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    nox.chmod(0o755)
    (tmp_path / ".ci").symlink_to(CHECKOUT / ".ci")
    words = f"set -euo pipefail\nuser={USER}{function}acceptance {here.privilege} {here.place}\n"
    done = subprocess.run(["bash", "-c", words], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=True)
    session, *rest = done.stdout.splitlines()[1:]
    assert f"acceptance-{here.privilege}({here.place})" == session
    assert ["--as-user", USER] == rest[-2:]
    return {following for word, following in pairwise(rest) if word == "--promise"}


def on_that_machine() -> bool:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return os.geteuid() == 0 and shutil.which("docker") is not None


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a folder that every user can reach, which tmp_path is not."""
    with tempfile.TemporaryDirectory(prefix="seatrial-promises-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def found(folder: Path) -> RunDirectory:
    """Return a run of the smallest session in each environment."""
    run = folder.name
    for here in ENVIRONMENTS:
        words = ["run", f"--privilege={here.privilege}", f"--place={here.place}", f"--as-user={USER}"]
        words += [f"--runs={folder / 'runs'}", f"--cache={folder / 'cache'}", "--target=reference"]
        words += ["--target=reference-wrapper", "--target=runc", "--case=EX-02"]
        done = subprocess.run(
            [sys.executable, "-m", "suites.framework", *words],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), RUN_VARIABLE: run},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert (ExitCode.GREEN, here.name) == (done.returncode, here.name), done.stdout + done.stderr
    return RunDirectory.open(folder / "runs" / run)


def test_every_promise_is_a_fact_and_is_made_once() -> None:
    facts = [fact for fact, _ in lines()]
    assert [] == [fact for fact in facts if fact not in FACTS]
    assert sorted(set(facts)) == sorted(facts)


def test_only_facts_of_an_environment_are_limited_to_some() -> None:
    assert [] == [(fact, names) for fact, names in lines() if names and (fact not in PROBES or set(names) - set(NAMES))]


@pytest.mark.parametrize("here", ENVIRONMENTS, ids=lambda here: here.name)
def test_script_passes_the_promises_of_each_environment(here: Environment, tmp_path: Path) -> None:
    assert promised(here.name) == promised_by_the_script(here, tmp_path)


@pytest.mark.skipif(not on_that_machine(), reason=f"not the machine of .ci/run: root, docker and a user {USER}")
def test_every_fact_of_this_machine_is_promised_and_no_other(public: Path) -> None:
    run = found(public)
    inside = {name: {finding.fact for finding in run.facts(name) if finding.present} for name in NAMES}
    machine = {finding.fact for finding in run.record().findings if finding.present} - set(PROBES)
    if probe_packages(Packages(Cache(public / "cache"), offline=False)).present:
        machine.add(Fact.PACKAGES)
    machine |= {finding.fact for finding in availability.findings() if finding.present} - PERSONAL
    assert inside == {name: promised(name) & set(PROBES) for name in NAMES}
    assert machine == {fact for fact, _ in lines()} - set(PROBES)
