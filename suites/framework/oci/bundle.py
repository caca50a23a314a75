"""A bundle on disk: config.json, a root file system of the test's own, and the recorder's way out of it (layer 1).

The way out is a listening socket in the root file system itself, so that a payload in the container reaches the test
through a path, whatever the runtime makes of mounts and descriptors.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from suites.framework.bench import Bench
from suites.framework.oci import place
from suites.framework.oci.config import ROOTFS
from suites.framework.oci.spec import Spec
from suites.framework.oci.tree import Look, Trees
from suites.framework.recorder import recording_socket

CHANNEL = "/seatrial.channel"
"""The socket's path in the container."""
PAYLOAD = "/seatrial.payload"
"""The recorder's path in the container."""
_TREES = Trees()


class Bundle:
    """One bundle, made for one test and removed with it."""

    def __init__(self, bench: Bench, name: str) -> None:
        """Make the bundle's folder with a root file system; config.json comes with `write`."""
        self._bench = bench
        self._tree: Look | None = None
        self.path = bench.make_folder() / name
        self.rootfs = self.path / ROOTFS
        bench.own(self._remove)
        paths, program = bench.context.paths, bench.payload[0]
        self._tree = _TREES.take(self.path, source=paths.rootfs, payload=program, name=PAYLOAD.lstrip("/"))
        self.listener = recording_socket()
        bench.own(self.listener.close)
        self._bind()

    def _bind(self) -> None:
        """Bind the socket by way of a descriptor: unix(7) allows 108 bytes, and a bundle's path may be longer."""
        folder = os.open(self.rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.listener.bind(f"/proc/self/fd/{folder}{CHANNEL}")
        finally:
            os.close(folder)
        self.inside(CHANNEL).chmod(0o777)
        self.listener.listen(8)

    def inside(self, path: str) -> Path:
        """Return where an absolute path of the container is out here, before anything is mounted over it."""
        return self.rootfs / path.lstrip("/")

    def write(self, spec: Spec) -> None:
        """Write config.json."""
        self.write_text(json.dumps(spec))

    def write_text(self, text: str) -> None:
        """Write config.json as it is given, well-formed or not."""
        with open(f"{self.path}/config.json", "w", encoding="utf-8") as file:  # noqa: PTH123 -- once a case
            file.write(text)

    def recorder(self, *words: str) -> list[str]:
        """Return the arguments of a recording process in the container."""
        return [PAYLOAD, "agent", CHANNEL, self._bench.nonce, *words]

    def once(self, code: int) -> list[str]:
        """Return the arguments of a program that records that it ran and exits with `code`."""
        return [PAYLOAD, "once", CHANNEL, self._bench.nonce, str(code)]

    def names(self) -> dict[str, str]:
        """Return path: what is there (type, permissions, owner, link or size), for a comparison before and after."""
        found = {}
        for folder, folders, files in os.walk(self.rootfs):
            for name in (*folders, *files):
                path = Path(folder, name)
                stat = path.lstat()
                about = str(path.readlink()) if path.is_symlink() else str(0 if path.is_dir() else stat.st_size)
                found[str(path.relative_to(self.rootfs))] = f"{stat.st_mode:o} {stat.st_uid} {stat.st_gid} {about}"
        return found

    def _remove(self) -> None:
        """Remove it, having taken away what was mounted below: never into a mount, which may show the machine."""
        place.detach(self._bench, {"BUNDLE": self.path})
        with contextlib.suppress(OSError):  # not there, or no longer ours: the tree is not what it was
            os.unlink(f"{self.rootfs}{CHANNEL}")  # noqa: PTH108 -- once a case, as those below
            for name in os.listdir(self.path):
                if name != ROOTFS:
                    os.unlink(f"{self.path}/{name}")  # noqa: PTH108
        _TREES.give(self.path, self._tree, scratch=Path(self._bench.context.paths.scratch))
