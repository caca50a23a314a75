"""What the tiers of kind pod took with each handler, and how much of that the harness did (layer 2; pure).

The budgets are for a quiet machine: a line says that one was passed, and nothing is red for it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from suites.catalog import TIERS, Kind
from suites.framework.model import Role
from suites.framework.results.escaping import one_line
from suites.framework.results.result import Result, Verdict
from suites.framework.results.view import View

BUDGETS_S = {"smoke": 8.0, "plan": 30.0, "full": 90.0}
"""What a handler may take for the cases of a tier and those below it, one after the other."""
HARNESS = 0.10
"""What the harness may add to the time in which something was asked of the engine, or waited for."""


def lines(view: View) -> tuple[str, ...]:
    """Return a line for each handler in each environment, the controls left out."""
    found: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in view.results:
        if result.kind == Kind.POD and result.ran and result.role is not Role.CONTROL:
            found[result.environment, result.target].append(result)
    return tuple(
        f"{one_line(target)} in {one_line(environment)}: {line(results)}"
        for (environment, target), results in sorted(found.items())
    )


def line(results: Sequence[Result]) -> str:
    """Return what these took: each tier with those below it, then the harness's part of what passed."""
    words = []
    for name, budget in BUDGETS_S.items():
        if any(result.tier == TIERS[name] for result in results):
            seconds, count = _taken([result for result in results if result.tier <= TIERS[name]])
            words.append(f"{name} {seconds:.1f} s for {count} ({_against(seconds, budget, f'{budget:g} s')})")
    passed = [result for result in results if result.verdict is Verdict.PASSED]
    if target_s := sum(result.target_s for result in passed):
        part = sum(max(0.0, result.wall_s - result.target_s) for result in passed) / target_s
        words.append(f"the harness adds {part:.1%} ({_against(part, HARNESS, f'{HARNESS:.0%}')})")
    return ", ".join(words)


def _taken(results: Sequence[Result]) -> tuple[float, int]:
    """Return the seconds of all nodes one after the other, and their number; of a repeated one the median."""
    times: Mapping[tuple[str, str], list[float]] = defaultdict(list)
    for result in results:
        times[result.node.partition("[")[0], result.parameter].append(result.wall_s)
    return sum(map(statistics.median, times.values())), len(times)


def _against(value: float, most: float, said: str) -> str:
    return f"over its {said}" if value > most else f"of {said}"
