"""Real packages as rows of data, and the one recipe by which scripts build them (layer 1)."""

from __future__ import annotations

import functools
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
PATIENCE_S = 100.0
"""Least liveness deadline of a build that takes seconds of a quiet machine."""


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
        )

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

    def steps(self, name: str) -> tuple[Step, ...]:
        """Return a script for each phase of a package, its test suite included, each needing the one before it."""
        recipe = self.packages[name].recipe()
        found = [
            Step(name=phase, body=f"mark before\n{recipe[phase]}\nmark after", needs=PHASES[:number][-1:])
            for number, phase in enumerate(PHASES)
        ]
        return (replace(found[0], sources=(self.source(name),)), *found[1:])
