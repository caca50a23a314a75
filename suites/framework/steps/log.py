"""A log with what a command wrote, verbatim, of limited size: its beginning and its end (layer 2: standard library)."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

LIMIT_BYTES = 50 * 1024**2
LAST_BYTES = 1 << 16
TAIL_LINES = 40
SUFFIX = ".log"
_CHUNK = 1 << 20


def keep(file: Path, log: Path, *, limit: int = LIMIT_BYTES) -> None:
    """Copy what somebody else has logged, of limited size; a log of an earlier attempt stays in front of it."""
    with file.open("rb") as source, CappedLog(log, limit=limit) as kept:
        while data := source.read(_CHUNK):
            kept.write(data)


class CappedLog:
    """Keeps the first and the last half of `limit` bytes; what is between is counted in a line of its own.

    Nothing is buffered: on a full disk bytes are lost when they are written, and closing raises nothing.
    """

    def __init__(self, path: Path, *, limit: int = LIMIT_BYTES) -> None:
        """Open the log; its end is kept in a file without a name until it is closed."""
        self.path, self._half = path, limit // 2
        self._head = path.open("ab", buffering=0)
        self._ring = tempfile.TemporaryFile(dir=path.parent, buffering=0)  # noqa: SIM115 - closed with this
        self._room = max(0, self._half - self._head.tell())
        self._later = 0
        self._last = b""

    def write(self, data: bytes) -> None:
        """Append; a full disk loses bytes and never stops the one who writes."""
        self._last = (self._last + data)[-LAST_BYTES:]
        now, later = data[: self._room], data[self._room :]
        self._room -= len(now)
        with suppress(OSError):
            if now:
                self._head.write(now)
            self._keep(later)

    def _keep(self, data: bytes) -> None:
        """Write into the ring, the newest bytes over the oldest."""
        skipped = max(0, len(data) - self._half)
        self._later += skipped
        rest = data[skipped:]
        while rest:
            place = self._later % self._half
            part = rest[: self._half - place]
            self._ring.seek(place)
            written = self._ring.write(part)
            self._later += written
            rest = rest[written:]

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines."""
        return "\n".join(self._last.decode(errors="replace").splitlines()[-lines:])

    def close(self) -> None:
        """Put the end behind the beginning."""
        if self._head.closed:
            return
        with self._head, self._ring, suppress(OSError):
            left_out = self._later - self._half
            if left_out > 0:
                self._head.write(f"\n[{left_out} bytes left out]\n".encode())
            self._copy(self._later % self._half if left_out > 0 else 0, min(self._later, self._half))

    def _copy(self, start: int, length: int) -> None:
        for place, size in ((start, min(length, self._half - start)), (0, start if length == self._half else 0)):
            self._ring.seek(place)
            while size > 0 and (part := self._ring.read(min(size, 1 << 20))):
                self._head.write(part)
                size -= len(part)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the log."""
        self.close()
