"""Stopping and continuing: job control seen from an init."""

from __future__ import annotations

from signal import SIGCONT, SIGSTOP, SIGTERM, SIGTSTP

from suites.catalog import Mode
from suites.framework import proc
from suites.framework.marks import case, modes
from suites.framework.process import exited
from suites.framework.signals import name
from suites.framework.targets.init import Init
from suites.framework.targets.run import PATIENCE_S, Run
from suites.framework.waiting import Deadline, ticks

BY_CHILD = {
    "forwarded": "the child hears TSTP",
    "stopped": "the child is stopped",
    "ignored": "the child hears nothing",
}
BY_INIT = {True: "the init is stopped", False: "the init runs"}


@case("SG-09")
def test_tstp_is_answered_as_the_profile_says(init: Init) -> None:
    """TSTP is forwarded, or stops the child, or is ignored, and stops the init or not, as its profile says (signal(7)).

    Why: Ctrl-Z must not leave the init stopped and its child running, or the other way round, by accident.
    By hand:
        $INIT sh -c 'trap "echo got it" TSTP; while :; do sleep 0.1; done' </dev/null & sleep 1
        kill -TSTP $!; sleep 1; ps -o stat=,args= -p $! --ppid $!; kill -CONT $!; kill $!
        # "got it" and two S (forwarded), or two T
    """
    suspends = init.call.suspends and init.mode is Mode.PLAIN
    with init.start() as run:
        run.child.ready()
        assert (BY_CHILD[init.call.tstp], BY_INIT[suspends]) == _answer_to_tstp(run)


@case("SG-10")
def test_cont_after_tstp_resumes_everything(init: Init) -> None:
    """CONT sent to the init after TSTP resumes it and its stopped child, which hears the CONT (signal(7)).

    Why: `fg` reaches the init alone; what it does not pass on stays stopped for ever.
    By hand:
        $INIT sh -c 'while :; do date; sleep 1; done' </dev/null & sleep 1
        kill -TSTP $!; pkill -STOP -P $!; sleep 2; kill -CONT $!
        # the dates stop, and go on
    """
    with init.start() as run:
        run.child.ready()
        _answer_to_tstp(run)
        run.signal(run.child, SIGSTOP)  # where TSTP has not stopped it
        assert "T" == (run.state_of(run.child, "T") or "gone")
        run.send(SIGCONT)
        assert "the child runs" == ("the child runs" if _leaves_stop(run, run.child.pid) else "the child is stopped")
        heard = run.heard(SIGCONT)  # one may have come before the child ran
        assert ("CONT", "the init runs") == (name(SIGCONT) if SIGCONT in heard else "no CONT", _init_state(run))


@case("SG-21")
@modes(Mode.PLAIN)
def test_term_for_a_stopped_init_is_delivered_when_it_continues(init: Init) -> None:
    """TERM sent to an init that is stopped waits, and ends it and its child once it is continued (signal(7)).

    Why: a debugger or a freezer stops the init as well; the stop that was asked for meanwhile must not be lost.
    By hand:
        $INIT sleep 60 </dev/null & sleep 1
        kill -STOP $!; kill -TERM $!; sleep 1; kill -CONT $!
        wait $!; echo $?    # 143
    """
    with init.start() as run:
        run.child.ready()
        run.child.ask("default")
        run.send(SIGSTOP)
        assert "T" == (run.state_of_pid(run.pid, "T") or "gone")
        run.send(SIGTERM)
        assert "stopped" == ("stopped" if run.stays(PATIENCE_S) else "ended while it was stopped")
        run.send(SIGCONT)
        assert exited(143) == run.ended()
        assert "the child is dead" == ("the child lives" if run.survivors() else "the child is dead")


def _answer_to_tstp(run: Run) -> tuple[str, str]:
    """Send TSTP, and the fence behind it; return what became of the child and of the init."""
    run.send(SIGTSTP)
    heard = run.child.signals_within(PATIENCE_S, most=1)
    run.send(run.init.fence)
    answer, woken = "", False
    for _ in ticks(Deadline(run.init.seconds)):
        heard += run.child.signals_within(0, most=64)
        if not answer and proc.state(run.child.pid) == "T":
            answer = "stopped"
        elif not answer and {SIGTSTP, run.init.fence} & {*heard}:
            answer = "forwarded" if SIGTSTP in heard else "ignored"
        if answer == "stopped" and not woken:
            run.signal(run.child, SIGCONT)  # it takes the fence only when it runs
            woken = True
        if answer and (run.init.fence in heard or proc.state(run.pid) == "T"):
            break
    return BY_CHILD.get(answer, "neither TSTP nor the fence came"), _init_state(run)


def _init_state(run: Run) -> str:
    return "the init ended" if proc.state(run.pid) in "ZX" else BY_INIT[proc.state(run.pid) == "T"]


def _leaves_stop(run: Run, pid: int) -> bool:
    """Return whether a stopped process runs again before the deadline."""
    return any(proc.state(pid) != "T" for _ in ticks(Deadline(run.init.seconds)))
