"""One call of a runtime: begun, ended within a deadline, and what came of it (layer 1)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from signal import SIGKILL

from suites.framework import process
from suites.framework.model import Reason
from suites.framework.observation import Unmet
from suites.framework.process import Status, exited
from suites.framework.waiting import Capture, Deadline, Waiter

KEPT = 1 << 20
"""Bytes that are kept of each stream of a call."""
_PANIC = re.compile(rb"^(panic: |fatal error: |thread '[^']*' (\(\d+\) )?panicked)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a verb ended; `status` is None for one that was killed at its deadline. Seconds on the monotonic clock."""

    verb: str
    status: Status | None
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def outcome(self) -> str:
        """Return ``done`` for exit 0, ``refused`` for an orderly other exit, or in what way it broke down."""
        if self.status is None:
            return "no end"
        if self.status.signal is not None:
            return str(self.status)
        if _PANIC.search(self.stderr):
            return "a panic"
        return "done" if self.status == exited(0) else "refused"

    def ok(self) -> Result:
        """Return itself; Unmet where the verb did not exit with 0."""
        if self.outcome != "done":
            raise Unmet(f"{self.verb}: done", f"{self.verb}: {self.outcome}", reason=self._reason)
        return self

    @property
    def _reason(self) -> Reason | None:
        if self.status is None:
            return Reason.TIMEOUT
        return Reason.CRASH if self.outcome not in ("done", "refused") else None


class Call:
    """A call that has begun. Its streams are kept open as long as somebody below it may write to them."""

    def __init__(
        self,
        verb: str,
        words: Sequence[str],
        *,
        environment: Mapping[str, str],
        fds: Mapping[int, int],
        waiter: Waiter,
        shown: str = "",
    ) -> None:
        """Spawn it with stdin, stdout and stderr of its own where `fds` (its number: ours) does not say otherwise.

        `shown` is how a report writes the call; without it that is the verb.
        """
        self.verb, self.shown, self._waiter = verb, shown or verb, waiter
        self.began = time.monotonic()
        given = [null := os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
        self.streams: dict[str, Capture] = {}
        layout = {0: null}
        for number, title in ((1, "stdout"), (2, "stderr")):
            if number not in fds:
                reading, layout[number] = os.pipe()
                given.append(layout[number])
                self.streams[title] = waiter.add(Capture(reading, title=f"{verb}: {title}", limit=KEPT))
        try:
            self.child = process.spawn(words, environment=environment, fds=layout | dict(fds))
        except OSError as error:
            self._read_no_further()
            raise Unmet(f"{verb} executed", os.strerror(error.errno or 0)) from error
        finally:
            for fd in given:
                os.close(fd)

    def crash(self, seconds: float) -> bool:
        """Kill it and its process group `seconds` after its beginning; return False where it had ended by itself."""
        left = self.began + seconds - time.monotonic()
        if self.child.wait(Deadline(max(0.0, left)), self._waiter) is not None:
            return False
        os.killpg(self.child.pid, SIGKILL)
        self.child.kill()
        return True

    def end(self, seconds: float) -> Result:
        """Return how it ended, having killed it when `seconds` are over."""
        status = self.child.wait(Deadline(seconds), self._waiter)
        self.child.kill()
        return Result(
            verb=self.verb,
            status=status,
            stdout=self.output("stdout"),
            stderr=self.output("stderr"),
            seconds=self.child.alive_s,
        )

    def output(self, title: str) -> bytes:
        """Return what came over ``stdout`` or ``stderr`` so far; nothing where the case gave its own."""
        capture = self.streams.get(title)
        if capture is not None and capture.fd >= 0:
            capture.drain()
        return capture.data if capture is not None else b""

    def close(self) -> None:
        """Kill it if it lives and read no further; safe to repeat."""
        self.child.kill()
        self._read_no_further()

    def _read_no_further(self) -> None:
        for capture in self.streams.values():
            if capture.fd >= 0:
                capture.drain()
                self._waiter.remove(capture)
