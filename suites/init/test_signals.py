"""Signals and forwarding."""

from __future__ import annotations

import time
from signal import SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH

import pytest

from suites.framework.marks import case, offered, tier, weight
from suites.framework.process import exited
from suites.framework.signals import CATCHABLE, RTMAX, RTMIN, name, names
from suites.framework.targets.init import Init
from suites.framework.targets.run import Run

ASKED = (SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM)
MATRIX = (*sorted(CATCHABLE - {SIGCHLD}), RTMIN, RTMIN + 1, RTMAX)
SENDERS = {0: "kill", -1: "sigqueue", -6: "tgkill"}
"""si_code of a signal that a process sent, and the call that gives it (sigaction(2): SI_USER, SI_QUEUE, SI_TKILL)."""


@case("SG-01")
@pytest.mark.parametrize("number", ASKED, ids=name)
def test_signal_reaches_the_child_once(init: Init, number: int) -> None:
    """A signal sent to the init reaches its child exactly once (signal(7); what `docker kill` relies on).

    Why: a container's only way in is its init; what that swallows or doubles, the service never sees right.
    By hand:
        $INIT sh -c 'trap "echo got it" USR1; while :; do sleep 0.1; done' </dev/null & sleep 1
        kill -USR1 $!; sleep 1; kill $!
        # "got it" appears once
    """
    with init.start() as run:
        run.child.ready()
        assert name(number) == names(run.heard(number))


@case("SG-02")
def test_death_of_the_child_by_a_forwarded_signal_is_reported(init: Init) -> None:
    """A forwarded USR1 ends a child at the default disposition, and the init exits 138 (128 + 10, as shells do).

    Why: the restart policy of an engine looks at this number.
    By hand:
        $INIT sleep 60 </dev/null & sleep 1
        kill -USR1 $!
        wait $!; echo $?    # 138
    """
    with init.start() as run:
        run.child.ready()
        run.child.ask("default")
        run.send(SIGUSR1)
        assert exited(138) == run.ended()
        assert "the child is dead" == ("the child lives" if run.survivors() else "the child is dead")


@case("SG-03")
@pytest.mark.parametrize("number", MATRIX, ids=name)
def test_every_signal_is_forwarded(init: Init, number: int) -> None:
    """Every signal that can be caught is forwarded, CHLD excepted, real-time ones included (signal(7)).

    Why: programs give meanings to signals that the author of an init did not think of (WINCH, RTMIN+3).
    By hand:
        $INIT sh -c 'trap "echo got it" WINCH; while :; do sleep 0.1; done' </dev/null & sleep 1
        kill -WINCH $!; sleep 1; kill $!
        # "got it" appears
    """
    with init.start() as run:
        run.child.ready()
        if number == init.fence:
            assert name(number) == names(_heard_of_fence(run))
        else:
            assert name(number) == names(run.heard(number))


def _heard_of_fence(run: Run) -> tuple[int, ...]:
    """Send the fence itself, and when it came USR1; return what the child received but USR1."""
    run.send(run.init.fence)
    first = run.child.next_signal()["number"]
    run.send(SIGUSR1)
    heard = [first, *run.child.signals_until(SIGUSR1)]
    run.child.tell("state")  # answered after every signal that was pending beside USR1
    while (record := run.child.next("signal", "state")).kind == "signal":
        heard.append(record["number"])
    return tuple(heard)


@case("SG-04")
@offered("group")
def test_group_delivery_reaches_a_grandchild(init: Init) -> None:
    """With delivery to the process group, a grandchild in that group gets the signal too (kill(2), negative pid).

    Why: `sh -c 'server'` would otherwise keep the signal to itself.
    By hand:
        $INIT sh -c '(trap "echo inner" USR1; sleep 3; sleep 1) & trap "" USR1; wait' </dev/null & sleep 1
        kill -USR1 $!; wait $!
        # "inner" appears
    """
    with init.start() as run:
        run.child.ready()
        grandchild, _ = run.child.fork()
        heard = run.heard(SIGUSR1)
        assert ("USR1", "USR1") == (names(heard), names(grandchild.signals_until(init.fence)))


