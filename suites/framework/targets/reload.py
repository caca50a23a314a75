"""How the suites watch an init start its child again: each child connects anew (layer 1)."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from suites.framework import proc, sockets
from suites.framework.model import Reason
from suites.framework.observation import Unmet
from suites.framework.recorder import Recorder, State, recording_socket
from suites.framework.targets.init import Init
from suites.framework.targets.run import Run
from suites.framework.waiting import Deadline

DEBOUNCE_MS = 50


class Starts:
    """The children of one run of an init, one after another, each with a channel of its own."""

    def __init__(self, init: Init) -> None:
        """Listen for children of this test."""
        self.init, self.count = init, 0
        self.path = init.bench.make_folder() / "c"
        self._listener = recording_socket()
        self._listener.bind(str(self.path))
        init.bench.own(self._close)
        self.path.chmod(0o777)
        self._listener.listen(16)

    def _close(self) -> None:
        self._listener.close()
        self.path.unlink()

    def command(self, *words: str) -> list[str]:
        """Return the words of a recording child that connects to this object (``serve``, ``retire``: see payload.c)."""
        return [*self.init.bench.payload, "agent", str(self.path), self.init.bench.nonce, *words]

    def next(self, run: Run) -> tuple[Recorder, State]:
        """Return the child that was started next, when it is ready; Unmet when none comes."""
        ready = run.waiter.wait((self._listener.fileno(), *run.watch()), Deadline(self.init.seconds))
        if self._listener.fileno() not in ready and not run.waiter.wait((self._listener.fileno(),), Deadline(0)):
            words, crash = run.fate()
            raise Unmet("a child started", f"no child; {words}", reason=crash or (None if ready else Reason.TIMEOUT))
        child = run.child.beside(self._listener.accept()[0])
        self.count += 1
        return child, child.ready()


class Program:
    """A script that becomes a recording child and that a test changes; its version is a word of the child."""

    def __init__(self, starts: Starts, *words: str) -> None:
        """Write the first version, ``v1``; `words` are those of the child (``serve``, ``retire``)."""
        self._starts, self._words, self._number = starts, words, 1
        self.path = starts.init.bench.make_folder() / "program"
        self.path.write_text(self._text())
        self.path.chmod(0o755)
        starts.init.bench.own(self.path.unlink)

    @property
    def version(self) -> str:
        """Return the version that stands in the file."""
        return f"v{self._number}"

    def _text(self) -> str:
        return f"#!/bin/sh\nexec {shlex.join(self._starts.command(self.version, *self._words))}\n"

    def write(self) -> None:
        """Write the next version into the file, as `cp` does."""
        self._number += 1
        self.path.write_text(self._text())

    def replace(self) -> None:
        """Put another file with the next version in its place, as `mv` and `install` do."""
        self._number += 1
        new = self.path.with_suffix(".new")
        new.write_text(self._text())
        new.chmod(0o755)
        new.rename(self.path)


def version_of(state: State) -> str:
    """Return the version of the program that a child was started from."""
    return next((word.decode() for word in state.argv if word.startswith(b"v") and word[1:].isdigit()), "none")


class Watched:
    """A file beside the command that an init is told to watch."""

    def __init__(self, init: Init) -> None:
        """Make it."""
        self.path: Path = init.bench.make_folder() / "watched"
        self.path.touch()
        init.bench.own(self.path.unlink)

    def touch(self) -> None:
        """Change its times and nothing else, through a descriptor that is open for writing as that of `touch` is."""
        with self.path.open("ab") as file:
            os.utime(file.fileno())


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A run whose child serves a port, and starts again when a file is touched."""

    run: Run
    starts: Starts
    watched: Watched
    port: int
    first: tuple[Recorder, State]

    def restart(self) -> tuple[Recorder, State]:
        """Restart the child once; return the new one."""
        self.watched.touch()
        return self.starts.next(self.run)

    @property
    def sockets(self) -> tuple[int, int]:
        """Return how many descriptors the init holds, and how many sockets listen at the port."""
        return len(proc.descriptors(self.run.pid)), sockets.listening(self.port)


@contextmanager
def served(init: Init) -> Iterator[Service]:
    """Yield a service whose first child is there, and which restarts without delay."""
    starts, watched, port = Starts(init), Watched(init), sockets.reserve(init.bench)
    options = (*init.listening(port), *init.reloading(debounce_ms=DEBOUNCE_MS, path=watched.path))
    with init.start(starts.command("serve", "retire"), options=options) as run:
        yield Service(run=run, starts=starts, watched=watched, port=port, first=starts.next(run))
