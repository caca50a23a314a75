"""A machine of the test's own, in which a wrapper that takes the wrong folder for its root harms nobody (layer 1).

It looks like this one: programs and libraries are there, to be read only. All else is a folder of the test's, whose
files must be what they were when the wrapper has ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from suites.framework import probes
from suites.framework.bench import Bench
from suites.framework.buildscripts.enclosure import Enclosure
from suites.framework.buildscripts.inventory import Inventory
from suites.framework.model import Target
from suites.framework.observation import Unmet

PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "proc")
"""What a shell script finds its programs with."""


class Canary:
    """A root file system at a folder, for what is started by `words`; it ends with the test."""

    def __init__(self, bench: Bench, target: Target, folder: Path) -> None:
        """Make it; the programs of the target and of the test, and the test's own folder, are where they are."""
        self.folder, self._enclosure = folder, Enclosure(bench)
        if not folder.is_dir() or not folder.resolve().is_relative_to(bench.folder.resolve()):
            raise Unmet("a folder to make a machine of", f"{folder.name} is none, or leads elsewhere")
        seen = [bench.folder, *_programs(bench, target)]  # ours first: it holds what is mounted after it
        for path in (Path("/", name) for name in PROGRAMS):
            if path.is_symlink():
                self.at(path).symlink_to(path.readlink())
            elif path.exists():
                seen.append(path)
        written = (Path(os.devnull), bench.home)  # the second is TMPDIR: what a shell writes for itself
        for path in (*seen, *written):
            if not self.at(path).parent.resolve().is_relative_to(folder.resolve()):
                raise Unmet("a folder to make a machine of", f"{path} in it leads elsewhere")
        self._enclosure.show({path: self.at(path) for path in (*seen, *written)}, writable=written)

    @property
    def words(self) -> list[str]:
        """Return the words in front of a program for which this is the machine."""
        return [*self._enclosure.words, probes.tool("chroot"), str(self.folder)]

    def at(self, path: Path) -> Path:
        """Return where we find what it has at an absolute path."""
        return self.folder / path.relative_to("/")

    def inventory(self) -> Inventory:
        """Return what is in it of its own."""
        return Inventory.take(self.folder)


def _programs(bench: Bench, target: Target) -> Iterator[Path]:
    """Yield the folders of programs that stand elsewhere, none of them below another one."""
    paths = [Path(word) for word in (*bench.words(target.argv), *bench.payload) if word.startswith("/")]
    folders = {path.parent for path in paths if path.parts[1] not in PROGRAMS}
    for folder in folders:
        if not any(other in folder.parents for other in (*folders, bench.folder)):
            yield folder
