"""What a process uses, as /proc says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from suites.framework import usage

RESTLESS = """
import os, select, sys, threading
kept = [bytearray(b"x" * (16 << 20)), os.open("/dev/null", os.O_RDONLY)]
threading.Thread(target=sys.stdin.read, daemon=True).start()
for _ in range(100):
    select.select([], [], [], 0.001)
sum(range(1_000_000))
os.write(1, b".")
os.read(3, 1)
"""


@pytest.fixture
def restless() -> Iterator[int]:
    """Yield a process that woke up a hundred times and now waits in two threads."""
    reading, writing = os.pipe()
    code = f"import os; os.dup2({reading}, 3)\n{RESTLESS}"
    words = [sys.executable, "-I", "-S", "-c", code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[reading]) as process:
        assert process.stdout
        assert b"." == process.stdout.read(1)
        yield process.pid
        os.close(writing)
        os.close(reading)


def test_everything_of_all_threads_is_counted(restless: int) -> None:
    """Switches, CPU seconds, memory, threads and descriptors are those of the process."""
    found = usage.of(restless)
    assert 100 <= found.switches < 10_000
    assert 0.01 < found.cpu_s < 10
    assert 16 << 20 < found.rss_bytes < 256 << 20
    assert (2, len(os.listdir(f"/proc/{restless}/fd"))) == (found.threads, found.descriptors)


def test_a_process_that_is_gone_has_no_usage() -> None:
    """The caller is told, rather than given zeros."""
    with pytest.raises(FileNotFoundError):
        usage.of(99999999)
