"""A command in a container with its streams connected, over an engine's streaming server (layer 1).

cri-api, Exec; Kubernetes, remotecommand, version 4 of its protocol: a stream each for input, output and errors, one
for the size of a terminal, and one on which the server says in the end what came of it. They are carried by SPDY and
not by a websocket, because version 4 over a websocket has no way to say that the input is at its end
(kubernetes issue 89899), and engines before containerd 2 refuse its version 5 (containerd issue 11136).
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from suites.framework.pod import spdy
from suites.framework.pod.cri import Refused
from suites.framework.pod.driver import Output
from suites.framework.waiting import Deadline, Waiter

PROTOCOL = "v4.channel.k8s.io"
INPUT, STDOUT, STDERR, SIZE, STATUS = "stdin", "stdout", "stderr", "resize", "error"
MOST = 64 << 20
"""Bytes of output that are kept: whoever writes more than that is not listened to any longer."""
HEAD = 16384
"""Bytes of an HTTP answer's head, which is shorter."""
PIECE = 1 << 18
LOST = "the connection ended without a word about the command"

Connect = Callable[[str, int, float], socket.socket]
"""Connects to a host and a port, in so many seconds; OSError where that is refused."""


class Session:
    """A command under way (`driver.Session`); `close` it. Nothing moves but in `until` and `ended`."""

    def __init__(self, connection: socket.socket, peer: spdy.Peer) -> None:
        """Own a connection whose streams were opened."""
        self._connection, self._peer, self._waiter = connection, peer, Waiter()
        self._connection.setblocking(False)
        self._due = bytearray()
        self._received: dict[str, bytearray] = {name: bytearray() for name in (STDOUT, STDERR, STATUS, INPUT, SIZE)}
        self._over = False

    # -- what it is given

    def send(self, data: bytes) -> None:
        """Give it input."""
        self._queue(INPUT, data)

    def finish(self) -> None:
        """End its input behind what was sent."""
        self._queue(INPUT, b"", last=True)

    def resize(self, *, columns: int, rows: int) -> None:
        """Give its terminal a size."""
        self._queue(SIZE, json.dumps({"Width": columns, "Height": rows}).encode() + b"\n")

    def _queue(self, name: str, data: bytes, *, last: bool = False) -> None:
        for frame in self._peer.data(name, data, last=last):
            self._due += frame

    # -- what comes of it

    def until(self, satisfied: Callable[[bytes], bool], *, seconds: float) -> bool:
        """Exchange what there is until its output satisfies; return whether it did, in time and before its end."""
        deadline = Deadline(seconds)
        while not satisfied(bytes(self._received[STDOUT])):
            if self._over or not self._exchanged(deadline):
                return False
        return True

    def ended(self, *, seconds: float) -> Output | None:
        """Exchange what there is until it has ended and return what came of it; None where that takes longer."""
        deadline = Deadline(seconds)
        while not self._over:
            if not self._exchanged(deadline):
                return None
        stdout, stderr, status = (bytes(self._received[name]) for name in (STDOUT, STDERR, STATUS))
        code, refusal = told(status)
        return Output(code=code, stdout=stdout, stderr=stderr, refusal=refusal)

    def _exchanged(self, deadline: Deadline) -> bool:
        """Send and take once what can be; return False where the deadline passes instead."""
        fd, wanted = self._connection.fileno(), select.POLLIN | (select.POLLOUT if self._due else 0)
        if deadline.passed or not self._waiter.wait((fd,), deadline, events=wanted):
            return False
        self._give()
        self._take()
        return True

    def _give(self) -> None:
        try:
            while self._due:
                with memoryview(self._due) as due:
                    sent = self._connection.send(due[:PIECE])
                del self._due[:sent]
        except BlockingIOError:
            return
        except OSError:
            self._due.clear()  # nobody takes it; what was written before that can still be read

    def _take(self) -> None:
        try:
            data = self._connection.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            for name, content in self._peer.received(data):
                self._received[name] += content
        except ValueError as error:
            self._received[STATUS][:] = str(error).encode()
            data = b""
        self._due += self._peer.due
        self._peer.due.clear()
        self._over = not data or sum(map(len, self._received.values())) > MOST

    def close(self) -> None:
        """Leave; what still runs is not ended by that. Safe to repeat."""
        self._connection.close()


def begun(url: str, *, connect: Connect, seconds: float, stdin: bool = False, tty: bool = False) -> Session:
    """Begin the command that an engine has given a URL for; Refused as the server says.

    A terminal has one stream for what is written to it, so there is none for errors then.
    """
    place = urlsplit(url)
    deadline = Deadline(seconds)
    try:
        connection = connect(place.hostname or "", place.port or 80, seconds)
    except OSError as error:
        raise _refused(error) from None
    try:
        connection.settimeout(deadline.remaining)
        connection.sendall(_asked(place.netloc, place.path))
        head = _answered(connection, deadline)
        if head.split()[1:2] != [b"101"]:
            raise Refused("Exec", "UNAVAILABLE", head.partition(b"\r\n")[0].decode(errors="backslashreplace"))
        peer = spdy.Peer()
        names = (STATUS, *((INPUT,) if stdin else ()), STDOUT, SIZE if tty else STDERR)
        connection.sendall(b"".join(peer.opened(name) for name in names))
    except OSError as error:
        connection.close()
        raise _refused(error) from None
    except BaseException:
        connection.close()
        raise
    return Session(connection, peer)


def _refused(error: OSError) -> Refused:
    return Refused("Exec", "UNAVAILABLE", f"the streaming server: {error.strerror or error}")


def _asked(host: str, path: str) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        f"Upgrade: {spdy.NAME}",
        f"X-Stream-Protocol-Version: {PROTOCOL}",
        "Content-Length: 0",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def _answered(connection: socket.socket, deadline: Deadline) -> bytes:
    """Return the head of the answer; what there is of it where that ends too early."""
    data = b""
    while not data.endswith(b"\r\n\r\n") and len(data) < HEAD:
        connection.settimeout(max(0.001, deadline.remaining))
        if not (more := connection.recv(1)):  # no byte more: what follows is for the frames
            break
        data += more
    return data


def told(text: bytes) -> tuple[int | None, str]:
    """Return the exit code of a command and an empty text, or None and why there is none, out of a server's status.

    It is a ``metav1.Status``: a code that is not 0 is among its causes.
    """
    try:
        status: Mapping[str, Any] = json.loads(text)
        if status["status"] == "Success":
            return 0, ""
        causes = (status.get("details") or {}).get("causes") or ()
        codes = [int(cause["message"]) for cause in causes if cause.get("reason") == "ExitCode"]
        return (codes[0], "") if codes else (None, str(status.get("message", "")))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None, text.decode(errors="backslashreplace") or LOST
