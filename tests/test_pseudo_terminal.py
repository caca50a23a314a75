"""Pseudo-terminals of the harness's own."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios

import pytest

from suites.framework.process import killed, spawn
from suites.framework.terminal import INTERRUPT, Terminal
from suites.framework.waiting import Deadline, Waiter

SECONDS = 10.0
LEADER = """
import fcntl, os, signal, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.write(1, b"ready")
signal.pause()
"""


def test_what_is_read_is_what_was_written() -> None:
    """Echo is off: keys reach the slave and do not come back to the master."""
    with Terminal() as terminal:
        terminal.press(b"hello\n")
        assert b"hello\n" == os.read(terminal.slave, 100)
        assert ([], [], []) == select.select([terminal.master], [], [], 0)
        assert not termios.tcgetattr(terminal.slave)[3] & termios.ECHO


def test_no_program_inherits_a_terminal_by_accident() -> None:
    """Both ends are closed by an exec unless they are handed over."""
    with Terminal() as terminal:
        assert [False, False] == [os.get_inheritable(fd) for fd in (terminal.master, terminal.slave)]


def test_ctrl_c_reaches_the_foreground_group() -> None:
    """A leader that took the terminal is its foreground, and dies of the key that interrupts."""
    with Terminal() as terminal:
        leader = spawn(
            [sys.executable, "-I", "-S", "-c", LEADER], environment={}, fds=dict.fromkeys((0, 1, 2), terminal.slave)
        )
        terminal.close_slave()
        assert select.select([terminal.master], [], [], SECONDS)[0]
        assert b"ready" == os.read(terminal.master, 100)
        assert leader.pid == terminal.foreground
        terminal.press(INTERRUPT)
        assert killed(signal.SIGINT) == leader.wait(Deadline(SECONDS), Waiter())


def test_a_new_size_is_seen_at_the_other_end() -> None:
    """Rows and columns are those of the window."""
    with Terminal() as terminal:
        terminal.resize(33, 99)
        assert os.terminal_size((99, 33)) == os.get_terminal_size(terminal.slave)


def test_close_is_safe_to_repeat() -> None:
    """Everything can be given away twice."""
    terminal = Terminal()
    for _ in range(2):
        terminal.close_slave()
        terminal.close()
    assert (-1, -1) == (terminal.master, terminal.slave)
    with pytest.raises(OSError, match="Bad file descriptor"):
        terminal.press(b"x")
