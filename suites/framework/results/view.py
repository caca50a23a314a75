"""Everything that a run directory says, read once: the input of every derived file (layer 2)."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from suites.framework import events
from suites.framework.errors import ExitCode, UsageError
from suites.framework.facts import Fact, Finding
from suites.framework.model import SCHEMA, Note, Reason, Role
from suites.framework.results import metrics, verdicts
from suites.framework.results.artefacts import Artefact, artefacts
from suites.framework.results.escaping import one_line
from suites.framework.results.metrics import Metrics
from suites.framework.results.result import RED, Result, Subject, Verdict
from suites.framework.results.rundir import Conclusion, RunDirectory, RunRecord
from suites.framework.results.workers import EventLogOf, launcher_notes, subjects

MESSAGES = 5
"""Different messages of skips for one reason that are shown."""
HOST = "host"
"""The folder of the phases build and provision."""
LEAKS = "leaks"
"""Name of the note, without a node, that says what was left behind: a table of numbers by kind."""
PERFORMANCE = "performance"
COMPARISON = "comparison"
"""Name of the notes of phase `PERFORMANCE` that say what a measurement against a baseline showed."""
LEAK_KINDS = ("processes", "mounts", "containers", "files")
"""What the line of leaks always names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many results there are of each verdict; `standby` ones are in no other number."""

    planned: int = 0
    run: int = 0
    passed: int = 0
    failed: int = 0
    errored: int = 0
    xpassed: int = 0
    inconclusive: int = 0
    xfailed: int = 0
    skipped: int = 0
    flaky: int = 0
    standby: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipGroup:
    """All skips for one reason: how the fact was probed, what to do, and which results wait for it."""

    reason: str
    probes: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    """What the skips themselves say, where no probe of the run explains them."""
    remedies: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()
    explained: bool = True

    @property
    def environments(self) -> tuple[str, ...]:
        """Return where it was skipped."""
        return tuple(sorted({result.environment for result in self.results}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A target that could not be had in an environment, as the launcher's note ``absent`` says."""

    environment: str
    name: str
    fact: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a note ``comparison`` says: a metric of a candidate, measured against a baseline."""

    environment: str
    node: str
    metric: str
    baseline: str
    verdict: str
    """PASS, IMPROVED, INCONCLUSIVE, NO BASELINE or REGRESSION, which is a confirmed one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A run as a value. Environments without a result are known by their conclusion."""

    path: Path
    run: RunRecord
    results: tuple[Result, ...] = ()
    facts: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    """What was probed inside each environment."""
    leaks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What was left behind, by environment; one that nobody looked at is absent."""
    conclusions: Mapping[str, Conclusion] = field(default_factory=dict)
    absent: tuple[Absent, ...] = ()
    metrics: Mapping[str, Metrics] = field(default_factory=dict)
    """What was measured, by environment."""
    subjects: tuple[tuple[str, Subject], ...] = ()
    """Every environment and target that was announced in it, also one without a result."""
    artefacts: tuple[Artefact, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    foreign: tuple[str, ...] = ()
    """Event files with lines that are no events, relative to the directory, one entry a line."""
    torn: int = 0

    @property
    def environments(self) -> tuple[str, ...]:
        """Return the environments that have results or a conclusion, in a fixed order."""
        return tuple(sorted({result.environment for result in self.results} | set(self.conclusions)))

    @property
    def problems(self) -> tuple[Result, ...]:
        """Return what has to be explained: preparation first, what only follows from a reference last."""
        red = [result for result in self.results if result.red]
        return tuple(sorted(red, key=lambda result: (result.verdict is Verdict.INCONCLUSIVE, result.is_case)))

    def only(self, environment: str) -> View:
        """Return the part that the exit code of one session depends on: its environment and the host's phases."""
        names = {environment, HOST}
        return replace(
            self,
            results=tuple(result for result in self.results if result.environment in names),
            leaks={name: found for name, found in self.leaks.items() if name in names},
            conclusions={name: found for name, found in self.conclusions.items() if name in names},
            absent=tuple(target for target in self.absent if target.environment in names),
            metrics={name: found for name, found in self.metrics.items() if name in names},
            subjects=tuple((name, subject) for name, subject in self.subjects if name in names),
            artefacts=tuple(artefact for artefact in self.artefacts if artefact.environment in names),
            comparisons=tuple(found for found in self.comparisons if found.environment in names),
            foreign=tuple(name for name in self.foreign if name.partition("/")[0] in names),
        )

    def finding(self, fact: str, environment: str) -> Finding | None:
        """Return the probe that says that a fact is absent in an environment, else on the host."""
        known = (*self.facts.get(environment, ()), *self.run.findings)
        return next((finding for finding in known if finding.fact == fact and not finding.present), None)

    def explained(self, result: Result) -> bool:
        """Return whether a skip cannot hide anything: a fact that nobody promised, or not offered by the profile."""
        if result.reason == Reason.NOT_OFFERED:
            return True
        return result.missing in set(Fact) and result.missing not in self.promised(result.environment)

    def promised(self, environment: str) -> frozenset[Fact]:
        """Return the facts whose absence in an environment is a failure; on the host all that any session promised."""
        everywhere = self.run.promised
        names = everywhere if environment == HOST else (environment,)
        return frozenset(fact for name in names for fact in everywhere.get(name, ()))


def load(run: RunDirectory) -> View:
    """Read a run directory; raise UsageError where a newer version wrote it and for damaged tables."""
    logs: list[EventLogOf] = []
    foreign: list[str] = []
    torn = 0
    for file in run.event_files():
        log = events.read(file.path)
        if log.newer:
            raise UsageError(
                f"{file.path} was written by a newer Seatrial",
                why=f"schema {log.newer}, this one knows {SCHEMA}",
                remedy="update this one",
            )
        foreign += [str(file.path.relative_to(run.path))] * log.foreign
        torn += log.torn
        logs.append(
            EventLogOf(
                environment=file.environment,
                phase=file.phase,
                worker=file.worker,
                source=file.source,
                records=log.records,
            )
        )
    return View(
        path=run.path,
        run=run.record(),
        results=verdicts.results(logs),
        facts={name: run.facts(name) for name in sorted({log.environment for log in logs})},
        leaks=_leaks(logs),
        conclusions=run.conclusions(),
        absent=_absent(logs),
        metrics=metrics.load(run),
        subjects=_subjects(logs),
        artefacts=artefacts(run),
        comparisons=_comparisons(logs),
        foreign=tuple(foreign),
        torn=torn,
    )


def _absent(logs: Iterable[EventLogOf]) -> tuple[Absent, ...]:
    words = ("name", "fact", "reason", "remedy")
    found = [
        Absent(environment=log.environment, **{word: str(value.get(word, "")) for word in words})
        for log in logs
        for value in launcher_notes(log, "absent")
    ]
    return tuple(dict.fromkeys(found))


def _subjects(logs: Iterable[EventLogOf]) -> tuple[tuple[str, Subject], ...]:
    # one log at a time: the same name may stand for different programs in runs that were merged
    found = [(log.environment, subject) for log in logs for subject in subjects([log]).values()]
    return tuple(dict.fromkeys(found))


def _comparisons(logs: Iterable[EventLogOf]) -> tuple[Comparison, ...]:
    found = [
        Comparison(environment=log.environment, node=note.node, **_words(note.value))
        for log in logs
        if log.phase == PERFORMANCE
        for record in log.records
        if isinstance(note := record.event, Note) and note.name == COMPARISON
    ]
    return tuple(dict.fromkeys(found))


def _words(value: object) -> dict[str, str]:
    table = value if isinstance(value, dict) else {}
    return {word: str(table.get(word, "")) for word in ("metric", "baseline", "verdict")}


def _leaks(logs: Iterable[EventLogOf]) -> dict[str, dict[str, int]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for log in logs:
        for record in log.records:
            note = record.event
            if isinstance(note, Note) and note.name == LEAKS and not note.node and isinstance(note.value, dict):
                numbers = {kind: n for kind, n in note.value.items() if isinstance(n, int)}
                found[log.environment].update(dict.fromkeys(LEAK_KINDS, 0) | numbers)
    return {environment: dict(found[environment]) for environment in sorted(found)}


def counts(results: Iterable[Result]) -> Counts:
    """Count results by verdict; those of a reference that was not asked for apart."""
    everything = list(results)
    own = [result for result in everything if result.role is not Role.STANDBY]
    return replace(_tally(own), standby=len(everything) - len(own))


def _tally(results: Sequence[Result]) -> Counts:
    return Counts(
        planned=len(results),
        run=sum(result.ran for result in results),
        flaky=sum(result.flaky for result in results),
        **Counter(result.verdict.value for result in results),
    )


def skip_groups(view: View) -> tuple[SkipGroup, ...]:
    """Group the skips by reason, unexplained ones first, then the reason that costs most."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in view.results:
        if result.verdict is Verdict.SKIPPED:
            groups[result.reason or "no reason"].append(result)
    found = [_skip_group(view, reason, group) for reason, group in groups.items()]
    return tuple(sorted(found, key=lambda group: (group.explained, -len(group.results), group.reason)))


def _skip_group(view: View, reason: str, group: Sequence[Result]) -> SkipGroup:
    fact = group[0].missing
    probed = {view.finding(fact, result.environment): None for result in group} if fact else {}
    findings = [finding for finding in probed if finding]
    said = dict.fromkeys(": ".join(filter(None, (finding.probe, finding.detail))) for finding in findings)
    return SkipGroup(
        reason=reason,
        probes=tuple(said),
        messages=() if said else tuple(dict.fromkeys(result.message for result in group if result.message))[:MESSAGES],
        remedies=tuple(dict.fromkeys(finding.remedy for finding in findings if finding.remedy)),
        results=tuple(group),
        explained=all(view.explained(result) for result in group),
    )


def matrix(view: View) -> dict[str, dict[str, Counts]]:
    """Return the counts by target, then environment; steps without a target stand under their phase in brackets."""
    cells: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in view.results:
        cells[_row(result)][result.environment].append(result)
    rows = sorted(cells, key=_row_order)
    return {row: {name: _tally(cells[row][name]) for name in sorted(cells[row])} for row in rows}


def _row(result: Result) -> str:
    if not result.target:
        return f"({result.phase})"
    return f"{result.target} (reference)" if result.role is Role.STANDBY else result.target


def _row_order(row: str) -> tuple[bool, bool, str]:
    return (row.startswith("("), row.startswith("control:"), row)


def described(counted: Counts) -> str:
    """Return a cell of the matrix, such as ``45 passed, 2 failed``; zeros are left out."""
    words = (
        (counted.passed, "passed"),
        (counted.failed, "failed"),
        (counted.errored, "errored"),
        (counted.xpassed, "passed unexpectedly"),
        (counted.inconclusive, "inconclusive"),
        (counted.xfailed, "failed as expected"),
        (counted.skipped, "skipped"),
        (counted.flaky, "flaky"),
    )
    return ", ".join(f"{number} {word}" for number, word in words if number) or "-"


def pace_lines(view: View) -> tuple[str, ...]:
    """Return for each environment how long its passed cases took, and how much of that the target did not (median)."""
    passed: dict[str, list[Result]] = defaultdict(list)
    for result in view.results:
        if result.is_case and result.target and result.verdict is Verdict.PASSED:
            passed[result.environment].append(result)
    return tuple(
        f"half of the passed cases in {one_line(name)} took at most {_milliseconds([one.wall_s for one in found])}, "
        f"the harness's own part of it {_milliseconds([max(0.0, one.wall_s - one.target_s) for one in found])}"
        for name, found in sorted(passed.items())
    )


def _milliseconds(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.1f} ms"


def leaks_line(view: View) -> str:
    """Return what was left behind, and where nobody looked."""
    total: Counter[str] = Counter()
    for found in view.leaks.values():
        total.update(found)
    shown = (*LEAK_KINDS, *sorted(kind for kind in set(total) - set(LEAK_KINDS) if total[kind]))
    ran = {result.environment for result in view.results if result.is_case and result.ran}
    unseen = ", ".join(sorted(ran - set(view.leaks)))
    cases = sum(result.reason == Reason.LEAK and result.verdict in RED for result in view.results)
    parts = [", ".join(f"{total[kind]} {kind}" for kind in shown)] if view.leaks or not ran else []
    parts += [f"{cases} cases failed for what their target left behind"] if cases else []
    parts += [f"not checked in {unseen}"] if unseen else []
    return f"leaks: {'; '.join(parts)}"


def logs_line(view: View) -> str:
    """Return since when the logs are gone that the results tell of; empty while they are there."""
    if not view.run.logs_removed:
        return ""
    with suppress(OverflowError, ValueError, OSError):  # run.json may say anything
        return f"logs: removed on {datetime.fromtimestamp(view.run.logs_removed, UTC):%Y-%m-%d}, the results were kept"
    return "logs: removed, the results were kept"


def interrupted(view: View) -> bool:
    """Return whether the run was cut short: by a signal, or before it could write anything."""
    if not view.results and not view.conclusions:
        return True
    concluded = any(found.code == ExitCode.INTERRUPTED for found in view.conclusions.values())
    return concluded or any(result.reason == Reason.INTERRUPTED for result in view.results)
