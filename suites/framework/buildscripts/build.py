"""One call of a wrapper: begun, met at the gates of its scripts, ended within a deadline (layer 1)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from signal import SIGKILL
from types import TracebackType

from suites.framework import process, signals
from suites.framework.buildscripts.gate import Gate, Gatehouse
from suites.framework.model import Evidence, Reason
from suites.framework.observation import Unmet
from suites.framework.process import Child, Status, exited
from suites.framework.waiting import Capture, Deadline, Waiter

KEPT = 1 << 20
"""Bytes that are kept of each stream of a call."""
_SHOWN = 40
_MEANWHILE_S = 0.1
RACE = "a race of its own"
"""What is observed where a wrapper says that it has failed in one (`BuildscriptsCall.race`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a call ended. Seconds on the monotonic clock, CPU seconds of it and all that was waited for below it."""

    status: Status
    stdout: bytes
    stderr: bytes
    seconds: float
    cpu_s: float
    rss_bytes: int

    @property
    def said(self) -> str:
        """Return what it wrote, errors last."""
        return (self.stdout + self.stderr).decode(errors="backslashreplace")


class Build:
    """A call that runs. Where a wrapper is called once for each step, it is all of these calls, up to one that fails.

    Gates that the test does not ask for open by themselves while it waits for something else.
    """

    def __init__(
        self,
        calls: Sequence[Sequence[str]],
        *,
        environment: Mapping[str, str],
        stdin: int | None,
        fds: Mapping[int, int],
        waiter: Waiter,
        gatehouse: Gatehouse,
        seconds: float,
        failing: Callable[[], None],
        race: str = "",
    ) -> None:
        """Start the first call; `stdin` is a descriptor of ours, none for /dev/null. `failing` is told of a failure.

        Unmet is raised where a call fails and says what `race`, a regular expression, finds; empty finds nothing.
        """
        self._calls, self._environment = list(calls), dict(environment)
        self._waiter, self._gatehouse, self._seconds, self._failing = waiter, gatehouse, seconds, failing
        given = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) if stdin is None else os.dup(stdin)
        self._fds = {0: given} | {number: os.dup(fd) for number, fd in fds.items()}
        self._sent, self._race = set[int](), race
        self._closed = self.cut_short = False
        self.children: list[Child] = []
        self.gates: list[Gate] = []
        """Every gate that was reached during it, in order."""
        self.meanwhile: Callable[[Gate | None], object] | None = None
        """Called with each gate that is reached, and with none several times a second while this waits."""
        self._captures: dict[str, Capture] = {}
        self._writing: dict[int, int] = {}
        for number, title in ((1, "stdout"), (2, "stderr")):
            if number not in self._fds:
                reading, self._writing[number] = os.pipe()
                self._captures[title] = waiter.add(Capture(reading, title=title, limit=KEPT))
        self._start()

    def _start(self) -> None:
        words = self._calls.pop(0)
        try:
            self.children.append(process.spawn(words, environment=self._environment, fds=self._fds | self._writing))
        except OSError as error:
            self.close()
            raise Unmet("the target executed", os.strerror(error.errno or 0)) from error
        if not self._calls:
            self._let_go()

    def _let_go(self) -> None:
        """Close our copies of what the calls are given, so that the ends of their streams are seen."""
        for fd in {*self._fds.values(), *self._writing.values()}:
            os.close(fd)
        self._fds, self._writing = {}, {}

    # -- acting

    @property
    def child(self) -> Child:
        """Return the process of the call that runs, or of the last one."""
        return self.children[-1]

    def send(self, number: int) -> None:
        """Send a signal to the wrapper alone."""
        self._sent.add(number)
        self.child.send(number)

    def gate(self, step: str, label: str = "ran") -> Gate:
        """Wait until the script of a step stands at a gate, opening others; Unmet where it does not come."""
        deadline = Deadline(self._seconds)
        while True:
            gate = self._next(deadline)
            if gate is None:
                what = self.fate()[0] if self._over() else "it did not come"
                reason = None if self._over() else Reason.TIMEOUT
                raise Unmet(f"step {step} at its gate {label}", what, reason=self.fate()[1] or reason)
            if (gate.step, gate.label) == (step, label):
                return gate
            gate.open()

    def gathered(self, step: str, *labels: str) -> dict[str, Gate]:
        """Wait until processes of a step stand at all of these gates at once; Unmet where one does not come."""
        deadline, found = Deadline(self._seconds), dict[str, Gate]()
        while missing := [label for label in labels if label not in found]:
            gate = self._next(deadline)
            if gate is None:
                raise Unmet(f"step {step} at its gates {', '.join(missing)}", self.fate()[0], reason=self.fate()[1])
            if gate.step == step and gate.label in missing:
                found[gate.label] = gate
            else:
                gate.open()
        return found

    def end(self, *, within: float | None = None) -> Ended:
        """Return how it ended, opening all gates; Unmet where it did not within its liveness deadline."""
        deadline = Deadline(max(within or 0.0, self._seconds))
        while gate := self._next(deadline):
            gate.open()
        if not self._over():
            raise Unmet("the wrapper ended", "it was still running at the deadline", reason=Reason.TIMEOUT)
        return self.ended()

    def ended(self) -> Ended:
        """Return how it ended, which it has."""
        assert self.child.status is not None
        return Ended(
            status=self.child.status,
            stdout=self.output("stdout"),
            stderr=self.output("stderr"),
            seconds=sum(child.alive_s for child in self.children),
            cpu_s=sum(child.cpu_s for child in self.children),
            rss_bytes=max(child.rss_bytes for child in self.children),
        )

    def _next(self, deadline: Deadline) -> Gate | None:
        """Return the next gate that is reached; None once the wrapper has ended, or the deadline has passed."""
        while True:
            door = self._gatehouse.fileno()
            ready = self._ready(door, deadline) if not self._over() else ()
            if not ready:
                ready = self._waiter.wait((door,), Deadline(0))
            if door in ready:
                if gate := self._gatehouse.take(self):
                    self.gates.append(gate)
                    if self.meanwhile:
                        self.meanwhile(gate)
                    return gate
            elif ready:
                self._advance()
            else:
                return None

    def _ready(self, door: int, deadline: Deadline) -> tuple[int, ...]:
        """Wait for a gate or for the end of the wrapper."""
        while self.meanwhile and not deadline.passed:
            self.meanwhile(None)
            short = Deadline(min(deadline.remaining, _MEANWHILE_S))
            if ready := self._waiter.wait((door, *self.watch()), short):
                return ready
        return self._waiter.wait((door, *self.watch()), deadline)

    def _advance(self) -> None:
        """Reap a call that has ended, and begin the next after a success."""
        failed = self.child.wait(Deadline(0), self._waiter) != exited(0)
        if failed and self._race and re.search(self._race, self.ended().said):
            raise Unmet("an end that follows from what it was given", RACE)
        if not failed and self._calls:
            self._start()

    def _over(self) -> bool:
        return self.child.status is not None and not (self.child.status == exited(0) and self._calls)

    # -- looking

    def watch(self) -> tuple[int, ...]:
        """Return the wrapper's pidfd while it is not known to have ended."""
        return (self.child.pidfd,) if self.child.status is None else ()

    def fate(self) -> tuple[str, Reason | None]:
        """Return how the wrapper stands, and whether it crashed."""
        status = self.child.wait(Deadline(0), self._waiter)
        if status is None:
            return "the wrapper is running", None
        crashed = status.signal in signals.CRASHES - self._sent
        return f"the wrapper ended: {status}", Reason.CRASH if crashed else None

    def output(self, title: str) -> bytes:
        """Return what came over ``stdout`` or ``stderr`` so far; nothing where the case gave its own."""
        capture = self._captures.get(title)
        if capture is not None and capture.fd >= 0:
            capture.drain()
        return capture.data if capture is not None else b""

    def evidence(self) -> Sequence[Evidence]:
        """Return how the wrapper stands, where its scripts were, and the ends of its streams."""
        gates = "\n".join(f"{gate.step}: {gate.label}" for gate in self.gates) or "none"
        shown = [Evidence(title="wrapper", text=self.fate()[0]), Evidence(title="gates", text=gates)]
        said = {title: self.output(title).decode(errors="backslashreplace") for title in self._captures}
        shown += [Evidence(title=title, text="\n".join(text.splitlines()[-_SHOWN:])) for title, text in said.items()]
        return [piece for piece in shown if piece.text]

    def __enter__(self) -> Build:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look at everything if the test is failing, then end it."""
        if error is not None:
            self._failing()
        self.close()

    def kill(self) -> Status:
        """Kill the wrapper alone (KILL), as a full machine does, and return its status; its scripts live on."""
        self._sent.add(SIGKILL)
        self._calls.clear()
        self._let_go()
        return self.child.kill()

    def close(self) -> None:
        """Kill the wrapper if it runs, and read no further; safe to repeat."""
        if self._closed:
            return
        self._closed = True
        self._calls.clear()
        self._let_go()
        if self.children:
            self.cut_short |= self.child.wait(Deadline(0), self._waiter) is None
            self.child.kill()
        for capture in self._captures.values():
            if capture.fd >= 0:
                capture.drain()
                self._waiter.remove(capture)
