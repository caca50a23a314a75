"""Launching: the program itself is held, and one that was not executed says at which step and why."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence

import pytest

from suites.framework import launch as launch_module
from suites.framework.launch import NotLaunched, launch
from suites.framework.process import Child, exited, killed
from suites.framework.waiting import Deadline, Waiter
from tests.contexts import TWIN
from tests.walled import forbid_user_namespaces, walled

SECONDS = 10.0
PAYLOAD = (sys.executable, *TWIN[1:])


@pytest.fixture
def same_descriptors() -> Iterator[None]:
    """Find as many open descriptors afterwards as before."""
    before = os.listdir("/proc/self/fd")
    yield
    assert before == os.listdir("/proc/self/fd")


def start(*words: str, payload: Sequence[str] = PAYLOAD, options: Sequence[str] = ()) -> Child:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    environment = {"PATH": "/usr/bin:/bin"}
    try:
        return launch(
            words,
            payload=payload,
            options=options,
            environment=environment,
            fds=dict.fromkeys((0, 1, 2), null),
            waiter=Waiter(),
        )
    finally:
        os.close(null)


def refused(*words: str, payload: Sequence[str] = PAYLOAD, options: Sequence[str] = ()) -> tuple[str, str]:
    """Return step and error of a program that was not launched."""
    with pytest.raises(NotLaunched) as caught:
        start(*words, payload=payload, options=options)
    assert f"{caught.value.step}: {caught.value.why}" == str(caught.value)
    return caught.value.step, caught.value.why


@pytest.mark.usefixtures("same_descriptors")
def test_a_program_is_held_with_its_exact_status() -> None:
    """An exit code and a death by signal arrive as they are."""
    assert exited(7) == start("/bin/sh", "-c", "exit 7").wait(Deadline(SECONDS), Waiter())
    assert killed(signal.SIGTERM) == start("/bin/sh", "-c", "kill -TERM $$").wait(Deadline(SECONDS), Waiter())


@walled()
def test_pid_1_of_a_new_namespace_is_held_too() -> None:
    """With --pid1 the program is PID 1 inside, and still a child whose status comes undistorted."""
    child = start("/bin/sh", "-c", "exit $(($$ + 40))", options=["--pid1"])
    assert exited(41) == child.wait(Deadline(SECONDS), Waiter())
    assert killed(signal.SIGKILL) == start("/bin/sleep", "60", options=["--pid1"]).kill()


@pytest.mark.usefixtures("same_descriptors")
@pytest.mark.parametrize(
    ("words", "options", "step", "why"),
    [
        (["/nowhere/init"], [], "exec", "No such file or directory"),
        ([os.devnull], [], "exec", "Permission denied"),
        (["/bin/true"], ["--directory", "/nowhere"], "directory", "No such file or directory"),
        (["/bin/true"], ["--terminal", "0"], "terminal", "Inappropriate ioctl for device"),
        (["/bin/true"], ["--limit", "colour=1"], "usage", "Invalid argument"),
    ],
)
def test_the_step_that_failed_is_named(words: list[str], options: list[str], step: str, why: str) -> None:
    """A missing program is told apart from a missing directory, terminal or option."""
    assert (step, why) == refused(*words, options=options)


@walled(before=("setpriv", "--bounding-set=-sys_admin", "--"))
def test_a_namespace_that_is_refused_is_named() -> None:
    """Without the capability no PID namespace is made, and that is what is said."""
    assert ("unshare", "Operation not permitted") == refused("/bin/true", options=["--pid1"])


@walled(user=True)
def test_a_user_namespace_that_is_refused_is_named() -> None:
    """Where no further user namespace is allowed, that is what is said."""
    forbid_user_namespaces()
    assert ("unshare", "No space left on device") == refused("/bin/true", options=["--pid1", "--user"])


@walled()
def test_pid_1_that_cannot_be_executed_is_reaped() -> None:
    """A failure after the fork is reported as such, and no process is left."""
    assert ("exec", "No such file or directory") == refused("/nowhere/init", options=["--pid1"])
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.usefixtures("same_descriptors")
def test_a_payload_that_says_nothing_is_not_launched() -> None:
    """A launcher that ends without a report is an error with words."""
    assert ("report", "none came") == refused("/bin/true", payload=["/bin/true"])


@pytest.mark.usefixtures("same_descriptors")
def test_a_payload_that_is_not_there_is_an_error_of_ours() -> None:
    """The harness's own program missing is an OSError, not a target that failed."""
    with pytest.raises(FileNotFoundError):
        start("/bin/true", payload=["/nowhere/payload"])


@pytest.mark.usefixtures("same_descriptors")
def test_a_payload_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report without an end is given up at the deadline."""
    monkeypatch.setattr(launch_module, "LAUNCH_S", 0.1)
    assert ("report", "none came") == refused("/bin/true", payload=["/bin/sh", "-c", "exec sleep 60"])
