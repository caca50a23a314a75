"""Fetching one archive whose checksum is known, from a server that may stall, lie or break off (layer 2: + requests).

What arrived stays in the cache until the archive is whole: the next attempt goes on from there (Range and If-Range in
RFC 9110, sections 13.1.5 and 14). What was fetched in pieces and has the wrong checksum is fetched once more, whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import urllib3

from suites.framework.errors import InfrastructureError, UsageError
from suites.framework.results.escaping import one_line

MEBIBYTE = 1 << 20
_CHUNK = 1 << 16
_REDIRECTS = 5
_SHOWN = 200
"""Characters of what a server says that are shown."""
_RANGE = re.compile(r"bytes (?P<first>\d+)-\d+/(?P<whole>\d+|\*)")
_AGAIN = "check the network and start again: it goes on from there"
_PART = ".part"
_NOTE = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a server is waited for, in seconds, and how much is taken from it."""

    connect_s: float = 15.0
    silence_s: float = 30.0
    """Longest time in which nothing arrives."""
    whole_s: float = 3600.0
    """Longest time for everything, for those that send a byte now and then."""
    bytes: int = 2 << 30


Report = Callable[[int, int], None]
"""Hears how many bytes there are, and of how many; 0 where the server does not say."""


@dataclass(slots=True)
class _Part:
    """What earlier attempts got, and by what the server knows whether it still has the same."""

    path: Path
    validator: str = ""
    size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        with suppress(OSError):
            self.size = self.path.stat().st_size
        with suppress(OSError, ValueError, KeyError, TypeError):
            self.validator = str(json.loads(self.note.read_bytes())["validator"])

    @property
    def note(self) -> Path:
        """Return the file beside it."""
        return self.path.with_name(f"{self.path.name}{_NOTE}")

    def begin(self, answer: requests.Response) -> None:
        """Start from nothing with a new answer."""
        self.path.write_bytes(b"")
        self.size, self.validator = 0, _validator(answer)
        self.note.write_text(json.dumps({"schema": 1, "validator": self.validator}), encoding="utf-8")

    def discard(self) -> None:
        """Throw away what there is."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self.size, self.validator = 0, ""


def fetch(
    url: str,
    sha256: str,
    folder: Path,
    *,
    patience: Patience | None = None,
    report: Report | None = None,
    session: Callable[[], requests.Session] = requests.Session,
    clock: Callable[[], float] = time.monotonic,
) -> Path:
    """Return the file in ``folder`` with the content of ``url``, which has this checksum; the caller removes it.

    Raises InfrastructureError where the server or the network does not do its part, UsageError where the content is
    another or the URL is not there.
    """
    part = _Part(folder / f"{sha256}{_PART}")
    if part.size and _digest(part.path) == sha256:  # ended between its last byte and its use
        return part.path
    fetching = _Fetching(url, part, patience or Patience(), report or (lambda _got, _of: None), clock)
    try:
        with session() as client:
            client.max_redirects = _REDIRECTS
            pieces = fetching.run(client)
            if pieces and _digest(part.path) != sha256:
                part.discard()
                fetching.run(client)
        _require(part, sha256, url)
    except OSError as error:
        if not isinstance(error, requests.RequestException):  # the disk: what is half there only fills it
            with suppress(OSError):
                part.discard()
        raise
    return part.path


def leftovers(folder: Path) -> list[Path]:
    """Return the files of attempts that did not come to their end."""
    return sorted(path for path in folder.glob(f"*{_PART}*") if path.is_file())


@dataclass(slots=True)
class _Fetching:
    """One URL."""

    url: str
    part: _Part
    patience: Patience
    report: Report
    clock: Callable[[], float]

    def run(self, client: requests.Session) -> bool:
        """Fetch everything or what is missing; return whether it was fetched in pieces."""
        deadline = self.clock() + self.patience.whole_s
        try:
            return self._ask(client, deadline)
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            silence = f"it sent nothing for {self.patience.silence_s:g} s"
            raise self._failed(silence) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._failed(_words(error)) from None

    def _ask(self, client: requests.Session, deadline: float) -> bool:
        with self._get(client) as answer:
            if answer.status_code != requests.codes.requested_range_not_satisfiable or not self.part.size:
                return self._take(answer, deadline)
        self.part.discard()  # it is longer than what the server has
        with self._get(client) as answer:
            return self._take(answer, deadline)

    def _get(self, client: requests.Session) -> requests.Response:
        headers = {"Accept-Encoding": "identity"}
        if self.part.size:
            headers["Range"] = f"bytes={self.part.size}-"
            if self.part.validator:
                headers["If-Range"] = self.part.validator
        wait = (self.patience.connect_s, self.patience.silence_s)
        return client.get(self.url, headers=headers, stream=True, timeout=wait)

    def _take(self, answer: requests.Response, deadline: float) -> bool:
        """Write what an answer holds; return whether it is a piece."""
        piece: bool = answer.status_code == requests.codes.partial_content
        if not piece and answer.status_code != requests.codes.ok:
            raise self._refused(answer)
        if piece:
            self._require_piece(answer)
        else:
            self.part.begin(answer)
        whole = self._announced(answer)
        with self.part.path.open("ab") as file:
            self._pour(answer, file.write, whole, deadline)
        if whole and self.part.size < whole:  # an old library under requests does not look
            raise self._failed(f"it announced {whole} bytes and sent {self.part.size}")
        return piece

    def _require_piece(self, answer: requests.Response) -> None:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if not self.part.size or found is None or int(found["first"]) != self.part.size:
            asked, got = self.part.size, answer.headers.get("Content-Range", "no range")
            self.part.discard()
            raise self._failed(f"asked for what follows byte {asked}, it sent {got!r}", again="start again")

    def _announced(self, answer: requests.Response) -> int:
        """Return how much there will be in the end, 0 where that is not said."""
        length = answer.headers.get("Content-Length", "")
        whole = self.part.size + int(length) if length.isdecimal() and len(length) < 20 else 0
        self._require_room(whole)
        return whole

    def _require_room(self, size: int) -> None:
        if size > self.patience.bytes:
            self.part.discard()
            limit = f"{self.patience.bytes // MEBIBYTE} MiB"
            raise UsageError(f"{self.url} is too large", why=f"more than {limit}", remedy="give a smaller archive")

    def _pour(self, answer: requests.Response, write: Callable[[bytes], Any], whole: int, deadline: float) -> None:
        for data in _arriving(answer):
            write(data)
            self.part.size += len(data)
            self._require_room(self.part.size)
            self.report(self.part.size, whole)
            if self.clock() > deadline:
                raise self._failed(f"it was not done within {self.patience.whole_s:g} s")

    def _refused(self, answer: requests.Response) -> Exception:
        what, why = f"{self.url} cannot be had", f"{answer.status_code} {one_line(answer.reason or '')[:_SHOWN]}"
        if 400 <= answer.status_code < 500:
            return UsageError(what, why=why, remedy="correct the URL")
        return InfrastructureError(what, why=why, remedy="try again later")

    def _failed(self, why: str, *, again: str = _AGAIN) -> InfrastructureError:
        got = f" after {self.part.size} bytes" if self.part.size else ""
        return InfrastructureError(f"{self.url} was not fetched", why=f"{why}{got}", remedy=again)


def _arriving(answer: requests.Response) -> Any:
    """Yield the bytes as they come: a reader that waits for a full block would not notice a deadline."""
    raw: Any = answer.raw
    some = raw.read1 if hasattr(raw, "read1") else raw.read
    size = _CHUNK if hasattr(raw, "read1") else 512
    while data := some(size, decode_content=False):
        yield data


def _validator(answer: requests.Response) -> str:
    """Return what If-Range takes: a strong entity tag, else the date (RFC 9110, 13.1.5)."""
    tag = answer.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")


def _require(part: _Part, sha256: str, url: str) -> None:
    if (got := _digest(part.path)) != sha256:
        size = part.size
        part.discard()
        raise UsageError(
            f"{url} is not the archive that was meant",
            why=f"its {size} bytes have SHA-256 {got}, not {sha256}",
            remedy="compare the checksum with the one that its makers publish",
        )


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _words(error: Exception) -> str:
    """Return the innermost reason of what requests wraps several times."""
    reason: Any = error
    while inner := getattr(reason, "reason", None) or next(
        (arg for arg in getattr(reason, "args", ()) if isinstance(arg, Exception)), None
    ):
        if not isinstance(inner, Exception):
            break
        reason = inner
    return one_line(str(reason))[:_SHOWN]
