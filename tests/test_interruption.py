"""The launcher is interrupted once, and ends when nox does."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from suites.framework.interruption import INTERRUPTING, PARENT_VARIABLE, Interruption

ROOT = Path(__file__).parents[1]
SECONDS = 10
LAUNCHER = """
import signal
from suites.framework.interruption import Interruption
with Interruption():
    print("ready", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
NOX = """
import os, subprocess, sys
os.environ["SEATRIAL_NOX"] = str(os.getpid())
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
os.dup2(child.stdout.fileno(), 0)
os.kill(os.getpid(), 9)
"""
ORPHAN = """
import ctypes, signal
from suites.framework.interruption import Interruption, follow_to_death
PR_GET_PDEATHSIG, found = 2, ctypes.c_int(-1)
with Interruption():
    try:
        follow_to_death(9)
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        ctypes.CDLL(None).prctl(PR_GET_PDEATHSIG, ctypes.byref(found), 0, 0, 0)
        print(found.value)
"""


@pytest.mark.parametrize("number", INTERRUPTING)
def test_the_first_signal_interrupts_and_the_others_are_ignored(number: signal.Signals) -> None:
    """Ctrl-C, TERM and HUP raise KeyboardInterrupt once; the cleaning up that follows is not disturbed."""
    before = {other: signal.getsignal(other) for other in INTERRUPTING}
    try:
        with Interruption():
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
            for other in INTERRUPTING:
                signal.raise_signal(other)
        assert {signal.SIG_IGN} == {signal.getsignal(other) for other in INTERRUPTING}
    finally:
        for other, handler in before.items():
            signal.signal(other, handler)


def test_without_an_interruption_the_signals_are_given_back() -> None:
    """Handlers are afterwards what they were before."""
    before = [signal.getsignal(number) for number in INTERRUPTING]
    with Interruption():
        assert before != [signal.getsignal(number) for number in INTERRUPTING]
    assert before == [signal.getsignal(number) for number in INTERRUPTING]


def test_the_launcher_dies_with_nox() -> None:
    """When the nox that started the launcher is killed, the launcher does not go on alone."""
    nox = subprocess.Popen([sys.executable, "-c", NOX, LAUNCHER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert nox.stdout is not None
    launcher = os.pidfd_open(int(nox.stdout.readline()))
    nox.wait(SECONDS)
    nox.stdout.close()
    assert select.select([launcher], [], [], SECONDS)[0]
    os.close(launcher)


def test_a_nox_that_died_before_the_launcher_looked_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher whose nox is gone, reaped or not, ends before it has begun."""
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("suites.framework.interruption.os.kill", lambda *call: killed.append(call))
    nox = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, nox.pid, os.WEXITED | os.WNOWAIT)
    monkeypatch.setenv(PARENT_VARIABLE, str(nox.pid))
    for _ in ("a zombie", "reaped"):
        with Interruption():
            nox.wait()
    assert [(os.getpid(), signal.SIGKILL)] * 2 == killed


def test_a_nox_that_is_no_parent_but_lives_is_no_reason_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something may stand between nox and the launcher."""
    monkeypatch.setattr("suites.framework.interruption.os.kill", lambda *_: pytest.fail("it ended itself"))
    monkeypatch.setenv(PARENT_VARIABLE, str(os.getpid()))
    with Interruption():
        pass


def test_an_interrupted_launcher_outlives_nox() -> None:
    """A nox that stops waiting at the second Ctrl-C does not take along a launcher that is cleaning up by then."""
    done = subprocess.run([sys.executable, "-c", ORPHAN], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "0" == done.stdout.strip()
