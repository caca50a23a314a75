"""Gates in build scripts: each records the test's nonce when it is reached, and holds the script there (layer 1).

A gate is a payload process that the script calls. It connects to the test's socket, tells what it is and what it was
given, and ends when the test says so: a test knows where a script stands, and no time is involved.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from suites.framework.observation import Unmet
from suites.framework.recorder import Recorder, State, Supervisor, recording_socket
from suites.framework.waiting import Waiter

BACKLOG = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A script that waits at ``mark LABEL WORD...``."""

    step: str
    label: str
    words: tuple[bytes, ...]
    """What it gave beside the label."""
    recorder: Recorder
    state: State
    """Environment, descriptors, directory and the like of the process that waits, as the script's own children get
    them."""

    def open(self, code: int = 0) -> None:
        """Let the script go on; `code` is the status of ``mark``. One whose process has ended is no error."""
        with contextlib.suppress(Unmet):
            self.recorder.tell(f"exit {code}")


class Gatehouse:
    """Where all scripts of one test report."""

    def __init__(self, path: Path, *, nonce: str, waiter: Waiter, seconds: float) -> None:
        """Listen at a short path, which is removed by `close`."""
        self.path, self._nonce, self._waiter, self._seconds = path, nonce, waiter, seconds
        self.seen: list[Gate] = []
        self._listener = recording_socket()
        self._listener.bind(str(path))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        path.chmod(0o777)

    def recording(self, payload: Sequence[str]) -> list[str]:
        """Return the words that start a gate, before step and label."""
        return [*payload, "agent", str(self.path), self._nonce]

    def metering(self, payload: Sequence[str]) -> list[str]:
        """Return the words that start a meter, before step, label and the command that it measures."""
        return [*payload, "meter", str(self.path), self._nonce]

    def fileno(self) -> int:
        """Return the descriptor that is readable when a script has come."""
        return self._listener.fileno()

    def take(self, supervisor: Supervisor) -> Gate | None:
        """Return who has come, None where that was nobody of ours."""
        try:
            channel = self._listener.accept()[0]
        except BlockingIOError:
            return None
        recorder = Recorder(
            channel, nonce=self._nonce, waiter=self._waiter, seconds=self._seconds, supervisor=supervisor
        )
        try:
            gate = _gate(recorder, recorder.ready(), self._nonce)
        except Unmet:  # a stranger, or killed before it could speak
            recorder.close()
            return None
        self.seen.append(gate)
        return gate

    def close(self) -> None:
        """Hang up: gates that are still waited at open, and no other is reached; safe to repeat."""
        for gate in self.seen:
            gate.recorder.close()
        if self._listener.fileno() >= 0:
            self._listener.close()
            self.path.unlink(missing_ok=True)


def _gate(recorder: Recorder, state: State, nonce: str) -> Gate:
    """Return the gate that a process stands for, from its own words: NONCE STEP LABEL WORD..."""
    words = state.argv[state.argv.index(nonce.encode()) + 1 :]
    step, label, *rest = (*words, b"", b"")[: max(2, len(words))]
    return Gate(step=os.fsdecode(step), label=os.fsdecode(label), words=tuple(rest), recorder=recorder, state=state)
