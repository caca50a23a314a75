"""The namespaces that an engine lives in: how it gets there, how the next one does, how its files go (layer 1).

Root's engine has mounts and a network of its own. An ordinary user's is root in a user namespace as well
(user_namespaces(7)), whose further ids are his subordinate ones (subuid(5)): files of containers belong to those, and
he alone cannot remove them. It must own its network, or no container of it may mount sysfs (sysfs(5)).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from suites.framework import process
from suites.framework.errors import InfrastructureError
from suites.framework.pod import network
from suites.framework.process import exited

FIRST_FD = 9
"""Number of the first namespace's descriptor in a program that enters them."""
REMOVE_S = 20.0
MOUNTED = "mount -t tmpfs -o mode=755,nosuid,nodev seatrial /run"
REBUILT = r"""if [ ! -d STATE ]; then
mkdir -p /run/lib/seen && mount --rbind /var/lib /run/lib/seen &&
mount -t tmpfs -o mode=755,nosuid,nodev seatrial /var/lib || exit 0
for path in /run/lib/seen/*; do
    name=/var/lib/${path##*/}
    if [ -L "$path" ]; then ln -s "$(readlink "$path")" "$name"
    elif [ -d "$path" ]; then mkdir "$name" && mount --rbind "$path" "$name"
    else : >"$name" && mount --bind "$path" "$name"; fi
done
umount -l /run/lib/seen; mkdir STATE
fi""".replace("STATE", network.STATE)
"""Makes a folder where an overlay could not: over one that root has, a user namespace gets none (overlayfs(5))."""
MAPPED = ("/usr/bin/unshare", "--user", "--map-root-user", "--map-auto")
"""Words that make the user root, with his subordinate ids behind that; the same ids each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosure:
    """What surrounds the engines of one worker."""

    rootless: bool
    python: str

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Return its own namespaces, by their names in /proc, in the order in which they can be entered."""
        return ("user", "mnt", "net", "uts", "ipc") if self.rootless else ("mnt", "net")

    @property
    def words(self) -> tuple[str, ...]:
        """Return the words in front of the first engine, which become it."""
        made = (*MAPPED, "--uts", "--ipc") if self.rootless else MAPPED[:1]
        hidden = f"{network.HIDDEN}\n{REBUILT}" if self.rootless else network.HIDDEN
        script = f'{MOUNTED} && ({hidden}; :) && "$0" -I -S -c "{network.UP}" && exec "$@"'
        return (*made, "--mount", "--net", "--propagation", "private", "--", "/bin/sh", "-c", script, self.python)

    @property
    def entering(self) -> tuple[str, ...]:
        """Return the words in front of the next engine, which is given the descriptors of `held`."""
        options = (
            f"--{'mount' if name == 'mnt' else name}=/proc/self/fd/{FIRST_FD + number}"
            for number, name in enumerate(self.namespaces)
        )
        return ("/usr/bin/nsenter", *options, "--")

    def held(self, pid: int) -> dict[int, int]:
        """Open the namespaces of an engine, which so outlive it; return the number that each is to have, and ours."""
        return {
            FIRST_FD + number: os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for number, name in enumerate(self.namespaces)
        }

    def remove(self, folder: Path, *, environment: Mapping[str, str]) -> None:
        """Remove what an engine has written; InfrastructureError where that cannot be."""
        if not self.rootless:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)
            return
        shutil.rmtree(folder, ignore_errors=True)  # all of it, where no container was made
        if not folder.exists():
            return
        words = (*MAPPED, "--", "/bin/rm", "--recursive", "--one-file-system", "--", str(folder))
        status, output = process.output_of(words, environment=environment, seconds=REMOVE_S)
        if status != exited(0):
            why = output or str(status or f"no end within {REMOVE_S:g} s")
            raise InfrastructureError(f"{folder} is not removed", why=why)
