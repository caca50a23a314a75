"""Packages of a Debian-like distribution, without root and without installing anything (layer 2).

apt-get(8) works on lists and downloads of its own below the cache; each package is unpacked into an entry of its own,
and libraries that this machine lacks are reached by LD_LIBRARY_PATH of the one target that needs them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from suites.framework.facts import Fact, Finding, Missing
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.command import Completed, Run, run

DAY_S = 86400.0
UPDATE_DEADLINE_S = 90.0
DOWNLOAD_DEADLINE_S = 180.0
ASK_DEADLINE_S = 30.0
PROBE_PACKAGE = "hostname"
"""Small and in every Debian: what `probe_packages` downloads."""

_PROBE_REMEDY = "check the network, or install the targets yourself, or give their binaries with --target NAME=PATH"
_STATUS = Path("/var/lib/dpkg/status")
_URI = re.compile(r"^'[^']+' (?P<file>\S+\.deb) \d+", re.MULTILINE)
_PROGRAMS = ("usr/bin", "usr/sbin", "bin", "sbin", "usr/lib/cni")
_LIBRARIES = ("usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib64", "lib64", "usr/lib", "lib")
# The machine's own hooks (which clean its cache or wake its daemons) are not for our lists.
_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Debug::NoLocking "true";
Acquire::Languages "none";
Acquire::Retries "0";
Acquire::http::Timeout "15";
Acquire::https::Timeout "15";
APT::Get::Assume-Yes "true";
"""


