"""A script with which a case talks: its record, its lines, and what is said where they do not come."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

from suites.framework.model import Reason
from suites.framework.observation import Unmet
from suites.framework.pod.conversation import Conversation
from suites.framework.pod.driver import Output

RECORD = b"seatrial record NONCE 42\n"


class Session:
    """Has written something, and has ended or not."""

    def __init__(self, written: bytes, output: Output | None) -> None:
        """Take what it answers with."""
        self.written, self.output = written, output
        self.done: list[Any] = []

    def until(self, satisfied: Callable[[bytes], bool], *, seconds: float) -> bool:
        """Answer."""
        assert seconds > 0
        return satisfied(self.written)

    def ended(self, *, seconds: float) -> Output | None:
        """Answer."""
        assert seconds >= 0
        return self.output

    def send(self, data: bytes) -> None:
        """Remember."""
        self.done.append(data)

    def finish(self) -> None:
        """Remember."""
        self.done.append("finish")

    def resize(self, *, columns: int, rows: int) -> None:
        """Remember."""
        self.done.append((columns, rows))

    def close(self) -> None:
        """Have nothing to close."""


def made(written: bytes = b"", output: Output | None = None) -> tuple[Conversation, Session, list[str]]:
    """Return a conversation, its session, and what is told of proofs."""
    session, proofs = Session(written, output), list[str]()
    talk = Conversation(session, record=RECORD, seconds=1.0, waited=nullcontext, proven=lambda: proofs.append("proven"))
    return talk, session, proofs


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_the_record_is_no_part_of_the_output(ending: bytes) -> None:
    """It is taken off as it was written, and as a terminal shows it; then the handler has proven itself."""
    record = RECORD.replace(b"\n", ending)
    talk, _, proofs = made(output=Output(code=7, stdout=record + b"hello" + ending, stderr=b"e"))
    assert Output(code=7, stdout=b"hello" + ending, stderr=b"e") == talk.ended()
    assert ["proven"] == proofs


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (Output(code=0), "none; exit 0"),
        (Output(code=0, stdout=b"hello"), "none; exit 0"),
        (Output(code=None, refusal="no such program, pid 4711"), "refused"),
    ],
)
def test_without_the_record_nothing_is_proven(output: Output, words: str) -> None:
    """What is seen reads the same in every run."""
    talk, _, proofs = made(output=output)
    with pytest.raises(Unmet) as caught:
        talk.ended()
    assert (words, None, []) == (caught.value.actual, caught.value.reason, proofs)


@pytest.mark.parametrize(("line", "there"), [("one", True), ("two", True), ("tw", False), ("record", False)])
def test_lines_are_whole(line: str, there: bool) -> None:
    """A line is waited for behind the record, with either ending, and no part of one is one."""
    talk, _, proofs = made(RECORD + b"one\ntwo\r\nthree")
    if there:
        talk.says(line)
    else:
        with pytest.raises(Unmet, match="it does not"):
            talk.says(line)
    assert ["proven"] * there == proofs


def test_silence_and_an_end_are_told_apart() -> None:
    """A command that runs is a timeout; one that has ended, or could not begin, is none."""
    for output, words, reason in (
        (None, "it does not", Reason.TIMEOUT),
        (Output(code=3), "nothing; exit 3", None),
        (Output(code=None, refusal="no"), "refused", None),
    ):
        talk, _, _ = made(RECORD, output)
        with pytest.raises(Unmet) as caught:
            talk.says("ready")
        assert (words, reason) == (caught.value.actual, caught.value.reason)
    with pytest.raises(Unmet, match="it runs"):
        made(RECORD)[0].ended()


def test_what_is_given_is_passed_on() -> None:
    """Input, its end, and sizes."""
    talk, session, _ = made()
    talk.send(b"x")
    talk.resize(columns=90, rows=33)
    talk.finish()
    assert [b"x", (90, 33), "finish"] == session.done
