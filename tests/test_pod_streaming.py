"""Commands with their streams connected: against a server that speaks the protocol over a socket, as an engine does."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from suites.framework.pod import spdy, streaming
from suites.framework.pod.cri import Refused
from suites.framework.pod.driver import Output

SUCCESS = b'{"metadata":{},"status":"Success"}'
SEVEN = json.dumps(
    {"status": "Failure", "message": "exit", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}
).encode()
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\n\r\n"
PLENTY = 6 << 20
"""Bytes: more than both ends of a connection hold."""


class Side:
    """The server's end of a connection, with a reader of frames of its own."""

    def __init__(self, connection: socket.socket) -> None:
        """Read the question."""
        self.connection, self._zlib = connection, zlib.decompressobj()
        self.head = b""
        while not self.head.endswith(b"\r\n\r\n"):
            self.head += connection.recv(1)
        self.numbers: dict[str, int] = {}

    def read(self) -> tuple[int, int, bytes]:
        """Return the first word, the flags and the content of a frame."""
        first, second = struct.unpack(">II", self._exactly(8))
        return first, second >> 24, self._exactly(second & 0xFFFFFF)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.connection.recv(size - len(data))
            assert more, "the client is gone"
            data += more
        return data

    def accept(self, count: int) -> list[str]:
        """Agree, and return the names of so many streams in the order in which they are opened."""
        self.connection.sendall(SWITCHED)
        for _ in range(count):
            first, _, body = self.read()
            assert first == 0x80030001
            text = self._zlib.decompress(body[10:])
            name = text[4 + 4 + len("streamtype") + 4 :].decode()
            self.numbers[name] = struct.unpack(">I", body[:4])[0]
            # what a server answers, and nobody reads: SYN_REPLY
            self.connection.sendall(struct.pack(">HHI", 0x8003, 2, 4) + body[:4])
        return list(self.numbers)

    def write(self, name: str, content: bytes, *, last: bool = False) -> None:
        """Send content on a stream."""
        self.connection.sendall(struct.pack(">II", self.numbers[name], last << 24 | len(content)) + content)

    def end(self, status: bytes) -> None:
        """Say what came of it, and that all is over."""
        self.write("error", status)
        self.connection.sendall(struct.pack(">HHII", 0x8003, 3, 8, self.numbers["error"]) + struct.pack(">I", 5))
        self.connection.sendall(struct.pack(">HHIII", 0x8003, 7, 8, 7, 0))


@contextlib.contextmanager
def serving(script: Callable[[Side], object]) -> Iterator[str]:
    """Serve one connection by a script; yield the URL, and raise what went wrong there."""
    wrong: list[BaseException] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(10)
                script(Side(connection))
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/exec/TOKEN"
    finally:
        thread.join(20)
        listener.close()
    if wrong:
        raise wrong[0]


def connect(host: str, port: int, seconds: float) -> socket.socket:
    return socket.create_connection((host, port), seconds)


def begun(url: str, **changes: Any) -> streaming.Session:
    return streaming.begun(url, connect=connect, **{"seconds": 10.0, **changes})


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["error", "stdout", "stderr"]),
        ({"stdin": True}, ["error", "stdin", "stdout", "stderr"]),
        ({"stdin": True, "tty": True}, ["error", "stdin", "stdout", "resize"]),
    ],
)
def test_the_streams_that_are_asked_for_are_opened(asked: dict[str, bool], names: list[str]) -> None:
    """No input where none is wanted, and no stream for errors where there is a terminal."""
    seen: list[Any] = []

    def script(side: Side) -> None:
        seen.extend((side.head.decode().splitlines(), side.accept(len(names))))
        side.end(SUCCESS)

    with serving(script) as url:
        session = begun(url, **asked)
        assert (out := session.ended(seconds=10)) is not None
        session.close()
    assert (0, b"", b"", "") == (out.code, out.stdout, out.stderr, out.refusal)
    assert "POST /exec/TOKEN HTTP/1.1" == seen[0][0]
    assert {"Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io"} < set(seen[0])
    assert names == seen[1]


def test_streams_and_code_arrive() -> None:
    """Each stream on its own, in the pieces in which it comes, and the code out of the causes."""

    def script(side: Side) -> None:
        side.accept(3)
        for stream, text in (("stdout", b"o"), ("stderr", b"e"), ("stdout", b"ut"), ("stderr", b"rr")):
            side.write(stream, text)
        side.write("stdout", b"", last=True)
        side.end(SEVEN)

    with serving(script) as url:
        session = begun(url)
        assert Output(code=7, stdout=b"out", stderr=b"err") == session.ended(seconds=10)
        session.close()
        session.close()


