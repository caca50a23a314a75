"""Runs one command behind a wall, within its limits, and accounts for it in events, log and metrics (layer 2)."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from suites.framework import proc
from suites.framework.cleanup import await_death, signal_process
from suites.framework.environments.driver import signal_name
from suites.framework.environments.run_cgroup import RunCgroup
from suites.framework.events import EventLog
from suites.framework.facts import Fact
from suites.framework.hooks import NO_HOOKS, Hooks
from suites.framework.hookspecs import HookStep
from suites.framework.keeper import Keeper
from suites.framework.model import Ended, Evidence, Limits, Outcome, Planned, Reason, Started
from suites.framework.sampler import INTERVAL_S, MetricsFile, Sampler
from suites.framework.steps import barrier
from suites.framework.steps.log import CappedLog
from suites.framework.steps.memory import MemoryWatch
from suites.framework.steps.step import Step, StepEnd

_CHUNK = 1 << 16
_FULL_BYTES = 1 << 16
"""A file system with less room than this is full."""
_WARDEN_S = 2.0
"""How long a warden may take to end what is below it; a build of the same user could have stopped it."""
_LEFT = 16
"""Chunks that a full pipe holds at most."""
_ERRORS = (Reason.HOOK, Reason.NOT_STARTED, Reason.DISK_FULL, Reason.INTERRUPTED)
"""What says nothing about the target: such a step is errored, any other bad end has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Where the steps of a phase are accounted for."""

    events: EventLog
    run: Path
    """The run directory."""
    environment: str = "host"
    metrics: MetricsFile | None = None
    hooks: Hooks = NO_HOOKS
    keeper: Keeper | None = None
    """Cleans up what a killed launcher leaves."""

    def execute(self, step: Step, log: Path) -> StepEnd:
        """Run a step to its end or the end of its patience and return how it ended; nothing of it lives then.

        Behind a wall of namespaces where the machine gives one, hence also when this process is killed. Memory and
        processes are limited by a cgroup, which only root can make; without one by RLIMIT_NPROC and by measuring.
        KeyboardInterrupt ends the step and is raised again.
        """
        hooked = HookStep(kind="step", name=step.name, environment=self.environment, target=step.target, run=self.run)
        self._announce(step)
        said = [self.hooks.before(hooked)]
        if said[0]:
            end = _not_started(log, Reason.HOOK, said[0])
        else:
            attempt = _Attempt(step, log=log, metrics=self.metrics, keeper=self.keeper)
            try:
                end = attempt.run(lambda: said.append(self.hooks.during(hooked)))
            except KeyboardInterrupt:
                self._write(step, attempt.interrupted())
                self.hooks.after(hooked, Outcome.ERRORED.value)  # what `before` started wants to be ended
                raise
        said.append(self.hooks.after(hooked, _outcome(end).value))
        end = _with_complaints(end, [text for text in said if text])
        self._write(step, end)
        return end

    def _announce(self, step: Step) -> None:
        file, title = str(step.cwd), step.title
        self.events.write(
            Planned(node=step.name, cases=(), target=step.target, kind="", mode="", title=title, file=file, line=0)
        )
        self.events.write(Started(node=step.name))

    def _write(self, step: Step, end: StepEnd) -> None:
        self.events.write(
            Ended(
                node=step.name,
                outcome=_outcome(end),
                reason=end.reason or "",
                message="" if end.ok else f"{end.detail}; the log is {end.log}",
                expected="exit status 0",
                actual=end.detail,
                evidence=(Evidence(title="log", text=end.tail),) if end.tail and not end.ok else (),
                wall_s=end.wall_s,
                target_s=end.wall_s,
                cpu_s=end.cpu_s,
                rss_bytes=end.rss_bytes,
            )
        )


def _with_complaints(end: StepEnd, complaints: Sequence[str]) -> StepEnd:
    if not complaints or end.reason is Reason.HOOK:
        return end
    detail = "; ".join([*complaints, *([end.detail] if end.reason else [])])
    return replace(end, reason=Reason.HOOK, detail=detail)


def _outcome(end: StepEnd) -> Outcome:
    if end.reason is None:
        return Outcome.PASSED
    return Outcome.ERRORED if end.reason in _ERRORS else Outcome.FAILED


def _not_started(log: Path, reason: Reason, detail: str) -> StepEnd:
    return StepEnd(reason=reason, code=127, detail=detail, log=log, tail="", wall_s=0.0, cpu_s=0.0, rss_bytes=0)


@dataclass(slots=True)
class _Held:
    """A started command: its process, which is the wall's outermost program, and what came of it."""

    process: subprocess.Popen[bytes]
    pidfd: int
    report: int
    """Where the warden tells how the command ended."""
    started: float
    heard: float
    reason: Reason | None = None

    def end(self) -> None:
        """Kill everything: behind a wall PID 1 of the namespace, else what the warden ends or we find below it."""
        inner = [pid for pid in proc.children(self.process.pid) if _is_init(pid)]
        if not (inner and signal_process(inner[0], signal.SIGKILL, parent=self.process.pid)):
            os.kill(self.process.pid, signal.SIGTERM)
        if not await_death([self.pidfd], deadline_s=_WARDEN_S):
            return
        for pid in proc.descendants(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.sweep()

    def said(self) -> str:
        """Return what the warden reported, empty when it was killed before."""
        with suppress(BlockingIOError):
            return os.read(self.report, 64).decode()
        return ""

    def sweep(self) -> None:
        """Kill what is left of the session; the number is still ours, because nobody has reaped the process."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


def _pipe(stack: ExitStack) -> tuple[int, int]:
    """Return the ends of a pipe; the reading one does not block and is closed with the stack."""
    reading, writing = os.pipe()
    stack.callback(os.close, reading)
    os.set_blocking(reading, False)
    return reading, writing


def _told(said: str, returned: int) -> tuple[int, str]:
    """Return the exit code (negative for a signal) and why nothing was started, from the words of the warden.

    A warden that was not killed says something; without a word it is what stands before it that ended.
    """
    word, _, number = said.partition(" ")
    if word == "error":
        return 127, os.strerror(int(number))
    if word:
        return os.waitstatus_to_exitcode(int(word)), ""
    return returned, f"what limits it ended before, exit status {returned}" if 0 < returned < 128 else ""


def _is_init(pid: int) -> bool:
    """Return whether a process is PID 1 of a namespace below ours (NSpid of proc_pid_status(5))."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return len(line.split()) > 2 and line.split()[-1] == "1"
    return False


class _Attempt:
    """One execution of a step."""

    def __init__(self, step: Step, *, log: Path, metrics: MetricsFile | None, keeper: Keeper | None) -> None:
        """Take the step; nothing is started before `run`."""
        self.step, self.path, self.keeper = step, log, keeper
        self.sampler = Sampler(metrics) if metrics else None
        self.last = _not_started(log, Reason.INTERRUPTED, "interrupted")

    def interrupted(self) -> StepEnd:
        """Return the end of a step that was cut off."""
        return replace(self.last, reason=Reason.INTERRUPTED, detail="interrupted")

    def run(self, during: Callable[[], object]) -> StepEnd:
        """Start the command, call `during`, follow it to its end."""
        if trouble := self._trouble():
            return _not_started(self.path, Reason.NOT_STARTED, trouble)
        with ExitStack() as stack:
            output = stack.enter_context(CappedLog(self.path))
            cgroup = self._cgroup(stack)
            held, streams = self._start(stack, cgroup)
            try:
                during()
                self._follow(held, streams, output, cgroup)
            except BaseException:
                held.end()
                raise
            finally:
                self.last = self._ended(held, streams, output, cgroup)
        return self.last

    def _trouble(self) -> str:
        """Return why the command cannot be started, where that is known before."""
        if not self.step.cwd.is_dir():
            return f"its folder {self.step.cwd} does not exist"
        program = self.step.argv[0]
        if "/" in program:
            return "" if shutil.which(self.step.cwd / program) else f"{program} cannot be executed"
        found = shutil.which(program, path=self.step.environment.get("PATH", os.defpath))
        return "" if found else f"{program} is not on PATH"

    def _cgroup(self, stack: ExitStack) -> RunCgroup | None:
        if os.geteuid() != 0:
            return None
        limits = Limits(processes=self.step.limits.processes, memory_bytes=self.step.limits.memory_bytes)
        cgroup = RunCgroup.create(f"step-{self.step.target}", limits)
        stack.callback(cgroup.remove)
        if self.keeper:
            for path in cgroup.paths:
                self.keeper.record(cgroup=str(path))
        return cgroup

    def _start(self, stack: ExitStack, cgroup: RunCgroup | None) -> tuple[_Held, list[int]]:
        answer = stack.enter_context(self.step.output.open("wb")) if self.step.output else None
        reading, writing = _pipe(stack)
        report, telling = _pipe(stack)
        try:
            process = subprocess.Popen(
                barrier.words(self.step, cgroup=cgroup, report=telling, walled=barrier.walled(os.geteuid())),
                stdin=subprocess.DEVNULL,
                stdout=answer or writing,
                stderr=writing,
                env=dict(self.step.environment),
                cwd=self.step.cwd,
                pass_fds=(telling,),
                start_new_session=True,
            )
        finally:
            os.close(writing)
            os.close(telling)
        pidfd = os.pidfd_open(process.pid)
        stack.callback(os.close, pidfd)
        if self.keeper:
            self.keeper.record_process(process.pid)
        now = time.monotonic()
        if self.sampler:
            self.sampler.watch(self.step.name, process.pid)
        return _Held(process, pidfd, report, started=now, heard=now), [reading]

    def _follow(self, held: _Held, streams: list[int], output: CappedLog, cgroup: RunCgroup | None) -> None:
        """Copy the output until the command is over; end it when a limit is reached."""
        limits = self.step.limits
        memory = None if barrier.limited(cgroup, Fact.CGROUP_MEMORY) else MemoryWatch(limits.memory_bytes)
        while not self._over(held, streams, output):
            if held.reason is None and (reason := self._reached(held, memory)):
                for fd in streams:
                    self._rest(fd, held, output)
                held.reason = reason
                held.end()
            if self.sampler:
                self.sampler.tick()

    def _reached(self, held: _Held, memory: MemoryWatch | None) -> Reason | None:
        """Return which limit has been reached, if any."""
        now, limits = time.monotonic(), self.step.limits
        if now - held.started > limits.time_s:
            return Reason.TIMEOUT
        if now - held.heard > limits.silence_s:
            return Reason.SILENCE
        return Reason.OOM if memory and memory.exceeded(held.process.pid) else None

    def _over(self, held: _Held, streams: list[int], output: CappedLog) -> bool:
        """Wait a moment; return whether the command has ended."""
        poll = select.poll()
        for fd in (held.pidfd, *streams):
            poll.register(fd, select.POLLIN)
        limits, now = self.step.limits, time.monotonic()
        left = min(held.started + limits.time_s - now, held.heard + limits.silence_s - now, INTERVAL_S)
        if held.reason:
            left = INTERVAL_S
        ready = [fd for fd, _ in poll.poll(max(0.0, left) * 1000 + 1)]
        for fd in ready:
            if fd in streams and not self._read(fd, held, output):
                streams.remove(fd)
        return held.pidfd in ready

    def _read(self, fd: int, held: _Held, output: CappedLog) -> bool:
        """Copy what is there; return whether more may come.

        What comes after a limit was reached is dropped: it is what unshare(1) says about the death of its child.
        """
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        held.heard = time.monotonic()
        if held.reason is None:
            output.write(data)
        return bool(data)

    def _ended(self, held: _Held, streams: list[int], output: CappedLog, cgroup: RunCgroup | None) -> StepEnd:
        """Reap the process, take the rest of its output, and say how it ended."""
        held.sweep()
        _, status, usage = os.wait4(held.process.pid, 0)
        held.process.returncode = os.waitstatus_to_exitcode(status)
        for fd in streams:  # whoever still holds the other end is dead or not waited for
            self._rest(fd, held, output)
        code, trouble = _told(held.said(), held.process.returncode)
        reason, detail = self._judged(held, code, output.tail(), cgroup)
        if trouble and held.reason is None and reason is not Reason.OOM:
            reason, detail = Reason.NOT_STARTED, f"{self.step.argv[0]} cannot be executed: {trouble}"
        end = StepEnd(
            reason=reason,
            code=signal.SIGKILL if held.reason else abs(code),
            detail=detail,
            log=self.path,
            tail=output.tail(),
            wall_s=time.monotonic() - held.started,
            cpu_s=usage.ru_utime + usage.ru_stime,
            rss_bytes=usage.ru_maxrss * 1024,
        )
        if self.sampler:
            self.sampler.end(self.step.name, wall_s=end.wall_s, cpu_s=end.cpu_s, rss_bytes=end.rss_bytes)
        return end

    def _rest(self, fd: int, held: _Held, output: CappedLog) -> None:
        """Copy what a pipe holds, and no more: someone may go on writing."""
        with suppress(BlockingIOError):
            for _ in range(_LEFT):
                if held.reason is None and (data := os.read(fd, _CHUNK)):
                    output.write(data)

    def _judged(self, held: _Held, code: int, words: str, cgroup: RunCgroup | None) -> tuple[Reason | None, str]:
        limits = self.step.limits
        if held.reason is Reason.TIMEOUT:
            return Reason.TIMEOUT, f"ended after {limits.time_s:g} s, its limit"
        if held.reason is Reason.SILENCE:
            return Reason.SILENCE, f"ended after {limits.silence_s:g} s without output"
        if code == 0 and held.reason is None:
            return None, "exit status 0"
        if held.reason or (cgroup and cgroup.memory_kills()):
            return Reason.OOM, f"killed: it needs more than {limits.memory_bytes} bytes of memory"
        ending = f"killed by {signal_name(-code)}" if code < 0 else f"exit status {code}"
        if self._full(words):
            return Reason.DISK_FULL, f"the disk is full ({ending})"
        return (Reason.SIGNAL if code < 0 else Reason.EXIT), ending

    def _full(self, words: str) -> bool:
        if os.strerror(errno.ENOSPC) in words or os.strerror(errno.EDQUOT) in words:
            return True
        try:
            room = os.statvfs(self.step.cwd)
        except OSError:
            return False
        return room.f_bavail * room.f_frsize < _FULL_BYTES
