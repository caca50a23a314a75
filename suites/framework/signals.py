"""Names of signals, and the sets that the suites speak of (layer 1; signal(7))."""

from __future__ import annotations

import signal
from collections.abc import Iterable

RTMIN, RTMAX = 34, 64
"""Real-time signals a program may use; the C library keeps 32 and 33 for itself."""

CATCHABLE = frozenset(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP}
FENCE = signal.SIGPWR
"""The highest standard signal but SYS, which like other faults overtakes all: of several pending ones the lower are
delivered first (signal(7)), so where this one has come, nothing sent before it is still on its way."""
CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGSYS, signal.SIGTRAP}
)
"""Death by one of these, when nobody sent it, is a crash of the program."""


def name(number: int) -> str:
    """Return ``TERM`` for 15, ``RTMIN+1`` for 35."""
    if number >= RTMIN:
        return "RTMAX" if number == RTMAX else f"RTMIN+{number - RTMIN}" if number > RTMIN else "RTMIN"
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def names(numbers: Iterable[int]) -> str:
    """Return the names of several signals in the order given, or ``none``."""
    return " ".join(name(number) for number in numbers) or "none"
