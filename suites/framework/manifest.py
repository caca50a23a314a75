"""What a folder of artefacts holds, as a value that can be kept and compared with another (layer 1)."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path

from suites.framework.errors import UsageError
from suites.framework.events import legible
from suites.framework.model import SCHEMA

SUFFIX = ".manifest.json"
"""How a manifest's file name ends, below ``<environment>/artefacts/``."""
CONTENT = "content"
"""The folder beside manifests that has their files, each under the SHA-256 of what is in it."""
UNREAD = 4 << 30
"""Bytes of a file above which it is not read: one with holes costs nothing to make."""
LARGEST = 16 << 20
"""Bytes of a file that is kept, so that somebody can look into it."""


class Type(StrEnum):
    """What stands at a path (inode(7))."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    PIPE = "pipe"
    SOCKET = "socket"
    CHARACTER = "character-device"
    BLOCK = "block-device"


_TYPES = {
    stat.S_IFREG: Type.FILE,
    stat.S_IFDIR: Type.FOLDER,
    stat.S_IFLNK: Type.LINK,
    stat.S_IFIFO: Type.PIPE,
    stat.S_IFSOCK: Type.SOCKET,
    stat.S_IFCHR: Type.CHARACTER,
    stat.S_IFBLK: Type.BLOCK,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path below the folder."""

    path: str
    r"""Relative; a byte that is not UTF-8 is written ``\xff``, a backslash ``\\``."""
    type: Type
    mode: str
    """Permissions in octal, such as ``0755``."""
    size_bytes: int = 0
    """Of a file."""
    sha256: str = ""
    """Of a file's content."""
    target: str = ""
    """Where a link points, written like `path`; the numbers of a device, such as ``1:3``."""
    trouble: str = ""
    """Why it could not be read; such an entry equals no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything below a folder, by path."""

    schema: int
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One path that is not the same in two manifests."""

    path: str
    what: str
    """``added``, ``removed``, or what changed and how."""

    def __str__(self) -> str:
        """Return both on one line."""
        return f"{self.path} {self.what}"


# ---- reading a folder ------------------------------------------------------------------------------------------------


def manifest(folder: Path) -> Manifest:
    """Return what a folder holds: links are not followed, other file systems not entered, pipes not opened.

    Raises UsageError where there is no folder; what cannot be read below it is an entry that says so.
    """
    try:
        device = folder.stat().st_dev
        os.listdir(folder)
    except OSError as error:
        raise UsageError(
            f"no manifest of {folder}", why=error.strerror or str(error), remedy="give a folder that can be read"
        ) from error
    entries = _below(os.fsencode(folder), device)
    return Manifest(schema=SCHEMA, entries=tuple(sorted(entries, key=lambda entry: entry.path)))


def _below(top: bytes, device: int) -> Iterator[Entry]:
    """Yield the entries of everything below a folder; one loop, because a target may nest deeper than Python does."""
    folders: list[tuple[Entry | None, bytes]] = [(None, b"")]
    while folders:
        own, prefix = folders.pop()
        try:
            names = os.listdir(os.path.join(top, prefix))  # noqa: PTH118 - paths of bytes
        except OSError as error:
            names, own = [], own and _troubled(own, error)
        if own:
            yield own
        for name in names:
            path = os.path.join(prefix, name)  # noqa: PTH118
            found, enter = _entry(top, path, device)
            if enter:
                folders.append((found, path))
            else:
                yield found


def _entry(top: bytes, path: bytes, device: int) -> tuple[Entry, bool]:
    """Return the entry of a path, and whether it is a folder to look into."""
    place = os.path.join(top, path)  # noqa: PTH118
    try:
        state = os.lstat(place)
    except OSError as error:
        return Entry(path=_text(path), type=Type.FILE, mode="", trouble=error.strerror or str(error)), False
    mode = f"{stat.S_IMODE(state.st_mode):04o}"
    bare = Entry(path=_text(path), type=_TYPES[stat.S_IFMT(state.st_mode)], mode=mode)
    if state.st_dev != device:
        return replace(bare, trouble="stands on another file system"), False
    try:
        return _complete(bare, place, state), bare.type is Type.FOLDER
    except OSError as error:
        return _troubled(bare, error), False


def _complete(bare: Entry, place: bytes, state: os.stat_result) -> Entry:
    match bare.type:
        case Type.FILE:
            size, digest = _content(place)
            return replace(bare, size_bytes=size, sha256=digest)
        case Type.LINK:
            return replace(bare, target=_text(os.readlink(place)))  # noqa: PTH115
        case Type.CHARACTER | Type.BLOCK:
            return replace(bare, target=f"{os.major(state.st_rdev)}:{os.minor(state.st_rdev)}")
        case _:
            return bare


def _content(place: bytes) -> tuple[int, str]:
    """Return size and digest of a file; neither its size nor what was put in its place meanwhile makes this wait."""
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor
        digest, size = hashlib.sha256(), os.fstat(fd).st_size
        while size <= UNREAD and (chunk := file.read(1 << 20)):
            digest.update(chunk)
            size = max(size, file.tell())
        if size > UNREAD:
            raise OSError(errno.EFBIG, f"larger than {UNREAD >> 30} GiB")
        return file.tell(), digest.hexdigest()


def _troubled(entry: Entry, error: OSError) -> Entry:
    return replace(entry, trouble=error.strerror or str(error))


def _text(path: bytes) -> str:
    r"""Return a name as text that no other name has: a file may be called ``\xff`` as well as hold that byte."""
    return str(legible(os.fsdecode(path.replace(b"\\", b"\\\\"))))


# ---- keeping -------------------------------------------------------------------------------------------------------


def keep_content(content: Manifest, folder: Path, into: Path) -> None:
    """Copy the files of a manifest, each once, to where `into` has them by their SHA-256; not those that are large.

    A name that is no text is left out: what is kept is for somebody to look at.
    """
    into.mkdir(parents=True, exist_ok=True)
    for entry in content.entries:
        kept = into / entry.sha256
        if entry.sha256 and entry.size_bytes <= LARGEST and "\\" not in entry.path and not kept.exists():
            shutil.copyfile(folder / entry.path, kept, follow_symlinks=False)


# ---- comparing -------------------------------------------------------------------------------------------------------


def difference(before: Manifest, after: Manifest) -> tuple[Difference, ...]:
    """Return every path that is not the same in both, by path; what could not be read is never the same."""
    old, new = ({entry.path: entry for entry in found.entries} for found in (before, after))
    return tuple(
        Difference(path=path, what=what)
        for path in sorted(old.keys() | new.keys())
        if (what := _changed(old.get(path), new.get(path)))
    )


def _changed(old: Entry | None, new: Entry | None) -> str:
    if old is None:
        return "added"
    if new is None:
        return "removed"
    if trouble := new.trouble or old.trouble:
        return f"not compared: {trouble}"
    names = [field.name for field in fields(Entry) if getattr(old, field.name) != getattr(new, field.name)]
    return f"changed: {', '.join(_shown(name, old, new) for name in names)}" if names else ""


def _shown(name: str, old: Entry, new: Entry) -> str:
    before, after = (str(getattr(entry, name)) for entry in (old, new))
    if name == "sha256":
        before, after = before[:12], after[:12]
    return f"{name} {before or 'none'} -> {after or 'none'}"
