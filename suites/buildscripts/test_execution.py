"""Running one script: status, strictness, what cannot be run, arguments, input."""

from __future__ import annotations

import fcntl
import os
import re
import sys
import termios
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from suites.framework.buildscripts.build import Ended
from suites.framework.buildscripts.inventory import Inventory
from suites.framework.buildscripts.workload import Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.marks import case, offered
from suites.framework.process import exited
from suites.framework.signals import name
from suites.framework.terminal import Terminal

LINE = b"meant for somebody else\n"


@case("W1")
@pytest.mark.parametrize("code", [0, 1, 7, 77, 126, 127, 255])
def test_exit_code_of_a_script_is_the_wrappers(wrapper: Wrapper, code: int) -> None:
    """The wrapper exits with its script's code, and only 0 makes the step done (wait(2); make(1), "EXIT STATUS").

    Why: 77 is a skipped test suite and 127 a missing tool; a driver that only hears "1" cannot tell.
    By hand:
        echo '#!/bin/bash
        exit 77' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; echo $?    # 77
        # and the same for 0 1 7 126 127 255
    """
    wrapper.write(Step(name="a", body=f"mark ran\nexit {code}"))
    ended = wrapper.build()
    assert ["a"] == wrapper.ran()
    assert exited(code) == ended.status
    assert wrapper.told("exit" if code else "done") == wrapper.standing("a")


@case("W1")
@pytest.mark.parametrize("number", [6, 9, 11, 15], ids=name)
def test_death_of_a_script_by_a_signal_is_told(wrapper: Wrapper, number: int) -> None:
    """A script killed by signal n gives 128 + n, or as the profile says, and a state of its own (sh(1), "EXIT STATUS").

    Why: a compiler killed for want of memory is another matter than one that found an error.
    By hand:
        echo '#!/bin/bash
        kill -SEGV $$' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; echo $?    # 139
        $WRAPPER state $ROOT    # a signal
    """
    wrapper.write(Step(name="a", body=f"mark ran\nkill -{number} $$"))
    ended = wrapper.build()
    assert ["a"] == wrapper.ran()
    assert wrapper.ended_by(number) == ended.status
    assert wrapper.told("signal") == wrapper.standing("a")


@case("W2")
def test_script_ends_with_the_first_command_that_fails(wrapper: Wrapper) -> None:
    """A command that fails ends its script, the step and the build (errexit: set in POSIX, "set -e").

    Why: `make` fails, `make install` installs what was there before, and the build is green.
    By hand:
        echo '#!/bin/bash
        false
        touch $LFS/out/after' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; echo $?; ls $ROOT/out    # not 0, and nothing
    """
    _ends_a_script(wrapper, "false", instead="true")


@case("W3")
def test_failure_in_front_of_a_pipe_ends_the_script(wrapper: Wrapper) -> None:
    """A command that fails in front of a pipe ends its script like any other (pipefail: bash(1), "Pipelines").

    Why: `make 2>&1 | tee log` is in every second build script, and tee never fails.
    By hand:
        echo '#!/bin/bash
        false | cat
        touch $LFS/out/after' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; echo $?; ls $ROOT/out    # not 0, and nothing
    """
    _ends_a_script(wrapper, "false | cat", instead="true | cat")


@case("W4")
@pytest.mark.parametrize(
    ("line", "instead"),
    [
        pytest.param('echo "$NEVER_SET"', 'echo "$LFS_NEVER"', id="unset-variable"),
        pytest.param("found=$(false)", "found=$(true)", id="command-substitution"),
    ],
)
def test_unset_variable_and_failed_substitution_end_the_script(wrapper: Wrapper, line: str, instead: str) -> None:
    """An unset variable, and a failed command in an assignment, end the script (nounset, errexit: set in POSIX).

    Why: `rm -rf "$DESTDIR/usr"` without DESTDIR.
    By hand:
        echo '#!/bin/bash
        echo "$NEVER_SET"
        touch $LFS/out/after' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; echo $?; ls $ROOT/out    # not 0, and nothing
        # and the same for x=$(false)
    """
    _ends_a_script(wrapper, line, instead=f"LFS_NEVER=set\n{instead}")


