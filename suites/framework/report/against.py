"""What differs between a run and an earlier one (layer 2; pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from suites.framework.results.result import Result, Verdict
from suites.framework.results.view import View

FACTOR = 2.0
"""A case is slower when it took more than this many times as long,"""
LEAST_S = 0.05
"""and longer by more than this: below it two runs of the same program differ as much."""

Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The same node, then and now."""

    then: Result
    now: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Everything that is not as it was; each list in the order of the run that has it."""

    run: str
    start: float
    failing: tuple[Change, ...] = ()
    """Red now, and not then."""
    passing: tuple[Change, ...] = ()
    """Red then, and passed now."""
    idle: tuple[Change, ...] = ()
    """Ran then, and skipped now."""
    slower: tuple[Change, ...] = ()
    """Passed both times; the one that lost most comes first."""
    new: tuple[Result, ...] = ()
    gone: tuple[Result, ...] = ()

    @property
    def nothing(self) -> bool:
        """Return whether both runs say the same."""
        return not (self.failing or self.passing or self.idle or self.slower or self.new or self.gone)


def compare(now: View, then: View) -> Difference:
    """Return what changed from `then` to `now`."""
    before, after = _by_key(then.results), _by_key(now.results)
    both = [Change(then=before[key], now=result) for key, result in after.items() if key in before]
    return Difference(
        run=then.run.id,
        start=then.run.start,
        failing=tuple(change for change in both if change.now.red and not change.then.red),
        passing=tuple(change for change in both if change.then.red and _passed(change.now)),
        idle=tuple(change for change in both if change.then.ran and change.now.verdict is Verdict.SKIPPED),
        slower=_slower(both),
        new=tuple(result for key, result in after.items() if key not in before),
        gone=tuple(result for key, result in before.items() if key not in after),
    )


def _key(result: Result) -> Key:
    return result.environment, result.phase, result.target, result.node


def _by_key(results: Iterable[Result]) -> dict[Key, Result]:
    return {_key(result): result for result in results}


def _passed(result: Result) -> bool:
    return result.verdict is Verdict.PASSED and not result.null_passed


def _slower(changes: Sequence[Change]) -> tuple[Change, ...]:
    found = [change for change in changes if _passed(change.then) and _passed(change.now) and _lost(change)]
    return tuple(sorted(found, key=lambda change: change.then.wall_s - change.now.wall_s))


def _lost(change: Change) -> bool:
    then, now = change.then.wall_s, change.now.wall_s
    return now > FACTOR * then and now - then > LEAST_S
