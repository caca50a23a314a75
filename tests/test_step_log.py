"""A log of limited size keeps its beginning and its end, and counts what is between."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from suites.framework.steps.log import CappedLog, keep


def written(path: Path, *chunks: bytes, limit: int = 20) -> bytes:
    with CappedLog(path, limit=limit) as log:
        for chunk in chunks:
            log.write(chunk)
    return path.read_bytes()


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("length", [0, 5, 10, 11, 19, 20])
def test_what_fits_is_kept_verbatim(tmp_path: Path, length: int, size: int) -> None:
    """Every byte, also the last that fits, however it arrives."""
    data = bytes(range(length))
    assert data == written(tmp_path / "log", *(data[at : at + size] for at in range(0, length, size)))


@pytest.mark.parametrize("size", [1, 3, 10, 13, 1000])
@pytest.mark.parametrize("length", [21, 29, 30, 31, 200])
def test_of_more_the_two_ends_are_kept(tmp_path: Path, length: int, size: int) -> None:
    """A line between them says how many bytes are missing."""
    data = bytes(number % 251 for number in range(length))
    found = written(tmp_path / "log", *(data[at : at + size] for at in range(0, length, size)))
    assert data[:10] + f"\n[{length - 20} bytes left out]\n".encode() + data[-10:] == found


def test_the_beginning_can_be_read_at_once(tmp_path: Path) -> None:
    """Who looks during the run sees what there is; nothing else stands in the folder."""
    with CappedLog(tmp_path / "log", limit=20) as log:
        log.write(b"abc")
        assert b"abc" == (tmp_path / "log").read_bytes()
        log.write(b"x" * 100)
        assert [tmp_path / "log"] == list(tmp_path.iterdir())


def test_a_log_is_continued(tmp_path: Path) -> None:
    """A second step with the same log goes on behind the first."""
    written(tmp_path / "log", b"one\n")
    assert b"one\ntwo\n" == written(tmp_path / "log", b"two\n")


def test_the_last_lines(tmp_path: Path) -> None:
    """Also of what is no UTF-8, and of a line without an end."""
    with CappedLog(tmp_path / "log") as log:
        log.write(b"a\nb\xff\nc")
        assert "b\ufffd\nc" == log.tail(2)
        log.close()
        log.close()


def test_a_full_disk_stops_nobody(tmp_path: Path) -> None:
    """Bytes are lost, the writer goes on, and the last lines are still known."""
    with CappedLog(tmp_path / "log") as log, Path("/dev/full").open("ab", buffering=0) as full:
        log._head, head = full, log._head
        log.write(b"lost\n")
        assert "lost" == log.tail()
        log._head = head


@pytest.mark.parametrize("size", [100, 5000])
def test_a_log_that_may_not_grow_is_closed_in_peace(tmp_path: Path, size: int) -> None:
    """Nothing is left in a buffer whose writing fails at the end; what fitted is there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    log = CappedLog(tmp_path / "log", limit=4000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for _ in range(6000 // size + 1):
            log.write(b"x" * size)
        log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert b"x" * 1000 == (tmp_path / "log").read_bytes()


def test_log_of_somebody_else_is_kept_within_the_limit(tmp_path: Path) -> None:
    """Its two ends, behind what an earlier attempt has left."""
    (tmp_path / "theirs").write_bytes(b"x" * 100 + b"end")
    (tmp_path / "log").write_bytes(b"first\n")
    keep(tmp_path / "theirs", tmp_path / "log", limit=20)
    assert b"first\nxxxx\n[89 bytes left out]\nxxxxxxxend" == (tmp_path / "log").read_bytes()
