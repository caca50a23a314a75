"""One run of a container init: signalled, watched, waited for, with all that it leaves as evidence (layer 1)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from suites.catalog import Mode, Privilege
from suites.framework import probes, proc, process, signals
from suites.framework.errors import InfrastructureError
from suites.framework.launch import NotLaunched, launch
from suites.framework.model import Evidence, Reason
from suites.framework.observation import Unmet
from suites.framework.process import Child, Status
from suites.framework.recorder import Recorder, State
from suites.framework.terminal import Terminal
from suites.framework.waiting import Capture, Deadline, Waiter, ticks

if TYPE_CHECKING:
    from suites.framework.targets.init import Init

PATIENCE_S = 0.1
"""How long the fence waits for a signal before it; no bound: one that is late still comes before the fence."""
CHANNEL = 7
"""The descriptor over which a payload records; the suites expect a child to hold exactly 0, 1, 2 and this one."""


class Run:
    """One run of an init, from spawn to reaping."""

    def __init__(
        self,
        init: Init,
        words: Sequence[str | bytes],
        *,
        terminal: Terminal | None,
        fds: Mapping[int, int],
        without: Set[int],
        ignore: Sequence[int],
        limits: Mapping[str, int],
        environment: Mapping[bytes, bytes],
    ) -> None:
        """Start the process; raises Unmet when the target cannot be executed."""
        self.init, self._bench = init, init.bench
        self._sent: set[int] = set()
        self._waiter = Waiter()
        self._cut_short = False
        self._limits = [word for name, value in limits.items() for word in ("--limit", f"{name}={value}")]
        self._entered: list[Child] = []
        self._read = 0
        self._given_away: list[int] = []
        self._given: dict[int, str] = {}
        self._captures: list[Capture] = []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.child = Recorder(ours, nonce=self._bench.nonce, waiter=self._waiter, seconds=init.seconds, supervisor=self)
        self.process: Child | None = None
        self._bench.launches.append(self)
        with theirs:
            layout = self._layout(theirs.fileno(), terminal, fds)
            layout = {inside: ours for inside, ours in layout.items() if inside not in without}
            self._given = {inside: str(Path(f"/proc/self/fd/{ours}").readlink()) for inside, ours in layout.items()}
            try:
                self.process = self._launch(words, terminal, layout, ignore, environment)
            finally:
                for fd in self._given_away:
                    os.close(fd)

    def _layout(self, channel: int, terminal: Terminal | None, fds: Mapping[int, int]) -> dict[int, int]:
        """Return descriptor number: ours, for 0, 1, 2, the channel and what the test adds."""
        layout = {CHANNEL: channel}
        if terminal is not None:
            layout |= dict.fromkeys((0, 1, 2), terminal.slave)
            limit = self._bench.context.limits.output_bytes
            self._captures.append(self._waiter.add(Capture(os.dup(terminal.master), title="terminal", limit=limit)))
        else:
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            self._given_away.append(null)
            layout |= {0: null, 1: self._captured("stdout"), 2: self._captured("stderr")}
        return layout | dict(fds)

    def _captured(self, title: str) -> int:
        reading, writing = os.pipe()
        self._given_away.append(writing)
        limit = self._bench.context.limits.output_bytes
        self._captures.append(self._waiter.add(Capture(reading, title=title, limit=limit)))
        return writing

    def _launch(
        self,
        words: Sequence[str | bytes],
        terminal: Terminal | None,
        layout: Mapping[int, int],
        ignore: Sequence[int],
        environment: Mapping[bytes, bytes],
    ) -> Child:
        target = self.init.target
        options = ["--directory", str(self._bench.home)]
        if self.init.mode is Mode.PID1:
            options += ["--pid1", *(["--user"] if self._bench.privilege is Privilege.ROOTLESS else [])]
        if terminal is not None:
            options += ["--session", "--terminal", "0"]
        if ignore:
            options += ["--ignore", ",".join(map(str, ignore))]
        options += self._limits
        given = {os.fsdecode(name): os.fsdecode(value) for name, value in environment.items()}
        try:
            return launch(
                [*self._bench.wrapping(target), *words],
                payload=self._bench.payload,
                options=options,
                environment={**self._bench.environment, **target.environment, **given},
                fds=layout,
                waiter=self._waiter,
            )
        except NotLaunched as error:
            if error.step == "exec":
                raise Unmet("the target executed", error.why) from error
            raise InfrastructureError("the target was not launched", why=str(error)) from error

    # -- acting

    def __enter__(self) -> Run:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look at everything if the test is failing, then end this run."""
        if error is not None:
            self._bench.record_failure()
        self.close()

    @property
    def pid(self) -> int:
        """Return the init's process id as the worker sees it."""
        assert self.process is not None
        return self.process.pid

    @property
    def pid_inside(self) -> int:
        """Return the init's process id as its child sees it."""
        return 1 if self.init.mode is Mode.PID1 else self.pid

    def send(self, *numbers: int) -> None:
        """Send signals to the init, in this order."""
        assert self.process is not None
        for number in numbers:
            self._sent.add(number)
            self.process.send(number)

    def heard(self, *numbers: int) -> tuple[int, ...]:
        """Send signals, and the fence when they have come or stay away; return what the child received before it.

        Sent at once, the fence may overtake them: its handler interrupts theirs, and nothing orders different signals.
        """
        fence = self.init.fence
        self.send(*numbers)
        heard = self.child.signals_within(PATIENCE_S, most=len(numbers))
        self.send(fence)
        heard += self.child.signals_until(fence)
        if any(number > fence for number in numbers):  # they may come after a lower fence, but not after a second one
            self.send(fence)
            heard += self.child.signals_until(fence)
        return heard

    def ended(self, *, within: float | None = None) -> Status:
        """Return the init's status, waiting for its end; `within` seconds is a liveness deadline."""
        assert self.process is not None
        status = self.process.wait(Deadline(max(within or 0.0, self.init.seconds)), self._waiter)
        if status is None:
            raise Unmet("the init ended", "it was still running at the deadline", reason=Reason.TIMEOUT)
        return status

    def stays(self, seconds: float) -> bool:
        """Return whether the init is still running after `seconds`, having watched it all the time."""
        assert self.process is not None
        return self.process.wait(Deadline(seconds), self._waiter) is None

    def note(self, name: str, value: object) -> None:
        """Keep a measured value for the report."""
        self._bench.note(name, value)

    def end_of(self, recorder: Recorder, *, seconds: float | None = None) -> str:
        """Wait for the end of an adopted orphan; return ``reaped``, or ``left as a zombie`` past the deadline."""
        deadline = Deadline(seconds or self.init.seconds)
        for _ in ticks(deadline):
            if proc.state(recorder.pid) == "":
                return "reaped"
        return {"Z": "left as a zombie"}.get(proc.state(recorder.pid), "still alive")

    def signal(self, recorder: Recorder, number: int) -> None:
        """Send a signal straight to a recording process, past the init."""
        os.kill(recorder.pid, number)

    def state_of(self, recorder: Recorder, wanted: str) -> str:
        """Return the state letter of a recording process, waiting for `wanted` until the deadline."""
        return self.state_of_pid(recorder.pid, wanted)

    def state_of_pid(self, pid: int, wanted: str) -> str:
        """Return the state letter of a process (empty = gone), waiting for `wanted` until the deadline."""
        for _ in ticks(Deadline(self.init.seconds)):
            if proc.state(pid) == wanted:
                break
        return proc.state(pid)

    def foreground(self, terminal: Terminal, *, child: Recorder | None = None) -> str:
        """Wait until the child's group is in the terminal's foreground; return who is there."""
        for _ in ticks(Deadline(self.init.seconds)):
            if terminal.foreground == (child or self.child).pid:
                return "the child"
        return "the init" if terminal.foreground == self.pid else "another process"

    def hang_up(self, terminal: Terminal) -> None:
        """Close the master of the run's terminal, and with it every descriptor of ours of that terminal."""
        for capture in self._captures:
            self._waiter.remove(capture)
        terminal.close()

    def enter(self) -> tuple[Recorder, State]:
        """Start a recording process in the namespaces of PID 1, whose parent is outside (setns(2)); return it ready."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        entered = self.child.beside(ours)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        user = ["--user", "--preserve-credentials"] if self._bench.privilege is Privilege.ROOTLESS else []
        words = [probes.tool("nsenter"), f"--target={self.pid}", *user, "--mount", "--pid", "--"]
        try:
            self._entered.append(
                process.spawn(
                    [*words, *self.init.recorder_words()],
                    environment=self._bench.environment,
                    fds={0: null, 1: null, 2: null, CHANNEL: theirs.fileno()},
                )
            )
        finally:
            os.close(null)
            theirs.close()
        return entered, entered.ready()

    # -- looking

    def printed(self, wanted: str) -> str:
        """Wait until the terminal shows `wanted`; return what it shows since the last call, up to and including it."""
        (capture,) = self._captures
        deadline = Deadline(self.init.seconds)
        while (at := capture.data.find(wanted.encode(), self._read)) < 0:
            if capture.fd < 0 or not self._waiter.wait((capture.fd,), deadline):
                raise Unmet(f"{wanted!r} on the terminal", "it did not appear", reason=Reason.TIMEOUT)
            if not capture.drain():
                self._waiter.remove(capture)
        begin, self._read = self._read, at + len(wanted.encode())
        return capture.data[begin : self._read].decode(errors="replace")

    def who(self, pid: int) -> str:
        """Return who has this process id inside: ``the init``, ``its child`` or ``another process``."""
        return {self.pid_inside: "the init"}.get(pid, "another process")

    def survivors(self) -> tuple[str, ...]:
        """Return the processes of this test that are alive, as far as the worker descends to them."""
        return self._bench.survivors()

    @property
    def given(self) -> dict[int, str]:
        """Return descriptor number: what /proc says of it, for all that the init was started with."""
        return self._given

    @property
    def waiter(self) -> Waiter:
        """Return the waiter that drains this run's output, for a test that waits for something of its own."""
        return self._waiter

    def output(self, title: str) -> bytes:
        """Return what was captured of ``stdout`` or ``stderr`` so far."""
        for capture in self._captures:
            if capture.title == title and capture.fd >= 0:
                capture.drain()
        return next(capture.data for capture in self._captures if capture.title == title)

    def watch(self) -> tuple[int, ...]:
        """Return the init's pidfd while it is not known to have ended."""
        return (self.process.pidfd,) if self.process is not None and self.process.status is None else ()

    def fate(self) -> tuple[str, Reason | None]:
        """Return how the init stands, and whether it crashed."""
        if self.process is None:
            return "the init was not started", None
        status = self.process.wait(Deadline(0), self._waiter)
        if status is None:
            return "the init is running", None
        if status.signal in signals.CRASHES - self._sent:
            return f"the init crashed: {status}", Reason.CRASH
        return f"the init ended: {status}", None

    def evidence(self) -> Sequence[Evidence]:
        """Return the command, the output's tail, the signal log and how the init stands now."""
        log = "\n".join(map(str, self.child.history())) or "nothing was recorded"
        status = "not started" if self.process is None else str(self.process.status or proc.describe(self.process.pid))
        shown = [Evidence(title="init", text=status), Evidence(title="records", text=log)]
        for capture in self._captures:
            if capture.fd >= 0:
                capture.drain()
            if capture.data:
                shown.append(Evidence(title=capture.title, text=_tail(capture.data)))
        return shown

    @property
    def cut_short(self) -> bool:
        """Return whether the harness killed this init."""
        return self._cut_short

    @property
    def proven(self) -> bool:
        """Return whether the payload recorded under this init."""
        return bool(self.child.history())

    @property
    def cost(self) -> tuple[float, float, int]:
        """Return seconds from spawn to reaping, CPU seconds, peak memory in bytes."""
        if self.process is None:
            return 0.0, 0.0, 0
        return self.process.alive_s, self.process.cpu_s, self.process.rss_bytes

    def close(self) -> None:
        """Kill and reap the init, hang up, drain its output; safe to repeat."""
        self.child.close()
        if self.process is not None:
            self._cut_short |= self.process.wait(Deadline(0), self._waiter) is None
            self.process.kill()
        for entered in self._entered:
            entered.kill()
        self._waiter.finish()


def _tail(data: bytes, *, lines: int = 40) -> str:
    return "\n".join(data.decode(errors="backslashreplace").splitlines()[-lines:])
