"""What event files tell about the workers that wrote them, and how each of those ended (layer 2; pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from suites.framework import signals
from suites.framework.events import Record
from suites.framework.model import Begun, Ended, Finished, Note, Planned, Reason, Role, Started
from suites.framework.results.result import NULL_TARGETS, Subject

LAUNCHER = "launcher"
"""The worker name of the launcher's own event file of an environment."""
M = TypeVar("M", bound=StrEnum)


class How(StrEnum):
    """How a worker ended, as the launcher saw it."""

    EXIT = "exit"
    SIGNAL = "signal"
    OOM = "oom"
    NOT_STARTED = "not-started"
    KILLED = "killed"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnd:
    """What the launcher's note ``worker-ended`` says."""

    worker: str
    how: How
    code: int = 0
    detail: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLogOf:
    """The records of one event file and where they come from."""

    environment: str
    phase: str
    worker: str
    source: str = ""
    records: tuple[Record, ...] = ()


@dataclass(slots=True)
class Attempt:
    """One worker's life as its file tells it: a file that was continued holds several."""

    begun: Begun | None = None
    t: float = 0.0
    planned: dict[tuple[str, str], tuple[Planned, float]] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    ended: dict[str, Ended] = field(default_factory=dict)
    notes: dict[str, list[tuple[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    finished: bool = False


def subjects(logs: Iterable[EventLogOf]) -> dict[tuple[str, str], Subject]:
    """Return what the launcher noted about each target, by environment and name."""
    found = {}
    for log in logs:
        for value in launcher_notes(log, "target"):
            name = str(value.get("name", ""))
            found[log.environment, name] = Subject(
                name=name,
                kind=str(value.get("kind", "")),
                role=_member(Role, value.get("role"), Role.TARGET),
                version=str(value.get("version", "")),
                sha256=str(value.get("sha256", "")),
                path=str(value.get("path", "")),
                null=bool(value.get("null", name in NULL_TARGETS)),
                limits=_limits(value.get("limits")),
            )
    return found


def _limits(value: object) -> tuple[tuple[str, float], ...]:
    """Return the budgets of a note; what is no number is left out, as a profile cannot hold it."""
    found = value.items() if isinstance(value, dict) else ()
    return tuple(sorted((str(name), float(limit)) for name, limit in found if isinstance(limit, (int, float))))


def worker_ends(logs: Iterable[EventLogOf]) -> dict[tuple[str, str], WorkerEnd]:
    """Return how the launcher saw each worker end, by environment and ``<phase>.<worker>``."""
    found = {}
    for log in logs:
        for value in launcher_notes(log, "worker-ended"):
            code = value.get("code", 0)
            name = str(value.get("worker", ""))
            found[log.environment, name] = WorkerEnd(
                worker=name,
                how=_member(How, value.get("how"), How.KILLED),
                code=code if isinstance(code, int) else 0,
                detail=str(value.get("detail") or ""),
                node=str(value.get("node") or ""),
            )
    return found


def launcher_notes(log: EventLogOf, name: str) -> Iterator[Mapping[str, Any]]:
    """Yield the tables that the launcher noted under a name."""
    if log.worker == LAUNCHER:
        for record in log.records:
            if isinstance(record.event, Note) and record.event.name == name and isinstance(record.event.value, dict):
                yield record.event.value


def _member(kind: type[M], value: object, default: M) -> M:
    try:
        return kind(str(value))
    except ValueError:
        return default


def attempts(records: Sequence[Record]) -> list[Attempt]:
    """Return the lives that one file tells of, in order; at least one."""
    found = [Attempt()]
    for record in records:
        match record.event:
            case Begun() as begun:
                if found[-1].begun or found[-1].planned:
                    found.append(Attempt())
                found[-1].begun, found[-1].t = begun, record.t
            case Planned() as planned:
                found[-1].planned.setdefault((planned.node, planned.target), (planned, record.t))
            case Started(node=node):
                found[-1].started.add(node)
            case Ended(node=node) as ended:
                found[-1].ended.setdefault(node, ended)
            case Note(node=node, name=name, value=value) if node:
                found[-1].notes[node].append((name, value))
            case Finished():
                found[-1].finished = True
            case _:
                continue  # a note of the worker itself
    return found


def lost(started: bool, end: WorkerEnd | None, node: str) -> Reason:
    """Return why a node has no end. Without a word of the launcher the whole run was cut off."""
    if end is None or end.how is How.INTERRUPTED:
        return Reason.INTERRUPTED
    if end.how is How.TIMEOUT and (started or node == end.node):
        return Reason.TIMEOUT
    if not started:
        return Reason.NOT_STARTED
    return Reason.OOM if end.how is How.OOM else Reason.CRASH


def sentence(end: WorkerEnd | None, worker: str) -> str:
    """Return how a worker ended, in words."""
    if end is None:
        return f"worker {worker} vanished, and so did the launcher,"
    said = {
        How.EXIT: f"ended with exit code {end.code}",
        How.SIGNAL: f"was killed by {signals.name(end.code)}",
        How.OOM: "was killed for want of memory",
        How.NOT_STARTED: "did not start",
        How.KILLED: "was killed by the launcher",
        How.TIMEOUT: "was ended by the launcher, a case took too long,",
        How.INTERRUPTED: "was interrupted",
    }
    return f"worker {worker} {said[end.how]}"


def died(attempt: Attempt, end: WorkerEnd | None) -> bool:
    """Return whether a worker ended badly although none of its nodes shows it."""
    if end is None:
        return bool(attempt.begun) and not attempt.planned and not attempt.finished
    if end.how is How.EXIT:
        # pytest: 0 all passed, 1 some failed, 5 nothing collected (an empty share)
        return not attempt.finished or end.code not in (0, 1, 5)
    return not (attempt.finished and end.how in (How.KILLED, How.INTERRUPTED))
