"""Termination and escalation."""

from __future__ import annotations

import time
from signal import SIGINT, SIGKILL, SIGQUIT, SIGTERM

import pytest

from suites.catalog import Mode
from suites.framework import proc
from suites.framework.marks import case, modes, offered, weight
from suites.framework.process import exited, killed
from suites.framework.signals import name, names
from suites.framework.targets.contained import ContainedInit
from suites.framework.targets.init import Init
from suites.framework.targets.run import PATIENCE_S, Run

GRACE_S = 1.0
CLEAN_UP_S = 0.3
LONG_GRACE_S = 30.0
"""Longer than any liveness deadline: an init that waits it out although it need not is noticed."""


def _left(run: Run) -> str:
    """Return whether a process of this test outlived the init, in words that are the same in every run."""
    return "a survivor" if run.survivors() else "nobody left"


@case("TM-01")
def test_term_ends_the_whole_tree(init: Init) -> None:
    """TERM to an init whose child has the default disposition ends both, with exit 143 (128 + 15).

    Why: it is the first thing that every `docker stop` does.
    By hand:
        $INIT sleep 60 </dev/null & sleep 1
        kill $!
        wait $!; echo $?    # 143
    """
    with init.start() as run:
        run.child.ready()
        run.child.ask("default")
        run.send(SIGTERM)
        assert exited(143) == run.ended()
        assert "nobody left" == _left(run)


@case("TM-02")
def test_term_reaches_the_child_at_once(init: Init) -> None:
    """TERM is forwarded on arrival, not after a grace period (RFC, "Signal Handling Validation").

    Why: the child needs the whole grace period for its own shutdown.
    By hand:
        $INIT sh -c 'trap "date +%S.%N; exit" TERM; while :; do sleep 0.01; done' </dev/null & sleep 1
        date +%S.%N; kill $!
        # the two times are close
    """
    with init.start(options=init.graceful(LONG_GRACE_S)) as run:
        run.child.ready()
        sent_at = time.monotonic()
        run.send(SIGTERM)
        received = run.child.next_signal()
        assert "TERM" == name(received["number"])
        run.note("forwarding_s", received.at - sent_at)


@case("TM-03")
@weight(12)
@offered("graceful")
def test_child_that_ignores_term_is_killed_after_the_grace_period(init: Init) -> None:
    """A child that ignores TERM gets KILL after the graceful timeout, not before, and the init exits 137 (128 + 9).

    Why: without escalation a stuck child keeps the container; an early one costs it its data.
    By hand:
        $INIT sh -c 'trap "" TERM; while :; do sleep 0.1; done' </dev/null & sleep 1    # INIT with a grace of 1 s
        kill $!; time wait $!; echo $?
        # one second, 137
    """
    _escalates(init, SIGTERM)


def _escalates(init: Init, number: int) -> None:
    """Show that a child that ignores this signal is killed after the grace period, and not before."""
    with init.start(options=init.graceful(GRACE_S)) as run:
        run.child.ready()
        sent_at = time.monotonic()
        run.send(number)
        assert name(number) == name(run.child.next_signal()["number"])
        early = sent_at + GRACE_S - 0.05 - time.monotonic()
        assert "alive until the timeout" == ("alive until the timeout" if run.stays(early) else "killed before it")
        assert exited(137) == run.ended(within=GRACE_S)
        assert "nobody left" == _left(run)
        run.note("escalation_s", time.monotonic() - sent_at)


@case("TM-04")
@offered("graceful")
def test_grace_period_of_0_kills_at_once(init: Init) -> None:
    """With a graceful timeout of 0 a child that ignores TERM is killed at once, and the init exits 137.

    Why: 0 that means "no timeout" to the code and "no waiting" to its user holds the container for ever.
    By hand:
        $INIT sh -c 'trap "" TERM; while :; do sleep 0.1; done' </dev/null & sleep 1    # INIT with a grace of 0 s
        kill $!; time wait $!; echo $?
        # a few milliseconds, 137
    """
    with init.start(options=init.graceful(0)) as run:
        run.child.ready()
        sent_at = time.monotonic()
        run.send(SIGTERM)
        assert exited(137) == run.ended()
        assert "nobody left" == _left(run)
        run.note("escalation_s", time.monotonic() - sent_at)


@case("TM-05")
@weight(10)
@offered("graceful")
@pytest.mark.parametrize("number", [SIGINT, SIGQUIT], ids=name)
def test_int_and_quit_escalate_as_term_does(init: Init, number: int) -> None:
    """A child that ignores INT or QUIT gets KILL after the graceful timeout as well: they too ask it to end.

    Why: Ctrl-C on a stuck child, and images with STOPSIGNAL SIGQUIT, would be left without an end.
    By hand:
        $INIT sh -c 'trap "" INT; while :; do sleep 0.1; done' </dev/null & sleep 1    # INIT with a grace of 1 s
        kill -INT $!; time wait $!; echo $?
        # one second, 137
    """
    _escalates(init, number)


