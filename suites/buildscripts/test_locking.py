"""Two wrappers in one root folder."""

from __future__ import annotations

import os
import re
import signal

from suites.framework import proc
from suites.framework.buildscripts.build import Build, Ended
from suites.framework.buildscripts.gate import Gate
from suites.framework.buildscripts.workload import Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.marks import case, offered
from suites.framework.process import exited, killed
from suites.framework.waiting import Deadline


@case("W27")
@offered("lock")
def test_root_in_which_somebody_builds_is_refused(wrapper: Wrapper) -> None:
    r"""A second build in the same root is refused, the holder is named, and the first is not disturbed (flock(2)).

    Why: two builds in one folder overwrite each other's files, and both are green.
    By hand:
        printf '#!/bin/bash\nsleep 9\n' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT & sleep 1; $WRAPPER run $ROOT; echo $?    # names $!; 75
        wait; $WRAPPER run $ROOT; echo $?    # 0
    """
    wrapper.write(Step(name="a"), Step(name="b", needs=("a",)))
    with wrapper.begin() as build:
        gate = build.gate("a")
        _is_locked(wrapper, wrapper.build(), build)
        gate.open()
        assert exited(0) == build.end().status
    assert ["a", "b"] == wrapper.ran()
    wrapper.write(Step(name="c"))
    assert exited(0) == wrapper.build().status
    assert ["c"] == wrapper.ran()[2:]


@case("W27")
@offered("lock")
def test_lock_outlives_its_holder_as_long_as_what_he_started(wrapper: Wrapper) -> None:
    r"""After kill -9 the root stays locked while the orphan builds, and no longer (flock(2): with the last descriptor).

    Why: a lock that is a file with a pid is taken over as soon as the pid is gone, and make still writes.
    By hand:
        printf '#!/bin/bash\nsleep 9\n' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT & sleep 1; kill -9 $!; $WRAPPER run $ROOT; echo $?    # names $!; 75
        sleep 9; $WRAPPER run $ROOT; echo $?    # builds a; 0
    """
    wrapper.write(Step(name="a"), Step(name="b", needs=("a",)))
    with wrapper.begin() as build:
        gate = build.gate("a")
        assert killed(signal.SIGKILL) == build.kill()
        _is_locked(wrapper, wrapper.build(), build)
        assert "ended" == _ended(wrapper, gate)
    assert exited(0) == wrapper.build().status
    assert ["a", "a", "b"] == wrapper.ran()


def _is_locked(wrapper: Wrapper, ended: Ended, holder: Build) -> None:
    """Show that a build was refused for the sake of another one, which it names, and that it started nothing."""
    assert exited(wrapper.call.locked) == ended.status
    pid = str(holder.child.pid)
    assert pid == (pid if pid in re.findall(r"\d+", ended.said) else "the holder is not named")
    assert ["a"] == wrapper.ran()


def _ended(wrapper: Wrapper, gate: Gate) -> str:
    """Let an orphaned script go on; return ``ended`` once it has, and given back with it what it held."""
    stat = proc.stat(gate.recorder.pid)
    assert stat is not None
    script = os.pidfd_open(stat.parent)
    try:
        gate.open()
        return "ended" if wrapper.waiter.wait((script,), Deadline(wrapper.seconds)) else "still there"
    finally:
        os.close(script)
