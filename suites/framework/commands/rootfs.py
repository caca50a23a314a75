"""``rootfs list|fetch|verify|clean``: root file systems for containers, kept in the cache (layer 2)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from suites.framework.errors import ExitCode, SeatrialError, UsageError
from suites.framework.options import Options
from suites.framework.provisioning.cache import Cache
from suites.framework.results.escaping import one_line
from suites.framework.rootfs import rootfs as provision
from suites.framework.rootfs.rootfs import Means, Rootfs
from suites.framework.rootfs.shelf import Known, Shelf
from suites.framework.rootfs.source import Kind, Source, parse

SOURCES = {
    Kind.BUSYBOX.value: "this machine's static busybox, else that of the package busybox-static; the default",
    Kind.MMDEBSTRAP.value: "a minimal Debian: glibc, bash, setpriv, capsh",
    "docker:IMAGE": "the files of a local image",
    "PATH, URL": "a tar archive; a URL with --sha256",
}
DAMAGES = 5
"""Damaged paths of a tree that are named."""
_TERMINAL_S, _PLAIN_S = 0.1, 5.0
_MEBIBYTE = 1 << 20


def rootfs(options: Options) -> ExitCode:
    """Execute one action."""
    shelf = Shelf(Cache(options.cache))
    actions: dict[str, Callable[[], ExitCode]] = {
        "list": lambda: show(shelf),
        "fetch": lambda: fetch(shelf, options),
        "verify": lambda: verify(shelf, options),
        "clean": lambda: clean(shelf, apply=options.apply),
    }
    return actions[options.action]()


def show(shelf: Shelf) -> ExitCode:
    """Print the sources, and what of them is in the cache."""
    for name, text in SOURCES.items():
        print(f"{name:12}  {text}")
    known = shelf.everything()
    print(f"in {shelf.cache.root}: {len(known) or 'none'}")
    for each in known:
        print(f"    {each.sha256}  {size(each.size_bytes):>9}  {one_line(each.source)}")
        print(f"        {one_line(each.description)}; {one_line(str(shelf.tree(each.key)))}")
    return ExitCode.GREEN


def fetch(shelf: Shelf, options: Options) -> ExitCode:
    """Take one into the cache and print where it is."""
    got = _provided(shelf.cache, options.source or provision.DEFAULT, options, sha256=options.sha256 or "")
    print(f"{one_line(got.source)}: {one_line(got.description)}")
    print(f"manifest sha256 {got.sha256}")
    print(got.path)
    return ExitCode.GREEN


def _provided(cache: Cache, source: str, options: Options, *, sha256: str = "") -> Rootfs:
    meter = Meter()
    try:
        return provision.provide(
            source,
            cache=cache,
            offline=options.offline,
            sha256=sha256,
            base=options.base,
            means=Means(report=meter.report),
        )
    finally:
        meter.end()


# ---- verify ----------------------------------------------------------------------------------------------------------


def verify(shelf: Shelf, options: Options) -> ExitCode:
    """Compare trees with their manifests and make the damaged ones again; 3 when one cannot be."""
    chosen = _chosen(shelf, options)
    endings = [_verified(shelf, known, options) for known in chosen]
    if not endings:
        print("nothing to verify")
    return ExitCode.GREEN if all(endings) else ExitCode.INFRASTRUCTURE


def _chosen(shelf: Shelf, options: Options) -> Sequence[Known]:
    if options.source is None:
        return shelf.everything()
    known = shelf.known(_named(options.source, options.base))
    if known is None:
        raise UsageError(
            f"rootfs {options.source} is not in the cache", remedy=f"rootfs fetch {options.source}, or see rootfs list"
        )
    return [known]


def _named(word: str, base: Path) -> Source:
    """Return the source of a word; an archive may be gone by now."""
    try:
        return parse(word, base=base)
    except UsageError:
        path = (base / word).absolute()
        if "://" in word or path.exists():
            raise
        return Source(kind=Kind.FILE, word=str(path), place=str(path))


def _verified(shelf: Shelf, known: Known, options: Options) -> bool:
    """Show one tree, repair it if need be, and return whether it is sound in the end."""
    name, found = one_line(known.source), shelf.differences(known)
    if not found:
        print(f"sound    {name}  {known.sha256}")
        return True
    for difference in found[:DAMAGES]:
        print(f"damaged  {name}: {one_line(difference)}")
    if more := found[DAMAGES:]:
        print(f"damaged  {name}: and {len(more)} more")
    try:
        got = _provided(shelf.cache, known.source, options)
    except SeatrialError as error:
        print(f"seatrial: {one_line(str(error))}", file=sys.stderr)
        return False
    print(f"again    {name}  {got.sha256}")
    return True


# ---- clean -----------------------------------------------------------------------------------------------------------


def clean(shelf: Shelf, *, apply: bool) -> ExitCode:
    """List what is in the cache of root file systems; with ``--apply`` remove it. 3 when something could not be."""
    names = {known.key: known.source for known in shelf.everything()}
    found: list[tuple[str, Callable[[], None]]] = [
        (f"{names.get(key, 'no source')}: {shelf.cache.root / key}", lambda key=key: shelf.forget(key))  # type: ignore[misc]
        for key in shelf.entries()
    ]
    found += [(f"part of an archive: {path}", path.unlink) for path in shelf.fragments()]
    problems = [problem for what, remove in found if (problem := _treated(what, remove, apply=apply))]
    for problem in problems:
        print(f"seatrial: {problem}", file=sys.stderr)
    if not found:
        print("nothing to clean")
    elif not apply:
        print("nothing was removed: add --apply")
    return ExitCode.INFRASTRUCTURE if problems else ExitCode.GREEN


def _treated(what: str, remove: Callable[[], None], *, apply: bool) -> str:
    print(f"{'remove' if apply else 'would remove'} {one_line(what)}")
    try:
        if apply:
            remove()
    except (SeatrialError, OSError) as error:
        return one_line(str(error))
    return ""


# ---- progress --------------------------------------------------------------------------------------------------------


def size(count: int) -> str:
    """Return a number of bytes in MiB."""
    return f"{count / _MEBIBYTE:.1f} MiB"


@dataclass(slots=True, kw_only=True)
class Meter:
    """How far a fetch is: on a terminal one line in place, elsewhere a line every five seconds."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    _at: float | None = None
    _drawn: bool = False

    def report(self, what: str, done: int, of: int) -> None:
        """Hear how far it is, in bytes; `of` is 0 where nobody knows."""
        terminal, now = self.stream.isatty(), self.clock()
        if self._at is None:
            self._at = now if not terminal else now - _TERMINAL_S
        if now - self._at < (_TERMINAL_S if terminal else _PLAIN_S):
            return
        self._at, self._drawn = now, terminal
        line = f"rootfs: {one_line(what)}: {size(done)}" + (f" of {size(of)}" if of else "")
        self.stream.write(f"\r{line[:78]}\x1b[K" if terminal else f"{line}\n")
        self.stream.flush()

    def end(self) -> None:
        """Take the line off the terminal."""
        if self._drawn:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
