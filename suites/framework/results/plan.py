"""The fourteen points of the integration test plan for pods, and what became of each (layer 2: pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from suites.catalog import Kind
from suites.framework.model import Role
from suites.framework.results.result import SEVERITY, Result, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of the plan: its number, what it asks, and the cases that answer."""

    number: int
    title: str
    cases: tuple[str, ...]


def _point(number: int, title: str, *cases: str) -> Point:
    return Point(number=number, title=title, cases=cases)


POINTS = (
    _point(1, "exit codes other than 0 arrive", "A1"),
    _point(2, "a missing program fails its pod", "A3"),
    _point(3, "variables arrive exactly", "C1"),
    _point(4, "stderr is captured", "B1"),
    _point(5, "children do not outlive their pod", "E3", "E4"),
    _point(6, "pods start at the same time", "G1"),
    _point(7, "exit codes of exec arrive", "D1"),
    _point(8, "large output is complete", "B2", "B3"),
    _point(9, "the working directory is the one asked for", "C3"),
    _point(10, "TERM comes before KILL", "E1", "E2"),
    _point(11, "a read-only volume refuses writes", "F1"),
    _point(12, "exec of a missing program fails", "D2"),
    _point(13, "the runtime's own tests of I/O and exec pass", "H5"),
    _point(14, "rapid creation and deletion leaves nothing", "G2", "G3"),
)
"""As the plan numbers them."""
ENDED = frozenset({Verdict.PASSED, Verdict.XPASSED})
ALONE = frozenset({"H5"})
"""Cases for runtimes whose own tests are known: of any other nobody asks them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What became of a point in one environment: the result that decides, and each case that did not pass."""

    decisive: Result | None
    """None where nobody asked."""
    others: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One point for one target, with a cell for each environment."""

    point: Point
    target: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The table."""

    environments: tuple[str, ...]
    rows: tuple[Row, ...]


def plan(results: Sequence[Result]) -> Plan | None:
    """Return the table, every point for every target that was asked any; None where no pods were."""
    roles = (Role.TARGET, Role.REFERENCE)
    found = [result for result in results if result.kind == Kind.POD and result.cases and result.role in roles]
    environments = tuple(sorted({result.environment for result in found}))
    rows = tuple(_rows(found, environments))
    return Plan(environments=environments, rows=rows) if rows else None


def _rows(results: Sequence[Result], environments: Sequence[str]) -> Iterator[Row]:
    for target in sorted({result.target for result in results}):
        mine = [result for result in results if result.target == target]
        for point in POINTS:
            asked = [result for result in mine if set(point.cases) & set(result.cases)]
            if not asked and ALONE & set(point.cases):
                continue
            yield Row(point=point, target=target, cells=tuple(_cell(point, asked, at) for at in environments))


def _cell(point: Point, results: Sequence[Result], environment: str) -> Cell:
    here = [result for result in results if result.environment == environment]
    if not here:
        return Cell(decisive=None)
    decisive = min(here, key=lambda result: (not result.red, SEVERITY.index(result.verdict)))
    short = [result for result in here if result.verdict not in ENDED]
    words = [f"{_named(point, result)} {result.verdict.value}" for result in short] if len(here) > 1 else []
    silent = [case for case in point.cases if not any(case in result.cases for result in here)]
    return Cell(decisive=decisive, others=", ".join([*words, *(f"{case} not asked" for case in silent)]))


def _named(point: Point, result: Result) -> str:
    case = next(case for case in result.cases if case in point.cases)
    return f"{case} {result.parameter}".strip()
