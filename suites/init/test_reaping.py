"""Reaping."""

from __future__ import annotations

import time
from signal import SIGUSR1

import pytest

from suites.catalog import Mode, Privilege
from suites.framework import proc, usage
from suites.framework.facts import Fact
from suites.framework.marks import case, controls, modes, offered, requires, tier, weight, within
from suites.framework.process import exited
from suites.framework.signals import names
from suites.framework.targets.contained import ContainedInit
from suites.framework.targets.init import Init
from suites.framework.waiting import Deadline, ticks

ROUNDS = 3
"""One death may fall on an init's first look by chance; the next one does not."""
STORM = 500
TOGETHER = 50
TOGETHER_S = 5.0
"""An init that takes long to start is given fewer rounds, rather than the time of the cases after it."""
STREAM_S, STREAM_EVERY_S = 10.0, 0.05
MOST_ZOMBIES = 20
"""As many orphans as die in one second: an init that reaps only now and then has more."""
MOST_GROWTH = 1 << 20
"""Bytes that an init may grow in the stream: less than 5 KiB for each orphan."""
NOBODY = 65534


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


@case("RP-03")
@modes(Mode.PID1)
@requires(Fact.ENTER_NAMESPACE)
def test_orphan_of_an_entered_process_is_reaped(init: Init) -> None:
    """An orphan of a process that entered the namespace from outside is the init's, and is reaped (pid_namespaces(7)).

    Why: health checks and debug shells come in this way, and each leaves something behind.
    By hand:
        unshare --pid --fork --kill-child --mount-proc $INIT sleep 60 </dev/null & sleep 1
        inside="nsenter --mount --pid --target $(pgrep -f 'sleep 60' | tail -1)"
        $inside sh -c '(sleep 0.1 &)'; sleep 0.5; $inside ps -e -o stat=,args=; kill $!    # no Z
    """
    with init.start() as run:
        run.child.ready()
        entered, _ = run.enter()
        orphan, _ = entered.fork("orphan")
        assert "the init" == run.who(orphan.reparented())
        orphan.tell("exit 0")
        assert "reaped" == run.end_of(orphan)


@case("RP-03")
@weight(40)
@modes(Mode.DOCKER)
@requires(Fact.DOCKER_EXEC)
def test_orphan_of_docker_exec_is_reaped(contained: ContainedInit) -> None:
    """An orphan of `docker exec` becomes a child of the container's PID 1, and is reaped (pid_namespaces(7)).

    Why: a health check every ten seconds fills the pid table within a day.
    By hand:
        docker run -d --name t IMAGE $INIT sleep 60
        docker exec t sh -c '(sleep 0.1 &)'; sleep 0.5
        docker exec t ps -e -o stat=,args=; docker rm -f t    # no Z
    """
    with contained.run() as container:
        container.child.ready()
        entered = container.enter()
        entered.ready()
        orphan, state = entered.fork("orphan")
        assert 1 == orphan.reparented()
        orphan.tell("exit 0")
        assert "reaped" == container.end_of(state.pid)


@case("RP-04")
@modes(Mode.PLAIN)
def test_init_that_adopts_nobody_says_so(init: Init) -> None:
    """Not being PID 1, the init adopts orphans as its profile says, and warns when it does not (prctl(2)).

    Why: zombies that nobody promised to reap are found late; a line at the start saves a day.
    By hand:
        $INIT sh -c '(sleep 1 & echo $!) >/tmp/p; ps -o ppid= -p $(cat /tmp/p)'
        # the init's pid
        # (or another one, and a warning on stderr)
    """
    with init.start() as run:
        run.child.ready()
        orphan, _ = run.child.fork("orphan")
        assert ("the init" if init.call.adopts else "another process") == run.who(orphan.reparented())
    with init.start(adopting=False) as run:
        run.child.ready()
        orphan, _ = run.child.fork("orphan")
        adopts = "the init" == run.who(orphan.reparented())
        warned = "a warning" if run.output("stderr").strip() else "silence on stderr"
        assert ("adopts" if adopts else "a warning") == ("adopts" if adopts else warned)


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


@case("RP-06")
@weight(15)
def test_child_that_dies_together_with_an_orphan_is_not_missed(init: Init) -> None:
    """When the child and an orphan die at once, 50 times, the init ends with the child's code (signal(7): CHLD merges).

    Why: an init that looks at one death per CHLD, or keeps the last status it saw, hangs or lies once in a while.
    By hand:
        for i in $(seq 50); do $INIT sh -c '(sleep 0.1 &); sleep 0.1; exit 3'; [ $? = 3 ] || echo wrong; done
        # returns, and prints nothing
        # (a hang is the failure)
    """
    deadline = Deadline(TOGETHER_S)
    for number in range(1, TOGETHER + 1):
        with init.start() as run:
            run.child.ready()
            run.child.tell("vanish 3")
            assert exited(3) == run.ended()
            if number == TOGETHER or deadline.passed:
                run.note("rounds", number)
                break


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


@case("RP-09")
@modes(Mode.PID1)
@within(privilege=Privilege.ROOT)
@requires(Fact.SETUID)
def test_orphan_of_another_session_and_user_is_reaped(init: Init) -> None:
    """An orphan in a session of its own and of another user is adopted and reaped like any other (wait(2)).

    Why: daemons are exactly that, and waiting for one's own process group misses them.
    By hand:
        daemon='setsid setpriv --reuid=65534 --clear-groups sleep 0.1'
        unshare --pid --fork --mount-proc $INIT sh -c "($daemon &); sleep 0.5; ps -e -o stat= | grep -c Z"
        # 0 (1 is the failure)
    """
    with init.start() as run:
        run.child.ready()
        orphan, state = run.child.fork("orphan", "session", f"uid={NOBODY}")
        assert (NOBODY, state.pid) == (state.uid, state.sid)
        assert "the init" == run.who(orphan.reparented())
        orphan.tell("exit 0")
        assert "reaped" == run.end_of(orphan)


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


@case("RP-11")
@modes(Mode.PID1)
@tier(4)
def test_stream_of_orphans_leaves_nothing_behind(init: Init) -> None:
    """Twenty orphans a second for ten seconds: zombies never pile up, and the init does not grow (wait(2)).

    Why: a build server or a shell with pipelines lives like this for weeks.
    By hand:
        stream='for i in $(seq 200); do (sleep 0.1 &); sleep 0.05; done; ps -e -o stat= | grep -c Z'
        unshare --pid --fork --mount-proc $INIT sh -c "$stream"
        # 0 or 1 (a number that grows with the 200 is the failure)
    """
    with init.start() as run:
        run.child.ready()
        own, before, most, made = len(proc.children(run.pid)), usage.of(run.pid).rss_bytes, 0, 0
        for _ in ticks(Deadline(STREAM_S), every=STREAM_EVERY_S):
            made += run.child.ask("orphans 1")
            run.child.ask("release 0")
            most = max(most, len(proc.children(run.pid)) - own)
        growth = usage.of(run.pid).rss_bytes - before
        for name, value in {"orphans": made, "zombies": most, "growth_bytes": growth}.items():
            run.note(name, value)
        assert "few zombies" == ("few zombies" if most <= MOST_ZOMBIES else "zombies pile up")
        assert "flat" == ("flat" if growth <= MOST_GROWTH else "it grows")


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