class _StepError(Exception):
    """One step did not work; the message is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """A program out of an unpacked package."""

    path: Path
    version: str
    """Of the package, as the distribution writes it."""
    environment: dict[str, str] = field(default_factory=dict)
    """LD_LIBRARY_PATH for this program only; empty when the machine has every library."""


class Provider(Protocol):
    """Where programs come from that stand neither on PATH nor in a path that was given."""

    def provision(self, package: str, binary: str) -> Provisioned | Missing:
        """Return the program ``binary`` of ``package``, or why it cannot be had."""


class Packages:
    """The distribution's packages, as one run sees them."""

    def __init__(
        self,
        cache: Cache,
        *,
        offline: bool = False,
        run: Run = run,
        clock: Callable[[], float] = time.time,
        status: Path = _STATUS,
    ) -> None:
        """Keep everything below ``cache``; ``offline`` never asks the network. ``clock`` gives Unix seconds."""
        self._cache, self._offline, self._run, self._clock, self._status = cache, offline, run, clock, status
        self._update: Completed | None = None

    def provision(self, package: str, binary: str) -> Provisioned | Missing:
        """Return the program ``binary`` of ``package``, downloaded at most once, or why it cannot be had."""
        if found := self._cached(package, binary, any_age=self._offline):
            return found
        if self._offline:
            return _missing(
                package, f"package {package} is not in the cache and --offline was given", "run once without --offline"
            )
        if absent := [tool for tool in ("apt-get", "dpkg-deb", "dpkg") if shutil.which(tool) is None]:
            return _missing(package, f"{absent[0]} is not on PATH: packages are taken from Debian-like systems only")
        with self._cache.lock("apt"):
            return self._cached(package, binary) or self._fetched(package, binary)

    def _fetched(self, package: str, binary: str) -> Provisioned | Missing:
        try:
            entries = self._plan(package)
            for entry in entries:
                self._unpack(entry)
        except _StepError as error:
            if found := self._cached(package, binary, any_age=True):
                self._cache.say(f"package {package}: the one in the cache is used ({error})")
                return found
            return _missing(package, str(error), "check the network and the sources of apt")
        self._remember(package, entries)
        return self._program(entries, binary) or _missing(package, f"package {entries[0]} has no program {binary}")

    # ---- what earlier runs left

    def _pointer(self, package: str) -> Path:
        return self._cache.root / "packages" / f"{package}.json"

    def _remember(self, package: str, entries: list[str]) -> None:
        self._cache.write(
            f"packages/{package}.json", json.dumps({"schema": 1, "at": self._clock(), "entries": entries})
        )

    def _cached(self, package: str, binary: str, *, any_age: bool = False) -> Provisioned | None:
        """Return what an earlier run unpacked, unless it is a day old or packages were installed or removed since."""
        try:
            known = json.loads(self._pointer(package).read_text(encoding="utf-8"))
            at, entries = float(known["at"]), [str(entry) for entry in known["entries"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not any_age and not self._fresh(at):
            return None
        if not all(self._cache.holds(f"packages/{entry}") for entry in entries):
            return None
        return self._program(entries, binary)

    def _fresh(self, at: float) -> bool:
        changed = self._status.stat().st_mtime if self._status.exists() else 0.0
        return 0 <= self._clock() - at < DAY_S and changed <= at

    def _program(self, entries: list[str], binary: str) -> Provisioned | None:
        roots = [self._cache.root / "packages" / entry / "root" for entry in entries]
        path = next((found for folder in _PROGRAMS if (found := roots[0] / folder / binary).is_file()), None)
        if path is None:
            return None
        libraries = [str(folder) for root in roots for folder in _library_folders(root)]
        environment = {"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}
        return Provisioned(path=path, version=entries[0].split("_")[1].replace("%3a", ":"), environment=environment)

    # ---- apt-get

    def _apt(self, *words: str, deadline_s: float, cwd: Path | None = None) -> Completed:
        home = self._cache.folder("apt")
        for part in ("state/lists/partial", "cache/archives/partial"):
            self._cache.folder(f"apt/{part}")
        places = {"Dir::State": "state", "Dir::State::lists": "state/lists", "Dir::Cache": "cache"}
        options = [word for key, part in places.items() for word in ("-o", f"{key}={home / part}")]
        options += ["-o", f"Dir::State::status={self._status}"]
        configuration = self._cache.write("apt/apt.conf", _CONFIGURATION)
        variables = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        command = ("apt-get", "-c", str(configuration), *options, "-q", *words)
        return self._run(command, deadline_s=deadline_s, environment=variables, cwd=cwd)

    def _refresh(self, *, force: bool = False) -> bool:
        """Update the lists unless that was done today; return whether this call did."""
        stamp = self._cache.root / "apt/updated"
        age = self._clock() - stamp.stat().st_mtime if stamp.exists() else DAY_S
        if self._update is not None or (0 <= age < DAY_S and not force):
            return False
        self._update = self._apt("update", deadline_s=UPDATE_DEADLINE_S)
        if self._update.late:
            raise _StepError(f"apt-get update: no answer within {UPDATE_DEADLINE_S:.0f} s")
        # apt-get update succeeds when a source could not be reached, and says so.
        if self._update.ok and not _unreached(self._update):
            os.utime(self._cache.write("apt/updated", ""), (self._clock(), self._clock()))
        return True

    def _plan(self, package: str) -> list[str]:
        """Return the entries to unpack: the package first, then those of its libraries that this machine lacks."""
        self._refresh()
        try:
            return self._entries(package)
        except _StepError:
            if self._refresh(force=True):
                return self._entries(package)
            raise

    def _entries(self, package: str) -> list[str]:
        (own, *_) = self._uris("download", package)
        needed = self._uris("--no-install-recommends", "install", package, or_none=True)
        return [own, *(entry for entry in needed if entry.split("_")[0] != package)]

    def _uris(self, *words: str, or_none: bool = False) -> list[str]:
        asked = self._apt("--print-uris", *words, deadline_s=ASK_DEADLINE_S)
        entries = [found["file"].removesuffix(".deb") for found in _URI.finditer(asked.stdout)]
        if not asked.ok or not (entries or or_none):
            raise _StepError(self._reason(f"apt-get {' '.join(words)}", asked))
        return entries

    def _reason(self, what: str, done: Completed) -> str:
        if self._update is not None and (unreached := _unreached(self._update)):
            return f"apt-get update: {unreached}"
        if self._update is not None and not self._update.ok:
            return f"apt-get update: {self._update.complaint}"
        return f"{what}: {done.complaint}"

    def _unpack(self, entry: str) -> None:
        package, version, _ = entry.split("_")

        def make(folder: Path) -> None:
            done = self._apt(
                "download", f"{package}={version.replace('%3a', ':')}", deadline_s=DOWNLOAD_DEADLINE_S, cwd=folder
            )
            archives = list(folder.glob("*.deb"))
            if not done.ok or not archives:
                raise _StepError(self._reason(f"apt-get download {package}", done))
            unpacked = self._run(
                ("dpkg-deb", "-x", str(archives[0]), str(folder / "root")), deadline_s=DOWNLOAD_DEADLINE_S
            )
            if not unpacked.ok:
                raise _StepError(f"dpkg-deb -x {archives[0].name}: {unpacked.complaint}")
            archives[0].unlink()

        self._cache.entry(f"packages/{entry}", make)


def probe_packages(packages: Packages) -> Finding:
    """Return whether a package can be downloaded and unpacked here, by doing so with a small one."""
    got = packages.provision(PROBE_PACKAGE, PROBE_PACKAGE)
    probe = f"apt-get download {PROBE_PACKAGE}; dpkg-deb -x"
    if isinstance(got, Missing):
        return Finding(fact=Fact.PACKAGES, present=False, probe=probe, detail=got.reason, remedy=_PROBE_REMEDY)
    return Finding(fact=Fact.PACKAGES, present=True, probe=probe, detail=f"{PROBE_PACKAGE} {got.version}")


def _unreached(update: Completed) -> str:
    lines = (
        line for line in update.stderr.splitlines() if line.startswith(("W: Failed to fetch", "E: Failed to fetch"))
    )
    return " ".join(next(lines, "").removeprefix("W: ").removeprefix("E: ").split())


def _library_folders(root: Path) -> list[Path]:
    folders = dict.fromkeys(folder for pattern in _LIBRARIES for folder in sorted(root.glob(pattern)))
    return [folder for folder in folders if any(".so" in path.name for path in folder.iterdir() if not path.is_dir())]


def _missing(package: str, reason: str, first: str = "") -> Missing:
    advice = f"install {package} with this system's package manager, or give a binary with --target NAME=PATH"
    return Missing(fact=Fact.PACKAGES, reason=reason, remedy=f"{first}, {advice}" if first else advice)
