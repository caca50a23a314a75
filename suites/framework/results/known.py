"""What targets do otherwise than the cases ask, as their profiles know it: one entry a reason (layer 2: pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from suites.framework.model import Role
from suites.framework.results.result import Result, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One reason of a target's profile, with all that failed as expected for it."""

    target: str
    reason: str
    cases: tuple[str, ...]
    """With the parameter where there is one; each once."""
    seen: tuple[str, ...]
    environments: tuple[str, ...]


def known(results: Sequence[Result]) -> tuple[Known, ...]:
    """Group the expected failures of targets and references by target and reason; those of controls prove nothing."""
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        if result.verdict is Verdict.XFAILED and result.role in (Role.TARGET, Role.REFERENCE):
            groups[result.target, result.message].append(result)
    return tuple(_known(*key, groups[key]) for key in sorted(groups, key=lambda key: key[0]))


def _known(target: str, reason: str, group: Sequence[Result]) -> Known:
    return Known(
        target=target,
        reason=reason,
        cases=tuple(dict.fromkeys(" ".join(filter(None, (*result.cases, result.parameter))) for result in group)),
        seen=tuple(dict.fromkeys(result.actual for result in group)),
        environments=tuple(sorted({result.environment for result in group})),
    )
