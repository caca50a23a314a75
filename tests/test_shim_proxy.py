"""The proxy that carries seeded faults of shims: it changes nothing, and its faults are what they say."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import ModuleType

import pytest

PROXY = Path(__file__).parents[1] / "fixtures/runtimes/shim.py"
END_S = 10


def loaded(*changes: tuple[str, str]) -> ModuleType:
    """Return the proxy as a module, with rows of it replaced."""
    text = PROXY.read_text()
    for find, replacement in changes:
        assert 1 == text.count(find)
        text = text.replace(find, replacement)
    spec = importlib.util.spec_from_file_location("shim", PROXY)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(text, str(PROXY), "exec"), vars(module))
    return module


shim = loaded()


def asked(method: str, request: bytes) -> bytes:
    """Return a message that calls a method."""
    return bytes(shim.encoded([(1, b"containerd.task.v2.Task"), (2, method.encode()), (3, request), (4, 10**12)]))


def frame(stream: int, kind: int, message: bytes) -> bytes:
    """Return a frame."""
    return len(message).to_bytes(4, "big") + stream.to_bytes(4, "big") + bytes([kind, 0]) + message


@contextmanager
def between(
    folder: Path, answer: Callable[[bytes], bytes], module: ModuleType = shim
) -> Iterator[tuple[socket.socket, list[bytes]]]:
    """Yield a connection to a proxy, behind which somebody answers, and what has arrived there."""
    arrived: list[bytes] = []
    far, near = shim.listening(str(folder / "far")), shim.listening(str(folder / "near"))

    def serve() -> None:
        connection, _ = far.accept()
        with closing(connection), suppress(ConnectionAbortedError):
            while got := shim.received(connection):
                head, message = got
                arrived.append(message)
                shim.send(connection, head[:8] + bytes([2, 0]), answer(message))

    threading.Thread(target=serve, daemon=True).start()
    service = module.Service(near, f"unix://{folder / 'far'}")
    threading.Thread(target=service.serve, kwargs={"left": shim.nothing}, daemon=True).start()
    with closing(shim.connected(str(folder / "near"))) as connection:
        connection.settimeout(END_S)
        yield connection, arrived
    far.close()


@pytest.mark.parametrize("fields", [[], [(1, 0)], [(1, 300), (2, b"abc"), (2, b""), (15, 2**63)]])
def test_messages_come_back_as_they_were(fields: list[tuple[int, int | bytes]]) -> None:
    """Numbers, texts, repeated fields, in their order; a width that is not used here is refused."""
    assert fields == shim.decoded(shim.encoded(fields))
    with pytest.raises(ValueError, match="wire type 5"):
        shim.decoded(bytes([1 << 3 | 5, 0, 0, 0, 0]))


def test_what_it_does_not_know_is_passed_on_byte_for_byte(tmp_path: Path) -> None:
    """A call and its answer are the same on both sides, on the stream that they came on, large ones too."""
    message, answer = asked("Stats", b"x" * 200_000), shim.encoded([(2, b"y" * 200_000)])
    with between(tmp_path, lambda _: answer) as (connection, arrived):
        connection.sendall(frame(7, 1, message))
        head, said = shim.received(connection)
    assert (message, answer) == (arrived[0], said)
    assert (7, 2) == (int.from_bytes(head[4:8], "big"), head[8])


def test_answers_find_their_callers(tmp_path: Path) -> None:
    """One that is waited for holds up nobody: who asked later is answered first."""
    first = threading.Event()

    def answer(message: bytes) -> bytes:
        return bytes(shim.encoded([(2, shim.field(message, 3))]))

    module = loaded(('"Wait": passed', '"Wait": lambda call: (HELD.wait(), passed(call))[1]'))
    vars(module)["HELD"] = first
    with between(tmp_path, answer, module) as (connection, _):
        connection.sendall(frame(1, 1, asked("Wait", b"one")) + frame(3, 1, asked("State", b"two")))
        assert b"two" == shim.field(shim.received(connection)[1], 2)
        first.set()
        assert b"one" == shim.field(shim.received(connection)[1], 2)


def test_a_changed_answer_keeps_the_rest(tmp_path: Path) -> None:
    """Of what is answered one field is another, and of what is asked nothing."""
    module = loaded(('"Wait": passed', '"Wait": answering(1, lambda _: 0)'))
    answer = shim.encoded([(2, shim.encoded([(1, 42), (2, b"time")]))])
    with between(tmp_path, lambda _: answer, module) as (connection, arrived):
        connection.sendall(frame(1, 1, asked("Wait", b"id")))
        said = shim.field(shim.received(connection)[1], 2)
    assert {1: 0, 2: b"time"} == dict(shim.decoded(said))
    assert [asked("Wait", b"id")] == arrived


def test_the_end_of_one_side_is_the_end_of_the_other(tmp_path: Path) -> None:
    """Where the shim goes while something is asked of it, nobody waits for an answer."""

    def gone(_: bytes) -> bytes:
        raise ConnectionAbortedError

    with between(tmp_path, gone) as (connection, arrived):
        connection.sendall(frame(1, 1, asked("Wait", b"id")))
        assert b"" == connection.recv(1)
    assert 1 == len(arrived)


def test_what_was_written_last_is_dropped() -> None:
    """What has been there for a moment is copied, what came just before the end is not."""
    source, writer = os.pipe()
    reader, sink = os.pipe()
    thread = threading.Thread(target=shim.held(0.01), args=(source, sink))
    thread.start()
    os.write(writer, b"early")
    assert b"early" == os.read(reader, 100)
    os.close(writer)
    thread.join(END_S)
    for fd in (source, sink):
        os.close(fd)
    source, writer = os.pipe()
    os.write(writer, b"late")
    os.close(writer)
    shim.held(END_S)(source, reader)  # a descriptor that takes nothing
    assert b"" == os.read(reader, 100)
    for fd in (source, reader):
        os.close(fd)


def test_every_other_command_is_the_shims(tmp_path: Path) -> None:
    """What is not start is carried out by the real shim in the proxy's place, with the same words and the same end."""
    real = tmp_path / "real"
    real.write_text('#!/bin/sh\necho "$@"; exit 3\n')
    real.chmod(0o755)
    words = [sys.executable, "-I", "-S", str(PROXY), str(real), "-id", "a b", "delete"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (3, "-id a b delete\n", "") == (done.returncode, done.stdout, done.stderr)
