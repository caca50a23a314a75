"""Fixtures and a small client for the tests of both payloads; a test module names it in ``pytest_plugins``.

PYTEST_DONT_REWRITE: those modules import it first, and pytest warns of a plugin that it can no longer rewrite.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[1] / "fixtures" / "payloads"
SECONDS = 5
NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root")
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37
Payload = tuple[str, ...]


@pytest.fixture
def bounded() -> Iterator[None]:
    """Adopt orphans, and fail a test that waits for ever."""
    before = ctypes.c_int()
    LIBC.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    previous = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("no end within the deadline"))
    signal.alarm(2 * SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


@pytest.fixture(scope="session")
def public() -> Iterator[Path]:
    """Yield a folder that every user can read."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def compiled(public: Path) -> Payload:
    """Build the C payload without a warning, statically where there is a static C library."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("no C compiler: install gcc or clang")
    sources = sorted(map(str, SOURCE.glob("*.c")))
    command = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", *sources, "-o", str(public / "payload")]
    if subprocess.run([*command, "-static"], stderr=subprocess.DEVNULL).returncode:
        subprocess.run(command, check=True)
    return (str(public / "payload"),)


@pytest.fixture(scope="session")
def twin(public: Path) -> Payload:
    """Return the Python payload under an interpreter that an ordinary user can execute."""
    for part in SOURCE.glob("*.py"):
        shutil.copy(part, public)
        (public / part.name).chmod(0o644)
    script = str(public / "payload.py")
    drop = AS_NOBODY if os.geteuid() == 0 else ()
    for interpreter in (sys.executable, "/usr/bin/python3"):
        words = (interpreter, "-I", "-S", script)
        again = (*words, "launch", "--", interpreter, "-c", "raise SystemExit(9)")  # setpriv(1) itself execs with more
        if subprocess.run([*drop, *again], capture_output=True).returncode == 9:
            return words
    pytest.skip("no Python that an ordinary user can execute")


@pytest.fixture(params=["compiled", "twin"])
def payload(request: pytest.FixtureRequest, bounded: None) -> Payload:  # noqa: ARG001 - for its effect
    """Return the words that start either payload."""
    words: Payload = request.getfixturevalue(request.param)
    return words


class Line:
    """The harness's end of one agent."""

    def __init__(self, channel: socket.socket) -> None:
        """Speak over `channel`, with a deadline for every record."""
        channel.settimeout(SECONDS)
        self.channel = channel

    def close(self) -> None:
        """Hang up."""
        self.channel.close()

    def next(self) -> dict[str, Any]:
        """Return the next record, empty at the end of the channel."""
        return dict(json.loads(self.channel.recv(1 << 18) or b"{}"))

    def tell(self, command: str, *fds: int) -> None:
        """Send a command."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.channel.sendmsg([command.encode()], rights)

    def ask(self, command: str, *fds: int) -> int:
        """Send a command and return the result of its reply, which must be the next record."""
        self.tell(command, *fds)
        record = self.next()
        assert (record["record"], record["command"], record["nonce"]) == ("done", command, "n1")
        return int(record["result"])

    def state(self) -> dict[str, Any]:
        """Return the state as it is now."""
        self.tell("state")
        return self.next()

    def fork(self, flags: str) -> tuple[Line, dict[str, Any], int]:
        """Return the line to a forked agent, its ``ready`` and the pid that the forking one told."""
        ours, theirs = pair()
        with theirs:
            pid = self.ask(f"fork {flags}".strip(), theirs.fileno())
        forked = Line(ours)
        return forked, forked.next(), pid


class Run(Line):
    """An agent that this process started, from its ``ready`` on."""

    def __init__(self, channel: socket.socket, process: subprocess.Popen[bytes]) -> None:
        """Wait for ``ready``."""
        super().__init__(channel)
        self.process = process
        self.ready = self.next()

    def wait(self) -> int:
        """Return how it ended, as a negative number for a signal."""
        return self.process.wait(SECONDS)


def pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def status(pid: int) -> int:
    """Reap a child (negative: one of that process group) and return how it ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def agent(payload: Payload, *before: str, words: tuple[str | bytes, ...] = (), **options: Any) -> Iterator[Run]:
    """Start an agent behind the words `before`; hang up and reap it at the end."""
    ours, theirs = pair()
    with ours:
        with theirs:
            fds = (theirs.fileno(), *options.pop("pass_fds", ()))
            command = [*before, *payload, "agent", str(fds[0]), "n1", *words]
            process = subprocess.Popen(command, pass_fds=fds, start_new_session=True, **options)
        try:
            yield Run(ours, process)
        finally:
            ours.close()
            process.wait(SECONDS)
