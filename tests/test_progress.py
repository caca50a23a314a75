"""Progress: files are read as they grow, and one line says where the run stands."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from suites.framework.events import EventLog, Record
from suites.framework.model import Ended, Finished, Outcome, Started
from suites.framework.progress import Progress, Tail
from tests.fake_run import HOSTILE, FakeRun, failed, passed, planned

PATH = Path("root-native/events/test.0.jsonl")


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Screen:
    """A progress on a stream that the test reads."""

    def __init__(self, *, tty: bool, width: int = 80) -> None:
        self.clock, self.stream = Clock(), io.StringIO()
        self.progress = Progress(stream=self.stream, tty=tty, clock=self.clock, width=width)

    def feed(self, *events: object, path: Path = PATH) -> None:
        """Give events of one file to the progress."""
        for event in events:
            self.progress.feed(path, Record(seq=1, t=1.0, event=event))  # type: ignore[arg-type]

    def tick(self, seconds: float = 0.0) -> str:
        """Let time pass, draw, and return what was written since the last call."""
        self.clock.now += seconds
        self.progress.tick()
        return self.taken()

    def taken(self) -> str:
        """Return what was written since the last call."""
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return text


# ---- Tail ----


def test_tail_returns_each_record_once(tmp_path: Path) -> None:
    fake, tail = FakeRun(tmp_path / "runs"), Tail(tmp_path)
    assert tail.poll() == []
    fake.write(Started(node="a"))
    fake.write(Started(node="b"), worker="1")
    found = tail.poll()
    assert [(path.name, type(record.event).__name__) for path, record in found] == [
        ("test.0.jsonl", "Begun"),
        ("test.0.jsonl", "Started"),
        ("test.1.jsonl", "Begun"),
        ("test.1.jsonl", "Started"),
    ]
    assert tail.poll() == []
    fake.write(Started(node="c"))
    assert [record.event for _, record in tail.poll()] == [Started(node="c")]


def test_half_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "test.0.jsonl"
    with EventLog(path) as log:
        log.write(Started(node="a\r\x85"))
        log.write(Started(node="b"))
    whole, tail, found = path.read_bytes(), Tail(tmp_path), []
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        found += [(size, record.event) for _, record in tail.poll()]
    first = whole.index(b"\n") + 1
    assert found == [(first, Started(node="a\r\x85")), (len(whole), Started(node="b"))]


def test_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "test.0.jsonl"
    path.write_bytes(
        b'\xff\xfe\n\n{"event":"begun","seq":1,"t":1,"schema":99}\n{"event":"started","seq":1,"t":1,"node":"a"}\n'
    )
    assert [record.event for _, record in Tail(tmp_path).poll()] == [Started(node="a")]


def test_absent_folder_and_unreadable_file_are_nothing_yet(tmp_path: Path) -> None:
    assert Tail(tmp_path / "absent").poll() == []
    (tmp_path / "folder.jsonl").mkdir()
    assert Tail(tmp_path).poll() == []


# ---- Progress ----


def test_line_has_done_total_failures_target_case_and_time_left() -> None:
    screen = Screen(tty=False)
    screen.feed(*(planned(f"n{number}", parameter="TERM") for number in range(10)), Started(node="n0"))
    assert screen.progress.line() == "[ 0/10]  tini SG-01 pid1 TERM"
    screen.clock.now += 20
    screen.feed(passed("n0"), Started(node="n1"), failed("n1"))
    assert screen.progress.line() == "[ 2/10]  1 failed  tini SG-01 pid1 TERM  1:20 left"
    screen.feed(*(passed(f"n{number}") for number in range(2, 10)), Finished(counts={}))
    assert screen.progress.line() == "[10/10]  1 failed  tini SG-01 pid1 TERM"


@pytest.mark.parametrize("outcome", list(Outcome))
def test_what_counts_as_a_failure(outcome: Outcome) -> None:
    screen = Screen(tty=False)
    screen.feed(planned("n"), Ended(node="n", outcome=outcome))
    assert screen.progress.failures == (outcome in {Outcome.FAILED, Outcome.ERRORED, Outcome.XPASSED})


def test_same_node_in_two_environments_counts_twice() -> None:
    screen = Screen(tty=False)
    for environment in ("root-native", "rootless-native"):
        screen.feed(planned("n"), planned("n"), path=Path(environment) / "events" / "test.0.jsonl")
    assert screen.progress.total == 2


def test_without_a_terminal_a_plain_line_at_most_every_five_seconds() -> None:
    screen = Screen(tty=False)
    assert screen.tick() == ""
    screen.feed(planned("a"), planned("b"), Started(node="a"))
    assert screen.tick() == "[0/2]  tini SG-01 pid1\n"
    screen.feed(passed("a"))
    assert screen.tick(4.9) == ""
    assert screen.tick(0.1) == "[1/2]  tini SG-01 pid1  0:05 left\n"
    screen.feed(passed("b"))
    screen.progress.close()
    assert screen.taken() == "[2/2]  tini SG-01 pid1\n"
    screen.progress.close()
    assert screen.taken() == ""


def test_without_a_terminal_a_failure_is_said_at_once() -> None:
    screen = Screen(tty=False)
    screen.feed(planned("a"), planned("b"), failed("a"))
    assert screen.taken() == "FAILED  tini SG-01 pid1: killed by TERM\n"
    screen.feed(failed("unknown", actual="", outcome=Outcome.ERRORED))
    assert screen.taken() == "ERRORED  unknown\n"


def test_on_a_terminal_one_line_is_updated_in_place() -> None:
    screen = Screen(tty=True)
    screen.feed(planned("a"), planned("b"), Started(node="a"))
    assert screen.tick() == "\r[0/2]  tini SG-01 pid1\x1b[K"
    screen.feed(failed("a"))
    assert screen.taken() == ""
    assert screen.tick(0.05) == ""
    assert screen.tick(0.95) == "\r[1/2]  1 failed  tini SG-01 pid1  0:01 left\x1b[K"
    assert screen.tick(1) == "\r[1/2]  1 failed  tini SG-01 pid1  0:02 left\x1b[K"
    screen.progress.close()
    assert screen.taken() == "\r\x1b[K"


def test_line_never_wraps() -> None:
    screen = Screen(tty=True, width=20)
    screen.feed(planned("a", parameter="x" * 50), Started(node="a"))
    assert screen.tick() == "\r[0/1]  tini SG-01 p\x1b[K"


@pytest.mark.parametrize("tty", [False, True])
def test_nothing_a_target_printed_acts(tty: bool) -> None:
    screen = Screen(tty=tty, width=1000)
    plan = planned("a", parameter=HOSTILE, target=HOSTILE)
    screen.feed(plan, Started(node="a"), failed("a", actual=HOSTILE, message=HOSTILE))
    text = screen.taken() + screen.tick()
    assert not set(text.replace("\x1b[K", "")) & set("\x00\x1b\u202e\udcff")
    assert text.count("\n") == (0 if tty else 2)


def test_stream_that_knows_only_ascii_does_no_harm() -> None:
    raw = io.BytesIO()
    progress = Progress(stream=io.TextIOWrapper(raw, encoding="ascii"), tty=False)
    progress.feed(PATH, Record(seq=1, t=1.0, event=planned("a", parameter="ö")))
    progress.feed(PATH, Record(seq=2, t=1.0, event=failed("a")))
    assert b"pid1 \\xf6: killed by TERM\n" in raw.getvalue()
