"""The append-only event log of a run: writing one file, reading it back (layer 1: standard library only).

Whatever a target prints ends up here, so every line is ASCII JSON, and a reader meets a torn or foreign line with
a count, never with a traceback.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from suites.framework import codec
from suites.framework.errors import InfrastructureError
from suites.framework.model import EVENTS, SCHEMA, Event

_NAMES = {kind: name for name, kind in EVENTS.items()}
_SURROGATES = re.compile("[\ud800-\udfff]")


class NewerSchemaError(ValueError):
    """A line was written by a newer version of this project."""

    def __init__(self, schema: int) -> None:
        """Keep the number that the line names."""
        self.schema = schema
        super().__init__(f"schema {schema}, this version knows {SCHEMA}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One line of an event file: its number in the file, its time in Unix seconds, and what happened."""

    seq: int
    t: float
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What an event file holds, and how many lines of it could not be used."""

    records: tuple[Record, ...]
    torn: int = 0
    """1 when the last line has no end: its writer was killed or the disk was full."""
    foreign: int = 0
    """Complete lines that are no event of this schema."""
    newer: int = 0
    """The schema of a newer writer, or 0."""


class EventLog:
    """The only writer of one event file. Each event is one os.write to an O_APPEND descriptor."""

    def __init__(
        self, path: Path, *, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Open `path` for appending; a torn line of an earlier writer is closed before the first new one."""
        self.path = path
        self._clock, self._epoch = clock, now() - clock()
        self._failed = False
        try:
            earlier = path.read_bytes() if path.exists() else b""
            self._fd = os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InfrastructureError(
                f"cannot open the event log {path}", why=error.strerror or "", remedy="give a writable --runs DIR"
            ) from error
        self._seq = earlier.count(b"\n")
        self._prefix = b"" if not earlier or earlier.endswith(b"\n") else b"\n"

    def write(self, event: Event) -> None:
        """Append one event.

        Raises InfrastructureError when the line could not be written whole; what comes after is then dropped, so
        that one full disk is reported once and clean-up can go on.
        """
        if self._failed:
            return
        self._seq += 1
        line = self._prefix + format_line(self._seq, self._epoch + self._clock(), event)
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            self._fail(error.strerror or str(error), error)
        if written != len(line):
            self._fail(f"only {written} of {len(line)} bytes were taken, the disk is full")
        self._prefix = b""

    def _fail(self, why: str, cause: OSError | None = None) -> NoReturn:
        self._failed = True
        raise InfrastructureError(
            f"cannot write the event log {self.path}", why=why, remedy="free some space or give another --runs DIR"
        ) from cause

    def close(self) -> None:
        """Close the descriptor; calling it again does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._failed = -1, True

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the log."""
        self.close()


def format_line(seq: int, t: float, event: Event) -> bytes:
    """Return the line for an event: compact ASCII JSON and a line feed."""
    fields = {"event": _NAMES[type(event)], "seq": seq, "t": round(t, 6), **codec.encode(event)}
    return json.dumps(legible(fields), separators=(",", ":"), allow_nan=False, default=str).encode("ascii") + b"\n"


def legible(value: Any) -> Any:
    r"""Return a JSON value in which lone surrogates are ``\xNN`` text and numbers are finite (others become text)."""
    match value:
        case str():
            return value if value.isascii() else _SURROGATES.sub(_escaped, value)
        case dict():
            return {legible(key): legible(item) for key, item in value.items()}
        case list() | tuple():
            return [legible(item) for item in value]
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    # 0xDC80 to 0xDCFF stand for the byte that was not UTF-8 (PEP 383)
    return f"\\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else f"\\u{number:04x}"


def parse_line(line: bytes) -> Record:
    """Return the record of one complete line.

    Raises NewerSchemaError for a newer writer's first event and ValueError for anything else that is no event.
    """
    try:
        data = json.loads(line.decode("utf-8"), parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(data, dict) or not isinstance(name := data.get("event"), str) or name not in EVENTS:
        raise ValueError("not an event")
    if name == "begun" and isinstance(schema := data.get("schema"), int) and schema > SCHEMA:
        raise NewerSchemaError(schema)
    if b"\\ud" in line or b"\\uD" in line:
        data = legible(data)
    seq, t = data.get("seq"), data.get("t")
    if not isinstance(seq, int) or not isinstance(t, (int, float)):
        raise ValueError("no seq or no t")
    return Record(seq=seq, t=float(t), event=codec.decode(EVENTS[name], data))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def read(path: Path) -> Log:
    """Return everything usable in an event file; raise InfrastructureError when the file itself cannot be read."""
    try:
        *lines, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InfrastructureError(
            f"cannot read the event log {path}", why=error.strerror or "", remedy="run as its owner, or chown it"
        ) from error
    records: list[Record] = []
    foreign = newer = 0
    for line in lines:
        try:
            records.append(parse_line(line))
        except NewerSchemaError as error:
            newer = max(newer, error.schema)
        except ValueError:
            foreign += 1
    return Log(records=tuple(records), torn=int(bool(rest)), foreign=foreign, newer=newer)
