"""A root folder in which programs run: the machine's own, seen in a mount namespace that plays the host (layer 1)."""

from __future__ import annotations

from pathlib import Path

from suites.framework import mountinfo
from suites.framework.buildscripts.enclosure import Enclosure
from suites.framework.buildscripts.workload import Step
from suites.framework.buildscripts.wrapper import Wrapper

LINKS = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")}
SEEN = ("/usr", "/etc")
"""Of the machine, read-only."""


class Tree:
    """The root folder of a wrapper with what a chroot(2) needs, in a mount namespace of the test's own.

    The wrapper is called in that namespace, in which it is root: what it leaves mounted there is seen, and ends with
    the test. A script sees the recording payload and the gates where they are outside.
    """

    def __init__(self, wrapper: Wrapper) -> None:
        """Make the folders, and the namespace with its mounts."""
        self.root = wrapper.root
        self._place = wrapper.place
        for name, target in LINKS.items():
            (self.root / name).symlink_to(target)
        (self.root / "tmp").mkdir()
        (self.root / "tmp").chmod(0o1777)
        machine = [Path(path) for path in SEEN]
        ours = [Path(wrapper.bench.payload[0]).parent, wrapper.gatehouse.path]
        self._enclosure = Enclosure(wrapper.bench)
        self._enclosure.show({path: self.root / path.relative_to("/") for path in (*machine, *ours)}, writable=ours)
        self._own = frozenset(self._below())

    @property
    def through(self) -> list[str]:
        """Return the words in front of a wrapper that is called in the namespace."""
        return self._enclosure.words

    def mounts(self) -> list[str]:
        """Return what is mounted below the root in the namespace, but for what was there from the beginning."""
        return sorted(set(self._below()) - self._own)

    def _below(self) -> list[str]:
        points = mountinfo.points(self._enclosure.mountinfo).values()
        return [point for point in points if Path(point).is_relative_to(self.root)]

    def inside(self, step: Step) -> Step:
        """Return a step with its folders as they are called inside."""
        places = {"{artefacts}": self._place.artefacts, "{sources}": self._place.path(self._place.call.sources)}
        body = step.body
        for word, path in places.items():
            body = body.replace(word, f"/{path.relative_to(self.root)}")
        return Step(name=step.name, body=body.replace("{root}", ""), needs=step.needs, sources=step.sources)
