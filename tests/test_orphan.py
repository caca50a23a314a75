"""Processes that nobody holds are found, waited for and ended; those of others are left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from suites.framework.oci.orphan import Orphans
from tests.walled import walled

ORPHAN = "import os, signal\nif os.fork():\n    os._exit(0)\nos.setsid()\nsignal.pause()"
BRIEF = "import os\nif os.fork():\n    os._exit(0)\nos.read(0, 1)"


def orphaned(script: str, **streams: int) -> None:
    """Have a process become a child of this one, which is PID 1."""
    subprocess.run([sys.executable, "-I", "-S", "-c", script], check=True, **streams)  # type: ignore[call-overload]


@walled()
def test_an_orphan_is_found_and_ended() -> None:
    """A process that a call has left is an orphan until it is removed."""
    orphans = Orphans(lambda: ())
    orphaned(ORPHAN)
    assert 1 == len(orphans.alive())
    assert 1 == len(orphans.remain(0.0))
    orphans.remove()
    assert [] == orphans.alive()
    assert [] == orphans.remain(0.0)


@walled()
def test_one_that_is_about_to_end_is_waited_for() -> None:
    """No orphan remains where the last one ends within the time, and its status is reaped."""
    orphans = Orphans(lambda: ())
    reading, writing = os.pipe()
    orphaned(BRIEF, stdin=reading)
    assert 1 == len(orphans.alive())
    os.close(writing)
    assert [] == orphans.remain(10.0)


@walled()
def test_what_is_held_or_was_there_is_no_orphan() -> None:
    """Children from before, and those that somebody will reap, are left alone."""
    earlier = subprocess.Popen(["sleep", "60"])
    held: list[int] = []
    orphans = Orphans(lambda: held)
    later = subprocess.Popen(["sleep", "60"])
    assert [later.pid] == orphans.alive()
    held.append(later.pid)
    assert [] == orphans.alive()
    orphans.remove()
    for child in (earlier, later):
        assert child.poll() is None
        child.send_signal(signal.SIGKILL)
        child.wait()
