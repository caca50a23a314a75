"""Reading a tar archive that nobody vouches for: as a stream, strictly, within limits (layer 2).

tarfile takes what it cannot read for the end; here an archive is whole, with its end, or it is refused. Sources:
POSIX.1-2017 pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any, cast

from suites.framework.errors import SeatrialError
from suites.framework.rootfs.compression import CHUNK_BYTES, ArchiveError, Readable, Source, opened

_EXTENSION_BYTES = 1 << 20
"""A long name or a pax header is read into memory as a whole."""
_NESTING = 8
"""Headers about one member: a pax header, a long name, a long link and the member itself are four."""
_EXTENSIONS = frozenset(
    (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
)
_SHOWN = 80
_NO_END = "the blocks of zeros that end an archive are missing"
_TRAVERSAL = "its name leads out of the tree"
_PASSING = (ArchiveError, SeatrialError, OSError)
"""What the reading of an archive may raise that is not the archive's fault, or was said already."""
_KINDS = {
    tarfile.CHRTYPE: "a character device",
    tarfile.BLKTYPE: "a block device",
    tarfile.FIFOTYPE: "a named pipe",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an archive may ask for. Far beyond any root file system that is used for tests."""

    total_bytes: int = 8 << 30
    """Of what comes out of the decompression."""
    members: int = 300_000
    path_bytes: int = 1024
    depth: int = 64
    ratio: int = 250
    """How many times its size an archive may grow; that of real ones is below 10."""
    harmless_bytes: int = 64 << 20
    """Up to here nobody asks for the ratio."""


class Kind(StrEnum):
    """What a member may be."""

    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member that may be unpacked: its path is relative, without ``.`` and ``..``; empty for the tree itself."""

    path: str
    kind: Kind
    mode: int = 0o755
    size: int = 0
    target: str = ""
    """Of a symbolic link verbatim, of a hard link like a path."""
    content: Readable | None = None


def members(raw: Readable, *, limits: Limits) -> Iterator[Member]:
    """Yield the members of an archive; the content of one is to be read before the next. Raises ArchiveError.

    After the last one the archive was read to its very end, and nothing but zeros followed.
    """
    source = Source(raw)
    bounded = _Bounded(opened(source), source, limits)
    with closing(_open(bounded)) as archive:
        count = 0
        while (info := _next(archive)) is not None:
            if (count := count + 1) > limits.members:
                raise ArchiveError(f"it has more than {limits.members} members")
            yield _member(info, archive, limits)
        _require_end(archive)


def shown(name: str) -> str:
    """Return a name from outside as it can be shown: quoted, escaped and not too long."""
    text = ascii(name)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]}...{text[-1]}"


# ---- the stream ------------------------------------------------------------------------------------------------------


class _Bounded:
    """The decompressed stream, which ends in an error where it grows beyond the limits."""

    def __init__(self, inner: Readable, source: Source, limits: Limits) -> None:
        self._inner, self._source, self._limits, self._given = inner, source, limits, 0

    def read(self, size: int, /) -> bytes:
        """Return exactly so many bytes, fewer at the end."""
        parts, missing = [], size
        while missing > 0 and (data := self._inner.read(min(missing, CHUNK_BYTES))):
            parts.append(data)
            missing -= len(data)
            self._count(len(data))
        return b"".join(parts)

    def _count(self, more: int) -> None:
        self._given += more
        if self._given > self._limits.total_bytes:
            raise ArchiveError(f"it holds more than {self._limits.total_bytes >> 20} MiB")
        if self._given > max(self._limits.harmless_bytes, self._limits.ratio * self._source.taken):
            raise ArchiveError(f"it grows to more than {self._limits.ratio} times its size: a decompression bomb")


class _Header(tarfile.TarInfo):
    """A header that is refused where tarfile would go on, read too much into memory, or take it for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Parse one block."""
        found = super().frombuf(buf, encoding, errors)
        if found.size < 0:
            raise ArchiveError(f"member {shown(found.name)} has a negative size")
        if found.type in _EXTENSIONS and found.size > _EXTENSION_BYTES:
            raise ArchiveError(f"a header about a member takes {found.size} bytes")
        return found

    @classmethod
    def fromtarfile(cls, opened: tarfile.TarFile) -> _Header:
        """Parse the next member with the headers in front of it, which tarfile does by recursion."""
        archive = cast("_Archive", opened)
        if (nesting := archive.nesting + 1) > _NESTING:
            raise ArchiveError("it has too many headers about one member")
        archive.nesting = nesting
        try:
            return super().fromtarfile(archive)
        except _END:
            archive.ended = nesting == 1
            raise
        except tarfile.HeaderError as error:
            raise ArchiveError(_about(error, archive)) from None
        finally:
            archive.nesting = nesting - 1


class _Archive(tarfile.TarFile):
    tarinfo = _Header
    nesting = 0
    ended = False
    """Whether the block of zeros was seen that ends an archive."""


