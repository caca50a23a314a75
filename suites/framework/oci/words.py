"""What a container's shell can do, in words that are the same in every run (layer 1)."""

from __future__ import annotations

from suites.framework.process import exited
from suites.framework.recorder import Recorder

READ_ONLY = "Read-only file system"
FULL = "No space left on device"
DENIED = "Operation not permitted"
ABSENT = "No such file or directory"
"""Words of errors (strerror(3))."""


def writing(recorder: Recorder, path: str) -> str:
    """Return ``written`` where a shell in the container makes or replaces a file, else the error's words."""
    said = complaint(recorder, f"echo new >{path}")
    return "written" if said == "done" else said


def reading(recorder: Recorder, path: str) -> str:
    """Return what a file holds for the container, without white space around it, or the error's words."""
    shell = recorder.sh(f"cat {path}")
    return shell.text.strip() if shell.status == exited(0) else _error(shell.text)


def complaint(recorder: Recorder, command: str) -> str:
    """Return ``done`` where a command exits with 0, else the words of the error in the first line that it prints."""
    shell = recorder.sh(command)
    return "done" if shell.status == exited(0) else _error(shell.text) or str(shell.status)


def _error(text: str) -> str:
    return text.strip().partition("\n")[0].rpartition(": ")[2]