def _ends_a_script(wrapper: Wrapper, line: str, *, instead: str) -> None:
    """Show that nothing comes after a line, and that something does after another one in its place."""
    after = wrapper.artefacts / "after"
    wrapper.write(Step(name="a", body=f"mark before\n{line}\ntouch {{artefacts}}/after\nmark after"))
    ended = wrapper.build()
    assert ["before"] == wrapper.labels("a")
    assert "a failure" == ("success" if ended.status == exited(0) else "a failure")
    assert ("absent", wrapper.told("exit")) == (_is_there(after), wrapper.standing("a"))
    wrapper.write(Step(name="a", body=f"mark before\n{instead}\ntouch {{artefacts}}/after\nmark after"))
    assert exited(0) == wrapper.build().status
    assert ["before", "before", "after"] == wrapper.labels("a")
    assert ("there", wrapper.told("done")) == (_is_there(after), wrapper.standing("a"))


def _is_there(path: Path) -> str:
    return "there" if os.path.exists(path) else "absent"  # noqa: PTH110 -- a wrapper may have shut its root


@case("W5")
def test_function_in_a_condition_runs_on_after_a_failure(wrapper: Wrapper) -> None:
    """In a condition errexit does not hold, in functions neither: known, and not "mended" (bash(1), "set", -e).

    Why: a wrapper that thinks itself cleverer than the shell breaks scripts that were written for the shell.
    By hand:
        echo '#!/bin/bash
        f() { false; echo inside; }
        if f; then echo taken; fi' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; echo $?    # inside, taken (in its log), 0
    """
    function = "f() { mark called; false; mark inside; }"
    wrapper.write(Step(name="a", body=f"{function}\nif f; then mark taken; fi\nmark after"))
    assert exited(0) == wrapper.build().status
    assert ["called", "inside", "taken", "after"] == wrapper.labels("a")
    assert wrapper.told("done") == wrapper.standing("a")
    wrapper.write(Step(name="b", body=f"{function}\nf\nmark after"))  # without a condition it does hold
    assert "a failure" == ("success" if wrapper.build().status == exited(0) else "a failure")
    assert ["called"] == wrapper.labels("b")


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _starting(line: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        _, _, rest = path.read_bytes().partition(b"\n")  # where it is run all the same, it says so
        path.write_bytes(line + b"\n" + rest)

    return change


UNFIT: dict[str, Callable[[Path], None]] = {
    "missing": _dangling,
    "a-directory": _folder,
    "not-executable": lambda path: path.chmod(0o644),
    "no-shebang": _starting(b"# a script"),
    "crlf-shebang": _starting(b"#!/bin/bash\r"),
    "unknown-interpreter": _starting(b"#!/no/such/interpreter"),
}
"""What makes a script one that cannot be run."""


@case("W6")
@pytest.mark.parametrize("what", UNFIT)
def test_script_that_cannot_be_run_is_refused_before_anything_is(wrapper: Wrapper, what: str) -> None:
    """A script that is no program is a wrong call: its path is named, and nothing runs or is written (sysexits.h, 64).

    Why: the twentieth script lacks its x bit, and that is found out after two hours.
    By hand:
        chmod -x $ROOT/scripts/b.sh
        $WRAPPER run $ROOT; echo $?    # names scripts/b.sh; 64; ls -a $ROOT as before
        # and the same for a dangling link, a folder, no #!, a CR behind it, an interpreter that is not there
    """
    others = () if wrapper.stepwise else (Step(name="a"),)
    steps = (*others, Step(name="b", needs=tuple(step.name for step in others)))
    wrapper.write(*steps)
    path = wrapper.place.script("b")
    UNFIT[what](path)
    before = Inventory.take(wrapper.root)
    ended = wrapper.build()
    changed = before.changes(Inventory.take(wrapper.root))
    named = "its path named" if str(path).encode() in ended.stderr else "its path not named on stderr"
    assert (exited(wrapper.call.usage), "its path named", []) == (ended.status, named, wrapper.ran())
    assert [] == changed
    path.rmdir() if path.is_dir() else path.unlink()
    wrapper.write(*steps)
    assert exited(0) == wrapper.build().status
    assert [step.name for step in steps] == wrapper.ran()


@case("W6")
def test_each_reason_why_a_script_cannot_be_run_has_its_own_words(wrapper: Wrapper) -> None:
    """No two of the reasons why a script cannot be run are told in the same words (GNU standards, 4.4).

    Why: of an interpreter that is missing bash says "No such file" about a script that is there.
    By hand:
        # as above, without times and other figures:
        for what in ...; do $WRAPPER run $ROOT 2>&1 | tr -d 0-9; done | sort | uniq -d    # prints nothing
    """
    said: dict[str, list[str]] = {}
    for what, change in UNFIT.items():
        wrapper.write(Step(name="b"))
        path = wrapper.place.script("b")
        change(path)
        said.setdefault(_words(wrapper.build()), []).append(what)
        path.rmdir() if path.is_dir() else path.unlink()
    assert [[what] for what in UNFIT] == list(said.values())
    wrapper.write(Step(name="b"))
    assert exited(0) == wrapper.build().status
    assert ["b"] == wrapper.ran()


def _words(ended: Ended) -> str:
    """Return what was said, without figures, which differ from call to call, as the time does."""
    return re.sub(r"\d+", "", ended.said)


@case("W7")
@offered("arguments")
def test_script_sees_its_arguments_verbatim(wrapper: Wrapper) -> None:
    r"""Arguments reach the script as they were given: blanks, `*`, a newline, nothing, `ü`, a leading `-` (execve(2)).

    Why: one unquoted `$*` in the wrapper, and `CFLAGS="-O2 -g"` is two arguments.
    By hand:
        printf '#!/bin/bash\nprintf "<%%s>" "$@"\n' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT -- 'a b' '*' $'c\nd' '' ü -e    # in its log: <a b><*><c
        # d><><ü><-e>
    """
    given = ("a b", "  two  ", "*", "c\nd", "", "ü", "-e", "--", "--help", "$HOME", "`id`", "\\n", "'", '"')
    wrapper.write(Step(name="a", body='mark ran "$@"'))
    assert exited(0) == wrapper.build(arguments=given).status
    assert [given] == [tuple(map(os.fsdecode, gate.words)) for gate in wrapper.gatehouse.seen]


@case("W8")
def test_script_reads_the_end_of_its_input(wrapper: Wrapper) -> None:
    r"""A script that reads its standard input sees the end of it, whatever the wrapper's own holds (null(4)).

    Why: a configure that asks a question hangs the build, or swallows the list of steps that is being read.
    By hand:
        printf '#!/bin/bash\ncat\n' >$ROOT/scripts/a.sh
        (echo meant for somebody else; sleep 60) | $WRAPPER run $ROOT
        # ends at once, and its log does not have that line
    """
    reading, writing = os.pipe()
    try:
        os.write(writing, LINE)  # and no end follows
        _reads_nothing(wrapper, reading)
    finally:
        os.close(reading)
        os.close(writing)


@case("W8")
def test_wrapper_asks_nobody_at_a_terminal(wrapper: Wrapper, terminal: Terminal) -> None:
    """At a terminal, too, the script's input is at its end, and the wrapper waits for no answer (isatty(3)).

    Why: a wrapper that asks "continue? [y/n]" when it sees a terminal behaves in the night as nobody tried it by day.
    By hand:
        script -qc "$WRAPPER run $ROOT" /dev/null    # press nothing: it ends
    """
    os.write(terminal.master, LINE)
    _reads_nothing(wrapper, terminal.slave, fds={1: terminal.slave, 2: terminal.slave})


def _reads_nothing(wrapper: Wrapper, stdin: int, fds: Mapping[int, int] | None = None) -> None:
    """Show that neither the script nor the wrapper takes the line that waits at a descriptor."""
    wrapper.write(Step(name="a", body='IFS= read -r line || line="the end"\nmark read "$line"\nexit 7'))
    with wrapper.begin(stdin=stdin, fds=fds) as build:
        gate = build.gate("a", "read")
        assert (b"the end",) == gate.words
        gate.open()
        assert exited(7) == build.end().status
    assert len(LINE) == _waiting(stdin)


def _waiting(fd: int) -> int:
    """Return how many bytes can be read at a descriptor (FIONREAD: ioctl_tty(2), pipe(7))."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
