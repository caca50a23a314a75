"""Exit status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM

import pytest

from suites.catalog import Mode, Privilege
from suites.framework.marks import case, modes, offered, weight, within
from suites.framework.process import exited
from suites.framework.signals import name
from suites.framework.targets.init import Init
from suites.framework.targets.run import Run
from suites.framework.waiting import Deadline

FAST_RUNS = 200
FAST_RUNS_S = 20.0
"""An init that takes long to start is given fewer runs, rather than the time of the cases after it."""


@case("EX-01")
@pytest.mark.parametrize("code", [0, 1, 2, 7, 126, 127, 128, 254, 255])
def test_exit_code_of_the_child_is_the_inits(init: Init, code: int) -> None:
    """The init exits with its child's code, unchanged from 0 to 255 (wait(2)).

    Why: it is all that an engine learns about the program.
    By hand:
        $INIT sh -c 'exit 7'
        echo $?    # 7
        # and the same for 0 1 2 126 127 128 254 255
    """
    with init.start(init.once(code)) as run:
        run.child.next("once")
        assert exited(code) == run.ended()


@case("EX-02")
def test_127_of_the_child_is_not_taken_for_a_missing_command(init: Init) -> None:
    """A child that itself exits 127 makes the init exit 127, with no more words on stderr than about any other code.

    Why: a shell as the child reports a missing command of its script in this way.
    By hand:
        $INIT sh -c 'exit 127'
        echo $?    # 127, and nothing on stderr
        $INIT /nonexistent    # that one complains
    """
    as_usual = _lines_about(init, 7)  # an init that logs every end is free to
    assert "no complaint" == ("no complaint" if _lines_about(init, 127) <= as_usual else "a complaint on stderr")


def _lines_about(init: Init, code: int) -> int:
    """Return how many lines the init writes to stderr when its child exits with this code."""
    with init.start(init.once(code)) as run:
        run.child.next("once")
        assert exited(code) == run.ended()
        return len(run.output("stderr").splitlines())


@case("EX-03")
@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 15], ids=name)
def test_death_by_a_signal_is_128_plus_its_number(init: Init, number: int) -> None:
    """A child killed by signal n makes the init exit 128 + n (the shell's convention, sh(1)).

    Why: 137 tells an out-of-memory kill from a program's own failure.
    By hand:
        $INIT sh -c 'kill -9 $$'
        echo $?    # 137
        # and the same for 1 2 3 6 11 15
    """
    with init.start() as run:
        run.child.ready()
        run.child.tell(f"die {number}")
        assert exited(128 + number) == run.ended()


@case("EX-04")
def test_missing_command_is_127_with_a_message(init: Init) -> None:
    """A command that does not exist gives 127 and a line on stderr (sh(1), ENOENT).

    Why: the most common mistake in a container's command line deserves a word.
    By hand:
        $INIT /nonexistent
        echo $?    # 127, and a message
        $INIT true; echo $?    # 0
    """
    _runs_a_command_that_exists(init)
    with init.start(["/nonexistent/command"]) as run:
        assert exited(127) == run.ended()
        assert "a message" == _message(run)


@case("EX-05")
@pytest.mark.parametrize("what", ["a-file-without-x", "a-directory"])
def test_command_that_cannot_be_executed_is_126(init: Init, what: str, fixture_file: Callable[[str], Path]) -> None:
    """A command that exists and cannot be executed gives 126 and a line on stderr (sh(1), EACCES).

    Why: it tells a forgotten chmod from a forgotten file.
    By hand:
        $INIT /etc/passwd
        echo $?    # 126, and a message
        $INIT /etc; echo $?    # 126
    """
    _runs_a_command_that_exists(init)
    with init.start([str(fixture_file(what))]) as run:
        assert exited(126) == run.ended()
        assert "a message" == _message(run)


def _message(run: Run) -> str:
    """Return whether the init, which has ended, wrote anything to standard error."""
    return "a message" if run.output("stderr").strip() else "silence on stderr"


@case("EX-06")
def test_program_for_another_machine_is_recorded(init: Init, fixture_file: Callable[[str], Path]) -> None:
    r"""How an init ends whose command is executable and no program here (execve(2), ENOEXEC) is recorded.

    Why: it is what an image for another processor gives; a shell's habit of reading such a file as a script hides it.
    By hand:
        printf '\177ELF and nothing else' >/tmp/p; chmod +x /tmp/p
        $INIT /tmp/p; echo $?
        # 126 and a message, or what sh makes of the file
    """
    _runs_a_command_that_exists(init)
    with init.start([str(fixture_file("a-program-for-another-machine"))]) as run:
        status = run.ended()
        run.note("enoexec", f"{status}, {_message(run)}")


@case("EX-07")
@weight(60)
def test_fastest_possible_child_is_never_missed(init: Init) -> None:
    """A child that exits at once, 200 times: always 0, never a hang (the CHLD may come before the init waits for it).

    Why: an init that installs its handler after the fork loses this race once in a thousand starts.
    By hand:
        for i in $(seq 200); do $INIT true || echo "lost: $?"; done
        # returns, and prints nothing
        # (a hang is the failure)
    """
    deadline = Deadline(FAST_RUNS_S)
    for number in range(1, FAST_RUNS + 1):
        with init.start(init.once(0)) as run:
            run.child.next("once")
            assert exited(0) == run.ended()
            if number == FAST_RUNS or deadline.passed:
                run.note("runs", number)
                break


@case("EX-09")
def test_init_ends_with_its_child_though_orphans_live(init: Init) -> None:
    """The init ends when its child has ended, with the child's code, though an orphan still lives.

    Why: one forgotten daemon would keep the container for ever.
    By hand:
        $INIT sh -c 'setsid sleep 5 >/dev/null 2>&1 & exit 5'
        echo $?    # 5, at once
        # (waiting for the sleep is the failure)
    """
    with init.start() as run:
        run.child.ready()
        orphan, _ = run.child.fork("orphan", "session")
        orphan.reparented()
        run.child.tell("exit 5")
        assert exited(5) == run.ended()


@case("EX-10")
@offered("remap")
def test_code_of_the_child_is_remapped_to_0(init: Init) -> None:
    """A child that ends with a code that was declared a success makes the init exit 0; any other code stays as it is.

    Why: programs that know no other end than death by TERM (a JVM: 143) make every planned stop look like a failure.
    By hand:
        $INIT sleep 60 </dev/null & sleep 1    # INIT: 143 is a success
        kill $!; wait $!; echo $?    # 0
        $INIT sh -c 'exit 7'; echo $?    # 7
    """
    with init.start(options=init.remap(143)) as run:
        run.child.ready()
        run.child.ask("default")
        run.send(SIGTERM)
        assert exited(0) == run.ended()
    for code, mapped in {143: 0, 7: 7, 142: 142}.items():
        with init.start(init.once(code), options=init.remap(143)) as run:
            run.child.next("once")
            assert exited(mapped) == run.ended()


@case("EX-11")
def test_stopped_child_is_not_a_dead_child(init: Init) -> None:
    """A child that is stopped and continued has not ended (waitpid(2), WUNTRACED; `docker pause`, a debugger).

    Why: an init that asks for stopped children too takes the first for the last.
    By hand:
        $INIT sleep 60 </dev/null & sleep 1; child=$(pgrep -P $!)
        kill -STOP $child; sleep 0.1; kill -CONT $child; sleep 0.1
        kill $! && echo still there
    """
    with init.start() as run:
        run.child.ready()
        run.signal(run.child, SIGSTOP)
        assert "T" == (run.state_of(run.child, "T") or "gone")
        assert "running" == ("running" if run.stays(0.1) else "ended with the stop")
        run.signal(run.child, SIGCONT)
        run.child.state()
        run.child.tell("exit 7")
        assert exited(7) == run.ended()


@case("EX-12")
@pytest.mark.parametrize("words", [("--no-such-option",), ()], ids=["unknown-option", "no-command"])
def test_usage_error_of_the_init_has_its_own_code(init: Init, words: tuple[str, ...]) -> None:
    """A wrong call of the init itself exits with its code for that (1, or as its profile says) and a line on stderr.

    Why: a typing error in an entrypoint must not look like a program that ran and ended.
    By hand:
        $INIT --no-such-option; echo $?
        $INIT; echo $?
        # 1 and a message, twice
    """
    _runs_a_command_that_exists(init)
    with init.called(*words) as run:
        assert exited(init.call.usage) == run.ended()
        assert ("a message", b"") == (_message(run), run.output("stdout"))


@case("EX-12")
@pytest.mark.parametrize(
    "option", [pytest.param("help", marks=offered("help")), pytest.param("version", marks=offered("version"))]
)
def test_help_and_version_go_to_standard_output(init: Init, option: str) -> None:
    """`--help` and `--version`, called as the profile says, write to standard output and exit 0 (GNU standards, 4.8).

    Why: `docker info` reads the version of its init from there, and `INIT --help | less` shows nothing otherwise.
    By hand:
        $INIT --version 2>/dev/null; echo $?
        # its version, and 0
    """
    _runs_a_command_that_exists(init)
    with init.called(*(init.call.help if option == "help" else init.target.profile.version)) as run:
        assert exited(0) == run.ended()
        streams = [stream for stream in ("stdout", "stderr") if run.output(stream).strip()]
        assert "stdout" == (" and ".join(streams) or "silence")


@case("EX-13")
def test_options_of_the_command_are_its_own(init: Init) -> None:
    """Without `--` an option behind the command is the command's, or refused where the profile says so (getopt(3)).

    Why: `INIT sh -c ...` is what people write; an init that takes the -c for its own must not run something else.
    By hand:
        $INIT sh -c 'exit 3'; echo $?
        # 3, or the init's own usage error and a message
    """
    _runs_a_command_that_exists(init)
    with init.called(*init.recorder_words("-c", "exit 3")) as run:
        if init.call.permutes:
            assert (exited(init.call.usage), "a message") == (run.ended(), _message(run))
        else:
            run.child.ready()
            run.child.tell("exit 3")
            assert exited(3) == run.ended()


@case("EX-14")
@modes(Mode.PLAIN)
@within(privilege=Privilege.ROOTLESS)
def test_init_that_cannot_fork_says_so_and_fails(init: Init) -> None:
    """An init that may not fork (RLIMIT_NPROC, fork(2) EAGAIN) ends promptly, not with 0, and with a line on stderr.

    Why: at a full pids limit a container that hangs or looks finished is worse than one that failed to start.
    By hand:
        (ulimit -u 1; exec $INIT true); echo $?    # as an ordinary user: RLIMIT_NPROC does not hold for root
        # not 0, and a message
    """
    _runs_a_command_that_exists(init)
    with init.start(init.once(0), limits={"nproc": 1}) as run:
        status = run.ended()
        run.note("fork_refused", str(status))
        assert ("a failure", "a message") == ("success" if status == exited(0) else "a failure", _message(run))


def _runs_a_command_that_exists(init: Init) -> None:
    """Show that the same init in the same way does run a command: the positive control of a refusal."""
    with init.start(init.once(0)) as run:
        run.child.next("once")
        assert exited(0) == run.ended()
