"""Writing the members of an archive below one directory, and nowhere else (layer 2: standard library only).

Every path is walked from the top by descriptors that follow no link (O_NOFOLLOW in openat(2)), every file is new
(O_EXCL). Modes are those that tests need and nobody is endangered by: 0755 and 0644, 1777 for what is open to all
(/tmp); set-id bits and the archive's owners are dropped, everything belongs to the caller.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from suites.framework.errors import UsageError
from suites.framework.rootfs.archive import Kind, Limits, Member, members, shown
from suites.framework.rootfs.compression import CHUNK_BYTES, ArchiveError, Readable

OPEN = 0o1777
CLOSED = 0o755
REMEDY = "give an archive of a plain root file system, such as tar --create makes of one without /dev"
_OPEN_BITS = stat.S_ISVTX | stat.S_IWOTH
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS = 40
"""Links that the kernel follows in one path (path_resolution(7))."""
_STEPS = 3_000_000
"""Steps along all links of a tree: seconds. Real ones take some ten for each link."""
_REASONS = {
    errno.EEXIST: "it is there already",
    errno.ENOTDIR: "it lies below a link or a file",
    errno.ELOOP: "it lies below a link or a file",
    errno.EILSEQ: "the file system does not know such a name",
    errno.ENAMETOOLONG: "the file system does not know names of this length",
    errno.EMLINK: "it has too many hard links",
}
"""What the kernel refuses because of the archive; other errors are the disk's."""

Report = Callable[[int], None]


def unpack(
    raw: Readable, folder: Path, *, name: str, limits: Limits | None = None, report: Report | None = None
) -> int:
    """Write an archive below the empty directory ``folder`` and return how many members it had.

    ``report`` hears how many bytes of files were written so far. Raises UsageError with the name of the archive where
    it is damaged, hostile or of an unknown kind; the caller then throws ``folder`` away.
    """
    try:
        limits = limits or Limits()
        with _Writer(folder, report or (lambda _: None), limits) as tree:
            count = 0
            for member in members(raw, limits=limits):
                tree.add(member)
                count += 1
            tree.finish()
    except ArchiveError as error:
        raise UsageError(f"{name} is not unpacked", why=str(error), remedy=REMEDY) from None
    if not count:
        raise UsageError(f"{name} is not unpacked", why="it is empty", remedy=REMEDY)
    return count


