"""Real packages as rows of data, and the one recipe by which scripts build them (layer 1)."""

from __future__ import annotations

import functools
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from suites.catalog import Privilege
from suites.framework import codec
from suites.framework.buildscripts.workload import Source, Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.facts import Fact
from suites.framework.model import SCHEMA
from suites.framework.planning import absence

PHASES = ("unpack", "configure", "build", "check", "install")
"""The parts of the recipe, in order."""
CATALOGUE = "packages/packages.toml"
"""Below fixtures/."""
USED = "used"
"""The gate of a metered script at which it tells what its commands used."""
_END = "END_OF_STEP"
PATIENCE_S = 150.0
"""Least liveness deadline of a build that takes seconds of a quiet machine."""
NIGHTLY, LONG_S = 4, 400.0
"""From this tier on a build takes up to a minute of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTests:
    """How the output of a package's own tests is counted.

    Each is a regular expression for whole lines or parts of them; a match is one test, or as many as its group says.
    Without a word of the row it is the summary of Automake (automake, "Simple Tests").
    """

    passed: str = r"^# (?:PASS|XFAIL): +(\d+)$"
    failed: str = r"^# (?:FAIL|XPASS|ERROR): +(\d+)$"
    skipped: str = r"^# SKIP: +(\d+)$"
    absent: bool = False
    """True where ``make check`` tries nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One package: where its source archive is, and the words in which its build differs from others."""

    name: str
    version: str
    url: str
    """Path below the archive of the catalogue."""
    sha256: str
    size: int
    """Bytes of the source archive."""
    tier: int = 1
    needs: tuple[str, ...] = ()
    configure: tuple[str, ...] = ()
    """Words that the configure script gets beside the prefix. No debugging data: that holds the path of the build."""
    make: tuple[str, ...] = ()
    install: tuple[str, ...] = ("install",)
    """Words that make(1) gets, to build and to install."""
    tests: OwnTests = field(default_factory=OwnTests)
    made: str
    """A path that is there when it is installed."""

    @property
    def file(self) -> str:
        """Return the name of the source archive."""
        return self.url.rpartition("/")[2]

    def recipe(self, *, make: Sequence[str] = ()) -> dict[str, str]:
        """Return the commands of each phase; `make` are more words for make(1), as the shell reads them.

        They work in a folder of the root, so that each phase may be a script of its own.
        """
        words, archive = " ".join((*map(shlex.quote, self.make), *make)), f"{{sources}}/{shlex.quote(self.file)}"
        folder = f"{{root}}/work/{self.name}"
        into = f"cd {folder}/*/\n"
        return {
            "unpack": f"rm -rf {folder}\nmkdir -p {folder}\n{unpack(archive, folder)}",
            "configure": f"{into}./configure --prefix=/usr {shlex.join(self.configure)}",
            "build": f"{into}make {words}",
            "check": f"{into}make {words} check",
            "install": f"{into}make DESTDIR={{artefacts}} {shlex.join(self.install)}",
        }


def unpack(archive: str, folder: str) -> str:
    """Return the command that unpacks an archive (tar(1)).

    Its files become those of whoever unpacks, as a user namespace with one id has no other; and no component of their
    names is stripped: of ``a//b`` that makes ``/b``, which tar then takes for granted.
    """
    return f"tar --extract --no-same-owner --directory {folder} --file {archive}"


@functools.cache
def catalogue(fixtures: Path) -> tuple[str, Mapping[str, Package]]:
    """Return the archive that the packages are from, and the packages by name."""
    data: dict[str, Any] = tomllib.loads((fixtures / CATALOGUE).read_text(encoding="utf-8"))
    if data["schema"] != SCHEMA:
        raise ValueError(f"{CATALOGUE} has schema {data['schema']}, not {SCHEMA}")
    rows = [codec.decode(Package, row) for row in data["package"]]
    return str(data["archive"]), {package.name: package for package in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """The packages whose source archives are here."""

    packages: Mapping[str, Package]
    archives: Mapping[str, Path]
    """By the archive's file name."""
    options: tuple[str, ...] = ()
    """Of the wrapper, which takes the network away from its scripts where it offers that and the kernel allows it."""
    meter: tuple[str, ...] = ()
    """Words that start a meter, before step and label."""

    @classmethod
    def of(cls, wrapper: Wrapper) -> Shelf:
        """Return what a worker was given; the wrapper is granted the time that a package takes."""
        wrapper.seconds = max(wrapper.seconds, PATIENCE_S)
        context = wrapper.bench.context
        walled = wrapper.bench.privilege is Privilege.ROOT or not absence([Fact.USER_NAMESPACE], context.findings)
        return cls(
            packages=catalogue(Path(context.paths.suites) / "fixtures")[1],
            archives={path.name: path for path in map(Path, context.paths.sources)},
            options=wrapper.option("isolated") if walled else (),
            meter=tuple(wrapper.gatehouse.metering(wrapper.bench.payload)),
        )

    def patience(self, name: str) -> float:
        """Return the least liveness deadline of a build of a package, in seconds."""
        return LONG_S if self.packages[name].tier >= NIGHTLY else PATIENCE_S

    def source(self, name: str) -> Source:
        """Return the source archive of a package."""
        package = self.packages[name]
        return Source(name=package.file, content=self.archives[package.file].read_bytes())

    def step(
        self, name: str, *, first: str = "mark before", last: str = "mark after", make: Sequence[str] = ()
    ) -> Step:
        """Return a script that builds a package without its test suite; `first` and `last` are more lines."""
        package = self.packages[name]
        commands = [text for phase, text in package.recipe(make=make).items() if phase != "check"]
        return Step(
            name=name, body="\n".join((first, *commands, last)), needs=package.needs, sources=(self.source(name),)
        )

    def steps(self, name: str, *, metered: bool = False) -> tuple[Step, ...]:
        """Return a script for each phase of a package, its test suite included, each needing the one before it.

        A metered one tells at the gate `USED`, instead of ``after``, what its commands used, and ends as they did.
        """
        package = self.packages[name]
        found = []
        for number, (phase, text) in enumerate(package.recipe().items()):
            body = self._metered(package, phase, text) if metered else f"mark before\n{text}\nmark after"
            found.append(Step(name=phase, body=body, needs=PHASES[:number][-1:]))
        return (replace(found[0], needs=package.needs, sources=(self.source(name),)), *found[1:])

    def _metered(self, package: Package, phase: str, text: str) -> str:
        """Return the body of a script whose commands, for a shell of their own, run below a meter."""
        shell = f"{shlex.join([*self.meter, phase, USED])} /bin/bash -eu /dev/fd/3 3<<'{_END}'"
        found = "PATH={artefacts}/usr/bin:$PATH\n" if package.needs else ""
        return f"mark before\n{shell}\nexec 3<&-\n{found}{text}\n{_END}"
