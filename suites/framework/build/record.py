"""What is remembered of a build: ``builds/<key>/build.json`` and ``built/<name>.json`` in the cache (layer 2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from suites.framework import codec
from suites.framework.events import legible
from suites.framework.model import OwnTests
from suites.framework.provisioning.cache import Cache

SCHEMA = 1
RECORD = "build.json"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One executable of a build."""

    name: str
    """As a user names it after ``#``: its file name, with its folder where two are called the same."""
    sha256: str
    size: int
    """Bytes."""
    linkage: str
    """``static``, ``dynamic`` or ``script``."""
    interpreter: str = ""
    """The dynamic loader, or what stands after ``#!``."""

    @property
    def shown(self) -> str:
        """Return how it starts, as in ``dynamic (/lib64/ld-linux-x86-64.so.2)``."""
        return f"{self.linkage} ({self.interpreter})" if self.interpreter else self.linkage


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecord:
    """The content of build.json: how the executables beside it came about."""

    schema: int
    name: str
    checkout: str
    key: str
    tree: str
    tool: str
    manifest: str
    unused: tuple[str, ...]
    versions: dict[str, str]
    """Of the programs that took part, by name."""
    products: tuple[Product, ...]
    built_at: float
    """Unix seconds."""
    wall_s: float
    own_tests: OwnTests | None = None
    """What the tests that the profile names came to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastBuild:
    """The content of built/<name>.json: what the acceptance sessions take for a name."""

    schema: int
    name: str
    key: str
    executable: str
    """A product of that build."""
    sha256: str
    checkout: str
    tree: str
    as_root: bool
    built_at: float
    """Unix seconds."""


def write(path: Path, record: BuildRecord) -> None:
    """Write build.json into an entry that is being made."""
    path.write_text(_text(record), encoding="utf-8")


def remember(cache: Cache, last: LastBuild) -> None:
    """Make this build the one that its name stands for."""
    cache.write(f"built/{last.name}.json", _text(last))


def read(entry: Path) -> BuildRecord | None:
    """Return the record of an entry, or None where this version cannot read it."""
    return _read(entry / RECORD, BuildRecord)


def last(cache: Cache, name: str) -> LastBuild | None:
    """Return the last build of a name, or None where there is none that this version can read."""
    return _read(cache.root / "built" / f"{name}.json", LastBuild)


def _text(value: BuildRecord | LastBuild) -> str:
    return json.dumps(legible(codec.encode(value)), indent=1) + "\n"


def _read(path: Path, wanted: type[T]) -> T | None:
    try:
        data = json.loads(path.read_bytes())
        return codec.decode(wanted, data) if data["schema"] == SCHEMA else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
