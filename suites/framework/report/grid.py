"""Every case with its title and what became of it, small enough for thousands of them (layer 2; pure)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from suites.framework.model import Role
from suites.framework.report.words import line, symbol, tallied, verdict_tone, worst
from suites.framework.results.result import Result, Verdict

BYTES = 640_000
"""Of all groups together; what comes after is named without its title."""
STEPS = "preparation"
"""The group of what is no case."""
OWN = frozenset({Role.TARGET, Role.REFERENCE})
_ROW, _CELL = 75, 40

Column = tuple[str, str]
"""Target and environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The results of one mode in a cell."""

    text: str
    tone: str
    anchor: str


Cell = tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case. Where everything ended alike, `whole` says so instead of the cells."""

    id: str
    title: str
    whole: str
    tone: str
    cells: tuple[Cell, ...]
    others: Cell
    """What the reference and the controls did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The cases of one kind whose ids begin alike."""

    anchor: str
    name: str
    cases: int
    said: str
    symbol: str
    tone: str
    columns: tuple[tuple[str, tuple[str, ...]], ...]
    """Targets and their environments."""
    width: int
    others: bool
    rows: tuple[Row, ...]
    untitled: tuple[str, ...]
    """Cases for whose titles there was no room."""


def groups(results: Sequence[Result], anchors: Mapping[int, str], *, left: int = BYTES) -> tuple[Group, ...]:
    """Return the cases by kind and prefix; `anchors` says where failures are explained."""
    found: dict[tuple[str, str], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for case in result.cases or (result.node,):
            found[_group_of(result, case)][case].append(result)
    made: list[Group] = []
    for number, key in enumerate(sorted(found, key=lambda key: (key[0] == STEPS, key)), start=1):
        group, spent = _group(f"g{number}", " ".join(filter(None, key)), found[key], anchors, left)
        left -= spent
        made.append(group)
    return tuple(made)


def _group_of(result: Result, case: str) -> tuple[str, str]:
    if not result.is_case:
        return STEPS, ""
    return line(result.kind, 40), line(re.split(r"[-\d]", case, maxsplit=1)[0], 40) if result.cases else ""


def _group(
    anchor: str, name: str, cases: Mapping[str, list[Result]], anchors: Mapping[int, str], left: int
) -> tuple[Group, int]:
    everything = [result for results in cases.values() for result in results]
    columns = sorted({_column(result) for result in everything if _own(result)})
    rows: list[Row] = []
    untitled: list[str] = []
    spent = 0
    for case in sorted(cases, key=natural):
        row = _row(case, cases[case], columns, anchors)
        if (cost := spent + _weight(row)) <= left:
            rows.append(row)
            spent = cost
        else:
            untitled.append(f"{row.id} ({row.whole or tallied(cases[case])})")
            left = spent  # later ones too, so that the order stays
    decisive = worst(everything)
    made = Group(
        anchor=anchor,
        name=name,
        cases=len(cases),
        said=tallied(everything),
        symbol=symbol(decisive) if decisive.red else "✓" if any(map(_passed, everything)) else symbol(decisive),
        tone=verdict_tone(decisive) if decisive.red else "good" if any(map(_passed, everything)) else "quiet",
        columns=_headings(columns),
        width=len(columns),
        others=any(row.others for row in rows),
        rows=tuple(rows),
        untitled=tuple(untitled),
    )
    return made, spent


def _headings(columns: Iterable[Column]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, list[str]] = defaultdict(list)
    for target, environment in columns:
        found[target].append(line(environment, 60))
    return tuple((line(target, 60), tuple(names)) for target, names in found.items())


def _own(result: Result) -> bool:
    return result.role in OWN


def _passed(result: Result) -> bool:
    return result.verdict is Verdict.PASSED


def _column(result: Result) -> Column:
    return result.shown_target, result.environment


def _row(case: str, results: Sequence[Result], columns: Sequence[Column], anchors: Mapping[int, str]) -> Row:
    by_column: dict[Column, list[Result]] = defaultdict(list)
    for result in results:
        if _own(result):
            by_column[_column(result)].append(result)
    own = [result for found in by_column.values() for result in found]
    whole = _whole(own) if len(by_column) == len(columns) else ""
    others = [result for result in results if not _own(result)]
    return Row(
        id=line(case, 120),
        title=line(next((result.title for result in results if result.title), "")),
        whole=whole,
        tone=verdict_tone(own[0]) if whole else "",
        cells=() if whole else tuple(_cell(by_column.get(column, ()), anchors) for column in columns),
        others=tuple(_others(others, anchors)),
    )


def _whole(results: Sequence[Result]) -> str:
    """Return one text for results that all ended alike and need no explanation."""
    if not results or any(result.red for result in results):
        return ""
    if len({(result.verdict, result.reason) for result in results}) > 1:
        return ""
    reason = line(results[0].reason, 80)
    every = "all " if len(results) > 1 else ""
    return f"{symbol(results[0])} {every}{tallied(results)}" + (f": {reason}" if reason else "")


def _cell(results: Iterable[Result], anchors: Mapping[int, str]) -> Cell:
    by_mode: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_mode[result.mode].append(result)
    return tuple(_line(line(mode, 40), by_mode[mode], anchors) for mode in sorted(by_mode))


def _others(results: Iterable[Result], anchors: Mapping[int, str]) -> Iterator[Line]:
    by_target: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        role = " (reference)" if result.role is Role.STANDBY else ""
        by_target[f"{line(result.target, 60)}{role}"].append(result)
    for target in sorted(by_target):
        yield _line(target, by_target[target], anchors)


def _line(label: str, results: Sequence[Result], anchors: Mapping[int, str]) -> Line:
    decisive = worst(results)
    told = f"{label}: {tallied(results)}" if label else tallied(results)
    anchor = anchors.get(id(decisive), "")
    return Line(text=f"{symbol(decisive)} {told}", tone=verdict_tone(decisive), anchor=anchor)


def _weight(row: Row) -> int:
    lines = [found for cell in (*row.cells, row.others) for found in cell]
    texts = (row.id, row.title, row.whole, *(found.text for found in lines))
    return _ROW + sum(len(text.encode(errors="replace")) for text in texts) + _CELL * (len(lines) + len(row.cells))


def natural(text: str) -> list[tuple[int, int | str]]:
    """Return a key that puts SG-2 before SG-10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d{1,18})", text) if part]
