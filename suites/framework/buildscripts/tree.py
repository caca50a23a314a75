"""A root folder in which programs run: the machine's own, seen in a mount namespace that plays the host (layer 1)."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from suites.catalog import Privilege
from suites.framework import mountinfo, process
from suites.framework.buildscripts.workload import Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.observation import Unmet
from suites.framework.waiting import Deadline

LINKS = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")}
SEEN = ("/usr", "/etc")
"""Of the machine, read-only."""


class Tree:
    """The root folder of a wrapper with what a chroot(2) needs, in a mount namespace of the test's own.

    The wrapper is called in that namespace, in which it is root: what it leaves mounted there is seen, and ends with
    the test. A script sees the recording payload and the gates where they are outside.
    """

    def __init__(self, wrapper: Wrapper) -> None:
        """Make the folders, and the namespace with its mounts; Unmet where that cannot be had."""
        self.root = wrapper.root
        self._place = wrapper.place
        self._user = wrapper.bench.privilege is Privilege.ROOTLESS
        for name, target in LINKS.items():
            (self.root / name).symlink_to(target)
        (self.root / "tmp").mkdir()
        (self.root / "tmp").chmod(0o1777)
        payload = str(Path(wrapper.bench.payload[0]).parent)
        self._holder = self._held(wrapper, [*SEEN, payload, str(wrapper.gatehouse.path)])
        self._own = frozenset(self._below())

    def _held(self, wrapper: Wrapper, paths: list[str]) -> process.Child:
        """Start what holds the namespace until the test is over."""
        commands = ["set -e", *(line for path in paths for line in self._mounting(Path(path))), "echo", "read end"]
        words = ["/usr/bin/unshare", *(["--user", "--map-root-user"] if self._user else []), "--mount"]
        ours, theirs = os.pipe()
        reading, writing = os.pipe()
        child = process.spawn(
            [*words, "/bin/sh", "-c", "\n".join(commands)],
            environment=wrapper.bench.environment,
            fds={0: reading, 1: theirs, 2: theirs},
        )
        wrapper.bench.own(lambda: os.close(writing))
        wrapper.companions.append(child)
        wrapper.bench.own(child.kill)
        os.close(reading)
        os.close(theirs)
        wrapper.waiter.wait((ours,), Deadline(wrapper.seconds))
        said = os.read(ours, 1000)
        os.close(ours)
        if said != b"\n":
            raise Unmet("a tree for a chroot", said.decode(errors="replace"))
        return child

    def _mounting(self, path: Path) -> list[str]:
        point = self.root / path.relative_to("/")
        point.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            point.mkdir(exist_ok=True)
        else:
            point.touch()
        where = shlex.quote(str(point))
        commands = [f"mount --rbind {shlex.quote(str(path))} {where}"]
        return [*commands, f"mount --options remount,bind,ro {where}"] if str(path) in SEEN else commands

    @property
    def through(self) -> tuple[str, ...]:
        """Return the words in front of a wrapper that is called in the namespace."""
        user = ("--user", "--preserve-credentials") if self._user else ()
        return ("/usr/bin/nsenter", f"--target={self._holder.pid}", *user, "--mount", "--")

    def mounts(self) -> list[str]:
        """Return what is mounted below the root in the namespace, but for what was there from the beginning."""
        return sorted(set(self._below()) - self._own)

    def _below(self) -> list[str]:
        listed = Path(f"/proc/{self._holder.pid}/mountinfo").read_bytes()
        return [point for point in mountinfo.points(listed).values() if Path(point).is_relative_to(self.root)]

    def inside(self, step: Step) -> Step:
        """Return a step with its folders as they are called inside."""
        places = {"{artefacts}": self._place.artefacts, "{sources}": self._place.path(self._place.call.sources)}
        body = step.body
        for word, path in places.items():
            body = body.replace(word, f"/{path.relative_to(self.root)}")
        return Step(name=step.name, body=body.replace("{root}", ""), needs=step.needs, sources=step.sources)