@case("TM-06")
def test_child_that_ends_on_term_ends_the_init_at_once(init: Init) -> None:
    """When the child ends on TERM the init ends too, without waiting out its grace period.

    Why: a fleet that stops in ten seconds instead of ten milliseconds.
    By hand:
        $INIT sleep 60 </dev/null & sleep 1
        kill $!; time wait $!
        # a few milliseconds
    """
    with init.start(options=init.graceful(LONG_GRACE_S)) as run:
        run.child.ready()
        run.child.ask("default")
        sent_at = time.monotonic()
        run.send(SIGTERM)
        assert exited(143) == run.ended(within=0.1)
        assert "nobody left" == _left(run)
        run.note("stopping_s", time.monotonic() - sent_at)


@case("TM-07")
def test_child_that_cleans_up_on_term_is_given_the_time(init: Init) -> None:
    """A child that catches TERM, works 300 ms and exits 3 is not killed: the init exits 3.

    Why: this is what graceful means.
    By hand:
        $INIT sh -c 'trap "sleep 0.3; echo done; exit 3" TERM; while :; do sleep 0.01; done' </dev/null & sleep 1
        kill $!; wait $!; echo $?
        # done, 3
    """
    with init.start(options=init.graceful(LONG_GRACE_S)) as run:
        run.child.ready()
        run.send(SIGTERM)
        assert "TERM" == name(run.child.next_signal()["number"])
        assert "running" == ("running" if run.stays(CLEAN_UP_S) else "ended during the clean-up")
        run.child.state()
        run.child.tell("exit 3")
        assert exited(3) == run.ended()


@case("TM-08")
@modes(Mode.PLAIN)
def test_what_a_survivor_in_the_childs_group_hears_is_recorded(init: Init) -> None:
    """What a process in the child's group hears when the child has exited and the init with it is recorded.

    Why: some inits send it TERM, others leave it to whoever adopts it; as PID 1 the kernel kills it.
    By hand:
        $INIT sh -c '(trap "echo TERM" TERM; sleep 2; sleep 1) & exit 0' </dev/null; sleep 4
        # "TERM", or nothing
    """
    with init.start() as run:
        run.child.ready()
        survivor, _ = run.child.fork()
        run.child.tell("exit 0")
        run.note("init", str(run.ended()))
        run.signal(survivor, init.fence)
        run.note("survivor_hears", names(survivor.signals_until(init.fence)))


@case("TM-09")
@modes(Mode.PID1)
def test_what_a_daemon_hears_of_the_stop_is_recorded(init: Init) -> None:
    """What a daemon that PID 1 has adopted hears, from TERM until the child has ended and all is gone, is recorded.

    Why: only an init that signals everybody gives a daemon the time to save what it has before the kernel's KILL.
    By hand:
        daemon='trap "echo TERM; exit" TERM; while :; do sleep 0.1; done'
        unshare --pid --fork --mount-proc $INIT sh -c "(setsid sh -c '$daemon' &); exec sleep 60" </dev/null & sleep 1
        pkill -TERM -P $!; wait
        # "TERM", or nothing
    """
    with init.start() as run:
        run.child.ready()
        daemon, _ = run.child.fork("orphan", "session")
        daemon.reparented()
        run.send(SIGTERM)
        run.note("child_hears", names(run.child.signals_within(PATIENCE_S, most=1)))
        run.child.tell("exit 0")
        run.note("init", str(run.ended()))
        run.note("daemon_hears", names(daemon.signals_within(init.seconds, most=64)))  # to its end, by the kernel


@case("TM-10")
@modes(Mode.PID1)
def test_nothing_survives_the_end_of_pid_1(init: Init) -> None:
    """When the init ends as PID 1 its whole namespace is gone: child, daemon and orphan (pid_namespaces(7)).

    Why: it holds only if the init was PID 1 in truth and really ended.
    By hand:
        unshare --pid --fork --mount-proc $INIT sh -c 'setsid sleep 77 & exit 0'
        pgrep -f 'sleep 77'
        # nothing
    """
    with init.start() as run:
        run.child.ready()
        run.child.fork("session")
        orphan, _ = run.child.fork("orphan", "session")
        orphan.reparented()
        assert "child, daemon and orphan" == ("child, daemon and orphan" if len(run.survivors()) >= 3 else "fewer")
        run.child.tell("exit 0")
        assert exited(0) == run.ended()
        assert "nobody left" == _left(run)


