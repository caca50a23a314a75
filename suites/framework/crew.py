"""The workers of one phase: watched, stopped, and accounted for in the launcher's events (layer 2)."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from suites.framework.environments.driver import Ending, Worker, WorkerEnd, tail
from suites.framework.events import EventLog, Record
from suites.framework.model import Ended, Event, Note, Planned, Started
from suites.framework.progress import Progress, Tail
from suites.framework.sampler import Sampler

PER_PROCESSOR = 4
"""Workers for each processor."""
PAIRS = 12
"""Pairs of case and target that are worth a worker."""
TICK_S = 0.1
STOP_S = 8.0
"""A worker that was asked to stop and has not ended by then is killed."""
PYTEST_ENDS = (0, 1, 5)
"""Exit codes of a pytest that did its work: all passed, some failed, nothing to do."""
HEIR = "x"
"""Stands behind the name of a worker that goes on where one died: ``test.3x``."""
HEIRS = 3
SLOW_S = 0.5
"""A case that has taken so long already is named beside what its worker uses."""
START_S = 120.0
"""A worker that has written nothing by then is killed."""
HEAVY = 10
"""Cases of more weight may take longer, in proportion."""


@dataclass(slots=True)
class Member:
    """One worker and what it is doing."""

    name: str
    worker: Worker
    log: Path
    since: float
    """When it was last heard of."""
    began: float
    node: str = ""
    timed_out: bool = False
    over: bool = False
    planned: list[str] = field(default_factory=list)
    started: set[str] = field(default_factory=set)
    weights: dict[str, int] = field(default_factory=dict)

    @property
    def rest(self) -> tuple[str, ...]:
        """Return the nodes that it announced and never started."""
        return tuple(node for node in self.planned if node not in self.started)


@dataclass(slots=True)
class Crew:
    """All workers of a phase; `events` is the launcher's own event file of the environment."""

    events: EventLog
    tail: Tail
    progress: Progress
    node_s: float
    clock: Callable[[], float] = time.monotonic
    exitfirst: bool = False
    sampler: Sampler | None = None
    heir: Callable[[str, tuple[str, ...]], None] | None = None
    """Starts a worker in the place of one that died, for the nodes that it has not begun."""
    stopping: bool = False
    members: list[Member] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    interrupted: bool = False

    def add(self, name: str, worker: Worker, log: Path) -> None:
        """Watch a worker that was just started; `name` is ``<phase>.<number>``, `log` has what it prints."""
        member = Member(name=name, worker=worker, log=log, since=self.clock(), began=self.clock())
        self.members.append(member)
        if self.sampler and (pid := getattr(worker, "pid", None)) is not None:
            self.sampler.watch(name, pid, node=lambda: self._slow(member))

    def _slow(self, member: Member) -> str:
        return member.node if self.clock() - member.since > SLOW_S else ""

    def wait(self) -> None:
        """Return when every worker is over. KeyboardInterrupt stops them in order, then is raised again."""
        try:
            while self._left():
                self._round()
        except KeyboardInterrupt:
            self.interrupted = True
            self._stop()
            raise
        finally:
            self._look()
            self.progress.close()

    def _left(self) -> list[Member]:
        return [member for member in self.members if not member.over]

    def _round(self) -> None:
        poll = select.poll()
        for member in self._left():
            poll.register(member.worker.fileno(), select.POLLIN)
        ready = {fd for fd, _ in poll.poll(TICK_S * 1000)}
        self._look()
        for member in self._left():
            if member.worker.fileno() in ready:
                self._end(member)
            elif not member.timed_out and self.clock() - member.since > self._limit(member):
                member.timed_out = True
                member.worker.kill()
        self.progress.tick()
        if self.sampler:
            self.sampler.tick()

    def _limit(self, member: Member) -> float:
        """Return how long a worker may be silent: one that is at a heavy case longer, in seconds."""
        if not member.node:
            return START_S
        return self.node_s * max(1.0, member.weights.get(member.node, 1) / HEAVY)

    def _look(self) -> None:
        """Read what the workers wrote since the last look."""
        for path, record in self.tail.poll():
            self.records.append(record)
            self.progress.feed(path, record)
            self._follow(path, record)

    def _follow(self, path: Path, record: Record) -> None:
        for member in self.members:
            if path.stem == member.name:
                self._note(member, record.event)
        if (
            self.exitfirst
            and isinstance(record.event, Ended)
            and record.event.outcome in ("failed", "errored", "xpassed")
        ):
            self.stopping = True
            for member in self._left():
                member.worker.stop()

    def _note(self, member: Member, event: Event) -> None:
        member.since = self.clock()
        match event:
            case Planned(node=node, weight=weight):
                member.planned.append(node)
                member.weights[node] = weight
            case Started(node=node):
                member.node = node
                member.started.add(node)
            case _:
                return

    def _end(self, member: Member) -> None:
        end = member.worker.end()
        member.over = True
        if self.sampler:
            self._total(self.sampler, member)
        detail = (
            end.detail if end.how is Ending.EXIT and end.code in PYTEST_ENDS else f"{end.detail}\n{tail(member.log)}"
        )
        value = {"worker": member.name, "how": self._how(member, end), "code": end.code, "detail": detail}
        if member.timed_out:
            value["node"] = member.node
        self.events.write(Note(name="worker-ended", value=value))
        halted = self.interrupted or self.stopping or member.name.count(HEIR) >= HEIRS
        if self.heir is not None and member.rest and not halted:
            self.heir(member.name + HEIR, member.rest)

    def _total(self, sampler: Sampler, member: Member) -> None:
        """Write what a worker used in all, where the kernel told."""
        if (usage := getattr(member.worker, "usage", None)) is None:
            sampler.forget(member.name)
            return
        cpu_s, rss_bytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        sampler.end(member.name, wall_s=self.clock() - member.began, cpu_s=cpu_s, rss_bytes=rss_bytes)

    def _how(self, member: Member, end: WorkerEnd) -> str:
        if member.timed_out:
            return "timeout"
        if self.interrupted and end.how in (Ending.KILLED, Ending.EXIT):
            return "interrupted"
        return end.how.value

    def _stop(self) -> None:
        """Ask all workers for an orderly end; kill those that take too long."""
        for member in self._left():
            member.worker.stop()
        end = self.clock() + STOP_S
        while self._left():
            if self.clock() > end:
                for member in self._left():
                    member.worker.kill()
            self._round()


def default_workers(work: int, *, pods: bool = False) -> int:
    """Return how many workers gain on this machine for `work` pairs of case and target; `pods` are of that kind alone.

    Cases wait more than they compute, so there are more workers than processors; but each costs half a second of
    them before its first case, so that a handful of cases is one worker's. Engines compute more than they wait.
    """
    each = 1 if pods else PER_PROCESSOR
    return max(1, min(32, each * len(os.sched_getaffinity(0)), work // PAIRS))
