"""Errors that end a command, and the launcher's exit codes (layer 0: standard library only)."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How the launcher ends; nox shows every red as 1, so the code also stands in the last line and verdict.json."""

    GREEN = 0
    FAILED = 1
    GATE = 2
    INFRASTRUCTURE = 3
    USAGE = 64
    CANNOT_RUN = 77
    INTERRUPTED = 130


PRECEDENCE = (
    ExitCode.INTERRUPTED,
    ExitCode.USAGE,
    ExitCode.INFRASTRUCTURE,
    ExitCode.FAILED,
    ExitCode.GATE,
    ExitCode.CANNOT_RUN,
    ExitCode.GREEN,
)
"""Of several codes that hold, the first in this order is returned."""


class SeatrialError(Exception):
    """A condition that ends the command with one clear message: what happened, why, what to do."""

    exit_code = ExitCode.INFRASTRUCTURE

    def __init__(self, what: str, *, why: str = "", remedy: str = "") -> None:
        """Join what happened (with the value), its cause and the remedy into one message."""
        self.what, self.why, self.remedy = what, why, remedy
        cause = f": {why}" if why else ""
        advice = f"; {remedy}" if remedy else ""
        super().__init__(f"{what}{cause}{advice}")


class UsageError(SeatrialError):
    """The words of the command line, a profile or another input file are wrong."""

    exit_code = ExitCode.USAGE


class InfrastructureError(SeatrialError):
    """Something under the tests failed: the disk, the container engine, a worker that never started."""

    exit_code = ExitCode.INFRASTRUCTURE


class CannotRunError(SeatrialError):
    """An environment cannot run on this machine; the session is skipped with the reason."""

    exit_code = ExitCode.CANNOT_RUN