class _Writer:
    """The tree so far. A name is written once; only a directory may be named again."""

    def __init__(self, folder: Path, report: Report, limits: Limits) -> None:
        self._folder, self._report, self._limits, self._written = folder, report, limits, 0
        self._kinds: dict[str, Kind] = {"": Kind.DIRECTORY}
        self._links: dict[str, str] = {}
        self._open: list[str] = []
        """Directories that others may write to: in the end, or they would have a hand in the unpacking."""
        self._steps = 0
        self._at: tuple[str, int] | None = None
        """The directory of the last member and its descriptor: neighbours follow each other."""

    def __enter__(self) -> _Writer:
        self._root = os.open(self._folder, _DIRECTORY)
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        os.close(self._root)

    def add(self, member: Member) -> None:
        """Write one member."""
        known = self._kinds.get(member.path)
        if known is not None and not (known is member.kind is Kind.DIRECTORY):
            raise ArchiveError(f"{shown(member.path)} is there twice")
        with _blamed(member.path):
            match member.kind:
                case Kind.DIRECTORY:
                    self._directory(member)
                case Kind.FILE:
                    self._file(member)
                case Kind.SYMLINK:
                    self._symlink(member)
                case Kind.HARDLINK:
                    self._hardlink(member)
        self._kinds[member.path] = member.kind

    def _directory(self, member: Member) -> None:
        self._enter(member.path)
        if member.path and member.mode & _OPEN_BITS == _OPEN_BITS:
            self._open.append(member.path)

    def _file(self, member: Member) -> None:
        folder, _, last = member.path.rpartition("/")
        file = os.open(last, _NEW, 0o600, dir_fd=self._enter(folder))
        try:
            self._fill(file, member)
            os.fchmod(file, 0o755 if member.mode & 0o111 else 0o644)
        finally:
            os.close(file)

    def _fill(self, file: int, member: Member) -> None:
        left = member.size
        while member.content and left and (data := member.content.read(min(left, CHUNK_BYTES))):
            _write(file, data)
            left -= len(data)
            self._written += len(data)
            if self._written > self._limits.total_bytes:  # whatever tarfile makes of what it reads
                raise ArchiveError(f"it holds more than {self._limits.total_bytes >> 20} MiB")
            self._report(self._written)
        if left:
            raise ArchiveError(f"it is cut off in {shown(member.path)}")

    def _symlink(self, member: Member) -> None:
        folder, _, last = member.path.rpartition("/")
        os.symlink(member.target, last, dir_fd=self._enter(folder))
        self._links[member.path] = member.target

    def _hardlink(self, member: Member) -> None:
        if self._kinds.get(member.target) not in (Kind.FILE, Kind.HARDLINK):
            raise ArchiveError(
                f"{shown(member.path)} is a hard link to {shown(member.target)}, which is no file that came before it"
            )
        folder, _, last = member.path.rpartition("/")
        source, _, source_last = member.target.rpartition("/")
        with _walked(self._root, source) as place:
            os.link(source_last, last, src_dir_fd=place, dst_dir_fd=self._enter(folder), follow_symlinks=False)

    def _enter(self, folder: str) -> int:
        """Return the descriptor of a directory, made with those above it that the archive does not name."""
        if self._at is None or self._at[0] != folder:
            self._leave()
            self._at = (folder, self._made(folder))
        return self._at[1]

    def _leave(self) -> None:
        if self._at is not None:
            os.close(self._at[1])
            self._at = None

    def _made(self, folder: str) -> int:
        place, path = os.dup(self._root), ""
        try:
            for part in filter(None, folder.split("/")):
                path = f"{path}/{part}" if path else part
                if fresh := path not in self._kinds:
                    os.mkdir(part, CLOSED, dir_fd=place)
                below = os.open(part, _DIRECTORY, dir_fd=place)
                os.close(place)
                place = below
                if fresh:
                    os.fchmod(place, CLOSED)  # whatever the umask
                    self._kinds[path] = Kind.DIRECTORY
        except BaseException:
            os.close(place)
            raise
        return place

    def finish(self) -> None:
        """Refuse a tree with links that lead out of it, then open what is to be open to all."""
        self._require_closed()
        for path in self._open:
            with _walked(self._root, path) as place:
                os.fchmod(place, OPEN)

    # ---- links that lead out, by themselves or by way of others

    def _require_closed(self) -> None:
        """Refuse a tree in which a symbolic link, followed inside it, climbs above its top."""
        for path, target in self._links.items():
            if self._climbs(path):
                raise ArchiveError(f"{shown(path)} is a symbolic link to {shown(target)}: that leaves the tree")

    def _climbs(self, path: str) -> bool:
        """Follow a link as the kernel would, with the tree as the root directory."""
        at = path.split("/")[:-1]
        todo = self._links[path].split("/")[::-1]
        at, followed = ([], 1) if self._links[path].startswith("/") else (at, 1)
        while todo and followed <= _LINKS:
            part = todo.pop()
            if (steps := self._steps) > _STEPS:
                raise ArchiveError("its symbolic links lead on and on")
            self._steps = steps + 1
            if part == "..":
                if not at:
                    return True
                at.pop()
            elif part not in ("", "."):
                target = self._links.get("/".join((*at, part)))
                if target is None:
                    at.append(part)
                else:
                    followed += 1
                    at = [] if target.startswith("/") else at
                    todo += target.split("/")[::-1]
        return False


@contextmanager
def _blamed(path: str) -> Iterator[None]:
    """Tell what the kernel refuses because of the archive from what the disk cannot do."""
    try:
        yield
    except OSError as error:
        if (reason := _REASONS.get(error.errno or 0)) is None:
            raise
        raise ArchiveError(f"{shown(path)} cannot be written: {reason}") from None


@contextmanager
def _walked(root: int, folder: str) -> Iterator[int]:
    """Open a directory that is there."""
    place = os.dup(root)
    try:
        for part in filter(None, folder.split("/")):
            below = os.open(part, _DIRECTORY, dir_fd=place)
            os.close(place)
            place = below
        yield place
    finally:
        os.close(place)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
