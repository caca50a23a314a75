"""The progress of a run while it goes on: reading event files as they grow, and one line about them (layer 2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from suites.framework.events import Record, parse_line
from suites.framework.model import Ended, Outcome, Planned, Started
from suites.framework.results.escaping import one_line

PLAIN_S = 5.0
"""Least seconds between two plain lines; failures are reported at once."""
TTY_S = 0.1
"""Least seconds between two drawings of the line on a terminal."""
FAILURES = frozenset({Outcome.FAILED, Outcome.ERRORED, Outcome.XPASSED})


class Tail:
    """Reads what is appended to the event files below a directory; a line that is not whole yet waits."""

    def __init__(self, folder: Path) -> None:
        """Remember the folder, which need not exist yet: an environment's, or the run directory."""
        self.folder = folder
        self._read: dict[Path, int] = {}

    def poll(self) -> list[tuple[Path, Record]]:
        """Return the records that were completed since the last call, file by file; foreign lines are passed over."""
        found: list[tuple[Path, Record]] = []
        for path in sorted({*self.folder.glob("*.jsonl"), *self.folder.glob("**/events/*.jsonl")}):
            found += [(path, record) for record in self._fresh(path)]
        return found

    def _fresh(self, path: Path) -> list[Record]:
        start = self._read.get(path, 0)
        try:
            with path.open("rb") as file:
                file.seek(start)
                data = file.read()
        except OSError:
            return []  # derive() reads it again and says what is wrong
        whole = data.rfind(b"\n") + 1
        self._read[path] = start + whole
        return [record for line in data[:whole].split(b"\n")[:-1] if (record := _record(line))]


def _record(line: bytes) -> Record | None:
    try:
        return parse_line(line)
    except ValueError:
        return None


@dataclass(slots=True, kw_only=True)
class Progress:
    """One line about a run: on a terminal updated in place, otherwise at most every 5 s and for every failure."""

    stream: TextIO
    tty: bool
    clock: Callable[[], float] = time.monotonic
    width: int = 80
    """Columns of the terminal, where there is one."""
    total: int = field(default=0, init=False)
    done: int = field(default=0, init=False)
    failures: int = field(default=0, init=False)
    _planned: dict[tuple[Path, str], Planned] = field(default_factory=dict, init=False)
    _current: Planned | None = field(default=None, init=False)
    _began: float | None = field(default=None, init=False)
    _drawn: float | None = field(default=None, init=False)
    _said: str = field(default="", init=False)

    def feed(self, path: Path, record: Record) -> None:
        """Take one record of an event file."""
        match record.event:
            case Planned() as planned:
                self.total += (path, planned.node) not in self._planned
                self._planned[path, planned.node] = planned
            case Started(node=node):
                self._current = self._planned.get((path, node))
                self._began = self.clock() if self._began is None else self._began
            case Ended() as ended:
                self.done += 1
                if ended.outcome in FAILURES:
                    self.failures += 1
                    self._fail(self._planned.get((path, ended.node)), ended)
            case _:
                return

    def tick(self) -> None:
        """Draw the line if its time has come; to be called whenever the launcher wakes up."""
        now = self.clock()
        if self._drawn is not None and now - self._drawn < (TTY_S if self.tty else PLAIN_S):
            return
        line = self.line()
        if self.total and line != self._said:
            self._say(line)
            self._drawn, self._said = now, line

    def close(self) -> None:
        """Clear the line on a terminal; elsewhere say the last state if it was not said."""
        if self.tty:
            self._put("\r\x1b[K")
        elif self.total and self.line() != self._said:
            self._say(self.line())
        self._said = self.line()

    def line(self) -> str:
        """Return done / total, failures, target, case and the time left."""
        parts = [f"[{self.done:>{len(str(self.total))}}/{self.total}]"]
        parts += [f"{self.failures} failed"] if self.failures else []
        parts += [_named(self._current)] if self._current else []
        parts += [f"{_clock(left)} left"] if (left := self.left_s()) is not None else []
        return "  ".join(parts)

    def left_s(self) -> float | None:
        """Return the seconds that the rest takes at the pace so far, or None while there is none."""
        if self._began is None or not self.done or self.done >= self.total:
            return None
        return (self.clock() - self._began) / self.done * (self.total - self.done)

    def _fail(self, planned: Planned | None, ended: Ended) -> None:
        if not self.tty:
            name = _named(planned) if planned else one_line(ended.node)
            why = one_line(ended.actual or ended.message or ended.reason)
            self._say(f"{ended.outcome.value.upper()}  {name}" + (f": {why}" if why else ""))

    def _say(self, line: str) -> None:
        # a terminal that scrolls because the line is too long cannot be redrawn in place
        self._put(f"\r{line[: self.width - 1]}\x1b[K" if self.tty else f"{line}\n")

    def _put(self, text: str) -> None:
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self.stream.flush()


def _named(planned: Planned) -> str:
    parts = (planned.target, " ".join(planned.cases) or planned.node, planned.mode, planned.parameter)
    return " ".join(one_line(part) for part in parts if part)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
