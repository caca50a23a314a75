"""Which root file systems are in the cache, by the source that was named for them (layer 2)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from suites.framework import codec
from suites.framework.provisioning.cache import Cache
from suites.framework.rootfs import download
from suites.framework.rootfs.source import SHA256, Source
from suites.framework.rootfs.tree import ROOTFS, TREE

SCHEMA = 1
FOLDER = "rootfs"
SOURCES = "sources"
DOWNLOADS = "downloads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What was provided for a source the last time."""

    schema: int
    source: str
    key: str
    """Of the entry in the cache."""
    sha256: str
    """Of the manifest."""
    description: str
    size_bytes: int
    archive: str = ""
    """SHA-256 of the archive it was unpacked from."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """The part of a cache that holds root file systems."""

    cache: Cache

    @property
    def downloads(self) -> Path:
        """Return the folder of archives that are being fetched, made if need be."""
        return self.cache.folder(f"{FOLDER}/{DOWNLOADS}")

    def tree(self, key: str) -> Path:
        """Return the path of an entry's tree."""
        return self.cache.root / key / TREE

    def remember(self, source: Source, known: Known) -> None:
        """Write down what was provided for a source."""
        text = json.dumps(codec.encode(known), indent=1) + "\n"
        self.cache.write(f"{FOLDER}/{SOURCES}/{source.label}.json", text)

    def known(self, source: Source) -> Known | None:
        """Return what was provided for a source the last time, be it sound or not."""
        return _read(self.cache.root / FOLDER / SOURCES / f"{source.label}.json")

    def everything(self) -> list[Known]:
        """Return what was provided for any source, in the order of their names."""
        files = sorted((self.cache.root / FOLDER / SOURCES).glob("*.json"))
        return sorted((known for path in files if (known := _read(path))), key=lambda known: known.source)

    def differences(self, known: Known) -> list[str]:
        """Return what is wrong with a tree, by path; empty when it is as it was."""
        return ROOTFS.differences(self.cache.root / known.key)

    def entries(self) -> list[str]:
        """Return the keys of all entries, also those that no source leads to any more, and those half made."""
        folder = self.cache.root / FOLDER
        if not folder.is_dir():
            return []
        names = (_name(path.name) for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
        return sorted({f"{FOLDER}/{name}" for name in names if name not in (SOURCES, DOWNLOADS)})

    def forget(self, key: str) -> None:
        """Remove an entry, and what led to it."""
        for path in (self.cache.root / FOLDER / SOURCES).glob("*.json"):
            known = _read(path)
            if known is None or known.key == key:
                path.unlink(missing_ok=True)
        self.cache.remove(key)

    def fragments(self) -> Iterator[Path]:
        """Yield the files of archives that were not fetched to their end."""
        yield from download.leftovers(self.cache.root / FOLDER / DOWNLOADS)


def _name(name: str) -> str:
    """Return the entry that a directory belongs to, which may be one half made or half removed."""
    return name.removeprefix(".").removesuffix(".new").removesuffix(".old") if name.startswith(".") else name


def _read(path: Path) -> Known | None:
    """Return a note of ours; None for one that is not there, damaged, or of another version: it is written again."""
    try:
        known = codec.decode(Known, json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None
    folder, _, name = known.key.partition("/")
    fits = known.schema == SCHEMA and folder == FOLDER and name not in ("", ".", "..") and "/" not in name
    return known if fits and SHA256.fullmatch(known.sha256) else None
