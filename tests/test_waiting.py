"""Waiting: deadlines, captured streams that are drained meanwhile, and ticks."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator
from itertools import count

import pytest

from suites.framework.waiting import Capture, Deadline, Waiter, ticks

SECONDS = 10.0
SHORT = 0.05


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield a pipe; the reading end is whoever takes it."""
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        try:
            os.close(fd)
        except OSError:
            continue


def captured(pipe: tuple[int, int], *chunks: bytes, limit: int) -> Capture:
    capture = Capture(pipe[0], title="stdout", limit=limit)
    for chunk in chunks:
        os.write(pipe[1], chunk)
        capture.drain()
    return capture


def test_a_deadline_counts_down_to_zero_and_never_below() -> None:
    """What remains shrinks with the clock; past its time a deadline has passed and 0 seconds remain."""
    times = iter((100.0, 101.0, 103.0, 104.5))
    deadline = Deadline(3.0, clock=lambda: next(times))
    assert (103.0, 3.0) == (deadline.at, deadline.seconds)
    assert 2.0 == deadline.remaining
    assert deadline.passed
    assert 0.0 == deadline.remaining


def test_short_output_is_kept_whole(pipe: tuple[int, int]) -> None:
    """Output up to the limit is kept byte by byte."""
    assert b"0123456789" == captured(pipe, b"0123", b"456789", limit=10).data


def test_head_and_tail_of_long_output_are_kept(pipe: tuple[int, int]) -> None:
    """Of more than the limit, head and tail are kept and the number of lost bytes stands between them."""
    capture = captured(pipe, b"abc", b"defgh", b"ijklm", limit=8)
    assert b"abcd\n[... 5 bytes left out ...]\njklm" == capture.data
    assert 13 == capture.total


@pytest.mark.parametrize("limit", [0, 1])
def test_a_limit_of_nothing_keeps_nothing(limit: int, pipe: tuple[int, int]) -> None:
    """With no room at all, no byte is kept and all are counted."""
    assert b"\n[... 6 bytes left out ...]\n" == captured(pipe, b"abc", b"def", limit=limit).data


def test_drain_tells_an_empty_stream_from_its_end(pipe: tuple[int, int]) -> None:
    """Nothing to read is not the end; a closed writer is."""
    capture = Capture(pipe[0], title="stdout", limit=8)
    assert capture.drain()
    os.close(pipe[1])
    assert not capture.drain()


def test_the_last_slave_of_a_terminal_ends_its_capture() -> None:
    """A pseudo-terminal whose slave was closed (EIO) has ended, with what was written before."""
    master, slave = os.openpty()
    capture = Capture(master, title="terminal", limit=80)
    os.write(slave, b"last words")
    os.close(slave)
    assert not capture.drain()
    assert b"last words" == capture.data
    capture.close()
    capture.close()
    assert -1 == capture.fd


def test_a_flood_does_not_keep_the_caller_from_its_deadline() -> None:
    """A writer that never stops is drained during the wait, which still ends at its deadline."""
    waiter, never = Waiter(), os.eventfd(0)
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as flood:
        assert flood.stdout is not None
        capture = waiter.add(Capture(os.dup(flood.stdout.fileno()), title="stdout", limit=1000))
        assert () == waiter.wait((never,), Deadline(SHORT))
        flood.kill()
    waiter.finish()
    os.close(never)
    assert capture.total > 65536  # more than the pipe holds: it was drained while waiting
    assert len(capture.data) < 1100


def test_a_stream_that_never_runs_dry_is_left_after_a_while() -> None:
    """Whoever writes faster than we read keeps nobody for ever."""
    capture = Capture(os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC), title="stdout", limit=1000)
    assert capture.drain()
    assert 65536 * 64 == capture.total
    capture.close()


def test_wait_returns_what_is_ready() -> None:
    """Of several descriptors only the ready ones are returned, at once."""
    ready, never = os.eventfd(1), os.eventfd(0)
    assert (ready,) == Waiter().wait((never, ready), Deadline(SECONDS))
    assert () == Waiter().wait((never,), Deadline(0))
    assert (never,) == Waiter().wait((never,), Deadline(SECONDS), events=select.POLLOUT)
    os.close(ready)
    os.close(never)


def test_a_wanted_capture_is_left_to_the_caller(pipe: tuple[int, int]) -> None:
    """A stream that is itself waited for is reported as ready, not swallowed."""
    waiter = Waiter()
    capture = waiter.add(Capture(pipe[0], title="stdout", limit=8))
    os.write(pipe[1], b"x")
    assert (capture.fd,) == waiter.wait((capture.fd,), Deadline(SECONDS))
    assert b"" == capture.data
    waiter.finish()
    assert b"x" == capture.data


def test_a_stream_that_ends_during_a_wait_is_closed_and_forgotten(pipe: tuple[int, int]) -> None:
    """The end of a stream is not the end of the wait, and it does not make the wait spin."""
    waiter, never = Waiter(), os.eventfd(0)
    capture = waiter.add(Capture(pipe[0], title="stdout", limit=8))
    os.write(pipe[1], b"bye")
    os.close(pipe[1])
    looks = count()
    assert () == waiter.wait((never,), Deadline(4 * SHORT, clock=lambda: (next(looks), time.monotonic())[1]))
    assert next(looks) < 20
    assert (b"bye", -1) == (capture.data, capture.fd)
    os.close(never)


def test_a_capture_that_is_removed_is_closed_and_drained_no_more(pipe: tuple[int, int]) -> None:
    """A capture can be taken out twice, and what comes then stays where it is."""
    reading, writing = pipe
    waiter = Waiter()
    kept = os.dup(reading)
    capture = waiter.add(Capture(reading, title="out", limit=100))
    for _ in range(2):
        waiter.remove(capture)
    assert -1 == capture.fd
    os.write(writing, b"late")
    assert () == waiter.wait((), Deadline(0))
    assert (b"", b"late") == (capture.data, os.read(kept, 100))
    os.close(kept)


def test_ticks_come_until_the_deadline_and_at_least_once() -> None:
    """The first tick comes at once, even past the deadline; the last one after it."""
    assert 1 == len(list(ticks(Deadline(0.0))))
    clock = count()
    assert 4 == len(list(ticks(Deadline(6.0, clock=lambda: float(next(clock))), every=0.0)))