def test_nobody_waits_for_the_other() -> None:
    """More goes both ways than the connection holds, and neither side needs the other to read first."""
    given = bytes(range(256)) * (PLENTY // 256)
    taken = bytearray()

    def script(side: Side) -> None:
        side.accept(4)
        for at in range(0, PLENTY, 1 << 20):
            side.write("stdout", given[at : at + (1 << 20)])
        last = 0
        while not last:
            first, last, content = side.read()
            assert first == side.numbers["stdin"]
            assert len(content) <= spdy.CHUNK
            taken.extend(content)
        side.end(SUCCESS)

    with serving(script) as url:
        session = begun(url, stdin=True)
        session.send(given)
        session.finish()
        assert (out := session.ended(seconds=20)) is not None
        session.close()
    assert (given == out.stdout, given == bytes(taken), out.code) == (True, True, 0)


def test_sizes_are_sent_and_questions_answered() -> None:
    """A size is a line of JSON on a stream of its own; who asks whether anybody is here is told so."""
    seen: list[Any] = []
    ping = struct.pack(">HHII", 0x8003, 6, 4, 77)

    def script(side: Side) -> None:
        side.accept(4)
        side.connection.sendall(ping)
        for _ in range(2):
            first, _, content = side.read()
            seen.append("ping" if first == 0x80030006 and content == struct.pack(">I", 77) else json.loads(content))
        side.end(SUCCESS)

    with serving(script) as url:
        session = begun(url, stdin=True, tty=True)
        session.resize(columns=90, rows=33)
        assert session.ended(seconds=10) is not None
        session.close()
    assert "ping" in seen
    assert {"Width": 90, "Height": 33} in seen


def test_what_is_waited_for_may_come_in_pieces() -> None:
    """All that was written so far is looked at; a command that ends without it, or is silent, is told apart."""
    enough = threading.Event()

    def script(side: Side) -> None:
        side.accept(3)
        for byte in b"ready":
            side.write("stdout", bytes((byte,)))
        assert enough.wait(10)
        side.end(SUCCESS)

    with serving(script) as url:
        session = begun(url)
        assert session.until(lambda text: text == b"ready", seconds=10)
        assert not session.until(lambda text: text == b"more", seconds=0.05)
        assert session.ended(seconds=0.05) is None
        enough.set()
        assert not session.until(lambda text: text == b"more", seconds=10)
        assert (out := session.ended(seconds=0)) is not None
        assert (0, b"ready") == (out.code, out.stdout)
        session.close()


def test_no_time_is_no_time() -> None:
    """When the time is over nothing is taken that has come meanwhile: who never pauses would be heard out."""
    done = threading.Event()

    def script(side: Side) -> None:
        side.accept(3)
        side.write("stdout", b"ready")
        assert done.wait(10)
        side.write("stdout", b", more")
        side.end(SUCCESS)

    with serving(script) as url:
        session = begun(url)
        assert session.until(bool, seconds=10)
        done.set()
        assert select.select([session._connection], [], [], 10)[0]
        assert not session.until(lambda text: b"more" in text, seconds=0)
        assert session.until(lambda text: b"more" in text, seconds=10)
        assert session.ended(seconds=10) is not None
        session.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "HTTP/1.1 403 Forbidden"),
        (b"", ""),
        (b"x" * 40000, "x" * streaming.HEAD),
    ],
)
def test_a_server_that_does_not_agree_is_quoted(answer: bytes, words: str) -> None:
    """Its first line is why there is no session."""
    with serving(lambda side: side.connection.sendall(answer)) as url, pytest.raises(Refused) as caught:
        begun(url)
    assert ("Exec", words) == (caught.value.verb, caught.value.words)


def test_a_server_that_does_not_answer_is_left() -> None:
    """Neither one that is silent nor one that is not there is waited for longer than was said."""
    done = threading.Event()
    with serving(lambda _: done.wait(10)) as url:
        with pytest.raises(Refused, match="the streaming server: timed out"):
            begun(url, seconds=0.1)
        done.set()
    with pytest.raises(Refused, match="the streaming server: Connection refused"):
        begun(url)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"", streaming.LOST),
        (struct.pack(">II", 99, 0), "a frame on stream 99, which is not open"),
        (struct.pack(">HHI", 0x8002, 1, 0), "a frame of version 2"),
        (struct.pack(">II", 3, 8) + b"half", streaming.LOST),
    ],
)
def test_a_connection_that_breaks_off_is_no_success(frame: bytes, words: str) -> None:
    """Without a word of the server there is no code, whatever was written before."""

    def script(side: Side) -> None:
        side.accept(3)
        side.write("stdout", b"out")
        side.connection.sendall(frame)

    with serving(script) as url:
        session = begun(url)
        assert Output(code=None, stdout=b"out", refusal=words) == session.ended(seconds=10)
        session.close()


def test_a_flood_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes without end is not listened to any longer than there is room."""
    monkeypatch.setattr(streaming, "MOST", 1 << 20)

    def script(side: Side) -> None:
        side.accept(3)
        with contextlib.suppress(ConnectionError):
            while True:
                side.write("stdout", bytes(1 << 16))

    with serving(script) as url:
        session = begun(url)
        out = session.ended(seconds=10)
        session.close()
    assert out is not None
    assert (None, True) == (out.code, len(out.stdout) < 2 << 20)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (SUCCESS, 0, ""),
        (SEVEN, 7, ""),
        (b'{"status": "Failure", "message": "no such program"}', None, "no such program"),
        (b'{"status": "Failure", "message": "m", "details": null}', None, "m"),
        (b'{"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "x"}]}}', None, "ExitCode"),
        (b"[]", None, "[]"),
        (b"plain words", None, "plain words"),
        (b"", None, streaming.LOST),
    ],
)
def test_a_status_is_a_code_or_a_refusal(text: bytes, code: int | None, words: str) -> None:
    """Success, the code among the causes, or why there is none; what is no status is quoted."""
    found, said = streaming.told(text)
    assert (code, True) == (found, words in said)
    assert bool(words) == bool(said)


def test_frames_may_come_byte_by_byte() -> None:
    """Nothing is lost or taken twice where a frame is cut anywhere."""
    peer, other = spdy.Peer(), spdy.Peer()
    for each in (peer, other):
        each.opened("stdout")
    stream = b"".join(other.data("stdout", bytes(range(200)), last=True))
    parts = [part for byte in stream for part in peer.received(bytes((byte,)))]
    assert [("stdout", bytes(range(200))), ("stdout", b"")] == parts
