"""The worker's standard input: the launcher's way to stop it, and its notice that the launcher is gone (layer 1).

Signals cannot serve: a target may call kill(-1), and a worker that is PID 1 must not mistake that for the user's
Ctrl-C. So the only way in is this descriptor: ``s`` asks for an orderly end, end of file means that nobody is left
to read the results, and the worker ends at once, taking its whole PID namespace along.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from suites.framework.errors import ExitCode


class Lifeline:
    """Watches a descriptor from a thread of its own and turns ``s`` into KeyboardInterrupt in the main thread."""

    def __init__(self, fd: int) -> None:
        """Watch `fd` once `start` is called."""
        self._fd = fd
        self._main = threading.get_ident()
        self.stopping = False

    def start(self) -> None:
        """Take over SIGINT, so that only the launcher's word interrupts, and begin to watch."""
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, self._interrupt)
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.stopping:
            raise KeyboardInterrupt

    def _watch(self) -> None:
        while word := self._next():
            if word == b"s" and not self.stopping:
                self.stopping = True
                signal.pthread_kill(self._main, signal.SIGINT)
        if not self.stopping:
            os._exit(ExitCode.INTERRUPTED)

    def _next(self) -> bytes:
        try:
            return os.read(self._fd, 1)
        except OSError:
            return b""
