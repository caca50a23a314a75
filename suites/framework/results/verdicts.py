"""From the records of all event files to one result per case and target (layer 2; pure).

A result is what was announced, how it ended, and what follows when it did not end: nothing that was planned can
get lost, however its worker died.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from suites.framework.model import Ended, Evidence, Outcome, Planned, Reason, Role
from suites.framework.results import workers
from suites.framework.results.result import SEVERITY, Result, Subject, Verdict
from suites.framework.results.workers import LAUNCHER, Attempt, EventLogOf, How, WorkerEnd


def results(logs: Iterable[EventLogOf]) -> tuple[Result, ...]:
    """Return one result per environment, phase, node and target, in a fixed order."""
    sources: dict[str, list[EventLogOf]] = defaultdict(list)
    for log in logs:
        sources[log.source].append(log)
    # a wrong machine excuses only what ran on that machine, hence before different sources meet
    found = chain.from_iterable(_inconclusive(_superseded(_of_source(part))) for part in sources.values())
    return tuple(sorted(_collapsed(found), key=_order))


def _order(result: Result) -> tuple[Any, ...]:
    return (
        result.environment,
        result.phase,
        result.kind,
        result.cases,
        result.mode,
        result.parameter,
        result.target,
        result.node,
    )


# ---- one source ------------------------------------------------------------------------------------------------------


def _of_source(logs: Sequence[EventLogOf]) -> list[Result]:
    subjects = workers.subjects(logs)
    ends = workers.worker_ends(logs)
    found: list[Result] = []
    for log in logs:
        end = ends.pop((log.environment, f"{log.phase}.{log.worker}"), None)
        *earlier, last = workers.attempts(log.records)
        for attempt in earlier:
            found += _of_attempt(log, attempt, None, subjects)
        found += _of_attempt(log, last, end, subjects)
    # what is left ended without having written anything
    found += [_synthetic(environment, end, t=0.0, source=logs[0].source) for (environment, _), end in ends.items()]
    return found


def _of_attempt(
    log: EventLogOf, attempt: Attempt, end: WorkerEnd | None, subjects: Mapping[tuple[str, str], Subject]
) -> Iterator[Result]:
    announced = [_announced(log, attempt, planned, t, subjects) for planned, t in attempt.planned.values()]
    for base in announced:
        if ended := attempt.ended.get(base.node):
            yield _with_end(base, ended)
        else:
            yield _without_end(base, base.node in attempt.started, end)
    known = {base.node for base in announced}
    for node, ended in attempt.ended.items():
        if node not in known:
            # its announcement was lost: what it says still counts
            yield _with_end(_bare(log, node), ended)
    if log.worker != LAUNCHER and known <= attempt.ended.keys() and workers.died(attempt, end):
        end = end or WorkerEnd(
            worker=f"{log.phase}.{log.worker}", how=How.INTERRUPTED, detail="no event says how it ended"
        )
        yield _synthetic(log.environment, end, t=attempt.t, source=log.source)


def _bare(log: EventLogOf, node: str) -> Result:
    return Result(
        environment=log.environment,
        phase=log.phase,
        worker=log.worker,
        source=log.source,
        node=node,
        outcome=Outcome.ERRORED,
    )


def _announced(
    log: EventLogOf, attempt: Attempt, planned: Planned, t: float, subjects: Mapping[tuple[str, str], Subject]
) -> Result:
    return replace(
        _bare(log, planned.node),
        cases=planned.cases,
        target=planned.target,
        subject=subjects.get((log.environment, planned.target), Subject()),
        kind=planned.kind,
        mode=planned.mode,
        parameter=planned.parameter,
        title=planned.title,
        file=planned.file,
        line=planned.line,
        requires=planned.requires,
        standby=planned.standby,
        tier=planned.tier,
        t=t,
        measured=tuple(attempt.notes.get(planned.node, ())),
    )


def _with_end(base: Result, ended: Ended) -> Result:
    return replace(
        base,
        outcome=ended.outcome,
        reason=ended.reason,
        message=ended.message,
        expected=ended.expected,
        actual=ended.actual,
        evidence=ended.evidence,
        wall_s=ended.wall_s,
        target_s=ended.target_s,
        cpu_s=ended.cpu_s,
        rss_bytes=ended.rss_bytes,
    )


def _without_end(base: Result, started: bool, end: WorkerEnd | None) -> Result:
    """Return the error for a node that was announced and has no end."""
    when = "while this ran" if started else "before this started"
    return replace(
        base,
        reason=workers.lost(started, end, base.node),
        message=f"{workers.sentence(end, f'{base.phase}.{base.worker}')} {when}",
        evidence=_detail(end),
        started=started,
        completed=False,
    )


def _synthetic(environment: str, end: WorkerEnd, *, t: float, source: str) -> Result:
    """Return the error of a worker whose bad end shows in none of its nodes."""
    phase, _, worker = end.worker.partition(".")
    started = end.how is not How.NOT_STARTED
    return Result(
        environment=environment,
        phase=phase,
        worker=worker,
        source=source,
        node=f"(worker {end.worker})",
        title="a worker ends by itself",
        outcome=Outcome.ERRORED,
        reason=workers.lost(started, end, ""),
        message=workers.sentence(end, end.worker).rstrip(","),
        evidence=_detail(end),
        t=t,
        started=started,
        completed=False,
    )


def _detail(end: WorkerEnd | None) -> tuple[Evidence, ...]:
    return (Evidence(title="worker", text=end.detail),) if end and end.detail else ()


# ---- across results --------------------------------------------------------------------------------------------------


def _superseded(found: Sequence[Result]) -> list[Result]:
    """Leave out nodes that never started in a worker when another worker of the run took them over."""
    taken = {_key(result) for result in found if result.started}
    return [result for result in found if result.started or _key(result) not in taken]


def _key(result: Result) -> tuple[str, str, str, str]:
    return (result.environment, result.phase, result.node, result.target)


def _inconclusive(found: Sequence[Result]) -> Iterator[Result]:
    """Turn failures into inconclusive where every reference that ran failed the same case unexpectedly."""
    references: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for result in found:
        if _is_reference(result) and _judged(result):
            references[_same_case(result)].append(result)
    for result in found:
        if result.verdict is not Verdict.FAILED or _is_reference(result):
            yield result
            continue
        ran = references.get(_same_case(result), [])
        if ran and all(reference.verdict in (Verdict.FAILED, Verdict.ERRORED) for reference in ran):
            names = ", ".join(sorted({reference.shown_target for reference in ran}))
            said = f"the reference {names} fails this case here too, so engine or machine may be wrong"
            message = f"{said}: {result.message}" if result.message else said
            yield replace(result, outcome=Outcome.SKIPPED, reason=Reason.INCONCLUSIVE, message=message)
        else:
            yield result


def _is_reference(result: Result) -> bool:
    return result.role in (Role.REFERENCE, Role.STANDBY)


def _judged(result: Result) -> bool:
    """Return whether the reference was really tried: one cut off by an interruption excuses nobody."""
    return result.ran and result.reason not in (Reason.INTERRUPTED, Reason.NOT_STARTED)


def _same_case(result: Result) -> tuple[Any, ...]:
    # file and title tell two tests of one case apart
    return (
        result.environment,
        result.phase,
        result.kind,
        result.cases,
        result.mode,
        result.parameter,
        result.file,
        result.title,
    )


def _collapsed(found: Iterable[Result]) -> Iterator[Result]:
    """Return the worst of the results on the same node."""
    groups: dict[tuple[str, str, str, str], list[Result]] = defaultdict(list)
    for result in found:
        groups[_key(result)].append(result)
    for group in groups.values():
        if len(group) == 1:
            yield group[0]
            continue
        attempts = tuple(result.verdict for result in group)
        worst = min(group, key=lambda result: SEVERITY.index(result.verdict))
        # what any of them measured counts: a limit is not kept by being kept once
        measured = tuple(chain.from_iterable(result.measured for result in group))
        flaky = len({*attempts} - {Verdict.SKIPPED}) > 1
        yield replace(worst, attempts=attempts, flaky=flaky, measured=measured)
