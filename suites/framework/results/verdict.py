"""The gates, the exit code and verdict.json (layer 2; pure).

A gate is a function from a view to the offences it sees. The gates on limits, artefacts and performance are added
to `GATES` with what they judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from suites.framework.errors import PRECEDENCE, ExitCode
from suites.framework.model import SCHEMA, Outcome, Reason, Role
from suites.framework.results.result import RED, Result, Verdict
from suites.framework.results.view import Counts, View, counts, interrupted


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
class Summary:
    """The content of verdict.json."""

    schema: int
    run: str
    exit_code: ExitCode
    exit: str
    """The exit code's name, such as ``failed``."""
    counts: Counts
    environments: dict[str, Counts]
    gates: dict[str, Gate]
    cannot_run: dict[str, str]
    """Environments that cannot run on this machine, and why."""
    torn: int
    foreign: int
    merged: tuple[str, ...] = ()

    @property
    def red_gates(self) -> tuple[str, ...]:
        """Return the names of the gates that are red."""
        return tuple(name for name, gate in self.gates.items() if gate.colour is Colour.RED)


# ---- gates -----------------------------------------------------------------------------------------------------------


def _offence(result: Result, why: str) -> Offence:
    return Offence(environment=result.environment, node=result.node, why=why)


def completed(view: View) -> Iterator[Offence]:
    """Yield every announced node without an end, and every line that may have been one."""
    for result in view.results:
        if not result.completed:
            yield _offence(result, result.reason)
    for name in dict.fromkeys(view.foreign):
        said = f"{view.foreign.count(name)} unreadable lines"
        yield Offence(environment=name.partition("/")[0], node=name, why=said)


def passed(view: View) -> Iterator[Offence]:
    """Yield every failure, error, unexpected pass and inconclusive result of what is no control."""
    for result in view.results:
        if result.verdict in RED and result.role is not Role.CONTROL:
            yield _offence(result, result.verdict.value)


def skips(view: View) -> Iterator[Offence]:
    """Yield every skip that could hide something."""
    for result in view.results:
        if result.verdict is Verdict.SKIPPED and not view.explained(result):
            promised = "promised" if result.missing in view.run.promises else "not explained"
            yield _offence(result, f"skipped, {promised}: {result.reason or result.message or 'no reason'}")
    for target in view.absent:
        if target.fact in view.run.promises:
            yield Offence(environment=target.environment, node=target.name, why=f"not tried, promised: {target.fact}")


def leaks(view: View) -> Iterator[Offence]:
    """Yield everything that was left behind."""
    for environment, found in view.leaks.items():
        for kind, number in found.items():
            if number:
                yield Offence(environment=environment, node="(after the last case)", why=f"{number} {kind}")
    for result in view.results:
        if result.reason == Reason.LEAK and result.verdict in RED:
            yield _offence(result, result.message or "leak")


def controls(view: View) -> Iterator[Offence]:
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


GATES: dict[str, Callable[[View], Iterable[Offence]]] = {
    "completed": completed,
    "passed": passed,
    "skips": skips,
    "leaks": leaks,
    "controls": controls,
}
"""Every gate blocks; none can be switched off."""


def _gate(offences: Iterable[Offence]) -> Gate:
    found = tuple(offences)
    return Gate(colour=Colour.RED if found else Colour.GREEN, offences=found)


# ---- the exit code ---------------------------------------------------------------------------------------------------


def judge(view: View, *, also: Iterable[ExitCode] = ()) -> Summary:
    """Return gates, counts and exit code of a run; `also` are codes that the launcher knows of.

    For the exit code of one session pass ``view.only(environment)``.
    """
    gates = {name: _gate(gate(view)) for name, gate in GATES.items()}
    code = exit_code(view, gates, also=also)
    return Summary(
        schema=SCHEMA,
        run=view.run.id,
        exit_code=code,
        exit=code.name.lower().replace("_", "-"),
        counts=counts(result for result in view.results if result.is_case),
        environments={name: _counts_in(view, name) for name in view.environments},
        gates=gates,
        cannot_run=_cannot_run(view),
        torn=view.torn,
        foreign=len(view.foreign),
        merged=view.run.merged,
    )


def _counts_in(view: View, environment: str) -> Counts:
    return counts(result for result in view.results if result.is_case and result.environment == environment)


def _cannot_run(view: View) -> dict[str, str]:
    return {name: found.reason for name, found in view.conclusions.items() if found.code == ExitCode.CANNOT_RUN}


def exit_code(view: View, gates: dict[str, Gate], *, also: Iterable[ExitCode] = ()) -> ExitCode:
    """Return the first code in `PRECEDENCE` that holds."""
    holding = {*also, *_concluded(view), ExitCode.GREEN}
    if interrupted(view):
        holding.add(ExitCode.INTERRUPTED)
    if any(_infrastructure(result) for result in view.results):
        holding.add(ExitCode.INFRASTRUCTURE)
    if any(result.verdict in RED for result in view.results):
        holding.add(ExitCode.FAILED)
    if any(gate.colour is Colour.RED for gate in gates.values()):
        holding.add(ExitCode.GATE)
    if nothing_ran(view):
        holding.add(ExitCode.CANNOT_RUN)
    return next(code for code in PRECEDENCE if code in holding)


def nothing_ran(view: View) -> bool:
    """Return whether no case was executed: that is a skipped session, never a green one."""
    return not any(result.ran and result.is_case and result.role is not Role.STANDBY for result in view.results)


def _concluded(view: View) -> set[ExitCode]:
    """Return the conclusions that follow from no event; 77 of one environment is not that of all."""
    codes = {found.code for found in view.conclusions.values()}
    return {code for code in (ExitCode.INTERRUPTED, ExitCode.USAGE, ExitCode.INFRASTRUCTURE) if code in codes}


def _infrastructure(result: Result) -> bool:
    worker_missing = not result.completed and result.reason == Reason.NOT_STARTED and not result.cases
    return worker_missing or (result.outcome is Outcome.ERRORED and result.reason == Reason.DISK_FULL)
