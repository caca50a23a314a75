"""Signals to a wrapper in the middle of a step, and steps that take too long."""

from __future__ import annotations

import time
from signal import SIGHUP, SIGINT, SIGTERM

import pytest

from suites.framework.buildscripts.gate import Gate
from suites.framework.buildscripts.workload import Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.marks import case, offered
from suites.framework.process import exited, killed
from suites.framework.signals import name

DETACHED = """
export -f mark
setsid --fork bash -c 'mark detached retire' </dev/null >/dev/null 2>&1
"""
"""Starts a process in a session of its own, which ends with TERM, as a daemon does that a test suite has left."""
STUBBORN = f"{DETACHED}trap 'sleep 1; exit 9' TERM\nmark beside retire &\nwhile :; do wait; done"
"""A script that goes on for a second after TERM."""
LIMIT_S, FAR_S = 1, 600
PAUSE_S = 0.2
TALKS = 11
"""So many lines, with a pause behind each, take longer than the limit on silence."""


@case("W25")
@offered("resume")
@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP], ids=name)
def test_wrapper_dies_by_the_signal_and_leaves_nothing_running(wrapper: Wrapper, number: int) -> None:
    r"""INT, TERM and HUP end step and wrapper, which dies by that signal (Cracauer, "Proper handling of SIGINT").

    Why: Ctrl-C returns the prompt, and make goes on in the background; or a loop around it goes on with the next one.
    By hand:
        printf '#!/bin/bash\nsetsid -f sleep 99\ntrap "sleep 1; exit" TERM\nsleep 99 & wait' >$ROOT/scripts/a.sh
        timeout -s TERM 1 $WRAPPER run $ROOT; echo $?    # 124 after two to four seconds
        pgrep sleep; $WRAPPER state $ROOT    # nothing; a is interrupted
    """
    wrapper.write(Step(name="a", body=STUBBORN), Step(name="b", needs=("a",)))
    with wrapper.begin() as build:
        gates = build.gathered("a", "detached", "beside")
        build.send(number)
        sent_at = time.monotonic()
        assert killed(number) == build.end().status
    wrapper.note("ending_s", build.child.ended - sent_at)
    assert [] == _alive(wrapper, gates)
    assert wrapper.told("interrupted") == wrapper.standing("a")
    wrapper.write(Step(name="a"))
    assert exited(0) == wrapper.build().status
    assert ["ran"] == wrapper.labels("a")[2:]
    assert ["b"] == wrapper.ran()[3:]


def _alive(wrapper: Wrapper, gates: dict[str, Gate]) -> list[str]:
    """Return the labels of those gates whose processes do not end within the liveness deadline, sorted."""
    return sorted(label for label, gate in gates.items() if not gate.recorder.left(wrapper.seconds))


@case("W26")
@offered("timeout", "silence")
def test_step_that_takes_too_long_is_ended_with_all_that_it_started(wrapper: Wrapper) -> None:
    r"""At the end of its time a step is killed, whatever it says; its last lines are shown (timeout(1)).

    Why: a test suite that hangs blocks the machine until Monday, and what it started lives on when it is killed.
    By hand:
        printf '#!/bin/bash\nsetsid -f sleep 99\nwhile echo talking; do sleep 0.2; done' >$ROOT/scripts/a.sh
        $WRAPPER run --timeout 1 --silence 600 $ROOT    # talking, timeout; not 0
        pgrep sleep; $WRAPPER state $ROOT    # nothing; a timeout
    """
    talk = f"while echo last words {wrapper.bench.nonce}; do sleep {PAUSE_S}; done"
    _is_ended(
        wrapper, f"{DETACHED}mark beside retire &\n{talk}", "timeout", timeout=LIMIT_S, silence=FAR_S, least=LIMIT_S
    )


@case("W26")
@offered("timeout", "silence")
def test_step_that_says_nothing_is_ended_with_all_that_it_started(wrapper: Wrapper) -> None:
    r"""A step that says nothing for too long is killed, one that talks is not (as `no_output_timeout` of CI services).

    Why: a configure that asks a question hangs; a compiler that works for three hours and says so does not.
    By hand:
        printf '#!/bin/bash\nfor n in {1..11}; do echo $n; sleep 0.2; done\nsleep 99' >$ROOT/scripts/a.sh
        $WRAPPER run --timeout 600 --silence 1 $ROOT    # the numbers up to 11, silence; not 0
        $WRAPPER state $ROOT    # a silence
    """
    talk = f"for n in {{1..{TALKS}}}; do echo $n; sleep {PAUSE_S}; done\necho last words {wrapper.bench.nonce}"
    quiet = f"{talk}\n{DETACHED}mark beside retire &\nwhile :; do wait; done"
    least = TALKS * PAUSE_S + LIMIT_S
    _is_ended(wrapper, quiet, "silence", timeout=FAR_S, silence=LIMIT_S, least=least)


def _is_ended(wrapper: Wrapper, body: str, why: str, *, timeout: int, silence: int, least: float) -> None:
    """Show that a step is ended for this reason, with its processes, not before its time; and its last lines told."""
    wrapper.write(Step(name="a", body=body), Step(name="b", needs=("a",)))
    options = (*wrapper.option("timeout", seconds=timeout), *wrapper.option("silence", seconds=silence))
    with wrapper.begin(options=options) as build:
        gates = build.gathered("a", "detached", "beside")
        ended = build.end()
    assert "a failure" == ("success" if ended.status == exited(0) else "a failure")
    assert wrapper.told(why) == wrapper.standing("a")
    assert "in time" == ("in time" if ended.seconds >= least else f"after {ended.seconds:.2f} s")
    assert [] == _alive(wrapper, gates)
    last = f"last words {wrapper.bench.nonce}"
    assert last == (last if last.encode() in ended.stderr else "not on stderr")
    assert {"a"} == set(wrapper.ran())
