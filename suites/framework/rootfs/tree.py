"""What an entry of the cache that holds a root file system is: a tree, and a manifest of everything in it (layer 2).

The tree keeps its own modes, which other entries of the cache do not, and empty directories count.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from suites.framework import codec
from suites.framework.provisioning.cache import MANIFEST, Seal

SCHEMA = 1
TREE = "root"
"""Name of the tree in its entry, beside the manifest."""
_CHUNK = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Type(StrEnum):
    """What stands at a path; nothing else is ever unpacked."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One path of a tree."""

    path: str
    type: Type
    mode: str = ""
    """Four octal digits; empty for a link, which has none."""
    size: int = 0
    """Bytes of a file."""
    sha256: str = ""
    """Of a file's content."""
    target: str = ""
    """Of a symbolic link."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that a tree holds, in the order of the paths: the same tree gives the same bytes."""

    schema: int
    records: tuple[Record, ...]


def seal(entry: Path) -> None:
    """Write the manifest of the tree in ``entry``."""
    manifest = Manifest(schema=SCHEMA, records=tuple(records(entry / TREE)))
    path = entry / MANIFEST
    path.write_text(json.dumps(codec.encode(manifest), indent=0) + "\n", encoding="utf-8")
    path.chmod(0o644)


def differences(entry: Path) -> list[str]:
    """Return one sentence for each path that is not as the manifest says; empty when the tree is sound."""
    try:
        known = {record.path: record for record in manifest(entry).records}
    except (OSError, ValueError, RecursionError) as error:
        return [f"its manifest cannot be read: {error}"]
    try:
        strange = [f"{name} was added" for name in sorted(os.listdir(entry)) if name not in (TREE, MANIFEST)]
        present = {record.path: record for record in records(entry / TREE)}
    except OSError as error:
        return [f"it cannot be read: {error}"]
    return strange + _compared(known, present)


def manifest(entry: Path) -> Manifest:
    """Return the manifest of an entry; OSError or ValueError where there is none that can be read."""
    found = codec.decode(Manifest, json.loads((entry / MANIFEST).read_bytes()))
    if found.schema != SCHEMA:
        raise ValueError(f"its schema is {found.schema}, not {SCHEMA}")
    return found


def sha256(entry: Path) -> str:
    """Return the SHA-256 of the manifest: two trees with the same one are the same, wherever they came from."""
    return hashlib.sha256((entry / MANIFEST).read_bytes()).hexdigest()


ROOTFS = Seal(close=seal, differences=differences)
"""How the cache closes an entry with a root file system, and looks whether it still is what it was."""


def records(tree: Path) -> Iterator[Record]:
    """Yield what a tree holds below its top, in the order of the paths; links are not followed."""
    digests: dict[tuple[int, int], str] = {}
    yield from sorted(_walked(str(tree), "", digests), key=lambda record: record.path)


def _walked(tree: str, folder: str, digests: dict[tuple[int, int], str]) -> Iterator[Record]:
    folders = [folder]
    while folders:
        with os.scandir(f"{tree}/{folders[-1]}" if folders[-1] else tree) as entries:
            above = folders.pop()
            for entry in entries:
                record = _record(entry, f"{above}/{entry.name}" if above else entry.name, digests)
                if record.type is Type.DIRECTORY:
                    folders.append(record.path)
                yield record


def _record(entry: os.DirEntry[str], path: str, digests: dict[tuple[int, int], str]) -> Record:
    found = entry.stat(follow_symlinks=False)
    mode = f"{stat.S_IMODE(found.st_mode):04o}"
    if stat.S_ISLNK(found.st_mode):
        return Record(path=path, type=Type.LINK, target=str(Path(entry.path).readlink()))
    if stat.S_ISDIR(found.st_mode):
        return Record(path=path, type=Type.DIRECTORY, mode=mode)
    if not stat.S_ISREG(found.st_mode):
        return Record(path=path, type=Type.OTHER, mode=mode)
    inode = (found.st_dev, found.st_ino)  # hard links are read once
    if inode not in digests:
        digests[inode] = _digest(entry.path)
    return Record(path=path, type=Type.FILE, mode=mode, size=found.st_size, sha256=digests[inode])


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    file = os.open(path, _READ)
    try:
        while data := os.read(file, _CHUNK):
            digest.update(data)
    finally:
        os.close(file)
    return digest.hexdigest()


def _compared(known: Mapping[str, Record], present: Mapping[str, Record]) -> list[str]:
    changed = [
        f"{path} was changed ({_how(known[path], present[path])})"
        for path in sorted(known.keys() & present.keys())
        if known[path] != present[path]
    ]
    gone = [f"{path} is missing" for path in sorted(known.keys() - present.keys())]
    return changed + gone + [f"{path} was added" for path in sorted(present.keys() - known.keys())]


def _how(before: Record, after: Record) -> str:
    if before.type is not after.type:
        return f"{before.type}, now {after.type}"
    if before.mode != after.mode:
        return f"mode {before.mode}, now {after.mode}"
    return f"to {before.target!r}, now to {after.target!r}" if before.type is Type.LINK else "content"


def size_bytes(entry: Path) -> int:
    """Return how much the files of an entry's tree hold; 0 where its manifest cannot be read."""
    with suppress(OSError, ValueError):
        return sum(record.size for record in manifest(entry).records)
    return 0
