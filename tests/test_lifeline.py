"""The lifeline: only the launcher's word interrupts a worker, and the launcher's death ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.framework.errors import ExitCode

ROOT = Path(__file__).parents[1]
SECONDS = 10
WORKER = """
import select
from suites.framework.lifeline import Lifeline
lifeline = Lifeline(0)
lifeline.start()
try:
    print("ready", flush=True)
    while True:
        select.select([], [], [], 1)
except KeyboardInterrupt:
    print("interrupted", lifeline.stopping, flush=True)
    select.select([], [], [], 0.05)  # a second word does nothing more
    print("cleaned", flush=True)
"""
FOREIGN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM)


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """Yield a process that waits for its lifeline."""
    words = [sys.executable, "-c", WORKER]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        yield process
        process.kill()


def test_the_stop_word_interrupts_once(worker: subprocess.Popen[str]) -> None:
    """The byte s raises KeyboardInterrupt in the main thread; what follows leaves the worker time to clean up."""
    out, _ = worker.communicate("ssx", timeout=SECONDS)
    assert ["interrupted True", "cleaned"] == out.splitlines()
    assert ExitCode.GREEN == worker.returncode


def test_the_end_of_the_launcher_ends_the_worker(worker: subprocess.Popen[str]) -> None:
    """End of file means that nobody reads the results: the worker is gone at once, as interrupted."""
    out, _ = worker.communicate(timeout=SECONDS)
    assert ("", ExitCode.INTERRUPTED) == (out, worker.returncode)


def test_an_unknown_word_is_passed_over(worker: subprocess.Popen[str]) -> None:
    """Another byte is no word; the lifeline goes on to listen."""
    out, _ = worker.communicate("xys", timeout=SECONDS)
    assert out.startswith("interrupted")


@pytest.mark.parametrize("number", FOREIGN)
def test_a_foreign_signal_interrupts_nothing(number: signal.Signals, worker: subprocess.Popen[str]) -> None:
    """What a target sends, Ctrl-C's signal included, neither ends nor interrupts the worker."""
    worker.send_signal(number)
    out, _ = worker.communicate("s", timeout=SECONDS)
    assert ["interrupted True", "cleaned"] == out.splitlines()


def test_a_lifeline_that_cannot_be_read_is_its_end() -> None:
    """Without a standard input there is no launcher."""
    words = [sys.executable, "-c", "import os; os.close(0)\n" + WORKER]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    assert ExitCode.INTERRUPTED == done.returncode