@case("SG-05")
def test_grandchild_in_a_session_of_its_own_is_not_signalled(init: Init) -> None:
    r"""A grandchild that called setsid(2) is in another group and does not get the signal.

    Why: it has detached itself on purpose.
    By hand:
        $INIT sh -c 'setsid sh -c "trap \"echo inner\" USR1; sleep 3" & trap "" USR1; wait' </dev/null & sleep 1
        kill -USR1 $!; wait $!
        # "inner" does not appear
    """
    with init.start() as run:
        run.child.ready()
        grandchild, _ = run.child.fork("session")
        assert "USR1" == names(run.heard(SIGUSR1))
        run.signal(grandchild, init.fence)
        assert "none" == names(grandchild.signals_until(init.fence))


@case("SG-06")
@offered("child")
def test_direct_delivery_reaches_only_the_child(init: Init) -> None:
    """With delivery to the child, a grandchild in its process group gets nothing (kill(2), positive pid).

    Why: a supervisor as the child wants to decide by itself what its workers get.
    By hand:
        $INIT sh -c '(trap "echo inner" USR1; sleep 3) & trap "echo outer" USR1; wait; wait' </dev/null & sleep 1
        kill -USR1 $!; wait $!
        # only "outer" appears
    """
    with init.start() as run:
        run.child.ready()
        grandchild, _ = run.child.fork()
        assert "USR1" == names(run.heard(SIGUSR1))
        run.signal(grandchild, init.fence)
        assert "none" == names(grandchild.signals_until(init.fence))


@case("SG-07")
def test_queued_real_time_signals_all_arrive(init: Init) -> None:
    """Fifty queued RTMIN+1 arrive fifty times: real-time signals do not merge (signal(7), "Real-time signals").

    Why: a program that counts events by them must not lose any in its init.
    By hand:
        child='import signal as s; s.pthread_sigmask(0, {35}); [print(n, s.sigwait({35})) for n in range(1, 51)]'
        $INIT python3 -c "$child" </dev/null & sleep 1; for i in $(seq 50); do kill -RTMIN+1 $!; done
        # the count ends at 50, and the program with it
    """
    with init.start() as run:
        run.child.ready()
        heard = run.heard(*[RTMIN + 1] * 50)
        assert {RTMIN + 1: 50} == {number: heard.count(number) for number in sorted(set(heard))}


@case("SG-08")
def test_change_of_the_window_size_is_forwarded(init: Init) -> None:
    """WINCH is forwarded, though its default is to be ignored (signal(7); ioctl_tty(2), TIOCSWINSZ).

    Why: after a resize an editor in the container would draw for the old size until it is restarted.
    By hand:
        $INIT sh -c 'trap "echo got it" WINCH; while :; do sleep 0.1; done' </dev/null & sleep 1
        kill -WINCH $!; sleep 1; kill $!
        # "got it" appears
    """
    with init.start() as run:
        run.child.ready()
        assert "WINCH" == names(run.heard(SIGWINCH))


@case("SG-11")
def test_chld_from_outside_is_not_forwarded(init: Init) -> None:
    """CHLD that somebody sends is not forwarded, and the init goes on: it speaks of the init's children (signal(7)).

    Why: the child would look for a dead child that it never had, and an init that trusts the signal would wait for one.
    By hand:
        waits='import signal as s; s.pthread_sigmask(0, {17}); print(s.sigtimedwait({17}, 3))'
        $INIT python3 -c "$waits" </dev/null & sleep 1; kill -CHLD $!; wait $!
        # None, after three seconds
    """
    with init.start() as run:
        run.child.ready()
        assert "none" == names(run.heard(SIGCHLD))
        assert "the init runs" == ("the init runs" if run.stays(0) else "the init ended")


@case("SG-12")
def test_one_signal_in_is_one_signal_out(init: Init) -> None:
    """One real-time signal in gives one out: no duplicate (a doubled USR1 could merge and hide; signal(7)).

    Why: an init that signals both the child and its group delivers twice.
    By hand:
        $INIT bash -c 'trap "echo got it" RTMIN+2; while :; do sleep 0.1; done' </dev/null & sleep 1
        kill -RTMIN+2 $!; sleep 1; kill $!
        # "got it" appears once
    """
    with init.start() as run:
        run.child.ready()
        assert names([RTMIN + 2]) == names(run.heard(RTMIN + 2))


