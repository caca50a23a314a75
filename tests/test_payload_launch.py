"""Subcommand ``launch`` of both payloads: what the target inherits, and what the report says."""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.payloads import AS_NOBODY, AS_ROOT, SECONDS, Payload, Run, agent, pair, status

pytest_plugins = ("tests.payloads",)


class Report:
    """The harness's end of a report, read up to its end."""

    def __init__(self) -> None:
        """Open a pipe."""
        self.reading, self.writing = os.pipe()

    def lines(self) -> list[str]:
        """Close our copy of the other end and return what was reported."""
        os.close(self.writing)
        with os.fdopen(self.reading) as stream:
            return stream.read().splitlines()


def refused(payload: Payload, *words: str, before: tuple[str, ...] = ()) -> tuple[list[str], int]:
    """Return the report of a launch and how it ended."""
    report = Report()
    command = [*before, *payload, "launch", "--report", str(report.writing), *words]
    process = subprocess.Popen(command, pass_fds=(report.writing,), stdin=subprocess.DEVNULL)
    lines = report.lines()
    return [line for line in lines if line != f"pid {process.pid}"], process.wait(SECONDS)


@contextlib.contextmanager
def as_init(payload: Payload, *options: str, before: tuple[str, ...] = ()) -> Iterator[tuple[Run, int]]:
    """Run an agent as PID 1 of a namespace; give its pid here, of a process that is now our child."""
    report = Report()
    command = (*before, *payload, "launch", "--report", str(report.writing), "--pid1", *options, "--")
    ours, theirs = pair()
    with ours:
        with theirs:
            words = [*command, *payload, "agent", str(theirs.fileno()), "n1"]
            process = subprocess.Popen(words, pass_fds=(theirs.fileno(), report.writing))
        lines = report.lines()
        if lines and lines[-1].startswith("error unshare"):
            process.wait(SECONDS)
            pytest.skip(f"namespaces are refused here: {lines[-1]}")
        assert len(lines) == 1
        assert process.wait(SECONDS) == 0
        yield Run(ours, process), int(lines[0].removeprefix("pid "))


def test_launch_execs_the_target_in_place(payload: Payload) -> None:
    """The pid reported is the launcher's own; the report's end means that the target runs, without that descriptor."""
    report = Report()
    options = ("launch", "--report", str(report.writing), "--session", "--no-new-privileges", "--")
    with agent(payload, *payload, *options, pass_fds=(report.writing,)) as run:
        assert report.lines() == [f"pid {run.process.pid}"]
        assert run.ready["pid"] == run.ready["sid"] == run.process.pid
        assert len(run.ready["fds"]) == 4
        with Path(f"/proc/{run.process.pid}/status").open() as text:
            assert "NoNewPrivs:\t1\n" in text.read()


def test_launch_sets_every_disposition(payload: Payload) -> None:
    """What the launcher itself inherited as ignored or blocked does not reach the target."""
    every = ",".join(str(number) for number in range(1, 65) if number not in (9, 19, 32, 33))
    known = sorted({*map(int, every.split(","))} - {13, 25})
    for ignored, blocked, expected in ((every, "", (known, [])), ("", every, ([], sorted({*known, 13, 25})))):
        first = (*payload, "launch", "--ignore", ignored, "--block", blocked, "--")
        with agent(payload, *first) as run:
            assert ([number for number in run.ready["ignored"] if number in known], run.ready["blocked"]) == expected
        with agent(payload, *first, *payload, "launch", "--ignore", "2,64", "--block", "1", "--") as run:
            assert (run.ready["ignored"], run.ready["blocked"]) == ([2, 64], [1])


def test_launch_passes_the_environment_as_received(payload: Payload) -> None:
    """A name twice, in this order, is what the target gets: no locale and no other variable is added."""
    report = Report()
    words = [*payload, "launch", "--report", str(report.writing), "--", "/usr/bin/env", "-0"]
    environment = {"LC_ALL": "C", "B": "1", "A": ""}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, pass_fds=(report.writing,))
    output, _ = process.communicate(timeout=SECONDS)
    assert output == b"LC_ALL=C\0B=1\0A=\0"
    assert len(report.lines()) == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--", "/nonexistent"), f"error exec: {os.strerror(errno.ENOENT)}"),
        (("--", "no-such-command"), f"error exec: {os.strerror(errno.ENOENT)}"),
        (("--", "/etc/passwd"), f"error exec: {os.strerror(errno.EACCES)}"),
        (("--directory", "/nonexistent", "--", "true"), f"error directory: {os.strerror(errno.ENOENT)}"),
        (("--limit", "nofile=9:8", "--", "true"), f"error limit: {os.strerror(errno.EINVAL)}"),
        (("--limit", "files=9", "--", "true"), f"error usage: {os.strerror(errno.EINVAL)}"),
        (("--terminal", "0", "--", "true"), f"error terminal: {os.strerror(errno.ENOTTY)}"),
    ],
)
def test_a_failed_step_is_reported(payload: Payload, words: tuple[str, ...], line: str) -> None:
    """The report names the step and the error, and the exit status is 125."""
    assert refused(payload, *words) == ([line], 125)


