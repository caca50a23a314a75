"""Bad input and trouble, through the real command line: one clear line with a remedy, the right code, no traceback."""

from __future__ import annotations

import os
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suites.framework.errors import ExitCode
from suites.framework.events import EventLog, read
from suites.framework.model import Note
from tests.attacks import obstacle

ROOT = Path(__file__).parents[1]
NATIVE = "rootless" if obstacle("root-native") else "root"
"""The privilege with which whoever runs this can try anything natively."""
NOBODY = 65534
SECONDS = 120
QUICK = ("--case", "EX-01", "-k", "254", "--target", "reference")

Launch = Callable[..., tuple[int, str]]


@pytest.fixture
def place() -> Iterator[Path]:
    """Make a folder that other users can reach."""
    folder = Path(tempfile.mkdtemp(prefix="bad-input-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def launch(place: Path) -> Launch:
    """Return a function that starts the launcher and gives its exit code and the one line that it complains with."""

    def start(*words: str, before: tuple[str, ...] = (), **environment: str) -> tuple[int, str]:
        line = [*before, sys.executable, "-m", "suites.framework", *words]
        given = {name: value for name, value in os.environ.items() if not name.startswith("SEATRIAL_")}
        given |= {"PYTHONPATH": str(ROOT), "COLUMNS": "80", **environment}
        done = subprocess.run(line, cwd=place, env=given, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert "Traceback" not in done.stdout + done.stderr
        said = [line for line in done.stderr.splitlines() if line.startswith(("seatrial:", "Error"))]
        assert len(said) <= 1, done.stderr
        return done.returncode, said[0] if said else done.stdout.strip().rpartition("\n")[2]

    return start


def run(*words: str, privilege: str = NATIVE, where: str = "native") -> tuple[str, ...]:
    """Return the words of a run with its directories below the current one."""
    return ("run", "--privilege", privilege, "--place", where, "--runs", "runs", "--cache", "cache", *words)


def foreign_elf(path: Path) -> None:
    """Write the header of a program for another machine (elf(5))."""
    machine = 183 if os.uname().machine != "aarch64" else 62
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    path.write_bytes(ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0))
    path.chmod(0o755)


WRONG_WORDS = {
    "unknown target": (("--target", "nonesuch"), "the catalogue has", "--target nonesuch=PATH"),
    "missing path": (("--target", "mine=init:./absent"), "No such file", "give the path of the binary"),
    "directory that is no checkout": (
        ("--target", "mine=init:./folder", "--build-as-root"),
        "says how it is built",
        "give the top of the checkout",
    ),
    "not executable": (("--target", "mine=init:./plain"), "not executable", "chmod +x"),
    "other architecture": (("--target", "mine=init:./foreign"), "built for", "build it for"),
    "no program": (("--target", "mine=init:./text"), "mine=init:./text", "#!"),
    "unknown kind": (("--target", "mine=vm:./plain"), "unknown kind 'vm'", "the kinds are"),
    "unknown case": (("--target", "reference", "--case", "EX-99"), "unknown case EX-99", "did you mean EX-0"),
    "unknown suite": (("--suite", "inti"), "'inti' is not a suite", "there is: init"),
    "unknown promise": (("--promise", "overlya"), "'overlya' is not a fact", "did you mean overlay?"),
    "unknown option": (("--tragets", "x"), "--tragets", "--help"),
    "unknown user": (("--target", "reference", "--as-user", "nonesuch"), "no such user", "useradd"),
    "unknown run": (("--target", "reference", "--failed", "nonesuch"), "no run directory", "run a session first"),
    "bad expression": (("--target", "reference", "-k", "((("), "is no expression", "such as"),
    "profile is no TOML": (
        ("--target", "mine=init:/bin/true", "--profile", "broken.toml"),
        "not TOML",
        "correct the file",
    ),
    "profile with a wrong key": (("--target", "mine=init:/bin/true", "--profile", "typo.toml"), "knids", "correct the"),
    "profile of a new version": (("--target", "mine=init:/bin/true", "--profile", "new.toml"), "newer", "correct the"),
    "profile is missing": (("--target", "mine=init:/bin/true", "--profile", "absent.toml"), "No such", "give the path"),
}
"""What is wrong: the words, the cause, the remedy."""


@pytest.mark.parametrize(("words", "cause", "remedy"), WRONG_WORDS.values(), ids=WRONG_WORDS.keys())
def test_wrong_words(launch: Launch, place: Path, words: tuple[str, ...], cause: str, remedy: str) -> None:
    """Exit code 64, before anything is started, and the line names cause and remedy."""
    (place / "folder").mkdir()
    (place / "plain").write_text("x")
    (place / "text").write_text("hello\n")
    (place / "text").chmod(0o755)
    foreign_elf(place / "foreign")
    (place / "broken.toml").write_text("schema = '1\n")
    (place / "typo.toml").write_text('schema = 1\nknids = ["init"]\n')
    (place / "new.toml").write_text('schema = 99\nkinds = ["init"]\n')
    code, said = launch(*run(*words))
    assert ExitCode.USAGE == code, said
    assert cause in said
    assert remedy in said
    assert not list(place.glob("runs/*/*/events/test.[0-9]*"))


@pytest.mark.parametrize("where", ["root", "rootless"])
def test_docker_is_down(launch: Launch, where: str) -> None:
    """A container environment is skipped with the remedy; promised, its absence is red."""
    down = {"DOCKER_HOST": "unix:///nonexistent"}
    code, said = launch(*run(*QUICK, privilege=where, where="container"), **down)
    assert ExitCode.CANNOT_RUN == code, said
    assert "cannot run here" in said
    assert "start docker" in said
    code, said = launch(*run(*QUICK, "--promise", "docker", privilege=where, where="container"), **down)
    assert ExitCode.INFRASTRUCTURE == code
    assert "docker was promised and is missing" in said


def test_docker_is_down_and_not_needed(launch: Launch) -> None:
    """Natively only the cases with containers are skipped, unless somebody promised Docker."""
    down = {"DOCKER_HOST": "unix:///nonexistent"}
    assert ExitCode.GREEN == launch(*run(*QUICK), **down)[0]
    assert ExitCode.FAILED == launch(*run(*QUICK, "--promise", "docker"), **down)[0]


@pytest.mark.skipif(bool(obstacle("root-container")), reason=obstacle("root-container") or "-")
def test_an_image_that_cannot_be_obtained(launch: Launch) -> None:
    """An image named by the user that is nowhere is no reason to take another one."""
    image = f"nonesuch.invalid/{secrets.token_hex(4)}:1"
    code, said = launch(*run(*QUICK, "--image", image, "--offline", privilege="root", where="container"))
    assert ExitCode.CANNOT_RUN == code
    assert f"docker pull {image}" in said


def tiny(folder: str, size: str) -> tuple[str, ...]:
    """Return the words that make a folder a file system of so many bytes, for the program that follows."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    script = f'mount -t tmpfs -o size={size} tmpfs {folder} && exec "$@"'
    return ("unshare", *user, "--mount", "sh", "-c", script, "sh")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, and runs natively in it")
@pytest.mark.parametrize(("full", "size"), [("runs", "16k"), ("runs", "64k"), ("cache", "16k")])
def test_the_disk_is_full(launch: Launch, place: Path, full: str, size: str) -> None:
    """Exit code 3, and the line says that it is the disk and which one."""
    (place / full).mkdir()
    code, said = launch(*run(*QUICK), before=tiny(full, size))
    assert ExitCode.INFRASTRUCTURE == code, said
    assert "No space left on device" in said
    assert f"/{full}" in said or "compile" in said


AS_NOBODY = """
import os, sys
import suites.framework.results.rundir
from suites.framework.__main__ import main
from suites.framework.commands.run import versions
versions()
os.setgroups([]), os.setgid(int(sys.argv[1])), os.setuid(int(sys.argv[1]))
sys.exit(main(sys.argv[2:]))
"""
"""The interpreter may stand where an ordinary user cannot reach it, so it becomes one when all is imported."""


@pytest.mark.skipif(os.geteuid() != 0, reason="root leaves the files that a user stumbles over")
@pytest.mark.parametrize("what", ["a folder of root's", "an earlier run of root's"])
def test_a_run_directory_that_root_left(place: Path, what: str) -> None:
    """An ordinary user is told whose files are in the way and how to get them."""
    (place / "runs").mkdir()
    if what != "a folder of root's":
        (place / "runs" / ".lock").touch(mode=0o600)
        (place / "runs").chmod(0o777)
    line = [sys.executable, "-c", AS_NOBODY, str(NOBODY), *run(*QUICK, "--runs", str(place / "runs"))]
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")
    }  # not nobody's to write
    done = subprocess.run(line, cwd=ROOT, env=plain, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ExitCode.USAGE == done.returncode, done.stderr
    (said,) = done.stderr.splitlines()
    assert "root left it there: sudo chown" in said
    assert "or give another --runs DIR" in said


def test_a_place_that_nobody_can_write(launch: Launch) -> None:
    """A run directory needs a place; which one was tried stands in the line."""
    code, said = launch(*run(*QUICK, "--runs", "/proc/nowhere"))
    assert ExitCode.USAGE == code
    assert "cannot make a run directory in /proc/nowhere" in said
    assert "give a writable --runs DIR" in said


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_jump_of_the_clock_moves_no_event(tmp_path: Path, jump: float) -> None:
    """The wall clock is asked once; from then on the times of events advance by CLOCK_MONOTONIC."""
    wall, passed = [1_000_000.0], [50.0]
    with EventLog(tmp_path / "test.1.jsonl", now=lambda: wall[0], clock=lambda: passed[0]) as log:
        log.write(Note(name="before", value=1))
        wall[0] += jump
        passed[0] += 2.5
        log.write(Note(name="after", value=1))
    assert [1_000_000.0, 1_000_002.5] == [record.t for record in read(tmp_path / "test.1.jsonl").records]
