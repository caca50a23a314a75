"""The frames of SPDY 3.1 as far as an engine's streaming server needs them, without any socket (layer 1).

SPDY Protocol, draft 3.1; github.com/moby/spdystream, which every engine and kubelet serves. That server keeps no
windows, so none are kept here. Headers are compressed without the draft's dictionary: zlib says in its own header
whether there is one (RFC 1950), and what is answered to us need not be read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

NAME = "SPDY/3.1"
CHUNK = 32768
"""Bytes of the longest frame that is sent."""
_CONTROL = 0x8003
"""Version 3, with the bit that tells a control frame."""
_SYN_STREAM, _PING = 1, 6
_LAST = 0x01
_HEAD = struct.Struct(">II")


class Peer:
    """The side of a connection that opens its streams."""

    def __init__(self) -> None:
        """Begin a connection that was upgraded."""
        self._zlib = zlib.compressobj()
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._pending = bytearray()
        self.due = bytearray()
        """What is to be sent back, because the other side asks whether anybody is here."""

    def opened(self, name: str) -> bytes:
        """Return the bytes that open a stream, which bears its name as the header ``streamtype``."""
        number = 2 * len(self._numbers) + 1
        self._numbers[name], self._names[number] = number, name
        words = (b"streamtype", name.encode())
        pairs = struct.pack(">I", 1) + b"".join(struct.pack(">I", len(word)) + word for word in words)
        headers = self._zlib.compress(pairs) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return _control(_SYN_STREAM, struct.pack(">IIBB", number, 0, 0, 0) + headers)

    def data(self, name: str, content: bytes, *, last: bool = False) -> Iterator[bytes]:
        """Yield the bytes that carry content on a stream, and end it if that was the last."""
        for at in range(0, len(content), CHUNK):
            part = content[at : at + CHUNK]
            yield _HEAD.pack(self._numbers[name], len(part)) + part
        if last:
            yield _HEAD.pack(self._numbers[name], _LAST << 24)

    def received(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """Take bytes and yield stream and content of the frames that they complete; ValueError for a strange one.

        How a stream ends is not told: the connection ends when all of them have.
        """
        self._pending += data
        while len(self._pending) >= _HEAD.size:
            first, second = _HEAD.unpack_from(self._pending)
            end = _HEAD.size + (second & 0xFFFFFF)
            if len(self._pending) < end:
                return
            body = bytes(self._pending[_HEAD.size : end])
            del self._pending[:end]
            if not first >> 31:
                yield self._name(first), body
            elif first >> 16 != _CONTROL:
                raise ValueError(f"a frame of version {first >> 16 & 0x7FFF}")
            elif first & 0xFFFF == _PING:
                self.due += _HEAD.pack(first, second) + body

    def _name(self, number: int) -> str:
        if number not in self._names:
            raise ValueError(f"a frame on stream {number}, which is not open")
        return self._names[number]


def _control(kind: int, body: bytes) -> bytes:
    return struct.pack(">HHI", _CONTROL, kind, len(body)) + body
