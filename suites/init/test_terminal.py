"""Process group, session and terminal."""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGCONT, SIGSTOP

import pytest

from suites.catalog import Mode
from suites.framework.bench import Bench
from suites.framework.facts import Fact
from suites.framework.launch import launch
from suites.framework.marks import case, modes, requires, weight
from suites.framework.process import exited
from suites.framework.signals import name, names
from suites.framework.targets.contained import ContainedInit
from suites.framework.targets.init import Init
from suites.framework.targets.run import Run
from suites.framework.terminal import INTERRUPT, QUIT, SUSPEND, Terminal
from suites.framework.waiting import Waiter

ROUNDS = 3
SHELL = ("bash", "--norc", "--noprofile", "--noediting", "-i")
PROMPT = "seatrial> "
QUIET = {b"PS1": PROMPT.encode(), b"HISTFILE": b"", b"TERM": b"dumb"}
"""Variables with which an interactive bash writes nothing but its prompt, and no history into its home."""


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


@case("TT-02")
def test_session_of_the_child_is_told(init: Init) -> None:
    """Whose session the child is in (setsid(2)): its own, or the one that the init's caller gave. Recorded.

    Why: a session of its own has lost the caller's terminal, unless the init takes it along.
    By hand:
        $INIT sh -c 'ps -o pid=,sid= -p $$'
        # the same number twice: a session of its own
    """
    with init.start() as run:
        state = run.child.ready()
        run.note("session", {state.pid: "the child's own"}.get(state.sid, "the caller's"))


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
            first, more = _heard_of(lambda: terminal.press(INTERRUPT), run, held=held)
            assert ("INT", "none") == (name(first), names(more))


def _heard_of(act: Callable[[], None], run: Run, *, held: bool) -> tuple[int, tuple[int, ...]]:
    """Do something at the terminal; return the signal that the child received of it, and those that came after.

    `held`: the terminal signals the child itself, so the init is stopped until the child has taken that signal;
    one that the init adds would otherwise merge with it, more often than not.
    """
    if held:
        run.send(SIGSTOP)
        assert "T" == run.state_of_pid(run.pid, "T")
    act()
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


@case("TT-05")
@requires(Fact.BASH)
def test_interactive_shell_has_job_control(init: Init, terminal: Terminal) -> None:
    """An interactive bash below the init has job control: its flags hold m, and it does not complain (bash(1)).

    Why: "no job control in this shell" is how people notice that their init keeps the terminal to itself.
    By hand:
        $INIT bash -i
        echo $-    # an m is among them
        # (bash: no job control in this shell: the failure)
    """
    with init.start(SHELL, terminal=terminal, environment=QUIET) as run:
        said = run.printed(PROMPT)
        terminal.press(f"{_line(init.once(0))}; echo flags=[$-]=\n".encode())
        run.child.next("once")
        said += run.printed("]=")
        flags = said.rpartition("flags=[")[2]
        complaint = "a complaint" if "no job control" in said else "no complaint"
        assert ("job control", "no complaint") == ("job control" if "m" in flags else "none", complaint)
        terminal.press(b"exit 7\n")
        assert exited(7) == run.ended()


def _line(words: list[str]) -> str:
    return " ".join(words)


@case("TT-06")
@requires(Fact.BASH)
def test_ctrl_z_stops_a_foreground_job_of_the_shell(init: Init, terminal: Terminal) -> None:
    """Ctrl-Z stops the foreground job of a shell below the init, the shell says so, and fg continues it (bash(1)).

    Why: an init that holds the foreground, or stops itself with the job, leaves the user without a prompt.
    By hand:
        $INIT bash -i
        sleep 60    # press Ctrl-Z: Stopped, and a prompt
        fg          # sleep 60 runs again
    """
    with init.start(SHELL, terminal=terminal, environment=QUIET) as run:
        run.printed(PROMPT)
        terminal.press(f"{_line(init.recorder_words())}\n".encode())
        run.child.ready()
        run.child.ask("default")
        terminal.press(SUSPEND)
        assert "T" == run.state_of(run.child, "T")
        run.printed("Stopped")
        run.printed(PROMPT)
        terminal.press(b"fg\n")
        run.child.state()
        run.child.tell("exit 0")
        run.printed(PROMPT)
        terminal.press(b"exit 7\n")
        assert exited(7) == run.ended()


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


@case("TT-08")
def test_start_sends_no_signal(init: Init, terminal: Terminal) -> None:
    """At a terminal the child starts without a signal: no HUP, no CONT of a session that was given up (setsid(2)).

    Why: an init that changes session or terminal after the fork hangs up on its own child.
    By hand:
        $INIT sh -c 'trap "echo HUP" HUP; trap "echo CONT" CONT; sleep 1'
        # nothing (HUP or CONT is the failure)
    """
    with init.start(terminal=terminal) as run:
        run.child.ready()
        assert "none" == names(run.heard())


