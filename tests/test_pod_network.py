"""The network of an engine: what is written for its plugins, and the helper that connects in it."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.framework.pod import network

HERE = ("/usr/bin/env",)
"""Words that enter nothing."""


@pytest.fixture
def door() -> Iterator[network.Door]:
    """Yield a helper in our own network."""
    made = network.Door(front=HERE, python=sys.executable, fds={})
    yield made
    made.close()
    made.close()


def test_a_network_leaves_no_rules_and_no_files(tmp_path: Path) -> None:
    """No address translation, whose rules would stay, and what is remembered is below a folder of ours."""
    found = json.loads(network.configuration(tmp_path))
    (plugin,) = found["plugins"]
    assert not plugin.get("ipMasq")
    assert str(tmp_path) == plugin["ipam"]["dataDir"]
    assert {plugin["type"], plugin["ipam"]["type"], "loopback"} == set(network.NEEDED)
    assert network.VERSION == found["cniVersion"]


def test_a_connection_is_handed_over(door: network.Door) -> None:
    """One after the other, each to the port that was asked for."""
    for _ in range(2):
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            door.connect("127.0.0.1", listener.getsockname()[1], 10) as ours,
            listener.accept()[0] as theirs,
        ):
            theirs.sendall(b"hello")
            assert b"hello" == ours.recv(16)


def test_a_refused_connection_is_refused_here_too(door: network.Door) -> None:
    """With the kernel's word, and the helper serves on."""
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                door.connect("127.0.0.1", unheard.getsockname()[1], 10)


def test_a_helper_that_is_gone_is_no_riddle() -> None:
    """Where the namespaces cannot be entered, a connection is refused at once."""
    door = network.Door(front=("/bin/false",), python=sys.executable, fds={})
    with pytest.raises(OSError, match=r"Broken pipe|reset|abort"):
        door.connect("127.0.0.1", 1, 10)
    door.close()


def test_a_helper_that_ends_is_no_riddle() -> None:
    """One who was asked and is gone refuses too."""
    code = "import socket; socket.socket(fileno=3).recv(512)"
    door = network.Door(front=(sys.executable, "-c", code), python=sys.executable, fds={})
    with pytest.raises(ConnectionAbortedError):
        door.connect("127.0.0.1", 1, 10)
    door.close()


def test_a_helper_that_does_not_answer_is_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """His late answer would be taken for the next one."""
    monkeypatch.setattr(network, "START_S", 0.05)
    door = network.Door(front=("/bin/sh", "-c", "exec sleep 1000"), python=sys.executable, fds={})
    with pytest.raises(TimeoutError):
        door.connect("127.0.0.1", 1, 0.05)
    with pytest.raises(OSError, match="Bad file descriptor"):
        door.connect("127.0.0.1", 1, 0.05)
    door.close()


def test_interfaces_are_those_of_the_process() -> None:
    """As the kernel lists them, without loopback."""
    names = {name for _, name in socket.if_nameindex()}
    assert names - {"lo"} == set(network.interfaces(os.getpid()))
    assert "lo" in names