@pytest.mark.parametrize(
    "words", [(), ("--pid1",), ("--",), ("--user", "--", "true"), ("--what", "--", "true"), ("true",)]
)
def test_wrong_words_are_refused(payload: Payload, words: tuple[str, ...]) -> None:
    """Usage errors go to standard error, with the status of a failed step."""
    done = subprocess.run([*payload, "launch", *words], capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (125, "")
    assert "usage" in done.stderr


def test_target_is_looked_up_in_path_without_a_slash_alone(payload: Payload) -> None:
    """``true`` is found in PATH; its exit status is the process's."""
    assert refused(payload, "--", "true") == ([], 0)
    assert refused(payload, "--", "sh", "-c", "exit 7") == ([], 7)


def test_limits_and_closed_descriptors(payload: Payload) -> None:
    """Limits hold for the target (soft and hard), and the listed descriptors are closed."""
    options = ("--limit", "nofile=64:128", "--limit", "fsize=4096", "--close", "0,2", "--")
    with agent(payload, *payload, "launch", *options, stdin=subprocess.DEVNULL) as run:
        assert next(iter(run.ready["fds"])) == "1"
        assert len(run.ready["fds"]) == 2
        with Path(f"/proc/{run.process.pid}/limits").open() as text:
            rows = {line[:26].strip(): line[26:].split()[:2] for line in text}
        assert rows["Max open files"] == ["64", "128"]
        assert rows["Max file size"] == ["4096", "4096"]


def test_terminal_becomes_the_controlling_one(payload: Payload) -> None:
    """After --session and --terminal the target is in the foreground of that terminal."""
    master, slave = pty.openpty()
    options = ("launch", "--session", "--terminal", str(slave), "--close", str(slave), "--")
    with agent(payload, *payload, *options, pass_fds=(slave,)) as run:
        assert run.ready["tpgid"] == run.process.pid
        assert str(slave) not in run.ready["fds"]
        os.write(master, b"\x03")
        assert run.next()["number"] == signal.SIGINT
        run.close()
        run.wait()
    os.close(master)
    os.close(slave)


def check_init(run: Run, pid: int, uid: int) -> None:
    """Check that an agent that is PID 1 sees a fresh /proc, survives its own signal and leaves its status here."""
    ready: dict[str, Any] = run.ready
    assert (ready["pid"], ready["ppid"], ready["uid"]) == (1, 0, uid)
    assert ready["argv"]
    assert ready["env"]
    assert ready["pidns"] != str(Path("/proc/self/ns/pid").readlink())
    assert len(ready["fds"]) == 4
    assert [name for name in os.listdir(f"/proc/{pid}/root/proc") if name.isdigit()] == ["1"]
    assert run.ask("die 15") == 0
    line, orphan, _ = run.fork("orphan session")
    assert orphan["ppid"] not in (0, 1)
    assert line.next()["ppid"] == 1
    os.kill(pid, signal.SIGUSR1)
    assert (run.next()["number"], run.ask("orphans 3")) == (signal.SIGUSR1, 3)
    run.tell("exit 6")
    assert status(pid) == 6
    assert line.next() == {}
    line.close()


@AS_ROOT
def test_pid1_as_root(payload: Payload) -> None:
    """The target is PID 1 of a new namespace and a child of whoever adopts the launcher's orphans."""
    with as_init(payload, "--session", "--ignore", "1", "--block", "2") as (run, pid):
        assert (run.ready["ignored"], run.ready["blocked"], run.ready["sid"]) == ([1], [2], 1)
        check_init(run, pid, 0)


def test_pid1_of_an_ordinary_user(payload: Payload) -> None:
    """In a user namespace the single mapped id is root."""
    before = AS_NOBODY if os.geteuid() == 0 else ()
    with as_init(payload, "--user", before=before) as (run, pid):
        assert Path(f"/proc/{pid}").stat().st_uid in (0, 65534)
        check_init(run, pid, 0)


@AS_ROOT
def test_pid1_is_refused_without_the_capability(payload: Payload) -> None:
    """The report names the step that an ordinary user cannot do."""
    lines, code = refused(payload, "--pid1", "--", "true", before=AS_NOBODY)
    assert (lines, code) == ([f"error unshare: {os.strerror(errno.EPERM)}"], 125)
