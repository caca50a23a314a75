"""Copies of the programs under test at one path for every environment: ``cache/targets/<sha256>/`` (layer 2)."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from suites.framework.errors import UsageError
from suites.framework.provisioning.cache import Cache, sha256_of

MOST_FILES = 2000
"""Of a folder that is a target."""
_HISTORY = (".git", ".hg", ".svn")
PYTHON = ("{python}", "-I", "-S")
"""Words in front of a Python script: the worker's own interpreter, without the user's site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A program in the cache."""

    path: Path
    sha256: str
    """Of the program itself, as ``sha256sum`` prints it."""


def stage(source: Path, *, cache: Cache, siblings: Sequence[str] = ()) -> Staged:
    """Copy ``source``, and ``siblings`` (paths relative to its folder), into the cache and return the program there.

    The same content is copied once. A sibling that is missing raises UsageError, as does a program that is
    rewritten while it is copied.
    """
    files = {source.name: source, **_siblings(source, siblings)}
    digests = {name: _digest(path) for name, path in files.items()}

    def make(folder: Path) -> None:
        for name, path in files.items():
            _copy(path, folder / name, digests[name], mode=0o755)

    folder = cache.entry(f"targets/{_key(source.name, digests)}", make)
    if not (folder / source.name).is_file():  # the same content under another name
        folder = cache.entry(f"targets/{_key(source.name, digests)}.{source.name}", make)
    return Staged(path=folder / source.name, sha256=digests[source.name])


def everything_beside(program: Path) -> tuple[str, ...]:
    """Return all files below the folder of a program, relative to it; UsageError for more than a program can be."""
    folder = program.parent
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != program]
    names = [path.relative_to(folder) for path in found if not path.is_symlink()]
    kept = tuple(str(name) for name in names if not set(_HISTORY) & set(name.parts))
    if len(kept) > MOST_FILES:
        raise UsageError(
            f"{folder} has {len(kept)} files beside {program.name}",
            why=f"a target of a folder is copied whole, and {MOST_FILES} is the most",
            remedy="give the program itself, and name what it needs in siblings",
        )
    return kept


def _siblings(source: Path, siblings: Sequence[str]) -> dict[str, Path]:
    for name in siblings:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise UsageError(
                f"sibling {name!r} of {source} is not below its folder", remedy="correct siblings in the profile"
            )
        if not (source.parent / name).is_file():
            raise UsageError(f"sibling {name!r} of {source} is missing", why=f"the profile needs it in {source.parent}")
    return {name: source.parent / name for name in siblings}


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read", why=error.strerror or str(error)) from None


def _key(name: str, digests: dict[str, str]) -> str:
    """Return the program's own digest, or with siblings one over all of them: a new sibling is another target."""
    if len(digests) == 1:
        return digests[name]
    return hashlib.sha256(
        "\n".join(f"{digest}  {file}" for file, digest in sorted(digests.items())).encode()
    ).hexdigest()


def _copy(source: Path, copy: Path, digest: str, *, mode: int) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, copy)
    if sha256_of(copy) != digest:
        raise UsageError(f"{source} changed while it was copied", remedy="wait for its build to end and start again")
    copy.chmod(mode)
