"""The gates, each a function from a view to the offences that it sees (layer 2; pure).

Every gate blocks and none can be switched off: a `Demand` only ever asks for more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from suites.framework.manifest import Manifest, difference
from suites.framework.model import PACKAGE_STEP, Outcome, Reason, Role, Total
from suites.framework.results import packages
from suites.framework.results.artefacts import Artefact
from suites.framework.results.result import RED, Result, Subject, Verdict
from suites.framework.results.view import View

SHOWN = 5
"""Differing paths that an offence names."""
STEPS = "build::{name}::"
"""How the names of a target's steps begin."""


class Colour(StrEnum):
    """What a gate says."""

    GREEN = "green"
    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offence:
    """Why a gate is red."""

    environment: str
    node: str
    """The node, or what stands for it, such as an event file."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One gate's colour and everything that made it red."""

    colour: Colour
    offences: tuple[Offence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the one who judges asks for beyond what the run directory says."""

    strict: bool = False
    """An inconclusive measurement is red too."""
    golden: Mapping[str, Manifest] = field(default_factory=dict)
    """Manifests, by name, that the artefacts must equal in every environment."""


def coloured(offences: Iterable[Offence]) -> Gate:
    """Return the gate that these offences make."""
    found = tuple(offences)
    return Gate(colour=Colour.RED if found else Colour.GREEN, offences=found)


def _offence(result: Result, why: str) -> Offence:
    return Offence(environment=result.environment, node=result.node, why=why)


# ---- what ran --------------------------------------------------------------------------------------------------------


def completed(view: View, _: Demand) -> Iterator[Offence]:
    """Yield every announced node without an end, and every line that may have been one."""
    for result in view.results:
        if not result.completed:
            yield _offence(result, result.reason)
    for name in dict.fromkeys(view.foreign):
        said = f"{view.foreign.count(name)} unreadable lines"
        yield Offence(environment=name.partition("/")[0], node=name, why=said)


def passed(view: View, _: Demand) -> Iterator[Offence]:
    """Yield every failure, error, unexpected pass and inconclusive result of what is no control."""
    for result in view.results:
        if result.verdict in RED and result.role is not Role.CONTROL:
            yield _offence(result, result.verdict.value)


def skips(view: View, _: Demand) -> Iterator[Offence]:
    """Yield every skip that could hide something."""
    for result in view.results:
        if result.verdict is Verdict.SKIPPED and not view.explained(result):
            promised = "promised" if result.missing in view.promised(result.environment) else "not explained"
            yield _offence(result, f"skipped, {promised}: {result.reason or result.message or 'no reason'}")
    for target in view.absent:
        if target.fact in view.promised(target.environment):
            yield Offence(environment=target.environment, node=target.name, why=f"not tried, promised: {target.fact}")


def leaks(view: View, _: Demand) -> Iterator[Offence]:
    """Yield everything that was left behind."""
    for environment, found in view.leaks.items():
        for kind, number in found.items():
            if number:
                yield Offence(environment=environment, node="(after the last case)", why=f"{number} {kind}")
    for result in view.results:
        if result.reason == Reason.LEAK and result.verdict in RED:
            yield _offence(result, result.message or "leak")


def controls(view: View, _: Demand) -> Iterator[Offence]:
    """Yield what a null target passed, and every verdict of a control that differs from its declared list."""
    for result in view.results:
        if result.null_passed:
            yield _offence(result, f"{result.target} does nothing and passed")
        elif result.role is Role.CONTROL and result.verdict in RED:
            yield _offence(result, _control(result))


def _control(result: Result) -> str:
    match result.outcome:
        case Outcome.XPASSED:
            return f"{result.target} passed what it is declared to fail"
        case Outcome.FAILED:
            return f"{result.target} failed what it is not declared to fail"
        case _:
            return f"{result.target} {result.verdict}"


# ---- what was measured -----------------------------------------------------------------------------------------------


def limits(view: View, _: Demand) -> Iterator[Offence]:
    """Yield every measured value, and every total of a target's steps, that is beyond the target's declared limit."""
    for result in view.results:
        budgets = dict(result.subject.limits)
        for name, value in result.measured:
            if name in budgets and (why := _beyond(name, value, budgets[name])):
                yield _offence(result, why)
    subjects = [subject for _, subject in view.subjects]
    for environment, measured in view.metrics.items():
        for totals in measured.sources.values():
            yield from _steps(environment, totals, subjects)
    for step in packages.steps(view.metrics):
        yield from _package(step, view.subjects)


def _beyond(name: str, value: object, budget: float) -> str:
    """Return why a value breaks its limit: one that is no number can be within none."""
    number = float("nan")
    with suppress(TypeError, ValueError):
        number = float(str(value))
    return "" if number <= budget else f"{name} is {value}, the limit is {budget:g}"


def _steps(environment: str, totals: Sequence[Total], subjects: Iterable[Subject]) -> Iterator[Offence]:
    """Judge what the steps of each target used in one environment; variants of a target are built once."""
    budgets = {(subject.name.partition("+")[0], limit) for subject in subjects for limit in subject.limits}
    for name, (measure, budget) in sorted(budgets):
        steps = [total for total in totals if total.step.startswith(STEPS.format(name=name))]
        if steps and measure in STEP_TOTALS and (why := _beyond(measure, STEP_TOTALS[measure](steps), budget)):
            yield Offence(environment=environment, node=f"{STEPS.format(name=name)}*", why=why)


def _package(step: packages.PackageStep, subjects: Iterable[tuple[str, Subject]]) -> Iterator[Offence]:
    """Judge what one step of a package took by the limits of the wrapper that built it there."""
    own = (subject for at, subject in subjects if at == step.environment and subject.name == step.wrapper)
    for measure, budget in sorted({limit for subject in own for limit in subject.limits}):
        value = step.measured(measure)
        if value is not None and (why := _beyond(measure, value, budget)):
            node = PACKAGE_STEP.format(wrapper=step.wrapper, package=step.package, step=step.step)
            yield Offence(environment=step.environment, node=node, why=why)


STEP_TOTALS: dict[str, Callable[[Sequence[Total]], float]] = {
    "build_wall_s": lambda steps: round(sum(step.wall_s for step in steps), 6),
    "build_cpu_s": lambda steps: round(sum(step.cpu_s for step in steps), 6),
    "build_rss_bytes": lambda steps: max(step.rss_bytes for step in steps),
}
"""What a limit on the steps of a build is about: times add up, memory is that of the largest."""


def performance(view: View, demand: Demand) -> Iterator[Offence]:
    """Yield confirmed regressions, comparisons that say nothing known, and if strict what is inconclusive."""
    red = {"REGRESSION", "INCONCLUSIVE"} if demand.strict else {"REGRESSION"}
    for found in view.comparisons:
        if found.verdict in red or found.verdict not in COMPARISONS:
            shown = found.verdict or "no verdict"
            why = f"{shown}: {found.metric or 'no metric'} against {found.baseline or 'no baseline'}"
            yield Offence(environment=found.environment, node=found.node or found.metric, why=why)


COMPARISONS = frozenset({"PASS", "IMPROVED", "INCONCLUSIVE", "NO BASELINE", "REGRESSION"})
"""The status words of a measurement."""


# ---- what was made ---------------------------------------------------------------------------------------------------


def artefacts(view: View, demand: Demand) -> Iterator[Offence]:
    """Yield every manifest that cannot be read, or differs from its golden one or between environments."""
    made: dict[str, list[Artefact]] = defaultdict(list)
    wanted: list[Artefact] = []
    for artefact in view.artefacts:
        if artefact.content is None:
            yield _about(artefact, artefact.trouble)
        elif artefact.golden:
            wanted.append(artefact)
        else:
            made[artefact.name].append(artefact)
    for found in made.values():
        yield from _between(found)
    for golden in wanted:
        yield from _against_own(golden, made.get(golden.name, ()))
    for name, content in demand.golden.items():
        yield from _against(name, content, made.get(name, ()))


def _about(artefact: Artefact, why: str) -> Offence:
    return Offence(environment=artefact.environment, node=artefact.place, why=why)


def _between(found: Sequence[Artefact]) -> Iterator[Offence]:
    """Compare what each environment made with what the first one made."""
    first, *others = found
    for other in others:
        if why := _differs(first.content, other.content):
            yield _about(other, f"differs from {first.origin}: {why}")


def _against_own(golden: Artefact, made: Iterable[Artefact]) -> Iterator[Offence]:
    """Compare with the golden manifest that stands beside it."""
    here = [artefact for artefact in made if artefact.origin == golden.origin]
    if not here:
        yield _about(golden, "was not made, and there is a golden manifest of it")
    for artefact in here:
        if why := _differs(golden.content, artefact.content):
            yield _about(artefact, f"differs from golden: {why}")


def _against(name: str, golden: Manifest, made: Sequence[Artefact]) -> Iterator[Offence]:
    """Compare with a golden manifest from outside."""
    if not made:
        yield Offence(environment="", node=name, why="was not made, and there is a golden manifest of it")
    for artefact in made:
        if why := _differs(golden, artefact.content):
            yield _about(artefact, f"differs from golden: {why}")


def _differs(before: Manifest | None, after: Manifest | None) -> str:
    found = difference(before, after) if before and after else ()
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(map(str, found[:SHOWN])) + more


GATES: dict[str, Callable[[View, Demand], Iterable[Offence]]] = {
    "completed": completed,
    "passed": passed,
    "skips": skips,
    "leaks": leaks,
    "controls": controls,
    "limits": limits,
    "artefacts": artefacts,
    "performance": performance,
}
"""Every gate, in the order of the table."""
