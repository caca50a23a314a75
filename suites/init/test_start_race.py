"""Signals that come while an init is still starting."""

from __future__ import annotations

import select
import statistics
import time
from collections import Counter
from signal import SIGTERM

from suites.catalog import Mode
from suites.framework.marks import case, modes, weight
from suites.framework.observation import Unmet
from suites.framework.process import exited
from suites.framework.targets.init import Init
from suites.framework.targets.run import Run
from suites.framework.waiting import Deadline, ticks

RUNS = 40
REACH = 1.5
"""The TERM are spread over this multiple of the usual start, none later than the child's readiness."""
SAMPLES = 5

ENDED, HEARD, LOST, ALONE, UNANSWERED = "ended", "forwarded", "lost", "child_left_alive", "nothing_forwarded"


@case("SG-17")
@weight(20)
@modes(Mode.PLAIN)
def test_term_during_the_start_never_leaves_the_child_alive(init: Init) -> None:
    """TERM at any of 40 moments of the start, from the exec on, never ends the init alone: no child is left alive.

    Why: an init that takes signals up only after its fork dies of an early TERM, and its child runs on unattended.
    An init that lives on although its child did not hear the TERM is counted, not judged: it still is in charge.
    By hand:
        for i in $(seq 40); do $INIT sleep 77 </dev/null & sleep 0.00$((i % 10)); kill $!; wait $!; done
        sleep 1; pgrep -f 'sleep 77'
        # nothing
    """
    fates = _fates(init)
    left = "a child left alive" if fates[ALONE] else "a child left without TERM" if fates[UNANSWERED] else "nobody"
    assert "nobody" == left


@case("SG-17p")
@weight(20)
@modes(Mode.PID1)
def test_loss_of_term_during_the_start_of_pid_1_is_recorded(init: Init) -> None:
    """How many of 40 TERM during the start of PID 1 are lost is recorded: the kernel drops them (pid_namespaces(7)).

    Why: what an engine sends before PID 1 has masked its signals is gone; `docker stop` then waits for its timeout.
    By hand:
        start='unshare --pid --fork --kill-child --mount-proc'
        for i in $(seq 40); do $start $INIT sleep 1 </dev/null & pkill -TERM -P $!; wait $!; echo $?; done
        # 143: it arrived; 0: it was lost
    """
    _fates(init)


def _fates(init: Init) -> Counter[str]:
    """Send TERM at `RUNS` moments of the start, note and return how often what became of it."""
    took = statistics.median(_start_s(init) for _ in range(SAMPLES))
    fates: Counter[str] = Counter()
    for moment in (init.seconds, *(took * REACH * number / RUNS for number in range(RUNS - 1))):
        fates[_fate(init, moment)] += 1
        if fates[UNANSWERED]:  # not even when its child was ready: an init that forwards nothing
            break
    _start_s(init)  # it still starts, and what the last one left in dying has time to
    init.bench.note("start_s", took)
    init.bench.note("term_during_start", dict(sorted(fates.items())))
    return fates


def _start_s(init: Init) -> float:
    """Return the seconds from the init's exec to its child's readiness."""
    with init.start() as run:
        began = time.monotonic()
        run.child.ready()
        took = time.monotonic() - began
        run.child.tell("exit 0")
        assert exited(0) == run.ended()
        return took


def _fate(init: Init, within: float) -> str:
    """Send TERM so many seconds after the exec, or when the child is ready before; return what became of both."""
    with init.start() as run:
        # Not poll(2), which counts milliseconds: a start in C is over in one.
        select.select((run.child.channel.fileno(), *run.watch()), (), (), within)
        run.send(SIGTERM)
        try:
            run.child.ready()
            heard = _before_a_fence(run) + _before_a_fence(run)  # what overtook TERM does not overtake it twice
        except Unmet:
            if run.stays(init.seconds):
                return UNANSWERED
            return ALONE if _child_lives(run) else ENDED
        return HEARD if SIGTERM in heard else LOST


def _before_a_fence(run: Run) -> tuple[int, ...]:
    run.send(run.init.fence)
    return run.child.signals_until(run.init.fence)


def _child_lives(run: Run) -> bool:
    """Return whether a child outlived its init: one that was just forked holds its channel, and will be ready."""
    for _ in ticks(Deadline(run.init.seconds)):
        run.child.signals_within(0, most=1)
        if run.child.ended or run.child.log:
            break
    return not run.child.ended
