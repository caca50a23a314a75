"""Reaping."""

from __future__ import annotations

import time
from signal import SIGUSR1

import pytest

from suites.catalog import Mode
from suites.framework import proc
from suites.framework.marks import case, controls, modes, offered
from suites.framework.process import exited
from suites.framework.signals import names
from suites.framework.targets.init import Init
from suites.framework.waiting import Deadline, ticks

ROUNDS = 3
"""One death may fall on an init's first look by chance; the next one does not."""
STORM = 500


@case("RP-01")
@offered("adopts")
def test_orphan_is_adopted_by_the_init(init: Init) -> None:
    """A double-forked orphan's new parent is the init (PID 1 of the namespace, or PR_SET_CHILD_SUBREAPER in prctl(2)).

    Why: who adopts must reap.
    By hand:
        unshare --pid --fork --mount-proc $INIT sh -c '(sleep 1 & echo $!) >/tmp/p; ps -o ppid= -p $(cat /tmp/p)'
        # 1
        # (an ordinary process: its own pid)
    """
    with init.start() as run:
        run.child.ready()
        orphan, _ = run.child.fork("orphan")
        assert "the init" == run.who(orphan.reparented())


@case("RP-02")
@offered("adopts")
def test_orphan_is_reaped_within_deadline(init: Init) -> None:
    """An orphan that dies is reaped at once, not at the next poll and not at the init's end (wait(2)).

    Why: zombies fill the pid table of the container.
    By hand:
        unshare --pid --fork --mount-proc $INIT sh -c '(sleep 0.1 &); sleep 0.5; ps -e -o stat= | grep -c Z'
        # 0
        # (1 is the failure)
    """
    with init.start() as run:
        run.child.ready()
        for _ in range(ROUNDS):
            orphan, _ = run.child.fork("orphan")
            orphan.reparented()
            orphan.tell("exit 0")
            died_at = time.monotonic()
            assert "reaped" == run.end_of(orphan)
            run.note("reaping_s", time.monotonic() - died_at)


@case("RP-05")
@modes(Mode.PID1)
def test_storm_of_orphans_is_reaped(init: Init) -> None:
    """Five hundred orphans that die at once are all reaped: one CHLD may stand for many (signal(7)).

    Why: an init that reaps one child per signal leaves hundreds behind.
    By hand:
        storm='for i in $(seq 500); do (sleep 2 &); done; sleep 4; ps -e -o stat= | grep -c Z'
        unshare --pid --fork --mount-proc $INIT sh -c "$storm"
        # 0 (anything else is the failure)
    """
    with init.start() as run:
        run.child.ready()
        own = len(proc.children(run.pid))
        run.child.ask(f"orphans {STORM}")
        assert STORM == len(proc.children(run.pid)) - own
        run.child.ask("release 0")
        seen = [STORM]
        for _ in ticks(Deadline(20)):
            seen.append(len(proc.children(run.pid)) - own)
            if seen[-3:] == [0, 0, 0]:  # a list that is read while it shrinks can miss some (proc_pid_task(5))
                break
        assert 0 == seen[-1]


@case("RP-07")
@modes(Mode.PID1)
@pytest.mark.parametrize("how", ["exit 3", "die 9"])
def test_death_of_an_unknown_child_does_not_end_the_init(init: Init, how: str) -> None:
    """An adopted orphan that fails or is killed does not end the init, which still forwards signals.

    Why: an init that takes any child's death for its own child's ends the container with a helper.
    By hand:
        unshare --pid --fork --mount-proc $INIT sh -c '(sh -c "exit 3" &); sleep 1; echo alive'
        echo $?
        # alive, and 0
    """
    with init.start() as run:
        run.child.ready()
        orphan, _ = run.child.fork("orphan")
        orphan.reparented()
        orphan.tell(how)
        assert "reaped" == run.end_of(orphan)
        assert "USR1" == names(run.heard(SIGUSR1))


@case("RP-08")
@modes(Mode.PID1)
@pytest.mark.parametrize("how", ["exit 0", "exit 1", "die 15"])
def test_exit_code_of_an_orphan_is_irrelevant(init: Init, how: str) -> None:
    """However an orphan ended, the init exits with its own child's code.

    Why: the last status that wait(2) gave is not the one that counts.
    By hand:
        unshare --pid --fork --mount-proc $INIT sh -c '(sh -c "exit 1" &); sleep 0.2; exit 5'
        echo $?    # 5
        # (1 is the failure)
    """
    with init.start() as run:
        run.child.ready()
        orphan, _ = run.child.fork("orphan")
        orphan.reparented()
        orphan.tell(how)
        assert "reaped" == run.end_of(orphan)
        run.child.tell("exit 5")
        assert exited(5) == run.ended()


@case("RP-10")
@modes(Mode.PID1)
def test_zombie_with_a_living_parent_is_left_alone(init: Init) -> None:
    """A zombie whose parent lives is that parent's to reap; when the parent dies the init reaps it (wait(2)).

    Why: it is the difference between reaping one's children and meddling.
    By hand:
        family='(sleep 0.1 & exec sleep 1) & sleep 0.5; ps -e -o stat=,args=; sleep 1; ps -e -o stat=,args='
        unshare --pid --fork --mount-proc $INIT bash -c "$family"
        # one Z below sleep 1, then none
    """
    with init.start() as run:
        run.child.ready()
        parent, _ = run.child.fork("orphan")
        parent.reparented()
        parent.ask("child 0")
        (zombie,) = proc.children(parent.pid)
        assert "Z" == run.state_of_pid(zombie, "Z")
        assert "USR1" == names(run.heard(SIGUSR1))
        assert ("Z", (zombie,)) == (proc.state(zombie), proc.children(parent.pid))
        parent.tell("exit 0")
        assert "reaped" == run.end_of(parent)
        assert "" == run.state_of_pid(zombie, "")


@case("RP-12")
@modes(Mode.PID1)
@controls("none", "python")
def test_program_that_is_no_init_leaves_a_zombie(init: Init) -> None:
    """A program that is not an init leaves an orphan as a zombie: the measure of RP-02 can tell (negative control).

    Why: a suite that lets this one pass proves nothing.
    By hand:
        waits='import os; os.system("(sleep 0.1 &); sleep 0.5; ps -e -o stat= | grep -c Z")'
        unshare --pid --fork --mount-proc python3 -c "$waits"
        # 1 (0 is the failure)
    """
    with init.start() as run:
        run.child.ready()
        orphan, _ = run.child.fork("orphan")
        orphan.reparented()
        orphan.tell("exit 0")
        assert "left as a zombie" == run.end_of(orphan, seconds=0.3)
