"""What a container wrote, out of the log that an engine keeps for a kubelet (layer 1: standard library only).

A line is ``<time> <stream> <tags> <content>``; tag ``P`` says that the line goes on, ``F`` that it ends here, which is
where the program wrote a newline (Kubernetes, cri-api, docs on the log format: "CRI logging").
"""

from __future__ import annotations

from dataclasses import dataclass

_STREAMS = {b"stdout": "stdout", b"stderr": "stderr"}
_TAGS = {b"P": False, b"F": True}
"""Whether the program's line ends with a line of this tag."""
CHUNK = 16384
"""Bytes of the longest chunk, as the engine is configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One line of the log."""

    stream: str
    whole: bool
    """Whether the program's line ends with it."""
    content: bytes


def pieces(data: bytes) -> list[Piece]:
    """Return the lines of a log, one that is still being written left out; ValueError for what is no such line."""
    lines = data.split(b"\n")[:-1]
    return [_piece(line) for line in lines]


def _piece(line: bytes) -> Piece:
    words = line.split(b" ", 3)
    if len(words) < 4 or not all(words[:3]) or words[1] not in _STREAMS:
        raise ValueError(f"a line of the log without time, stream and tag: {line[:80]!r}")
    tag = words[2].partition(b":")[0]
    if tag not in _TAGS:
        raise ValueError(f"a line of the log with tag {tag!r}")
    return Piece(stream=_STREAMS[words[1]], whole=_TAGS[tag], content=words[3])


def compared(expected: bytes, actual: bytes) -> str:
    """Return ``as written``, or how what is in the log differs from that, in words that are short."""
    if actual == expected:
        return "as written"
    same = next((at for at, (one, other) in enumerate(zip(expected, actual, strict=False)) if one != other), None)
    if same is None:
        kind = "cut" if len(actual) < len(expected) else "more than was written"
        return f"{kind}: {len(actual)} of {len(expected)} bytes"
    return f"other bytes from {same} on"


def text(found: list[Piece], stream: str) -> bytes:
    """Return what the program wrote to a stream, byte for byte."""
    return b"".join(piece.content + (b"\n" if piece.whole else b"") for piece in found if piece.stream == stream)
