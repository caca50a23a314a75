"""TCP ports for targets to listen at, and clients that ask there again and again (layer 1).

A client trusts an answer only if it carries the test's nonce, so that a server left by an earlier run turns nothing
green.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Protocol

ADDRESS = "127.0.0.1"
CLIENTS = 4
PACE_S = 0.001
"""Between two questions of one client: they are to be there at every moment, not to keep a processor busy."""
LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp (proc_net(5))."""
ANSWERED = "every client was answered"


class Owner(Protocol):
    """Something that tidies up in the end, such as a test's bench."""

    def own(self, cleanup: Callable[[], None]) -> None:
        """Call this in the end."""
        ...


def reserve(bench: Owner) -> int:
    """Return a port that stays ours until the test is over: who asks for SO_REUSEPORT may listen at it, nobody else.

    It is bound and does not listen, so no client ever reaches it, and none is given its number for its own end.
    """
    holder = socket.socket()
    bench.own(holder.close)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((ADDRESS, 0))
    return int(holder.getsockname()[1])


def listening(port: int, *, table: Path = Path("/proc/self/net/tcp")) -> int:
    """Return how many sockets of this network namespace listen at a port."""
    rows = (line.split() for line in table.read_text().splitlines()[1:])
    return sum(row[3] == LISTENING and int(row[1].rpartition(":")[2], 16) == port for row in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A server's answer: when it was whole (CLOCK_MONOTONIC, seconds), and the pid it named, as seen inside."""

    at: float
    pid: int


def ask(port: int, *, nonce: str, seconds: float) -> Reply | str:
    """Connect once; return the reply, or ``refused``, ``reset``, ``unanswered``, ``answered by a stranger``."""
    try:
        with socket.create_connection((ADDRESS, port), timeout=seconds) as connection:
            data = b"".join(iter(lambda: connection.recv(256), b""))
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "reset"
    except TimeoutError:
        return "unanswered"
    word, _, pid = data.decode(errors="replace").partition(" ")
    if word != nonce or not pid.isdigit():
        return "answered by a stranger" if data else "reset"
    return Reply(at=time.monotonic(), pid=int(pid))


class Clients:
    """Several threads that ask until told to stop; use it in a ``with`` statement, look at it after that."""

    def __init__(self, port: int, *, nonce: str, seconds: float, number: int = CLIENTS) -> None:
        """Prepare `number` clients, each of which waits at most `seconds` for an answer."""
        self.replies: list[Reply] = []
        self.servers: set[int] = set()
        self.failures: Counter[str] = Counter()
        self._port, self._nonce, self._seconds = port, nonce, seconds
        self._stop, self._news = threading.Event(), threading.Condition()
        self._threads = [threading.Thread(target=self._run) for _ in range(number)]

    def __enter__(self) -> Clients:
        """Start asking."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop asking; every question put before is answered or has failed."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(PACE_S):
            answer = ask(self._port, nonce=self._nonce, seconds=self._seconds)
            with self._news:
                if isinstance(answer, Reply):
                    self.replies.append(answer)
                    self.servers.add(answer.pid)
                else:
                    self.failures[answer] += 1
                self._news.notify_all()

    def hear(self, pid: int, *, seconds: float) -> bool:
        """Wait until the server with this pid has answered somebody; return whether it has."""
        with self._news:
            return self._news.wait_for(lambda: pid in self.servers, seconds)

    @property
    def verdict(self) -> str:
        """Return `ANSWERED`, or the kinds of failure in words that are the same in every run."""
        return " and ".join(f"some were {kind}" for kind in sorted(self.failures)) or ANSWERED

    @property
    def gaps(self) -> list[float]:
        """Return for each change of the server the seconds from the last answer of the old to the first of the new."""
        replies = sorted(self.replies, key=lambda reply: reply.at)
        return [second.at - first.at for first, second in pairwise(replies) if first.pid != second.pid]

    @property
    def longest_s(self) -> float:
        """Return the longest time in which nobody was answered."""
        times = sorted(reply.at for reply in self.replies)
        return max((second - first for first, second in pairwise(times)), default=0.0)
