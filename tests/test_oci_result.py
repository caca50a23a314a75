"""Tests of what is made of the end of a runtime's call."""

from __future__ import annotations

from signal import SIGKILL, SIGSEGV

import pytest

from suites.framework.model import Reason
from suites.framework.observation import Unmet
from suites.framework.oci.result import Result
from suites.framework.process import Status, exited, killed


def _result(status: Status | None, stderr: bytes = b"") -> Result:
    return Result(verb="create", status=status, stdout=b"", stderr=stderr, seconds=0.1)


def test_exit_0_is_done() -> None:
    """Exit 0 is a success, whatever was said."""
    assert _result(exited(0)).outcome == "done"
    assert _result(exited(0), b"level=warning msg=panicky\n").outcome == "done"


@pytest.mark.parametrize("code", [1, 2, 101, 127, 255])
def test_other_codes_are_a_refusal(code: int) -> None:
    """Any other exit is an orderly refusal, those that Go and Rust panic with too, as long as nothing else says so."""
    assert _result(exited(code), b"container does not exist\n").outcome == "refused"


@pytest.mark.parametrize(
    "stderr",
    [
        b"panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: ...]\n",
        b"level=warning msg=first\npanic: assignment to entry in nil map\n\ngoroutine 1 [running]:\n",
        b"fatal error: all goroutines are asleep - deadlock!\n",
        b"thread 'main' panicked at src/main.rs:4:5:\ncalled `Option::unwrap()` on a `None` value\n",
        b"thread 'main' (4422) panicked at src/main.rs:4:5:\n",
        b"thread '<unnamed>' panicked at 'index out of bounds', src/lib.rs:1:1\n",
    ],
    ids=["go", "go-after-a-warning", "go-runtime", "rust", "rust-with-a-number", "rust-unnamed"],
)
@pytest.mark.parametrize("code", [0, 1, 2, 101])
def test_panic_is_no_refusal(stderr: bytes, code: int) -> None:
    """A line in which Go or Rust says that it panics is a breakdown, whatever the code."""
    assert _result(exited(code), stderr).outcome == "a panic"


@pytest.mark.parametrize(
    "stderr",
    [
        b'level=error msg="panic: of somebody else"\n',
        b"time=1 panic: later in the line\n",
        b"the thread 'main' panicked, says a log\n",
        b"kernel.panic: 0\n",
        b"panic\n",
        b"",
    ],
)
def test_talk_of_a_panic_is_none(stderr: bytes) -> None:
    """Words in the middle of a line are no panic of the runtime."""
    assert _result(exited(1), stderr).outcome == "refused"


def test_death_by_a_signal_is_named() -> None:
    """A crash is told by its signal, also with a panic's words before it."""
    assert _result(killed(SIGSEGV)).outcome == "killed by SEGV"
    assert _result(killed(SIGKILL), b"panic: x\n").outcome == "killed by KILL"


def test_no_end_is_named() -> None:
    """A call that was ended at its deadline has no outcome of its own."""
    assert _result(None).outcome == "no end"


def test_ok_returns_a_success() -> None:
    """What is done comes back for more questions."""
    result = _result(exited(0))
    assert result.ok() is result


@pytest.mark.parametrize(
    ("status", "stderr", "actual", "reason"),
    [
        (exited(1), b"", "create: refused", None),
        (exited(2), b"panic: x\n", "create: a panic", Reason.CRASH),
        (exited(0), b"panic: x\n", "create: a panic", Reason.CRASH),
        (killed(SIGSEGV), b"", "create: killed by SEGV", Reason.CRASH),
        (None, b"", "create: no end", Reason.TIMEOUT),
    ],
)
def test_ok_fails_for_everything_else(status: Status | None, stderr: bytes, actual: str, reason: Reason | None) -> None:
    """What is not done is a failed expectation that says how it ended, and whether that is a crash or a time-out."""
    with pytest.raises(Unmet) as caught:
        _result(status, stderr).ok()
    assert (caught.value.actual, caught.value.reason) == (actual, reason)
