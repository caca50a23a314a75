"""Subcommand ``meter`` of both payloads: what a command and all below it used, told at a gate, and how it ended."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from suites.framework.buildscripts.account import Used, used
from tests.payloads import SECONDS, Line, Payload

pytest_plugins = ("tests.payloads",)

BURN_S = 0.1
BURN = f"import time\nwhile time.process_time() < {BURN_S}: pass\n"
"""Python that uses so much processor time."""
BESIDE = f"""
import os, subprocess, sys
reading, writing = os.pipe()
if not (middle := os.fork()):
    if not (orphan := os.fork()):
        exec({BURN!r})
        os._exit(0)
    os.write(writing, str(orphan).encode())
    os._exit(0)
pidfd = os.pidfd_open(int(os.read(reading, 9)))
os.waitpid(middle, 0)
import select
select.select([pidfd], [], [])
"""
"""Python whose grandchild uses it, as somebody else's child, and has ended before it ends."""


@contextmanager
def metered(payload: Payload, place: Path, *command: str) -> Iterator[tuple[subprocess.Popen[bytes], Line]]:
    """Run a command below a meter, and yield it with the line to the agent that tells."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(place / "g"))
        listener.listen()
        listener.settimeout(SECONDS)
        words = [*payload, "meter", str(place / "g"), "n1", "build", "used", *command]
        with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
            line = Line(listener.accept()[0])
            try:
                yield process, line
            finally:
                line.close()
                process.communicate(timeout=SECONDS)


def measured(payload: Payload, place: Path, *command: str) -> tuple[Used, int]:
    """Return what a command used, and the exit code of the meter, which waits until the gate is open."""
    with metered(payload, place, *command) as (process, line):
        words = [bytes.fromhex(word) for word in line.next()["argv"]]
        assert [b"n1", b"build", b"used"] == words[-7:-4]
        assert process.poll() is None
        line.tell("exit 0")
        return used(words[-4:]), process.wait(SECONDS)


def test_children_and_orphans_count(payload: Payload, tmp_path: Path) -> None:
    """Also what a grandchild has used that nobody below the meter has waited for."""
    began = time.monotonic()
    direct, _ = measured(payload, tmp_path, sys.executable, "-I", "-S", "-c", BURN)
    (tmp_path / "g").unlink()
    below, code = measured(payload, tmp_path, sys.executable, "-I", "-S", "-c", BESIDE)
    assert (True, True, 0) == (direct.cpu_s >= BURN_S, below.cpu_s >= BURN_S, code)
    assert 0 < direct.wall_s + below.wall_s < time.monotonic() - began


def test_memory_is_that_of_the_largest(payload: Payload, tmp_path: Path) -> None:
    """The peak is that of the command, not of whoever has called the meter, or the sum."""
    small, _ = measured(payload, tmp_path, "sh", "-c", "true; true; exit 0")
    (tmp_path / "g").unlink()
    large, _ = measured(payload, tmp_path, sys.executable, "-I", "-S", "-c", "x = b'1' * (64 << 20)")
    own = 1 << 22 if len(payload) == 1 else 1 << 24  # the twin weighs more itself
    assert small.rss_bytes < own
    assert 64 << 20 < large.rss_bytes < 64 << 21


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -SEGV $$"), 139),
        (("/nowhere/at/all",), 127),
        (("/dev/null",), 126),
    ],
)
def test_meter_ends_as_its_command(payload: Payload, tmp_path: Path, command: tuple[str, ...], code: int) -> None:
    """With its exit code, or 128 and the number of its signal, which it also tells."""
    found, ended = measured(payload, tmp_path, *command)
    assert (code, code) == (found.code, ended)


def test_gate_that_nobody_keeps_is_open(payload: Payload, tmp_path: Path) -> None:
    """A harness that is gone holds no build."""
    with metered(payload, tmp_path, "sh", "-c", "exit 3") as (process, line):
        line.close()
        assert process.wait(SECONDS) == 3
    assert (tmp_path / "g").exists()