_END: type[tarfile.HeaderError] = cast("Any", tarfile).EOFHeaderError
_NOTHING: type[tarfile.HeaderError] = cast("Any", tarfile).EmptyHeaderError


def _about(error: tarfile.HeaderError, archive: _Archive) -> str:
    if not archive.offset:
        return f"it is no tar archive: {error}"
    if isinstance(error, _NOTHING):
        return f"it is cut off: {_NO_END}"
    return f"it is damaged or cut off: {error}"


def _open(stream: _Bounded) -> _Archive:
    try:
        opened = _Archive.open(fileobj=cast("IO[bytes]", stream), mode="r|", encoding="utf-8", errors="surrogateescape")
    except _PASSING:
        raise
    except Exception as error:  # as in _next
        raise ArchiveError(f"it is no tar archive: {error}") from None
    return opened


def _next(archive: _Archive) -> tarfile.TarInfo | None:
    try:
        found = archive.next()
    except _PASSING:
        raise
    except Exception as error:  # what tarfile's parsing of hostile numbers and tables raises is not one class
        raise ArchiveError(f"it is damaged: {error}") from None
    cast("Any", archive).members.clear()  # or the headers of all members stay in memory
    return found


def _require_end(archive: _Archive) -> None:
    if not archive.ended:
        raise ArchiveError(f"it is cut off: {_NO_END}")
    stream = cast("Any", archive).fileobj
    while data := stream.read(CHUNK_BYTES):
        if data.strip(b"\0"):
            raise ArchiveError("something follows the end of the archive")


# ---- members ---------------------------------------------------------------------------------------------------------


def _member(info: tarfile.TarInfo, archive: _Archive, limits: Limits) -> Member:
    """Return a member that may be unpacked as far as its own header goes; refuse others."""
    path, mode = _path(info.name, limits), info.mode & 0o7777
    if info.size < 0:  # by a pax header: the number in the header itself was looked at before
        raise ArchiveError(f"{shown(info.name)} has a negative size")
    if info.issparse():  # its map may name any size, whatever the archive holds
        raise ArchiveError(f"{shown(info.name)} is a sparse file; make the archive without --sparse")
    if info.isdir():
        return Member(path=path, kind=Kind.DIRECTORY, mode=mode)
    if not path:
        raise ArchiveError(f"{shown(info.name)} names the tree itself and is no directory")
    if info.isreg():
        return Member(path=path, kind=Kind.FILE, mode=mode, size=info.size, content=_content(info, archive))
    if info.issym():
        return Member(path=path, kind=Kind.SYMLINK, target=_target(info, limits))
    if info.islnk():
        return Member(path=path, kind=Kind.HARDLINK, target=_path(info.linkname, limits, of=info.name))
    kind = _KINDS.get(info.type, f"of the unknown type {info.type!r}")
    raise ArchiveError(f"{shown(info.name)} is {kind}; a runtime makes its own, pack the tree without it")


def _content(info: tarfile.TarInfo, archive: _Archive) -> Readable:
    stream = archive.extractfile(info)
    if stream is None:
        raise ArchiveError(f"{shown(info.name)} has no content")
    return _Content(stream, info.name)


class _Content:
    """The content of one file."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end."""
        try:
            return self._stream.read(size)
        except _PASSING:
            raise
        except Exception as error:  # as in _next
            raise ArchiveError(f"it is cut off in {shown(self._name)}: {error}") from None


def _path(name: str, limits: Limits, *, of: str = "") -> str:
    """Return a name as a path below the tree."""
    about = f"{shown(of)} is a hard link to {shown(name)}: " if of else f"member {shown(name)}: "
    if name.startswith("/"):
        raise ArchiveError(f"{about}{_TRAVERSAL}: it is absolute")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ArchiveError(f"{about}{_TRAVERSAL}: it has ..")
    if reason := _unspeakable(name, parts, limits):
        raise ArchiveError(f"{about}{reason}")
    return "/".join(parts)


def _unspeakable(name: str, parts: list[str], limits: Limits) -> str:
    """Return why nobody should have to deal with such a name, or an empty text."""
    if not name:
        return "it is empty"
    if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in name):
        return "it has control characters"
    try:
        raw = name.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if len(raw) > limits.path_bytes or max((len(part.encode()) for part in parts), default=0) > 255:
        return f"it is longer than {limits.path_bytes} bytes, or a part of it longer than 255"
    return f"it is deeper than {limits.depth} directories" if len(parts) > limits.depth else ""


def _target(info: tarfile.TarInfo, limits: Limits) -> str:
    """Return the target of a symbolic link: absolute is legal, it means the container's root.

    Where it leads is only known when all links are.
    """
    if reason := _unspeakable(info.linkname, [], limits):
        raise ArchiveError(f"{shown(info.name)} is a symbolic link to {shown(info.linkname)}: {reason}")
    return info.linkname
