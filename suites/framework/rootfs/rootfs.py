"""A root file system for containers, from wherever it is asked, as a tree in the cache that nobody changes (layer 2).

A tree is known by its content: the same busybox, image or archive is unpacked once. Each use verifies it, and a damaged
one is named and made again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import requests

from suites.framework.environments import engine
from suites.framework.errors import CannotRunError, SeatrialError, UsageError
from suites.framework.facts import Fact, Finding
from suites.framework.provisioning import command
from suites.framework.provisioning.cache import Cache, sha256_of
from suites.framework.provisioning.debian import Packages, Provider
from suites.framework.rootfs import bootstrap, busybox, download, export
from suites.framework.rootfs.archive import Limits
from suites.framework.rootfs.compression import Readable
from suites.framework.rootfs.shelf import FOLDER, SCHEMA, Known, Shelf
from suites.framework.rootfs.source import Kind, Source, parse
from suites.framework.rootfs.tree import ROOTFS, TREE, sha256, size_bytes
from suites.framework.rootfs.unpack import unpack

DEFAULT = "busybox"
_PROBE_S = 10.0
_SHORT = 12

Report = Callable[[str, int, int], None]
"""Hears what is being done, how many bytes are done, and of how many; 0 where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rootfs:
    """A root file system in the cache. It is for copying, or the lower layer of an overlay: it is never written to."""

    path: Path
    source: str
    sha256: str
    """Of the manifest: the same for the same tree, wherever it is from."""
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What root file systems are made with."""

    packages: Provider | None = None
    """The distribution's packages; None for the real ones."""
    connect: export.Connect = engine.connect
    run: command.Run = command.run
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    session: Callable[[], requests.Session] = requests.Session
    patience: download.Patience = field(default_factory=download.Patience)
    limits: Limits = field(default_factory=Limits)
    report: Report = lambda _what, _done, _of: None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How a tree is made, should it not be there."""

    key: str
    description: str
    make: Callable[[Path], None]
    archive: str = ""


def provide(
    source: str = DEFAULT,
    *,
    cache: Cache,
    offline: bool = False,
    sha256: str = "",
    base: Path | None = None,
    means: Means | None = None,
) -> Rootfs:
    """Return the root file system of ``source``, verified, made or fetched if need be.

    ``source`` is ``busybox``, ``mmdebstrap``, ``docker:IMAGE``, or the path (from ``base``) or URL of a tar archive,
    which ``sha256`` belongs to; ``offline`` fetches nothing. Raises UsageError for a source that is wrong, hostile or
    not what the checksum says, CannotRunError for what this machine lacks, InfrastructureError for what failed.
    """
    wanted, shelf = parse(source, base=base, sha256=sha256), Shelf(cache)
    try:
        plan = _Planner(wanted, shelf, offline, means or Means()).plan()
    except CannotRunError as error:
        known = shelf.known(wanted)
        if known is None or shelf.differences(known):
            raise
        cache.say(f"rootfs {wanted.word}: the one in the cache is used ({error.why or error})")
        return _rootfs(shelf, known)
    entry = cache.entry(plan.key, plan.make, seal=ROOTFS)
    return _rootfs(shelf, _noted(shelf, wanted, plan, entry))


def _noted(shelf: Shelf, source: Source, plan: _Plan, entry: Path) -> Known:
    fresh = Known(
        schema=SCHEMA,
        source=source.word,
        key=plan.key,
        sha256=sha256(entry),
        description=plan.description,
        size_bytes=size_bytes(entry),
        archive=plan.archive,
    )
    if shelf.known(source) != fresh:
        shelf.remember(source, fresh)
    return fresh


def _rootfs(shelf: Shelf, known: Known) -> Rootfs:
    return Rootfs(path=shelf.tree(known.key), source=known.source, sha256=known.sha256, description=known.description)


def probe_rootfs(*, cache: Cache, offline: bool = False, means: Means | None = None) -> tuple[Finding, Rootfs | None]:
    """Return whether there is a root file system for containers, by providing the default one and running it."""
    means = means or Means()
    probe = f"rootfs fetch {DEFAULT}; bin/busybox true"
    try:
        found = provide(cache=cache, offline=offline, means=means)
    except SeatrialError as error:
        why = error.why or error.what
        return Finding(fact=Fact.ROOTFS, present=False, probe=probe, detail=why, remedy=error.remedy), None
    done = means.run((str(found.path / "bin/busybox"), "true"), deadline_s=_PROBE_S, environment={})
    if not done.ok:
        remedy = "use a cache on a file system without noexec (--cache DIR)"
        return Finding(fact=Fact.ROOTFS, present=False, probe=probe, detail=done.complaint, remedy=remedy), None
    return Finding(fact=Fact.ROOTFS, present=True, probe=probe, detail=found.description), found


# ---- how each kind is made -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Planner:
    """One source on this machine."""

    source: Source
    shelf: Shelf
    offline: bool
    means: Means

    def plan(self) -> _Plan:
        """Return where the tree of the source is, or would be, and how it is made."""
        match self.source.kind:
            case Kind.BUSYBOX:
                return self._busybox()
            case Kind.MMDEBSTRAP:
                return self._mmdebstrap()
            case Kind.DOCKER:
                return self._docker()
            case Kind.FILE:
                return self._file()
            case Kind.URL:
                return self._url()

    def _busybox(self) -> _Plan:
        packages = self.means.packages or Packages(self.shelf.cache, offline=self.offline)
        found = busybox.find(packages, environ=self.means.environ)
        return _Plan(
            key=f"{FOLDER}/busybox-{found.sha256}-{busybox.LAYOUT}",
            description=f"busybox ({found.origin}) with a link for each applet",
            make=lambda entry: busybox.build(found, entry, run=self.means.run),
        )

    def _mmdebstrap(self) -> _Plan:
        release = bootstrap.release(environ=self.means.environ)

        def make(entry: Path) -> None:
            self._require_network()
            self.shelf.cache.say(f"rootfs mmdebstrap: installing {release.name} {release.codename}, for about a minute")
            work = entry / "work"
            work.mkdir()
            made = bootstrap.archive(release, work, run=self.means.run, environ=self.means.environ)
            with made.open("rb") as stream:
                self._unpack(stream, entry)
            made.unlink()
            for folder in (*work.iterdir(), work):
                folder.rmdir()

        name = f"{release.name} {release.codename}, its essential packages and apt (mmdebstrap minbase)"
        return _Plan(key=f"{FOLDER}/mmdebstrap-{release.key}", description=name, make=make)

    def _docker(self) -> _Plan:
        image, connect = self.source.place, self.means.connect
        found = export.identify(image, connect)

        def make(entry: Path) -> None:
            with export.exported(found, connect) as stream:
                self._unpack(stream, entry)

        digest = found.removeprefix("sha256:")
        return _Plan(
            key=f"{FOLDER}/docker-{digest}", description=f"image {image} ({digest[:_SHORT]}), exported", make=make
        )

    def _file(self) -> _Plan:
        path = Path(self.source.place)
        try:
            digest = sha256_of(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be read", why=error.strerror or str(error)) from None
        if self.source.sha256 not in ("", digest):
            raise UsageError(
                f"{path} is not the archive that was meant",
                why=f"its SHA-256 is {digest}, not {self.source.sha256}",
                remedy="give the right file, or correct --sha256",
            )
        return self._archive(path.name, digest, lambda entry: self._unpack_file(path, digest, entry))

    def _url(self) -> _Plan:
        url = self.source.place
        known = self.shelf.known(self.source)
        digest = self.source.sha256 or (known.archive if known else "")
        if not digest:
            raise UsageError(
                f"the checksum of {url} is not known",
                why="an archive from the network is taken only if it is the one that was meant",
                remedy="add --sha256 HEX, or #sha256=HEX to the URL",
            )

        def make(entry: Path) -> None:
            self._require_network()
            got = download.fetch(
                url,
                digest,
                self.shelf.downloads,
                patience=self.means.patience,
                report=lambda done, of: self.means.report(f"fetching {url}", done, of),
                session=self.means.session,
            )
            try:
                self._unpack_file(got, digest, entry)
            finally:
                for fragment in (got, got.with_name(f"{got.name}.json")):
                    fragment.unlink(missing_ok=True)

        return self._archive(url.rpartition("/")[2] or url, digest, make)

    def _archive(self, name: str, digest: str, make: Callable[[Path], None]) -> _Plan:
        description = f"archive {name} (sha256 {digest[:_SHORT]})"
        return _Plan(key=f"{FOLDER}/tar-{digest}", description=description, make=make, archive=digest)

    def _unpack_file(self, path: Path, digest: str, entry: Path) -> None:
        with path.open("rb") as file:
            stream = _Hashed(file)
            self._unpack(stream, entry)
        if stream.digest.hexdigest() != digest:
            raise UsageError(f"{path} changed while it was read", remedy="start again")

    def _unpack(self, stream: Readable, entry: Path) -> None:
        tree = entry / TREE
        tree.mkdir()
        tree.chmod(0o755)
        what = f"unpacking {self.source.word}"
        unpack(
            stream,
            tree,
            name=f"rootfs {self.source.word}",
            limits=self.means.limits,
            report=lambda done: self.means.report(what, done, 0),
        )

    def _require_network(self) -> None:
        if self.offline:
            raise CannotRunError(
                f"rootfs {self.source.word} is not in the cache",
                why="--offline was given",
                remedy="run once without --offline",
            )


class _Hashed:
    """A file whose checksum is taken while it is read."""

    def __init__(self, file: Readable) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end."""
        data = self._file.read(size)
        self.digest.update(data)
        return data