@case("TT-09")
@pytest.mark.parametrize("whose", ["nobody's", "another session's"])
def test_foreign_terminal_as_stdin_does_no_harm(init: Init, terminal: Terminal, bench: Bench, whose: str) -> None:
    """With a terminal as stdin that is not its controlling one, the init starts and works (tcsetpgrp(3), ENOTTY).

    Why: `docker run -t` without a session, `su`, an editor's terminal: not every terminal can be taken.
    By hand:
        setsid $INIT sh -c 'exit 7' </dev/tty; echo $?
        # 7
        # (a complaint and another code is the failure)
    """
    if whose == "another session's":
        _occupy(terminal, bench)
    with init.start(fds=dict.fromkeys((0, 1, 2), terminal.slave)) as run:
        run.child.ready()
        run.child.tell("exit 7")
        assert exited(7) == run.ended()


def _occupy(terminal: Terminal, bench: Bench) -> None:
    """Make this the controlling terminal of a session that only reads it."""
    holder = launch(
        ["cat"],
        payload=bench.payload,
        options=["--session", "--terminal", "0"],
        environment=bench.environment,
        fds=dict.fromkeys((0, 1, 2), terminal.slave),
        waiter=Waiter(),
    )
    bench.own(holder.kill)


@case("TT-09")
@modes(Mode.PLAIN)
@requires(Fact.BASH)
def test_init_in_the_background_starts(init: Init, terminal: Terminal) -> None:
    """An init in the background of its terminal starts, rather than being stopped by TTOU (tcsetpgrp(3)).

    Why: `$INIT server &` in a shell hangs for ever when the init asks for the terminal.
    By hand:
        bash -ic '$INIT sh -c "exit 7" & wait $!; echo $?'
        # 7
        # (hangs: the failure)
    """
    in_background = ("bash", "--norc", "-c", 'set -m; "$@" & wait $!', "bash")
    with init.start(terminal=terminal, through=in_background) as run:
        run.child.ready()
        run.child.tell("exit 7")
        assert exited(7) == run.ended()


@case("TT-10")
def test_hang_up_of_the_terminal_ends_all(init: Init, terminal: Terminal) -> None:
    """When the terminal hangs up, child and init end: the child of HUP, the init with 129 (tty_ioctl(4), 128 + 1).

    Why: a closed window or a lost ssh must not leave a container behind.
    By hand:
        script -qc "$INIT sleep 77" /dev/null    # in a window; close it
        pgrep -f 'sleep 77'
        # nothing
    """
    with init.start(terminal=terminal) as run:
        run.child.ready()
        run.foreground(terminal)
        run.child.ask("default")
        run.hang_up(terminal)
        assert exited(129) == run.ended()
        assert "nobody left" == ("a survivor" if run.survivors() else "nobody left")


@case("TT-11")
def test_new_window_size_is_told_exactly_once(init: Init, terminal: Terminal) -> None:
    """A new size of the terminal's window is exactly one WINCH at the child, each time (ioctl_tty(2), TIOCSWINSZ).

    Why: without it editors draw for the old size; a doubled one makes them draw twice.
    By hand:
        $INIT bash -c 'trap "echo resized" WINCH; while :; do sleep 0.1; done'
        # resize the window
        # "resized" once for each change
    """
    with init.start(terminal=terminal) as run:
        run.child.ready()
        run.foreground(terminal)
        state = run.child.state()
        held = state.foreground == state.pgid and run.child.pid != run.pid
        for rows in range(20, 20 + ROUNDS):
            first, more = _heard_of(lambda rows=rows: terminal.resize(rows, 80), run, held=held)  # type: ignore[misc]
            assert ("WINCH", "none") == (name(first), names(more))


@case("TT-12")
def test_ctrl_backslash_ends_a_default_child_with_131(init: Init, terminal: Terminal) -> None:
    r"""Ctrl-\ ends a child with the default disposition, and the init exits 131 (128 + 3; termios(3), VQUIT).

    Why: it is the way out when Ctrl-C is caught.
    By hand:
        $INIT sleep 60
        # press Ctrl-\
        echo $?    # 131
    """
    with init.start(terminal=terminal) as run:
        run.child.ready()
        run.foreground(terminal)
        run.child.ask("default")
        terminal.press(QUIT)
        assert exited(131) == run.ended()
        assert "the child is dead" == ("the child lives" if run.survivors() else "the child is dead")


@case("TT-13")
@weight(25)
@modes(Mode.DOCKER)
def test_ctrl_c_ends_docker_run(contained: ContainedInit, terminal: Terminal) -> None:
    """Ctrl-C at the terminal of `docker run -it` ends a child with the default disposition, with 130 (128 + 2).

    Why: without an init PID 1 ignores INT, and the user has to find another window.
    By hand:
        docker run -it --rm IMAGE $INIT sleep 60
        # press Ctrl-C
        echo $?    # 130
    """
    with contained.run(terminal=terminal) as container:
        container.child.ready()
        container.child.ask("default")
        terminal.press(INTERRUPT)
        assert "exit 130" == container.ended()
