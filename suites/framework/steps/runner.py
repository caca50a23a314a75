"""Runs one command behind a wall, within its limits, and accounts for it in events, log and metrics (layer 2)."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from suites.framework import proc
from suites.framework.cleanup import signal_process
from suites.framework.environments import wall
from suites.framework.environments.driver import signal_name
from suites.framework.environments.probe import wall_finding
from suites.framework.environments.run_cgroup import RunCgroup
from suites.framework.events import EventLog
from suites.framework.hooks import NO_HOOKS, Hooks
from suites.framework.hookspecs import HookStep
from suites.framework.keeper import Keeper
from suites.framework.model import Ended, Evidence, Limits, Outcome, Planned, Reason, Started
from suites.framework.sampler import INTERVAL_S, MetricsFile, Sampler
from suites.framework.steps.log import CappedLog
from suites.framework.steps.step import Step, StepEnd

_CHUNK = 1 << 16
_FULL_BYTES = 1 << 16
"""A file system with less room than this is full."""
_WARDEN = Path(__file__).with_name("warden.py")
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
        processes are limited by a cgroup, which only root can make. KeyboardInterrupt ends the step and is raised
        again.
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


@cache
def _walled(uid: int) -> bool:  # noqa: ARG001 - tests become somebody else
    return wall_finding(None).present


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
        """Kill everything: behind a wall PID 1 of the namespace, else the session and all descendants."""
        inner = [pid for pid in proc.children(self.process.pid) if _is_init(pid)]
        if inner and signal_process(inner[0], signal.SIGKILL, parent=self.process.pid):
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
    """Return the exit code (negative for a signal) and why nothing was started, from the words of the warden."""
    word, _, number = said.partition(" ")
    if word == "error":
        return 127, os.strerror(int(number))
    return (os.waitstatus_to_exitcode(int(word)), "") if word else (returned, "")


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
            during()
            try:
                self._follow(held, streams, output)
            finally:
                self.last = self._ended(held, streams, output, cgroup)
        return self.last

    def _trouble(self) -> str:
        """Return why the command cannot be started, where that is known before."""
        if not self.step.cwd.is_dir():
            return f"its folder {self.step.cwd} does not exist"
        program = self.step.argv[0]
        if shutil.which(program, path=self.step.environment.get("PATH", os.defpath)) is None:
            return f"{program} cannot be executed" if "/" in program else f"{program} is not on PATH"
        return ""

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
                self._words(cgroup, telling),
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

    def _words(self, cgroup: RunCgroup | None, report: int) -> list[str]:
        """Return the whole command line: tied to this process, limited, behind the wall, as the user."""
        limits = self.step.limits
        files = [wall.tool("prlimit"), f"--nofile={limits.open_files}", "--"]
        front = wall.front(launcher=os.getpid(), processes=None, cgroups=cgroup.procs if cgroup else ())
        warden = [sys.executable, "-I", "-S", str(_WARDEN), str(report), *self._become(), *self.step.argv]
        if not _walled(os.geteuid()):
            return [*front, *files, *warden]
        barrier = wall.root_wall(user=None) if os.geteuid() == 0 else wall.user_wall(processes=None)
        return [*front, *files, *barrier, *warden]

    def _become(self) -> list[str]:
        """Return the words that make the command another user's; the warden stays ours."""
        if self.step.user is None or os.geteuid() != 0:
            return []
        user = self.step.user
        return [wall.tool("setpriv"), "--reuid", str(user.uid), "--regid", str(user.gid), "--init-groups", "--"]

    def _follow(self, held: _Held, streams: list[int], output: CappedLog) -> None:
        """Copy the output until the command is over; end it when a limit is reached."""
        try:
            while not self._over(held, streams, output):
                now, limits = time.monotonic(), self.step.limits
                if held.reason is None and now - held.started > limits.time_s:
                    held.reason = Reason.TIMEOUT
                    held.end()
                elif held.reason is None and now - held.heard > limits.silence_s:
                    held.reason = Reason.SILENCE
                    held.end()
                if self.sampler:
                    self.sampler.tick()
        except BaseException:
            held.end()
            raise

    def _over(self, held: _Held, streams: list[int], output: CappedLog) -> bool:
        """Wait a moment; return whether the command has ended."""
        poll = select.poll()
        for fd in (held.pidfd, *streams):
            poll.register(fd, select.POLLIN)
        limits, now = self.step.limits, time.monotonic()
        left = min(INTERVAL_S, held.started + limits.time_s - now, held.heard + limits.silence_s - now)
        ready = [fd for fd, _ in poll.poll(max(0.0, left) * 1000 + 1)]
        for fd in ready:
            if fd in streams and not self._read(fd, held, output):
                streams.remove(fd)
        return held.pidfd in ready

    def _read(self, fd: int, held: _Held, output: CappedLog) -> bool:
        """Copy what is there; return whether more may come."""
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        held.heard = time.monotonic()
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
        if trouble and held.reason is None:
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
        with suppress(BlockingIOError):
            while data := os.read(fd, _CHUNK):
                output.write(data)
        held.heard = time.monotonic()

    def _judged(self, held: _Held, code: int, words: str, cgroup: RunCgroup | None) -> tuple[Reason | None, str]:
        limits = self.step.limits
        if held.reason is Reason.TIMEOUT:
            return Reason.TIMEOUT, f"ended after {limits.time_s:g} s, its limit"
        if held.reason is Reason.SILENCE:
            return Reason.SILENCE, f"ended after {limits.silence_s:g} s without output"
        if code == 0:
            return None, "exit status 0"
        if cgroup and cgroup.memory_kills():
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
