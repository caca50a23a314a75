"""The word that says where a root file system comes from (layer 2)."""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from suites.framework.errors import UsageError
from suites.framework.results.escaping import visible

KNOWN = "busybox, mmdebstrap, docker:IMAGE, the path of a tar archive, or its URL"
SHA256 = re.compile(r"[0-9a-f]{64}")
_FRAGMENT = "#sha256="
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
_NAME = re.compile(r"[\w.-]+")


class Kind(StrEnum):
    """The ways to a root file system."""

    BUSYBOX = "busybox"
    MMDEBSTRAP = "mmdebstrap"
    DOCKER = "docker"
    FILE = "file"
    URL = "url"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a root file system comes from."""

    kind: Kind
    word: str
    """As it is shown and named again: a path is absolute, a URL without its checksum."""
    place: str = ""
    """The image, path or URL."""
    sha256: str = ""
    """What the archive must have; empty where that was not said."""

    @property
    def label(self) -> str:
        """Return a name for files about this source."""
        return f"{self.kind}-{hashlib.sha256(self.word.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def parse(word: str, *, base: Path | None = None, sha256: str = "") -> Source:
    """Return the source that a word names; paths count from ``base``. UsageError for words that name none."""
    if visible(word) != word or "\n" in word or "\t" in word:
        raise UsageError(f"rootfs {word!r} has control characters", remedy=f"give {KNOWN}")
    if word in (Kind.BUSYBOX, Kind.MMDEBSTRAP):
        found = Source(kind=Kind(word), word=word)
    elif word.startswith("docker:"):
        found = _image(word)
    elif "://" in word:
        return _url(word, sha256)
    else:
        found = _file(word, base or Path.cwd(), sha256)
    if sha256 and found.kind is not Kind.FILE:
        raise UsageError(f"--sha256 does not go with rootfs {word}", why="it is for archives", remedy="leave it out")
    return found


def _image(word: str) -> Source:
    image = word.removeprefix("docker:")
    if not _IMAGE.fullmatch(image):
        raise UsageError(f"rootfs {word!r} names no image", remedy="give docker:IMAGE, such as docker:alpine:3.20")
    return Source(kind=Kind.DOCKER, word=word, place=image)


def _url(word: str, sha256: str) -> Source:
    url, fragment, inside = word.partition(_FRAGMENT)
    try:
        parts = urlsplit(url)
        host, secret = parts.hostname, parts.username or parts.password
        parts.port  # noqa: B018 - raises ValueError for what is no port
    except ValueError as error:
        raise UsageError(f"rootfs {word!r} is no URL", why=str(error)) from None
    if secret:
        raise UsageError(
            f"the URL of a rootfs at {host} holds a user name or password",
            why="it would stand in reports",
            remedy="put it into ~/.netrc",
        )
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(
            f"rootfs {word!r} cannot be fetched", why="only http:// and https:// can", remedy=f"give {KNOWN}"
        )
    if fragment and sha256 and inside != sha256:
        raise UsageError(f"rootfs {url} has two checksums", why=f"{inside} and {sha256}", remedy="give one")
    wanted = inside if fragment else sha256
    if wanted and not SHA256.fullmatch(wanted):
        raise UsageError(f"{wanted!r} is no SHA-256", remedy="give 64 hexadecimal digits, as sha256sum prints them")
    return Source(kind=Kind.URL, word=url, place=url, sha256=wanted)


def _file(word: str, base: Path, sha256: str) -> Source:
    path = (base / word).absolute() if word else base
    if not path.is_file():
        raise UsageError(_no_file(word, path), remedy=f"give {KNOWN}")
    return Source(kind=Kind.FILE, word=str(path), place=str(path), sha256=sha256)


def _no_file(word: str, path: Path) -> str:
    if path.is_dir():
        return f"rootfs {word!r} is a directory"
    near = difflib.get_close_matches(word, (Kind.BUSYBOX, Kind.MMDEBSTRAP), n=1) if _NAME.fullmatch(word) else []
    return f"rootfs {word!r} is not a source, and no file" + (f": did you mean {near[0]}?" if near else "")