@case("TM-11")
@modes(Mode.PLAIN)
def test_child_is_dead_when_the_init_has_ended(init: Init) -> None:
    """When the init has ended as an ordinary process its child is dead: it never leaves before its child does.

    Why: an engine that sees the init end starts the next instance beside a survivor.
    By hand:
        $INIT sh -c 'echo $$ >/tmp/p; trap "sleep 1; exit 0" TERM; while :; do sleep 0.1; done' </dev/null & sleep 1
        kill $!; wait $!
        ps -o args= -p $(cat /tmp/p)    # nothing
    """
    with init.start() as run:
        run.child.ready()
        run.send(SIGTERM)
        assert "TERM" == name(run.child.next_signal()["number"])
        assert "running" == ("running" if run.stays(CLEAN_UP_S) else "ended before its child")
        run.child.tell("exit 0")
        assert exited(0) == run.ended()
        assert "nobody left" == _left(run)


@case("TM-12")
@modes(Mode.PLAIN)
def test_fate_of_the_child_of_a_killed_init_is_recorded(init: Init) -> None:
    """What becomes of the child when KILL ends the init as an ordinary process is recorded (PR_SET_PDEATHSIG).

    Why: an out-of-memory kill can take the init alone; whether its child runs on unattended is worth knowing.
    By hand:
        $INIT sleep 77 </dev/null & sleep 1
        kill -KILL $!; pgrep -f 'sleep 77'
        # its number: it lives
    """
    with init.start() as run:
        run.child.ready()
        run.send(SIGKILL)
        assert killed(SIGKILL) == run.ended()
        if proc.state(run.child.pid):  # not the init itself, as with no init at all
            run.signal(run.child, init.fence)
        heard = run.child.signals_within(init.seconds, most=1)
        run.note("child_after_kill", "dead" if run.child.ended else f"alive, having heard {_before(heard, init.fence)}")


def _before(heard: tuple[int, ...], fence: int) -> str:
    return names(number for number in heard if number != fence)


@case("TM-13")
def test_second_term_does_no_harm(init: Init) -> None:
    """A second TERM while the child cleans up ends neither the child nor the init: the init exits 3 as the child does.

    Why: impatient users and engines repeat themselves; a clean-up that has begun must not be lost by that.
    By hand:
        $INIT sh -c 'trap "sleep 1; exit 3" TERM; while :; do sleep 0.01; done' </dev/null & sleep 1
        kill $!; sleep 0.2; kill $!
        wait $!; echo $?    # 3
    """
    with init.start(options=init.graceful(LONG_GRACE_S)) as run:
        run.child.ready()
        run.send(SIGTERM)
        assert "TERM" == name(run.child.next_signal()["number"])
        run.send(SIGTERM)
        run.note("second_term", names(run.child.signals_within(PATIENCE_S, most=1)))
        assert "running" == ("running" if run.stays(CLEAN_UP_S) else "ended by the second TERM")
        run.child.state()
        run.child.tell("exit 3")
        assert exited(3) == run.ended()


@case("TM-14")
@weight(20)
@modes(Mode.DOCKER)
def test_docker_stop_ends_a_default_child_at_once(contained: ContainedInit) -> None:
    """`docker stop --time 10` of a child with the default disposition gives 143, so it ended before the ten seconds.

    Why: without an init, PID 1 ignores TERM and every stop takes the whole ten seconds.
    By hand:
        docker run -d --name t IMAGE $INIT sleep 60
        time docker stop --time 10 t
        docker wait t; docker rm t    # 143
    """
    with contained.run() as container:
        container.child.ready()
        container.child.ask("default")
        code, took_s = container.stop(seconds=10)
        container.note("stop_s", took_s)
        assert "exit 143" == code  # at the timeout the engine kills: 137


@case("TM-15")
@weight(60)
@modes(Mode.DOCKER)
def test_docker_stop_kills_a_child_that_ignores_term_after_the_timeout(contained: ContainedInit) -> None:
    """`docker stop --time 3` of a child that ignores TERM gives 137 after three seconds, not before.

    Why: an init that escalates by itself, earlier than the engine, takes the grace period away.
    By hand:
        docker run -d --name t IMAGE $INIT sh -c 'trap "" TERM; while :; do sleep 0.1; done'
        time docker stop --time 3 t
        docker wait t; docker rm t    # 137
    """
    with contained.run() as container:
        container.child.ready()
        code, took_s = container.stop(seconds=3)
        container.note("stop_s", took_s)
        assert "TERM" == name(container.child.next_signal()["number"])
        assert ("exit 137", "not before") == (code, "not before" if took_s >= 3 else "before the timeout")
