"""The source archives of real packages, fetched once into the cache (layer 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from suites.framework.buildscripts.package import Package, catalogue
from suites.framework.errors import CannotRunError, SeatrialError
from suites.framework.facts import Fact, Finding
from suites.framework.provisioning.cache import Cache
from suites.framework.rootfs import download

FOLDER = "sources"
DOWNLOADS = "downloads"

Fetch = Callable[..., Path]
"""`download.fetch`."""


def archives(
    fixtures: Path, *, tier: int, cache: Cache, offline: bool = False, fetch: Fetch = download.fetch
) -> tuple[tuple[str, ...], Finding]:
    """Return the paths of the archives of the packages up to a tier, and whether they are all there."""
    base, packages = catalogue(fixtures)
    wanted = [package for package in packages.values() if package.tier <= tier]
    probe = f"fetch the sources of {', '.join(package.name for package in wanted)}"
    try:
        paths = tuple(str(_archive(package, base, cache, offline, fetch)) for package in wanted)
    except SeatrialError as error:
        why, remedy = ": ".join(filter(None, (error.what, error.why))), error.remedy or "check the network"
        return (), Finding(fact=Fact.SOURCES, present=False, probe=probe, detail=why, remedy=remedy)
    return paths, Finding(fact=Fact.SOURCES, present=True, probe=probe, detail=f"{len(paths)} archives")


def _archive(package: Package, base: str, cache: Cache, offline: bool, fetch: Fetch) -> Path:
    def make(folder: Path) -> None:
        if offline:
            raise CannotRunError(
                f"{package.file} is not in the cache",
                why="--offline was given",
                remedy="run once without --offline",
            )
        url = f"{base}/{package.url}"
        meter = _Meter(package=package, say=cache.say)
        got = fetch(url, package.sha256, cache.folder(f"{FOLDER}/{DOWNLOADS}"), report=meter)
        got.rename(folder / package.file)
        got.with_name(f"{got.name}.json").unlink(missing_ok=True)

    return cache.entry(f"{FOLDER}/{package.sha256}", make) / package.file


@dataclass(slots=True, kw_only=True)
class _Meter:
    """Tells of a download when it begins, and after each quarter of it."""

    package: Package
    say: Callable[[str], None]
    told: int = -1

    def __call__(self, done: int, of: int) -> None:
        """Hear how many bytes there are, and of how many."""
        whole = of or self.package.size
        if (quarter := 4 * done // whole) > self.told:
            self.told = quarter
            self.say(f"fetching {self.package.file}: {done >> 10} of {whole >> 10} KiB")
