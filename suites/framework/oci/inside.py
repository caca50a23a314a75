"""What a container's program sees of itself and around it, by way of scripts that run below it (layer 1).

The scripts are children of the recording process, which is ``$PPID`` to them (proc_pid_status(5)).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from suites.framework.recorder import Shell

_DESCRIPTORS = 'for fd in /proc/$$/fd/*; do if [ -L "$fd" ]; then echo "${fd##*/}"; fi; done'
"""The shell reads the folder itself, and what it reads it with is closed again by the time of the test."""


class Program(Protocol):
    """What runs scripts as children of itself, such as a recorder."""

    def sh(self, script: str) -> Shell:
        """Run a script; return how it ended and what it printed."""
        ...


def status(program: Program) -> dict[str, str]:
    """Return the fields of the program's /proc/PID/status with single spaces."""
    rows = (line.partition(":") for line in program.sh("cat /proc/$PPID/status").ok.splitlines())
    return {name: " ".join(value.split()) for name, _, value in rows}


def namespaces(program: Program, files: Sequence[str]) -> dict[str, str]:
    """Return file: identity of the namespaces in which the program is, by the names of /proc/PID/ns (namespaces(7))."""
    found = program.sh("; ".join(f"readlink /proc/self/ns/{file}" for file in files)).ok
    return dict(zip(files, found.splitlines(), strict=True))


def mapping(program: Program, name: str) -> list[list[int]]:
    """Return the rows of ``uid_map`` or ``gid_map``: first id inside, first id outside, how many."""
    return [[int(word) for word in line.split()] for line in program.sh(f"cat /proc/self/{name}").ok.splitlines()]


def descriptors(program: Program) -> list[int]:
    """Return the descriptors that are open in a child of the program: what it passed on without meaning to."""
    return sorted(map(int, program.sh(_DESCRIPTORS).ok.split()))
