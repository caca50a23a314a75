"""The log of a container, read back to what its program wrote."""

from __future__ import annotations

import pytest

from suites.framework.pod import log

LOG = b"""\
2026-11-22T03:57:41.6Z stdout F one
2026-11-22T03:57:41.6Z stderr F wrong
2026-11-22T03:57:41.6Z stdout P two \

2026-11-22T03:57:41.6Z stdout F three
2026-11-22T03:57:41.6Z stdout F\x20
2026-11-22T03:57:41.6Z stdout P end
""".replace(b" \n\n", b" \n")


def test_each_stream_is_put_together_again() -> None:
    """Chunks of a line are joined, an empty line stays one, the last one without its end gets none."""
    found = log.pieces(LOG)
    assert b"one\ntwo three\n\nend" == log.text(found, "stdout")
    assert b"wrong\n" == log.text(found, "stderr")


def test_a_line_that_is_still_written_is_not_there_yet() -> None:
    """What has no newline of the log's own is left out."""
    assert b"one\n" == log.text(log.pieces(LOG.splitlines()[0] + b"\n2026-11-22T03:57:41.6Z stdout F tw"), "stdout")
    assert [] == log.pieces(b"")


def test_bytes_that_are_no_text_stay() -> None:
    """No decoder stands between."""
    assert b"\xff\xfe\r\n" == log.text(log.pieces(b"t stdout F \xff\xfe\r\n"), "stdout")


@pytest.mark.parametrize("line", [b"no log", b"t stdin F x", b"t stdout X x", b"t stdout"])
def test_what_is_no_line_of_a_log_is_refused(line: bytes) -> None:
    """A log in another format is told from an empty one."""
    with pytest.raises(ValueError, match="a line of the log"):
        log.pieces(line + b"\n")


@pytest.mark.parametrize(
    ("actual", "words"),
    [
        (b"abcdef", "as written"),
        (b"abc", "cut: 3 of 6 bytes"),
        (b"abcdefg", "more than was written: 7 of 6 bytes"),
        (b"abXdef", "other bytes from 2 on"),
    ],
)
def test_a_difference_is_told_in_a_few_words(actual: bytes, words: str) -> None:
    """A quarter of a megabyte is not shown."""
    assert words == log.compared(b"abcdef", actual)
