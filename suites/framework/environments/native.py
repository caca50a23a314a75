"""Workers on this machine, behind a wall of namespaces (layer 2, standard library only)."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from suites.catalog import Environment, Place, Privilege
from suites.framework import proc
from suites.framework.cleanup import signal_process
from suites.framework.environments import wall
from suites.framework.environments.driver import (
    NOT_EXECUTED,
    STOP,
    Ending,
    NeverStarted,
    Worker,
    WorkerEnd,
    judge,
    tail,
)
from suites.framework.environments.user import User
from suites.framework.model import Limits


class NativeWorker:
    """A worker behind its wall: the process that is held is ``unshare``, the worker is its only child."""

    def __init__(self, process: subprocess.Popen[bytes], *, log: Path, memory_kills: Callable[[], int]) -> None:
        """Hold a process that was just started with a pipe as its standard input."""
        self.pid = process.pid
        self._memory_kills, self._before = memory_kills, memory_kills()
        self._process, self._log = process, log
        self._pidfd = os.pidfd_open(process.pid)
        self._killed = False
        self._end: WorkerEnd | None = None
        self.usage: resource.struct_rusage | None = None
        """What it and everything that it reaped has used, once it is over (getrusage(2))."""

    def fileno(self) -> int:
        """Return a pidfd; ``unshare`` reaps the worker first, so nothing of the namespace is left by then."""
        return self._pidfd

    def stop(self) -> None:
        """Write the word for an orderly end to the lifeline."""
        with suppress(OSError, ValueError):
            if self._end is None and self._process.stdin is not None:
                self._process.stdin.write(STOP)

    def kill(self) -> None:
        """Kill PID 1 of the namespace, whose parent then ends the same way; before there is one, kill the parent."""
        if self._end is not None:
            return
        inner = [child for child in proc.children(self.pid) if signal_process(child, signal.SIGKILL, parent=self.pid)]
        if inner:
            self._killed = True
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._killed = True

    def _reaped(self) -> int:
        """Reap the process and return its status, which an interruption between the two calls would lose."""
        with suppress(ChildProcessError):
            _, wait_status, self.usage = os.wait4(self.pid, 0)
            self._process.returncode = os.waitstatus_to_exitcode(wait_status)
        return -signal.SIGKILL if self._process.returncode is None else self._process.returncode

    def end(self) -> WorkerEnd:
        """Reap the process and close the lifeline."""
        if self._end is None:
            status = _true_status(self._reaped(), killed=self._killed, words=tail(self._log))
            self._end = self._judged(status)
            # last, so that an interruption leaves no descriptor that is watched and closed
            if self._process.stdin is not None:
                self._process.stdin.close()
            os.close(self._pidfd)
        return self._end

    def _judged(self, status: int) -> WorkerEnd:
        end = judge(status, killed=self._killed, log=self._log)
        if (end.how, end.code) == (Ending.SIGNAL, signal.SIGKILL) and self._memory_kills() > self._before:
            return WorkerEnd(how=Ending.OOM, code=end.code, detail="killed by the kernel: the run's memory is full")
        return end


def _true_status(status: int, *, killed: bool, words: str) -> int:
    """Return the worker's status where ``unshare`` ended with words of its own instead of passing it on.

    Before util-linux 2.39 it tries to reset SIGKILL before it dies of it too, which is refused, and exits with 1.
    Any other last word means that there was no wall, hence no worker.
    """
    last = [line for line in words.splitlines()[-2:] if re.match(r"(\S*/)?unshare: ", line)]
    if status == 1 and (killed or any("sigprocmask" in line for line in last)):
        return -signal.SIGKILL
    return NOT_EXECUTED[0] if status == 1 and last else status


class NativeDriver:
    """Starts workers behind the wall that the launcher's privilege allows."""

    def __init__(
        self,
        privilege: Privilege,
        *,
        limits: Limits,
        user: User | None = None,
        cgroups: Callable[[str], Sequence[str]] = lambda _: (),
        workers: int = 1,
        memory_kills: Callable[[], int] = lambda: 0,
    ) -> None:
        """Take under whom rootless workers run (needed for root only).

        `cgroups` gives the ``cgroup.procs`` files for a worker's name, `workers` is how many live at the same time,
        `memory_kills` how many processes the kernel has killed so far because the memory of all was full.
        """
        self.environment = Environment(privilege=privilege, place=Place.NATIVE)
        self._limits, self._cgroups, self._crew = limits, cgroups, workers
        self._memory_kills = memory_kills
        self._user = user if privilege is Privilege.ROOTLESS else None
        self._workers: list[NativeWorker] = []

    def start(
        self, argv: Sequence[str], *, name: str, env: Mapping[str, str], log: Path, keep: Sequence[int] = ()
    ) -> Worker:
        """Start a worker in a session of its own, behind the wall. See `Driver.start`."""
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    self.command(argv, name=name),
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    bufsize=0,
                    env=dict(env),
                    cwd="/",
                    pass_fds=tuple(keep),
                    start_new_session=True,
                )
        except OSError as error:
            return NeverStarted(f"{name}: {error}")
        worker = NativeWorker(process, log=log, memory_kills=self._memory_kills)
        self._workers.append(worker)
        return worker

    def command(self, argv: Sequence[str], *, name: str = "") -> list[str]:
        """Return the whole command line of a worker: what ties it to this process, the wall, and `argv`."""
        root = os.geteuid() == 0
        barrier = wall.root_wall(user=self._user) if root else wall.user_wall(processes=self._processes(1))
        front = wall.front(launcher=os.getpid(), processes=self._processes(self._crew + 1), cgroups=self._cgroups(name))
        return [*front, *barrier, *argv]

    def close(self) -> None:
        """Kill and reap the workers that nobody has ended."""
        for worker in self._workers:
            worker.kill()
            worker.end()
        self._workers.clear()

    def _processes(self, workers: int) -> int | None:
        """Return the RLIMIT_NPROC for so many workers beside what the user has already; None for root."""
        if self.environment.privilege is Privilege.ROOT:
            return None
        uid = os.geteuid() or (self._user.uid if self._user else 0)
        wanted = wall.tasks_of(uid) + workers * self._limits.processes
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
