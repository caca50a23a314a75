"""How the launcher is interrupted: once (layer 2, standard library only).

The first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt; later ones are ignored, because by then the launcher
is cleaning up by itself, also when nox stops waiting for it at the second Ctrl-C. A nox that dies before takes the
launcher along: nobody is left to wait for an orderly end, and the keeper cleans within two seconds.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
from types import FrameType, TracebackType

INTERRUPTING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PARENT_VARIABLE = "SEATRIAL_NOX"
"""Pid of the nox that started the launcher; when it dies the launcher must not go on alone."""
PR_SET_PDEATHSIG = 1


class Interruption:
    """Context in which interrupting signals raise KeyboardInterrupt, the first time."""

    def __enter__(self) -> Interruption:
        """Take over the signals; have the kernel end this process with nox."""
        self._before = {number: signal.signal(number, self._interrupt) for number in INTERRUPTING}
        nox = os.environ.get(PARENT_VARIABLE, "")
        if nox == str(os.getppid()):
            follow_to_death(signal.SIGKILL)
        if nox.isdigit() and dead(int(nox)):  # before that was set
            os.kill(os.getpid(), signal.SIGKILL)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back, except that the ones ignored since an interruption stay so."""
        for number, handler in self._before.items():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)

    @staticmethod
    def _interrupt(_number: int, _frame: FrameType | None) -> None:
        for other in INTERRUPTING:
            signal.signal(other, signal.SIG_IGN)
        follow_to_death(0)
        raise KeyboardInterrupt


def dead(pid: int) -> bool:
    """Return whether a process has ended, be it that nobody has reaped it yet."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 0)[0])
    finally:
        os.close(pidfd)


def follow_to_death(number: int) -> None:
    """Have the kernel send this signal when the parent dies, none for 0 (PR_SET_PDEATHSIG in prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
