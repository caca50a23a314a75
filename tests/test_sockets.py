"""Ports that are held for a test, and clients that trust nobody but this test's server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from suites.framework import sockets
from suites.framework.sockets import ADDRESS, ANSWERED, Clients, Reply

SECONDS = 5.0
NONCE = "n1"


class Cleanups:
    """What of a bench a port needs."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def own(self, cleanup: Callable[[], None]) -> None:
        """Keep it for the end."""
        self.calls.append(cleanup)


@pytest.fixture
def port() -> Iterator[int]:
    cleanups = Cleanups()
    yield sockets.reserve(cleanups)
    for call in cleanups.calls:
        call()


@contextmanager
def server(port: int, answer: bytes) -> Iterator[None]:
    """Answer every client until the end, resetting those that get nothing."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((ADDRESS, port))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, answer))
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)  # ends its accept
        thread.join()


def await_refusal(clients: Clients) -> None:
    """Look every millisecond whether one more client was refused."""
    deadline, before = time.monotonic() + SECONDS, clients.failures["refused"]
    while clients.failures["refused"] == before:
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def _serve(listener: socket.socket, answer: bytes) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        client.sendall(answer)
        client.close()


def test_a_reserved_port_is_given_to_those_alone_who_share_it(port: int) -> None:
    """Without SO_REUSEPORT nobody can bind it, and nobody listens there."""
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((ADDRESS, port))
    assert "refused" == sockets.ask(port, nonce=NONCE, seconds=SECONDS)
    assert 0 == sockets.listening(port)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [(b"n1 7", 7), (b"n2 7", "answered by a stranger"), (b"n1 seven", "answered by a stranger"), (b"", "reset")],
)
def test_an_answer_counts_with_the_nonce_alone(port: int, answer: bytes, seen: int | str) -> None:
    """A server that an earlier run left is a stranger, and one that closes without a word has reset."""
    with server(port, answer):
        assert 1 == sockets.listening(port)
        reply = sockets.ask(port, nonce=NONCE, seconds=SECONDS)
    assert seen == (reply.pid if isinstance(reply, Reply) else reply)


def test_a_server_that_never_accepts_leaves_its_clients_unanswered(port: int) -> None:
    """The deadline of a client is its own."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((ADDRESS, port))
        listener.listen()
        assert "unanswered" == sockets.ask(port, nonce=NONCE, seconds=0.05)


def test_clients_tell_who_answered_and_how_long_nobody_did(port: int) -> None:
    """Two servers one after another are one gap, during which clients are refused."""
    with server(port, b"n1 1"), Clients(port, nonce=NONCE, seconds=SECONDS) as satisfied:
        assert satisfied.hear(1, seconds=SECONDS)
        assert not satisfied.hear(2, seconds=0.01)
    with Clients(port, nonce=NONCE, seconds=SECONDS) as clients:
        for number in (1, 2):
            await_refusal(clients)
            with server(port, f"n1 {number}".encode()):
                assert clients.hear(number, seconds=SECONDS)
    assert (ANSWERED, []) == (satisfied.verdict, satisfied.gaps)
    assert "some were refused" in clients.verdict
    assert 1 == len(clients.gaps)
    assert 0 < clients.gaps[0] <= clients.longest_s


def test_only_sockets_that_listen_count(tmp_path: Path) -> None:
    """A connection of the same port is none (proc_net(5))."""
    rows = ["  sl  local_address", "0: 0100007F:1F90 00000000:0000 0A 0", "1: 0100007F:1F90 0100007F:C350 01 0"]
    (tmp_path / "tcp").write_text("\n".join(rows))
    assert (1, 0) == tuple(sockets.listening(port, table=tmp_path / "tcp") for port in (8080, 8081))
