"""The cache: finished directories, each made once, published whole and verified on use (layer 2: + filelock)."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from suites.framework.cleanup import mounts_below
from suites.framework.errors import InfrastructureError

MANIFEST = "manifest.json"
SCHEMA = 1
LOCK_TIMEOUT_S = 600.0
"""How long one run waits for another that makes the same entry."""

_DIRECTORY_MODE = 0o755
_CHUNK = 1 << 20

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """How an entry is finished, and how it is told later that it is as it was."""

    close: Callable[[Path], None]
    """Sets the modes of a folder that was just made and writes `MANIFEST` in it."""
    differences: Callable[[Path], list[str]]
    """Returns one sentence for each difference from the manifest."""


def default_root(environ: Mapping[str, str] = os.environ, uid: int | None = None) -> Path:
    """Return $SEATRIAL_CACHE, else /var/cache/seatrial for root, else seatrial below ${XDG_CACHE_HOME:-~/.cache}."""
    if given := environ.get("SEATRIAL_CACHE"):
        return Path(given).absolute()
    if (os.geteuid() if uid is None else uid) == 0:
        return Path("/var/cache/seatrial")
    if base := environ.get("XDG_CACHE_HOME"):
        return Path(base) / "seatrial"
    home = environ.get("HOME")
    return (Path(home) if home else Path.home()) / ".cache/seatrial"


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr)


class Cache:
    """A directory of entries that any number of runs share."""

    def __init__(self, root: Path | None = None, *, say: Say = _to_stderr) -> None:
        """Use ``root``, or the default one; nothing is made before it is needed. ``say`` tells the user."""
        self.root = (root or default_root()).absolute()
        self.say = say

    def entry(
        self,
        key: str,
        make: Callable[[Path], None],
        *,
        patience_s: float = LOCK_TIMEOUT_S,
        seal: Seal | None = None,
    ) -> Path:
        """Return the verified directory of ``key`` (such as ``targets/<sha256>``), made by ``make(folder)`` if need be.

        Of several runs one makes it, and the others wait for it as long as `patience_s`. A corrupted entry is
        discarded with a message and made again. Without a ``seal`` its files become readable for all, 0755 or 0644.
        """
        if self.holds(key, seal=seal):
            return self.root / key
        with self.lock(key, patience_s=patience_s), self._guarded(key):
            if not self.holds(key, seal=seal):
                self._publish(key, make, seal or FILES)
        return self.root / key

    def holds(self, key: str, *, seal: Seal | None = None) -> bool:
        """Return whether ``key`` is there and every file of it is as its manifest says."""
        return (self.root / key / MANIFEST).is_file() and not (seal or FILES).differences(self.root / key)

    def remove(self, key: str) -> None:
        """Remove an entry and what was left of it half made; refused while another run makes it."""
        final = self.root / key
        with self.lock(key, patience_s=0), self._guarded(key):
            for path in (final, final.with_name(f".{final.name}.new"), final.with_name(f".{final.name}.old")):
                if path.exists():
                    _drop(path)

    @contextmanager
    def lock(self, key: str, *, patience_s: float = LOCK_TIMEOUT_S) -> Iterator[None]:
        """Hold the lock of ``key`` against other runs, having waited at most `patience_s` for it."""
        path = self.root / "locks" / f"{key.replace('/', '.')}.lock"
        with self._guarded(key):
            self.folder("locks")
            held = FileLock(path, mode=0o644)
            self._acquire(held, key, patience_s)
        try:
            yield
        finally:
            held.release()

    def folder(self, key: str) -> Path:
        """Return the plain directory ``key``, made with mode 0755 and its parents whatever the umask."""
        path = self.root / key
        with self._guarded(key):
            _make_directories(path)
        return path

    def write(self, key: str, text: str) -> Path:
        """Write the plain file ``key`` atomically and return its path."""
        path = self.folder(str(Path(key).parent)) / Path(key).name
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        with self._guarded(key):
            fresh.write_text(text, encoding="utf-8")
            fresh.chmod(0o644)
            fresh.replace(path)
        return path

    def _acquire(self, held: FileLock, key: str, patience_s: float) -> None:
        try:
            held.acquire(timeout=0)
        except Timeout:
            self.say(f"cache: another run is busy with {key}; waiting for it")
            try:
                held.acquire(timeout=patience_s)
            except Timeout:
                raise InfrastructureError(
                    f"cache entry {key} is locked for more than {patience_s:.0f} s",
                    why=f"another run holds {held.lock_file}",
                    remedy="end that run, or use another cache with --cache DIR",
                ) from None

    def _publish(self, key: str, make: Callable[[Path], None], seal: Seal) -> None:
        final = self.root / key
        fresh = final.with_name(f".{final.name}.new")
        _make_directories(final.parent)
        self._discard(final, key, seal)
        if fresh.exists():  # left by a run that was killed: the lock is ours, so nobody writes there
            _remove(fresh)
        _make_directories(fresh)
        try:
            make(fresh)
            seal.close(fresh)
            fresh.rename(final)
        except BaseException:
            _remove(fresh)
            raise

    def _discard(self, final: Path, key: str, seal: Seal) -> None:
        if not final.exists():
            return
        what = next(iter(seal.differences(final)), "it has no manifest")
        self.say(f"cache: entry {key} is corrupted ({what}) and is made again")
        _drop(final)

    @contextmanager
    def _guarded(self, key: str) -> Iterator[None]:
        """Turn the failures of a disk into one clear line."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise InfrastructureError(
                f"cache {self.root} {'is full' if full else 'cannot be used'}",
                why=f"{error.strerror or error} ({error.filename or key})",
                remedy="free some space or use another with --cache DIR" if full else "use another with --cache DIR",
            ) from error


