"""The recorder: only records of this test count, and every wait ends with what is known."""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from suites.framework.identity import keep_to_ourselves
from suites.framework.model import Reason
from suites.framework.observation import Unmet
from suites.framework.process import Child, exited, spawn
from suites.framework.recorder import Record, Recorder, State, recording_socket
from suites.framework.waiting import Deadline, Waiter
from tests.contexts import TWIN

NONCE = "n1"
SHORT, SECONDS = 0.05, 10.0


@dataclass
class FakeSupervisor:
    """A program under test that has ended as soon as `over` is readable."""

    over: int = field(default_factory=lambda: os.eventfd(0, os.EFD_NONBLOCK))
    crash: Reason | None = None

    def watch(self) -> tuple[int, ...]:
        """Return what tells its end."""
        return (self.over,)

    def fate(self) -> tuple[str, Reason | None]:
        """Return a sentence about it."""
        return "the init is whatever it is", self.crash


@dataclass
class Ends:
    """A recorder and the socket of its payload."""

    recorder: Recorder
    payload: socket.socket
    supervisor: FakeSupervisor

    def write(self, kind: str, *, nonce: str = NONCE, **fields: Any) -> None:
        """Send a record as a payload does."""
        record = {"record": kind, "nonce": nonce, "pid": 5, "at": 1_500_000_000, **fields}
        self.payload.send(json.dumps(record).encode())


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Yield a recorder with a short patience."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    supervisor = FakeSupervisor()
    recorder = Recorder(ours, nonce=NONCE, waiter=Waiter(), seconds=SHORT, supervisor=supervisor)
    yield Ends(recorder, theirs, supervisor)
    recorder.close()
    theirs.close()
    os.close(supervisor.over)


@pytest.fixture
def agent() -> Iterator[tuple[Recorder, Child]]:
    """Yield the recorder of a real recording process."""
    keep_to_ourselves()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, *TWIN[1:], "agent", "7", NONCE, "a word"]
    with theirs:
        child = spawn(words, environment={"KEY": "value"}, fds={0: theirs.fileno(), 7: theirs.fileno()})
    recorder = Recorder(ours, nonce=NONCE, waiter=Waiter(), seconds=SECONDS, supervisor=FakeSupervisor())
    yield recorder, child
    recorder.close()
    child.kill()


def test_record_that_comes_before_the_recorder_is_made_has_its_senders_pid(tmp_path: Path) -> None:
    """What was accepted already is a socket like any other to the kernel, which adds what the listener asked for."""
    with recording_socket() as listener, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as payload:
        listener.bind(str(tmp_path / "c"))
        listener.listen(1)
        payload.connect(str(tmp_path / "c"))
        accepted = listener.accept()[0]
        payload.send(json.dumps({"record": "ready", "nonce": NONCE, "at": 0}).encode())
        supervisor = FakeSupervisor()
        recorder = Recorder(accepted, nonce=NONCE, waiter=Waiter(), seconds=SHORT, supervisor=supervisor)
        recorder.next("ready")
        assert recorder.pid == os.getpid()
        recorder.close()
        os.close(supervisor.over)


def test_the_kinds_that_were_not_asked_for_wait(ends: Ends) -> None:
    """A record of another kind is kept for the one who asks for it, in its order."""
    ends.write("signal", number=10)
    ends.write("done", command="x", result=0)
    ends.write("signal", number=12)
    assert "done" == ends.recorder.next("done").kind
    assert [10, 12] == [ends.recorder.next_signal()["number"] for _ in range(2)]


def test_a_record_with_another_nonce_does_not_count(ends: Ends) -> None:
    """What another test's payload wrote proves nothing and gives no pid."""
    ends.write("ready", nonce="other")
    with pytest.raises(Unmet, match="nothing came"):
        ends.recorder.next("ready")
    assert ([], 0) == (ends.recorder.log, ends.recorder.pid)


@pytest.mark.parametrize(
    "data", [b"hello", b"\xff\xfe", b"[1, 2]", b"7", b"[" * 60000], ids=lambda data: repr(data[:8])
)
def test_what_a_target_writes_into_the_channel_is_no_record(data: bytes, ends: Ends) -> None:
    """Text that is no record is the target's, not an error of the harness; the records behind it count."""
    ends.payload.send(data)
    ends.write("signal", number=15)
    assert 15 == ends.recorder.next_signal()["number"]


def test_nothing_within_the_deadline_is_a_timeout(ends: Ends) -> None:
    """The failure says what was awaited, that nothing came, and how the init stands."""
    with pytest.raises(Unmet) as caught:
        ends.recorder.ready()
    assert ("the payload ready under the target", Reason.TIMEOUT) == (caught.value.expected, caught.value.reason)
    assert "nothing came; the init is whatever it is" == caught.value.actual


def test_the_end_of_the_payload_is_no_timeout(ends: Ends) -> None:
    """When the payload hangs up, what it said before still counts; then the wait ends at once."""
    ends.write("signal", number=1)
    ends.payload.close()
    assert 1 == ends.recorder.next_signal()["number"]
    with pytest.raises(Unmet, match="the recording process ended; the init") as caught:
        ends.recorder.next_signal()
    assert caught.value.reason is None


def test_the_end_of_the_payload_waits_for_that_of_the_init(ends: Ends) -> None:
    """An init that follows its child a moment later is said to have ended, in every run the same."""
    ends.recorder.seconds = SECONDS
    ends.payload.close()
    timer = threading.Timer(SHORT, os.eventfd_write, (ends.supervisor.over, 1))
    timer.start()
    with pytest.raises(Unmet, match="the recording process ended"):
        ends.recorder.next_signal()
    assert 1 == os.eventfd_read(ends.supervisor.over)
    timer.join()


