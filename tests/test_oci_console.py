"""A console socket takes one terminal from a runtime, and says what came instead."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from suites.framework.observation import Unmet
from suites.framework.oci.console import Console
from suites.framework.terminal import Terminal
from suites.framework.waiting import Waiter

SECONDS = 5.0


class Cleanups:
    """What of a bench a console needs, without its census: others mount things on a machine at the same time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[Callable[[], object]] = []

    def own(self, cleanup: Callable[[], object]) -> None:
        """Keep it for the end."""
        self.calls.append(cleanup)

    def make_folder(self) -> Path:
        """Return the folder."""
        return self.folder


@pytest.fixture
def console() -> Iterator[Console]:
    """Yield a console at a short path, of which nothing is left."""
    before = os.listdir("/proc/self/fd")
    with TemporaryDirectory(prefix="st") as folder:
        cleanups = Cleanups(Path(folder))
        yield Console(cleanups)
        for call in cleanups.calls:
            call()
        assert [] == os.listdir(folder)
    assert before == os.listdir("/proc/self/fd")


def connected(console: Console) -> socket.socket:
    """Return a runtime's end."""
    runtime = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    runtime.connect(console.options(["--console-socket={socket}"])[0].removeprefix("--console-socket="))
    return runtime


def send(console: Console, fds: Sequence[int], words: bytes = b"/dev/ptmx") -> None:
    """Do what a runtime does: connect, send, hang up."""
    with connected(console) as runtime:
        runtime.sendmsg([words], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])


def do_nothing(_console: Console) -> None:
    """Never come."""


def why_not(console: Console, *, seconds: float = SECONDS) -> str:
    """Return what came in place of a terminal."""
    with pytest.raises(Unmet) as caught:
        console.master(waiter=Waiter(), seconds=seconds)
    return caught.value.actual


def test_the_terminal_that_was_sent_is_received(console: Console) -> None:
    """What is written at its other end comes out of it, no program inherits it, and it is closed in the end."""
    with Terminal() as terminal:
        send(console, [terminal.master])
        master = console.master(waiter=Waiter(), seconds=SECONDS)
        os.write(terminal.slave, b"shown")
        assert b"shown" == os.read(master, 100)
        assert not os.get_inheritable(master)
    console.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(master)


@pytest.mark.parametrize(
    ("act", "seen"),
    [
        (do_nothing, "nobody connected"),
        (lambda console: connected(console).close(), "0 came"),
        (lambda console: send(console, []), "0 came"),
        (lambda console: send(console, [0, 0]), "2 came"),
    ],
    ids=["nobody", "hangs-up", "words-alone", "two"],
)
def test_what_is_no_terminal_is_told(console: Console, act: Callable[[Console], None], seen: str) -> None:
    """Each way of not sending one terminal reads differently."""
    act(console)
    assert seen == why_not(console, seconds=0.05 if seen == "nobody connected" else SECONDS)


def test_a_silent_runtime_is_not_waited_for_longer_than_asked(console: Console) -> None:
    """Who connects and sends nothing is told apart from who never came."""
    with connected(console):
        assert "nothing was sent" == why_not(console, seconds=0.05)


def test_another_file_is_no_terminal(console: Console) -> None:
    """A pipe that is sent as a terminal is refused, and closed all the same."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        send(console, [writing])
        os.close(writing)
        assert "another file came" == why_not(console)
        console.close()
        assert b"" == pipe.read()
