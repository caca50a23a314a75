"""A source directory: which files belong to it, what identifies their content, and a copy to build in (layer 2)."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

from suites.framework.build import repository
from suites.framework.build.repository import Repository
from suites.framework.build.user import Builder
from suites.framework.errors import UsageError

_BUFFER = 1 << 20
_MODE = 0o777


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """The content of a source directory at one moment."""

    path: Path
    entries: tuple[str, ...]
    """Files, links and empty folders, relative, in order."""
    remarks: tuple[str, ...] = ()
    """Sentences about what a copy lacks: sockets, pipes and devices, submodules that are not there."""
    repository: Repository | None = None
    tree: str = ""
    """SHA-256 over names, modes, contents, link targets, and what git calls this state."""


def require_directory(word: str, path: Path) -> None:
    """Raise UsageError unless ``path`` is a directory."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"{word}: {path} cannot be built", why=why, remedy="give the checkout's directory") from None
    if not stat.S_ISDIR(mode):
        raise UsageError(f"{word}: {path} is not a directory", remedy="give the checkout's directory")


def survey(word: str, path: Path, builder: Builder) -> Checkout:
    """Return what ``path`` holds, read with the builder's rights.

    In a git checkout these are the files that git knows or does not ignore, those of submodules included; elsewhere
    all. UsageError for what cannot be read.
    """
    found, names = repository.find(path, builder)
    with builder.acting(), _explained(word):
        entries, remarks = _sorted_out(path, names or _walk(path))
        if found is not None:
            remarks = (*remarks, *_absent_submodules(path, entries))
        checkout = Checkout(path=path, entries=entries, remarks=remarks, repository=found)
        return replace(checkout, tree=_tree(checkout, path))


def copy(word: str, checkout: Checkout, to: Path, builder: Builder) -> None:
    """Copy a checkout into the empty folder ``to``, which the builder owns; UsageError when it changed meanwhile."""
    with builder.acting(), _explained(word):
        for name in checkout.entries:
            _copy(checkout.path / name, to / name)
        for source, target in checkout.repository.files(to) if checkout.repository else ():
            _copy(source, target)
        if _tree(checkout, to) != checkout.tree:
            raise UsageError(
                f"{word}: {checkout.path} changed while it was copied", remedy="wait until it is quiet and start again"
            )
    if checkout.repository is not None and checkout.repository.linked:
        repository.detach(to, builder)


@contextmanager
def _explained(word: str) -> Iterator[None]:
    """Turn a failure to read or to write into one sentence."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise UsageError(
            f"{word}: {error.filename or 'the checkout'} cannot be {'copied' if full else 'read'}",
            why=error.strerror or str(error),
            remedy="free some space" if full else "chmod or remove it, or let its owner build",
        ) from None


def _walk(top: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(top, onerror=_refuse):
        relative = os.path.relpath(folder, top)
        yield from (os.path.normpath(f"{relative}/{name}") for name in (*folders, *files))


def _refuse(error: OSError) -> None:
    raise error


def _sorted_out(top: Path, names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what can be copied, and a sentence for each thing that cannot; what git lists and nobody has is gone."""
    entries, remarks = [], []
    for name in sorted(set(names)):
        try:
            mode = (top / name).lstat().st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode) or stat.S_ISDIR(mode):
            entries.append(name)
        else:
            remarks.append(f"{name} is not copied: it is a socket, a pipe or a device")
    return tuple(entries), tuple(remarks)


def _absent_submodules(top: Path, entries: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each folder that git lists as one thing: a submodule that nobody checked out."""
    for name in entries:
        if (top / name).is_dir() and not (top / name).is_symlink():
            yield f"submodule {name} is not checked out: git submodule update --init {name}"


def _tree(checkout: Checkout, top: Path) -> str:
    digest = hashlib.sha256()
    if checkout.repository is not None:
        digest.update(checkout.repository.state.encode("utf-8", "surrogateescape"))
    for name in checkout.entries:
        path = top / name
        mode = path.lstat().st_mode
        digest.update(os.fsencode(f"\0{name}\0") + f"{stat.S_IFMT(mode) | mode & _MODE:o}\0".encode())
        if stat.S_ISLNK(mode):
            digest.update(os.fsencode(path.readlink()))
        elif stat.S_ISREG(mode):
            with open_regular(path) as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading, and nothing that stands in its place meanwhile: no link, no pipe."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(fd, "rb")  # noqa: PTH123 - a descriptor, for the caller's `with`


def _copy(source: Path, target: Path) -> None:
    mode = source.lstat().st_mode
    target.parent.mkdir(parents=True, exist_ok=True)
    if stat.S_ISLNK(mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISDIR(mode):
        target.mkdir(exist_ok=True)
        target.chmod(mode & _MODE | 0o700)
    elif stat.S_ISREG(mode):
        with open_regular(source) as stream, target.open("xb") as written:
            shutil.copyfileobj(stream, written, _BUFFER)
            found = os.fstat(stream.fileno())
        target.chmod(found.st_mode & _MODE)
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