def differences(folder: Path) -> list[str]:
    """Return one sentence for each file of an entry that is not as its manifest says; empty when it is sound."""
    try:
        recorded = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        known = {item["path"]: item for item in recorded["files"]}
        if recorded["schema"] != SCHEMA:
            return [f"its schema is {recorded['schema']}, not {SCHEMA}"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"its manifest cannot be read: {error}"]
    try:
        present = {item["path"]: item for item in _records(folder)}
    except OSError as error:
        return [f"it cannot be read: {error}"]
    changed = [f"{path} was changed" for path in sorted(known.keys() & present.keys()) if known[path] != present[path]]
    gone = [f"{path} is missing" for path in sorted(known.keys() - present.keys())]
    return changed + gone + [f"{path} was added" for path in sorted(present.keys() - known.keys())]


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _seal(folder: Path) -> None:
    """Make an entry readable for every user, take set-id bits away, and write its manifest."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(_DIRECTORY_MODE if path.is_dir() else (0o755 if mode & 0o111 else 0o644))
    manifest = {"schema": SCHEMA, "files": list(_records(folder))}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    (folder / MANIFEST).chmod(0o644)


FILES = Seal(close=_seal, differences=differences)
"""Programs, libraries and their like: executable or not is all that counts."""


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            yield {"path": name, "link": str(path.readlink())}
        elif not path.is_dir() and name != MANIFEST:
            yield {"path": name, "mode": f"{stat.S_IMODE(path.stat().st_mode):04o}", "sha256": sha256_of(path)}


def _make_directories(path: Path) -> None:
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        folder.chmod(_DIRECTORY_MODE)


def _drop(folder: Path) -> None:
    """Remove a directory in one step for whoever looks at it."""
    doomed = folder if folder.name.endswith(".old") else folder.with_name(f".{folder.name.lstrip('.')}.old")
    if doomed != folder:
        if doomed.exists():
            _remove(doomed)
        folder.rename(doomed)
    _remove(doomed)


def _remove(folder: Path) -> None:
    """Remove a directory that this module made, unless something is mounted below it."""
    if below := mounts_below(folder):
        raise InfrastructureError(
            f"{folder} is not removed", why=f"{below[0]} is mounted there", remedy=f"umount {below[0]}"
        )
    shutil.rmtree(folder)
