"""The sessions that people and CI call. Thin on purpose: each one makes an environment and calls the launcher."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import sys
import time
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import nox

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the `nox` script does not, `python -m nox` does

from suites.catalog import Environment, Place, Privilege  # noqa: E402
from suites.framework.errors import ExitCode  # noqa: E402

nox.needs_version = ">=2025.10.16"
nox.options.sessions = []  # bare `nox` prints the menu
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"

os.environ.setdefault("SEATRIAL_RUN", f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(2)}")
"""One invocation of nox is one run, whatever number of sessions it has."""

PLACES = [nox.param(place, id=place.value, tags=["acceptance"]) for place in Place]


def install(session: nox.Session, group: str) -> None:
    """Install a dependency group of pyproject.toml, once per environment and content of that file."""
    wanted = hashlib.sha256((HERE / "pyproject.toml").read_bytes() + group.encode()).hexdigest()
    stamp = Path(session.virtualenv.location) / f"seatrial-installed-{group}"
    if not stamp.exists() or stamp.read_text() != wanted:
        session.install(*nox.project.dependency_groups(nox.project.load_toml(HERE / "pyproject.toml"), group))
        stamp.write_text(wanted)


def install_planned(session: nox.Session) -> None:
    """Install what the launcher needs, and what the planned kinds need beside that.

    A machine on which the latter cannot be had runs everything else: the launcher then says what is missing.
    """
    install(session, "host")
    if plans_pods(session.posargs):
        try:
            install(session, "pod")
        except nox.command.CommandFailed:
            session.warn("the dependency group pod cannot be installed: pods are not tried")


def plans_pods(words: Sequence[str]) -> bool:
    """Return whether these words plan cases of kind pod: its suite, or one of its targets, or everything."""
    suites, targets = values(words, "--suite"), values(words, "--target")
    if suites:
        return "pod" in suites
    profile = bool(values(words, "--profile"))  # what it says is the launcher's to read
    return not targets or any(may_be_pod(word) or (profile and ":" not in word) for word in targets)


def values(words: Sequence[str], option: str) -> list[str]:
    """Return what is given for an option, as a word of its own or behind an equals sign."""
    apart = [following for word, following in pairwise(words) if word == option]
    return apart + [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]


def may_be_pod(word: str) -> bool:
    """Return whether a word of ``--target`` is one of kind pod, as it says or as the catalogue does."""
    label, _, place = word.partition("=")
    profile = HERE / "fixtures" / "targets" / f"{label.partition('+')[0].replace(':', '-')}.toml"
    kinds = tomllib.loads(profile.read_text()).get("kinds", []) if profile.is_file() else []
    return place.startswith("pod:") or ("pod" in kinds and ":" not in place)


def launch(session: nox.Session, *words: str) -> None:
    """Call the launcher from the checkout; its exit code is the session's."""
    command, *rest = words
    skips = () if command == "gate" else (ExitCode.CANNOT_RUN,)  # a run in which nothing ran must not ship
    session.run(
        "python",
        "-m",
        "suites.framework",
        command,
        f"--base={session.invoked_from}",
        *rest,
        *session.posargs,
        env={"PYTHONPATH": str(HERE), "SEATRIAL_NOX": str(os.getpid()), "SEATRIAL_WORDS": shlex.join(session.posargs)},
        success_codes=[ExitCode.GREEN, *skips],
        interrupt_timeout=30,
        terminate_timeout=10,
    )


def acceptance(session: nox.Session, here: Environment) -> None:
    """Run every suite in one environment; skip the session with the reason where it cannot run here."""
    install_planned(session)
    launch(session, "run", f"--privilege={here.privilege}", f"--place={here.place}")
    if reason := skipped(session, here.name):
        session.skip(reason)


def skipped(session: nox.Session, environment: str) -> str:
    """Return why an environment cannot run here, from the run directory; empty when it ran."""
    runs = HERE / "runs"
    for word, following in pairwise([*session.posargs, ""]):
        given = following if word == "--runs" else word.partition("=")[2] if word.startswith("--runs=") else ""
        runs = Path(session.invoked_from) / given if given else runs
    file = runs / os.environ["SEATRIAL_RUN"] / environment / "session.json"
    conclusion = json.loads(file.read_text()) if file.exists() else {"code": ExitCode.GREEN}
    return str(conclusion["reason"]) if conclusion["code"] == ExitCode.CANNOT_RUN else ""


@nox.session(name="acceptance-root")
@nox.parametrize("place", PLACES)
def acceptance_root(session: nox.Session, place: Place) -> None:
    """Every suite as root, on this host and in a privileged Docker container."""
    acceptance(session, Environment(privilege=Privilege.ROOT, place=place))


@nox.session(name="acceptance-rootless")
@nox.parametrize("place", PLACES)
def acceptance_rootless(session: nox.Session, place: Place) -> None:
    """Every suite as an ordinary user, on this host and in an unprivileged Docker container."""
    acceptance(session, Environment(privilege=Privilege.ROOTLESS, place=place))


@nox.session
def build(session: nox.Session) -> None:
    """Build targets from their checkouts: -- NAME=DIR ..."""
    install(session, "host")
    launch(session, "build")
    if reason := skipped(session, "host"):
        session.skip(reason)


@nox.session
def doctor(session: nox.Session) -> None:
    """Print what this machine has, per environment, with the cases that each fact unlocks, and the remedies."""
    install_planned(session)
    launch(session, "doctor")


@nox.session
def cases(session: nox.Session) -> None:
    """Print what is tested: -- --json, -- --explain ID."""
    install(session, "host")
    launch(session, "cases")


@nox.session
def report(session: nox.Session) -> None:
    """Derive the results of run directories again, or merge several: -- RUN..., -- --write-profile FILE."""
    install(session, "host")
    launch(session, "report")


@nox.session
def gate(session: nox.Session) -> None:
    """Judge run directories by every gate: -- RUN...; red when one is."""
    install(session, "host")
    launch(session, "gate")


@nox.session
def mutants(session: nox.Session) -> None:
    """Prove that the suites catch seeded faults: kill matrix, red on a survivor."""
    install_planned(session)
    launch(session, "mutants")


@nox.session
def rootfs(session: nox.Session) -> None:
    """List, fetch, verify or clean the root file systems that containers run in: nox -s rootfs -- list."""
    install(session, "host")
    launch(session, "rootfs")


@nox.session
def clean(session: nox.Session) -> None:
    """Show what earlier runs left behind; remove it with -- --apply."""
    install(session, "host")
    launch(session, "clean")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the framework's own tests, with coverage."""
    install(session, "tests")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    whole = os.geteuid() == 0 and not session.posargs  # the privileged tests skip for an ordinary user
    session.run("coverage", "report", *([] if whole else ["--fail-under=0"]))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and workflows."""
    install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("zizmor", "--offline", "--quiet", ".github", external=True)
