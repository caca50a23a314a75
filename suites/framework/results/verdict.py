"""The gates and the exit code as verdict.json (layer 2; pure)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from suites.framework.errors import PRECEDENCE, ExitCode
from suites.framework.model import SCHEMA, Outcome, Reason, Role
from suites.framework.results.gates import GATES, Colour, Demand, Gate, coloured
from suites.framework.results.result import RED, Result
from suites.framework.results.view import HOST, Counts, View, counts, interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The content of verdict.json."""

    schema: int
    run: str
    exit_code: ExitCode
    """Of the run; session ``gate`` itself ends with 2 for any red gate."""
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
    strict: bool = False
    """Whether an inconclusive measurement was red too."""
    golden: tuple[str, ...] = ()
    """Names of the artefacts that were compared with a manifest from outside the run directory."""

    @property
    def red_gates(self) -> tuple[str, ...]:
        """Return the names of the gates that are red."""
        return tuple(name for name, gate in self.gates.items() if gate.colour is Colour.RED)


# ---- the exit code ---------------------------------------------------------------------------------------------------


def judge(view: View, *, also: Iterable[ExitCode] = (), demand: Demand | None = None) -> Summary:
    """Return gates, counts and exit code of a run; `also` are codes that the launcher knows of.

    For the exit code of one session pass ``view.only(environment)``.
    """
    asked = demand or Demand()
    gates = {name: coloured(gate(view, asked)) for name, gate in GATES.items()}
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
        strict=asked.strict,
        golden=tuple(sorted(asked.golden)),
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
    """Return whether no case was executed: that is a skipped session, never a green one.

    Of a run that only built targets the steps are what counts.
    """
    if view.environments == (HOST,):
        return not any(result.ran for result in view.results)
    return not any(result.ran and result.is_case and result.role is not Role.STANDBY for result in view.results)


def _concluded(view: View) -> set[ExitCode]:
    """Return the conclusions that follow from no event; 77 of one environment is not that of all."""
    codes = {found.code for found in view.conclusions.values()}
    return {code for code in (ExitCode.INTERRUPTED, ExitCode.USAGE, ExitCode.INFRASTRUCTURE) if code in codes}


def _infrastructure(result: Result) -> bool:
    worker_missing = not result.completed and result.reason == Reason.NOT_STARTED and not result.cases
    return worker_missing or (result.outcome is Outcome.ERRORED and result.reason == Reason.DISK_FULL)
