"""Hooks that write down that they ran, where and with which state, and the log that they write (layer 1).

The log is one file of the root file system. Hooks outside reach it by its path out here, which createContainer still
sees: it runs before the root is changed (config.md, "createContainer Hooks"). Only startContainer and the program use
its path in the container. A record is a single write to a file that is only appended to, so none is torn by another.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from suites.framework.oci.config import PATH
from suites.framework.oci.spec import Hook

LOG = "/seatrial.hooks"
"""The log's path in the container."""
PROGRAM = "the program"
ORDER = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
"""The kinds of hooks as they are called (config.md#configHooks); the program runs before the last two."""
CONTAINED = ("createContainer", "startContainer")
"""Kinds that are executed in the container's namespaces (config.md, "Summary")."""
_RESOLVED_INSIDE = ("startContainer", PROGRAM)
_BEGIN, _NEXT = "\036", "\037"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One record: which hook, in which mount namespace, and what came over its stdin."""

    name: str
    mounts: str
    """As readlink(1) shows /proc/self/ns/mnt."""
    stdin: str


class HookLog:
    """The log of one container, and the hooks that write to it."""

    def __init__(self, path: Path, *, nonce: str) -> None:
        """Make the empty log at `path`, which is `LOG` in the container; records carry `nonce`."""
        self._path, self._nonce = path, nonce
        path.touch()
        path.chmod(0o666)

    def hook(self, kind: str, *, title: str = "", then: str = "", timeout: int = 0) -> Hook:
        """Return a hook of this kind that writes its title (the kind, where none is given), then does `then` in sh.

        `timeout` in seconds, 0 for none.
        """
        script = self._script(title or kind, log=LOG if kind in _RESOLVED_INSIDE else str(self._path), then=then)
        hook: Hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": [PATH]}
        return {**hook, "timeout": timeout} if timeout else hook

    def every(self) -> dict[str, list[Hook]]:
        """Return one hook of each kind, as a configuration has them."""
        return {kind: [self.hook(kind)] for kind in ORDER}

    def program(self, words: Sequence[str]) -> list[str]:
        """Return the arguments of a program that writes to the log, then executes `words`."""
        return ["/bin/sh", "-c", self._script(PROGRAM, log=LOG, then=f"exec {shlex.join(words)}")]

    def _script(self, title: str, *, log: str, then: str) -> str:
        form = f"'{_octal(_BEGIN)}%s{_octal(_NEXT)}%s{_octal(_NEXT)}%s{_octal(_NEXT)}%s'"
        words = f'{self._nonce} {shlex.quote(title)} "$(readlink /proc/self/ns/mnt)" "$(cat)"'
        # A runtime may execute it in the wrong root, the host's: there it makes no file.
        return f"if [ -e {shlex.quote(log)} ]; then printf {form} {words} >> {shlex.quote(log)}; fi; {then}"

    def ran(self) -> list[Ran]:
        """Return what was written so far, in order; what does not carry the nonce is somebody else's."""
        records = (text.split(_NEXT, 3) for text in self._path.read_text(errors="replace").split(_BEGIN))
        return [
            Ran(name=fields[1], mounts=fields[2], stdin=fields[3])
            for fields in records
            if len(fields) == 4 and fields[0] == self._nonce  # nonce, name, mounts, stdin
        ]

    def names(self) -> list[str]:
        """Return the titles of what ran so far, in order."""
        return [record.name for record in self.ran()]


def _octal(character: str) -> str:
    return f"\\{ord(character):03o}"
