"""What has to be explained, one card per case and target, within a budget of bytes (layer 2; pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from suites.framework.report.words import clipped, line, marked, seconds, symbol, verdict_tone, verdict_word
from suites.framework.results.escaping import tail
from suites.framework.results.result import Result
from suites.framework.results.terminal import Command, HowTo

BYTES = 160_000
"""Of all cards together; the failures that come after have one line."""
LINES = 300
"""Failures with one line; more are only counted here, and stand in the list of all cases."""
VALUE, PIECE, PIECE_LINES = 2000, 4000, 40
"""Characters of an expected or actual value and of one piece of evidence, whose end is kept."""
FRAME = 700
"""Bytes of a card or a place without its texts."""


class Budget:
    """Bytes that may still be spent."""

    def __init__(self, left: int) -> None:
        self.left = left

    def spend(self, text: str) -> Markup:
        """Return a text as it stands in the page, and count it."""
        found = marked(text)
        self.left -= len(found.encode())
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One result of a card: where it was, and all that was seen."""

    anchor: str
    where: str
    facts: tuple[tuple[str, Markup], ...]
    pieces: tuple[tuple[str, Markup], ...]
    again: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Results that expected and saw the same."""

    expected: Markup
    actual: Markup
    message: Markup
    places: tuple[Place, ...]
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One case that one target fails."""

    anchor: str
    symbol: str
    word: str
    tone: str
    case: str
    title: str
    target: str
    count: int
    where: str
    """Where it was seen first, and in how many more places."""
    observations: tuple[Observation, ...]
    by_hand: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """All cards, what had no room, and where each result stands."""

    cards: tuple[Card, ...]
    lines: tuple[str, ...]
    uncounted: int
    """Failing cases that have not even a line."""
    anchors: dict[int, str]
    """Anchor of a result by its id()."""


def failures(problems: Sequence[Result], *, command: Command, howto: HowTo, left: int = BYTES) -> Failures:
    """Return the failures in the order of the view; those of a case and target stand together."""
    groups: dict[tuple[object, ...], list[Result]] = defaultdict(list)
    for result in problems:
        groups[result.cases or result.node, result.shown_target, verdict_word(result)].append(result)
    budget = Budget(left)
    cards: list[Card] = []
    anchors: dict[int, str] = {}
    rest: list[list[Result]] = []
    for group in groups.values():
        if budget.left > 0 and not rest:
            anchor = f"f{len(cards) + 1}"
            cards.append(_card(anchor, group, budget, command, howto))
            anchors |= {id(result): anchor for result in group}
        else:
            rest.append(group)
            anchors |= {id(result): "more-failures" for result in group}
    return Failures(
        cards=tuple(cards),
        lines=tuple(map(_line, rest[:LINES])),
        uncounted=len(rest[LINES:]),
        anchors=anchors,
    )


def name(result: Result) -> str:
    """Return the case, or the node of what is none."""
    return line(" ".join(result.cases) or result.node)


def where(result: Result) -> str:
    """Return environment, mode and parameter."""
    return line(" · ".join(filter(None, (result.environment, result.mode, result.parameter))), 160)


def _line(group: Sequence[Result]) -> str:
    first = group[0]
    said = line(first.actual or first.message or first.reason, 120)
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    parts = (
        verdict_word(first),
        name(first),
        line(first.title, 160),
        line(first.shown_target, 80),
        where(first) + more,
    )
    return f"{symbol(first)} {' · '.join(filter(None, parts))}" + (f": {said}" if said else "")


def _card(anchor: str, group: Sequence[Result], budget: Budget, command: Command, howto: HowTo) -> Card:
    first = group[0]
    budget.left -= FRAME
    by_hand = budget.spend(clipped(howto(first).strip(), VALUE))
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    return Card(
        anchor=anchor,
        symbol=symbol(first),
        word=verdict_word(first),
        tone=verdict_tone(first),
        case=name(first),
        title=line(first.title),
        target=line(first.shown_target, 80) + (f" ({first.role})" if first.target and first.role != "target" else ""),
        count=len(group),
        where=where(first) + more,
        observations=tuple(_observations(anchor, group, budget, command)),
        by_hand=by_hand,
    )


def _observations(anchor: str, group: Iterable[Result], budget: Budget, command: Command) -> Iterator[Observation]:
    alike: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    for result in group:
        alike[result.expected, result.actual, result.message, result.reason].append(result)
    number = 0
    for (expected, actual, message, reason), results in alike.items():
        if budget.left <= 0 and number:
            break
        shown: list[Place] = []
        for result in results:
            if budget.left <= 0 and number:
                break
            number += 1
            shown.append(_place(f"{anchor}-{number}", result, budget, command))
        said = message if message not in (reason, actual) and not (expected and actual and actual in message) else ""
        yield Observation(
            expected=budget.spend(clipped(expected, VALUE)),
            actual=budget.spend(clipped(actual, VALUE)),
            message=budget.spend(clipped(said or (reason if not (expected or actual) else ""), VALUE)),
            places=tuple(shown),
            left_out=len(results) - len(shown),
        )


def _place(anchor: str, result: Result, budget: Budget, command: Command) -> Place:
    budget.left -= FRAME
    return Place(
        anchor=anchor,
        where=where(result),
        facts=tuple((label, budget.spend(clipped(value, VALUE))) for label, value in _facts(result) if value),
        pieces=tuple(
            (line(piece.title, 80), budget.spend(_end(piece.text)) if budget.left > 0 else Markup("left out: no room"))
            for piece in result.evidence
        ),
        again=budget.spend(clipped(command(result), VALUE)),
    )


def _end(text: str) -> str:
    kept = tail(text[-PIECE:], lines=PIECE_LINES)
    return f"({len(text) - PIECE} characters before)\n{kept}" if len(text) > PIECE else kept


def _facts(result: Result) -> Iterator[tuple[str, str]]:
    subject = result.subject
    yield "reason", result.reason
    yield "message", result.message
    yield "node", result.node
    yield "test", f"{result.file}:{result.line}" if result.file else ""
    yield "program", " ".join(filter(None, (result.shown_target, subject.path)))
    yield "sha256", subject.sha256
    yield "needs", ", ".join(result.requires)
    yield "took", f"{seconds(result.wall_s)}, of which target {seconds(result.target_s)}" if result.wall_s else ""
    yield "measured", ", ".join(f"{label} {value}" for label, value in result.measured)
    yield "attempts", ", ".join(result.attempts) if result.flaky else ""
