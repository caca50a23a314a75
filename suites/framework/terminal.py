"""Pseudo-terminals of the harness's own (layer 1; pty(7), ioctl_tty(2))."""

from __future__ import annotations

import os
import termios
from types import TracebackType

INTERRUPT = b"\x03"
"""What Ctrl-C types: the line discipline makes SIGINT of it for the foreground process group."""
QUIT = b"\x1c"
"""What Ctrl-\\ types: SIGQUIT."""
SUSPEND = b"\x1a"
"""What Ctrl-Z types: SIGTSTP."""


class Terminal:
    """A pseudo-terminal: `master` stays with the test, `slave` becomes the target's controlling terminal."""

    def __init__(self) -> None:
        """Open a pair; echo is off, so that what is read back is what the target wrote."""
        self.master, self.slave = os.openpty()
        for fd in (self.master, self.slave):
            os.set_inheritable(fd, False)
        settings = termios.tcgetattr(self.slave)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(self.slave, termios.TCSANOW, settings)

    def press(self, keys: bytes) -> None:
        """Write keys as a person at the terminal would."""
        os.write(self.master, keys)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size, as a terminal emulator does that is dragged at its corner (TIOCSWINSZ)."""
        termios.tcsetwinsize(self.master, (rows, columns))

    @property
    def foreground(self) -> int:
        """Return the foreground process group as seen from the worker's pid namespace (tcgetpgrp(3))."""
        return os.tcgetpgrp(self.master)

    def close_slave(self) -> None:
        """Give the slave away; safe to repeat."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1

    def close(self) -> None:
        """Hang up; safe to repeat."""
        self.close_slave()
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def __enter__(self) -> Terminal:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up."""
        self.close()
