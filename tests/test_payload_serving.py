"""The recorder payload and its twin as servers: inherited sockets, one answer a client, the end at TERM."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from tests.payloads import SECONDS, Payload, agent

pytest_plugins = ("tests.payloads",)


@pytest.fixture
def listener() -> socket.socket:
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    opened.bind(("127.0.0.1", 0))
    opened.listen()
    opened.set_inheritable(True)
    return opened


def test_it_answers_with_nonce_and_pid_and_retires_at_term(payload: Payload, listener: socket.socket) -> None:
    """What listens is served without a command; what does not listen is left alone."""
    number, port = listener.fileno(), listener.getsockname()[1]
    with listener, agent(payload, words=("serve", "retire"), pass_fds=(number,)) as run:
        found = {"fd": number, "address": "127.0.0.1", "port": port, "shared": 1}
        assert {"record": "serving", "listeners": [found]} == {
            key: value for key, value in run.next().items() if key in ("record", "listeners")
        }
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as client:
                assert f"n1 {run.process.pid}".encode() == client.recv(100)
        assert 0 == run.ask("record")  # commands are obeyed as before
        run.process.send_signal(signal.SIGTERM)
        assert int(signal.SIGTERM) == run.next()["number"]
        assert 0 == run.process.wait(SECONDS)


def test_without_the_words_it_serves_nobody_and_stays(payload: Payload, listener: socket.socket) -> None:
    """A recorder that inherits a socket is no server, and TERM is a record."""
    with listener, agent(payload, words=("served",), pass_fds=(listener.fileno(),)) as run:
        run.process.send_signal(signal.SIGTERM)
        assert int(signal.SIGTERM) == run.next()["number"]
        assert 0 == run.ask("record")
        assert os.getpid() == run.state()["ppid"]