def test_the_end_of_the_init_ends_the_wait(ends: Ends) -> None:
    """When the program under test has ended, nobody waits for the deadline, and a crash is called so."""
    os.eventfd_write(ends.supervisor.over, 1)
    ends.supervisor.crash = Reason.CRASH
    with pytest.raises(Unmet) as caught:
        ends.recorder.next("signal")
    assert ("the init is whatever it is", Reason.CRASH) == (caught.value.actual, caught.value.reason)


def test_a_last_record_counts_although_the_init_has_ended(ends: Ends) -> None:
    """A record that came before the init's end is found, whichever of the two is noticed first."""
    os.eventfd_write(ends.supervisor.over, 1)
    ends.write("signal", number=15)
    assert 15 == ends.recorder.next_signal()["number"]


def test_a_last_record_that_comes_with_the_news_of_the_end_counts(ends: Ends) -> None:
    """A record that arrives between the notice of the init's end and a second look is not lost."""

    class Late(Waiter):
        """Sees the end of the init before the record that was there first."""

        def wait(self, fds: Iterable[int], deadline: Deadline, *, events: int = select.POLLIN) -> tuple[int, ...]:
            """Overlook the channel, the first time."""
            ready = super().wait(fds, deadline, events=events)
            first, self.__class__ = tuple(fd for fd in ready if fd == ends.supervisor.over), Waiter  # type: ignore[assignment]
            return first

    os.eventfd_write(ends.supervisor.over, 1)
    ends.write("signal", number=15)
    ends.recorder._waiter = Late()
    assert 15 == ends.recorder.next_signal()["number"]


def test_the_pid_is_the_kernels_word(ends: Ends) -> None:
    """The sender's pid is what the kernel says, not what the record claims, and stays that of the first record."""
    ends.write("signal", number=1)
    assert 5 == ends.recorder.next_signal()["pid"]
    assert os.getpid() == ends.recorder.pid
    if (other := os.fork()) == 0:
        ends.write("signal", number=2)
        os._exit(0)
    os.waitpid(other, 0)
    assert 2 == ends.recorder.next_signal()["number"]
    assert os.getpid() == ends.recorder.pid


def test_a_fence_ends_a_list_of_signals(ends: Ends) -> None:
    """The signals before the fence are returned, the fence itself is not."""
    for number in (10, 12, 64, 15):
        ends.write("signal", number=number)
    assert (10, 12) == ends.recorder.signals_until(64)
    with pytest.raises(Unmet, match="expected the fence RTMAX at the child"):
        ends.recorder.signals_until(64)


def test_a_command_to_one_that_has_gone_is_unmet(ends: Ends) -> None:
    """A command that nobody can take says so."""
    ends.payload.close()
    with pytest.raises(Unmet, match="expected command 'record' taken, but the recording process ended"):
        ends.recorder.tell("record")


def test_a_peer_that_dies_with_unread_commands_has_ended(ends: Ends) -> None:
    """The reset of a connection is its end, not an error."""
    ends.recorder.tell("never read")
    ends.payload.close()
    with pytest.raises(Unmet, match="the recording process ended"):
        ends.recorder.next("done")


def test_a_command_that_failed_says_its_error(ends: Ends) -> None:
    """A negative result is an errno."""
    ends.write("done", command="write 99 00", result=-9)
    with pytest.raises(Unmet, match="but Bad file descriptor"):
        ends.recorder.ask("write 99 00")


def test_an_orphan_tells_its_new_parent(ends: Ends) -> None:
    """The number is the one in the orphan's own namespace."""
    ends.write("reparented", ppid=1)
    assert 1 == ends.recorder.reparented()


def test_records_read_as_a_log() -> None:
    """A signal shows name, code and sender, other records what is of interest in them."""
    signal = Record(kind="signal", at=1.5, fields={"pid": 7, "number": 15, "code": 0, "sender": 1})
    done = Record(kind="done", at=2.0, fields={"pid": 7, "command": "default", "result": 0, "nonce": NONCE})
    assert "1.500000 pid 7 signal TERM code 0 sender 1" == str(signal)
    assert "2.000000 pid 7 done command=default result=0" == str(done)
    assert "2.000000 pid 7 once" == str(Record(kind="once", at=2.0, fields={"pid": 7}))


def test_a_real_payload_says_who_it_is(agent: tuple[Recorder, Child]) -> None:
    """Argument, environment, descriptors and ids of a recording process come as they are."""
    recorder, child = agent
    state = recorder.ready()
    assert (child.pid, os.getpid(), child.pid) == (state.pid, state.ppid, state.sid)
    assert child.pid == recorder.pid
    assert b"a word" == state.argv[-1]
    assert b"KEY=value" in state.environment
    assert {0, 7} == state.fds.keys()
    assert isinstance(recorder.state(), State)


def test_a_forked_payload_has_a_recorder_of_its_own(agent: tuple[Recorder, Child]) -> None:
    """Its pid is another one, its records stand in the common history by time, and both end together."""
    recorder, child = agent
    recorder.ready()
    forked, state = recorder.fork("session")
    assert (child.pid, state.pid, forked.pid) == (state.ppid, state.sid, state.pid)
    assert ["ready", "ready", "done"] == [record.kind for record in recorder.history()]
    over = os.pidfd_open(forked.pid)
    recorder.close()
    assert forked.ended
    assert (over,) == Waiter().wait((over,), Deadline(SECONDS))
    os.close(over)
    assert exited(0) == child.wait(Deadline(SECONDS), Waiter())
