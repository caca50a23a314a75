"""The far end of a console socket, over which a runtime sends the master of a container's terminal (layer 1).

A runtime connects and sends one descriptor (SCM_RIGHTS, unix(7)); the words beside it are its own affair.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from suites.framework.model import Reason
from suites.framework.observation import Unmet
from suites.framework.waiting import Deadline, Waiter

NAME = "tty"
"""Of the socket, in the test's own folder: unix(7) allows 108 bytes, and runtimes connect by the path as given."""
_WORDS = 4096
_DESCRIPTORS = 8
"""More than one that is meant, so that a runtime which sends too many is caught in it."""


class Owner(Protocol):
    """Something that tidies up in the end and has a short folder, such as a test's bench."""

    def own(self, cleanup: Callable[[], object]) -> None:
        """Call this in the end."""
        ...

    def make_folder(self) -> Path:
        """Return a folder that must be empty again in the end."""
        ...


class Console:
    """A listening console socket of one test, and the terminal that came through it."""

    def __init__(self, bench: Owner) -> None:
        """Listen; whatever comes is taken by `master`."""
        self.path: Path = bench.make_folder() / NAME
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._fds: list[int] = []
        bench.own(self.close)
        self._listener.bind(str(self.path))
        self.path.chmod(0o777)
        self._listener.listen(8)

    def options(self, words: Sequence[str]) -> list[str]:
        """Return the options of a profile with the socket's path in them."""
        return [word.replace("{socket}", str(self.path)) for word in words]

    def master(self, *, waiter: Waiter, seconds: float) -> int:
        """Return the one descriptor that a runtime sends, which stays ours to close; Unmet for none or several."""
        wanted, deadline = "a terminal over the console socket", Deadline(seconds)
        if not waiter.wait((self._listener.fileno(),), deadline):
            raise Unmet(wanted, "nobody connected", reason=Reason.TIMEOUT)
        connection = self._listener.accept()[0]
        with connection:
            if not waiter.wait((connection.fileno(),), deadline):
                raise Unmet(wanted, "nothing was sent", reason=Reason.TIMEOUT)
            fds = _descriptors(connection)
        self._fds += fds
        if len(fds) != 1:
            raise Unmet("one descriptor over the console socket", f"{len(fds)} came")
        if not os.isatty(fds[0]):
            raise Unmet(wanted, "another file came")
        return fds[0]

    def close(self) -> None:
        """Hang up and remove the socket; safe to repeat."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        self._listener.close()
        self.path.unlink(missing_ok=True)


def _descriptors(connection: socket.socket) -> list[int]:
    """Return the descriptors of one message, close-on-exec; none where the other side hung up."""
    room = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)
    try:
        _, ancillary, _, _ = connection.recvmsg(_WORDS, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return []
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)
