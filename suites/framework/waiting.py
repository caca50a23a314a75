"""Waiting with deadlines on file descriptors, draining captured output meanwhile (layer 1).

Owns every blocking wait of the harness. Nothing here sleeps: a wait ends when a descriptor is ready or its
deadline has passed.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable, Iterator


class Deadline:
    """A point in time, `seconds` from now on the monotonic clock."""

    __slots__ = ("_clock", "at", "seconds")

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Set the deadline `seconds` from now."""
        self._clock = clock
        self.seconds = seconds
        self.at = clock() + seconds

    @property
    def remaining(self) -> float:
        """Return the seconds left, never below 0."""
        return max(0.0, self.at - self._clock())

    @property
    def passed(self) -> bool:
        """Return whether no time is left."""
        return self.remaining <= 0.0


class Capture:
    """Reads a stream to its end and keeps its head and its tail, at most `limit` bytes in all."""

    def __init__(self, fd: int, *, title: str, limit: int) -> None:
        """Take ownership of `fd`, which becomes non-blocking."""
        os.set_blocking(fd, False)
        self.fd, self.title, self.total = fd, title, 0
        self._half = limit // 2
        self._head, self._tail = bytearray(), bytearray()

    def drain(self) -> bool:
        """Read what is there; return False at the end of the stream."""
        for _ in range(64):  # a flood must not keep the caller from its deadline
            try:
                chunk = os.read(self.fd, 65536)
            except BlockingIOError:
                return True
            except OSError:  # EIO: the last slave of a pseudo-terminal was closed
                return False
            if not chunk:
                return False
            self._keep(chunk)
        return True

    def _keep(self, chunk: bytes) -> None:
        self.total += len(chunk)
        room = self._half - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:] if room > 0 else chunk
        del self._tail[: max(0, len(self._tail) - self._half)]

    @property
    def data(self) -> bytes:
        """Return what was kept, with a marker where bytes were left out."""
        missing = self.total - len(self._head) - len(self._tail)
        marker = f"\n[... {missing} bytes left out ...]\n".encode() if missing else b""
        return bytes(self._head) + marker + bytes(self._tail)

    def close(self) -> None:
        """Close the descriptor; safe to repeat."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Waiter:
    """Polls the descriptors a caller waits for, and drains the captures that were handed to it."""

    def __init__(self) -> None:
        """Start with nothing to drain."""
        self._captures: dict[int, Capture] = {}

    def add(self, capture: Capture) -> Capture:
        """Drain this capture during every wait from now on."""
        self._captures[capture.fd] = capture
        return capture

    def wait(self, fds: Iterable[int], deadline: Deadline, *, events: int = select.POLLIN) -> tuple[int, ...]:
        """Return those of `fds` that are ready (readable, hung up or in error); empty once the deadline has passed."""
        wanted = tuple(fds)
        poll = select.poll()
        for fd in self._captures:
            poll.register(fd, select.POLLIN)
        for fd in wanted:
            poll.register(fd, events)
        while True:
            ready = [fd for fd, _ in poll.poll(deadline.remaining * 1000)]
            for fd in ready:
                if fd in self._captures and fd not in wanted and not self._captures[fd].drain():
                    poll.unregister(fd)
                    self._forget(fd)
            if hits := tuple(fd for fd in wanted if fd in ready):
                return hits
            if deadline.passed:
                return ()

    def remove(self, capture: Capture) -> None:
        """Drain this capture no longer, and close it; safe to repeat."""
        if self._captures.pop(capture.fd, None) is not None:
            capture.close()

    def finish(self) -> None:
        """Drain what is left without waiting, and close every capture."""
        for capture in list(self._captures.values()):
            capture.drain()
            self._forget(capture.fd)

    def _forget(self, fd: int) -> None:
        self._captures.pop(fd).close()


def ticks(deadline: Deadline, *, every: float = 0.002) -> Iterator[None]:
    """Yield at once, then each `every` seconds until the deadline: for state in /proc that no descriptor announces."""
    yield
    poll = select.poll()
    while not deadline.passed:
        poll.poll(min(every, deadline.remaining) * 1000)
        yield