@case("SG-13")
def test_burst_of_standard_signals_arrives_at_least_once(init: Init) -> None:
    r"""A burst of fifty USR1 arrives at least once and at most fifty times (standard signals may merge; signal(7)).

    Why: lost altogether is a bug, more than were sent is one too.
    By hand:
        $INIT bash -c 'trap "n=\$((n+1)); echo \$n" USR1; while :; do sleep 0.1; done' </dev/null & sleep 1
        for i in $(seq 50); do kill -USR1 $!; done; sleep 1; kill $!
        # a number from 1 to 50
    """
    with init.start() as run:
        run.child.ready()
        heard = run.heard(*[SIGUSR1] * 50)
        run.note("arrived", len(heard))
        within = "USR1, 1 to 50 times"
        right = set(heard) == {SIGUSR1} and len(heard) <= 50
        assert within == (within if right else f"{names(sorted(set(heard)))}, {'more' if heard else 'never'}")


@case("SG-15")
def test_ignored_signals_stay_ignored_in_the_child(init: Init) -> None:
    """The child ignores exactly what the init's caller ignored (HUP, USR2, PIPE), and blocks nothing (execve(2)).

    Why: `nohup` works by this inheritance, an added PIPE changes how a server dies, and a blocked CHLD is never seen.
    By hand:
        (trap "" HUP USR2 PIPE; exec $INIT grep -E 'Sig(Blk|Ign)' /proc/self/status)
        # SigBlk 0, SigIgn 1801
        # the same without $INIT
    """
    asked = frozenset({SIGHUP, SIGUSR2, SIGPIPE})
    with init.start(ignore=sorted(asked)) as run:
        state = run.child.ready()
        assert names(sorted(asked - state.unknown)) == names(sorted(state.ignored))
        assert "none" == names(sorted(state.blocked))
    with init.start() as run:
        state = run.child.ready()
        assert ("none", "none") == (names(sorted(state.ignored)), names(sorted(state.blocked)))


@case("SG-18")
@weight(6)
@pytest.mark.parametrize("idle", [0.1, 1.0, pytest.param(10.0, marks=tier(4))], ids=lambda idle: f"{idle:g}s")
def test_init_answers_as_well_after_a_while(init: Init, idle: float) -> None:
    """A signal is still forwarded at once when the init has been idle for a while: it waits, it does not poll.

    Why: an init that polls less and less often is quick in every test and slow in every real container.
    By hand:
        $INIT sh -c 'trap "date +%S.%N" USR1; while :; do sleep 0.01; done' </dev/null & sleep 10
        date +%S.%N; kill -USR1 $!; sleep 1; kill $!
        # the two times are close
    """
    with init.start() as run:
        run.child.ready()
        assert "the init runs" == ("the init runs" if run.stays(idle) else "the init ended")
        sent_at = time.monotonic()
        run.send(SIGUSR1)
        received = run.child.next_signal()
        run.note("forwarding_s", received.at - sent_at)
        assert "USR1" == name(received["number"])


@case("SG-19")
@offered("rewrite")
@pytest.mark.parametrize("other", [SIGQUIT, 0], ids=["to-QUIT", "to-nothing"])
def test_signal_is_rewritten(init: Init, other: int) -> None:
    """TERM is forwarded as QUIT, or not at all, where the init was told so; other signals are as they were.

    Why: every engine stops with TERM, and some servers take only QUIT for "finish what you are at" (nginx(8)).
    By hand:
        $INIT sh -c 'trap "echo quit" QUIT; while :; do sleep 0.1; done' </dev/null & sleep 1    # INIT: TERM is QUIT
        kill $!; sleep 1; kill -KILL $!
        # "quit" appears
    """
    with init.start(options=init.rewrite(SIGTERM, other)) as run:
        run.child.ready()
        assert (name(other) if other else "none") == names(run.heard(SIGTERM))
        assert "USR1" == names(run.heard(SIGUSR1))


@case("SG-20")
def test_forwarded_signal_comes_from_the_init(init: Init) -> None:
    """The child sees a forwarded signal as sent with kill(2) by the init itself (sigaction(2): si_code, si_pid).

    Why: programs that trust a signal only from their parent look at this; a helper that sends it can be late.
    By hand:
        shows='import signal as s; s.pthread_sigmask(0, {10}); print(s.sigwaitinfo({10}))'
        $INIT python3 -c "$shows" </dev/null & sleep 1; kill -USR1 $!; echo "the init is $!"
        # si_code=0 (SI_USER), si_pid the init's
    """
    with init.start() as run:
        run.child.ready()
        run.send(SIGUSR1)
        received = run.child.next_signal()
        sender = SENDERS.get(received["code"], str(received["code"])), run.who(received["sender"])
        assert ("USR1", ("kill", "the init")) == (name(received["number"]), sender)
