"""Process group, session and terminal."""

from __future__ import annotations

from signal import SIGCONT, SIGSTOP

from suites.framework.marks import case
from suites.framework.process import exited
from suites.framework.signals import name, names
from suites.framework.targets.init import Init, Run
from suites.framework.terminal import INTERRUPT, Terminal

ROUNDS = 3


@case("TT-01")
def test_child_leads_a_process_group_of_its_own(init: Init) -> None:
    """The child is the leader of its own process group (setpgid(2)).

    Why: otherwise a signal to the child's group hits the init, and the terminal's Ctrl-C hits both.
    By hand:
        $INIT sh -c 'ps -o pid=,pgid= -p $$'
        # the same number twice
        # (the init's in the second column is the failure)
    """
    with init.start() as run:
        state = run.child.ready()
        leader = {state.pid: "the child"}.get(state.pgid, "another process")
        assert "the child" == leader


@case("TT-03")
def test_ctrl_c_interrupts_the_child_exactly_once(init: Init, terminal: Terminal) -> None:
    """Ctrl-C at the terminal is exactly one INT at the child, in each of several rounds (termios(3), VINTR; signal(7)).

    Why: an init in the child's group forwards what the child already got from the terminal.
    By hand:
        $INIT bash -c 'trap "echo got it; let ++n" INT; until [ "$n" = 3 ]; do sleep 0.1; done'
        # press Ctrl-C three times
        # "got it" each time, then it ends
    """
    with init.start(terminal=terminal) as run:
        run.child.ready()
        run.foreground(terminal)
        state = run.child.state()
        held = state.foreground == state.pgid and run.child.pid != run.pid
        for _ in range(ROUNDS):
            first, more = _typed(run, terminal, held=held)
            assert ("INT", "none") == (name(first), names(more))


def _typed(run: Run, terminal: Terminal, *, held: bool) -> tuple[int, tuple[int, ...]]:
    """Type Ctrl-C; return the signal that the child received of it, and those that came after.

    `held`: the terminal signals the child itself, so the init is stopped until the child has taken that signal;
    one that the init adds would otherwise merge with it, more often than not.
    """
    if held:
        run.send(SIGSTOP)
        assert "T" == run.state_of_pid(run.pid, "T")
    terminal.press(INTERRUPT)
    first = run.child.next_signal()["number"]
    if not held:
        return first, run.heard()
    return first, tuple(number for number in run.heard(SIGCONT) if number != SIGCONT)


@case("TT-04")
def test_ctrl_c_ends_a_default_child_with_130(init: Init, terminal: Terminal) -> None:
    """Ctrl-C ends a child with the default disposition, and the init exits 130 (128 + 2).

    Why: `docker run -it` must end on Ctrl-C.
    By hand:
        $INIT sleep 60
        # press Ctrl-C
        echo $?    # 130
    """
    with init.start(terminal=terminal) as run:
        run.child.ready()
        run.foreground(terminal)
        run.child.ask("default")
        terminal.press(INTERRUPT)
        assert exited(130) == run.ended()
        assert "the child is dead" == ("the child lives" if run.survivors() else "the child is dead")


@case("TT-07")
def test_child_is_in_the_foreground_of_the_terminal(init: Init, terminal: Terminal) -> None:
    """The terminal's foreground process group is the child's (tcsetpgrp(3)).

    Why: a child in the background stops at its first read (SIGTTIN).
    By hand:
        $INIT sh -c 'ps -o pgid=,tpgid= -p $$'
        # the same number twice
        # (another one in the second column is the failure)
    """
    with init.start(terminal=terminal) as run:
        run.child.ready()
        assert "the child" == run.foreground(terminal)
