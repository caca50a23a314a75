"""The verdict on one node: the type that every derived file is made of (layer 2; pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from suites.framework.model import MISSING, Evidence, Outcome, Reason, Role

NULL_TARGETS = frozenset({"control:true", "control:false"})
PREPARATION = frozenset({"preflight", "build", "provision"})
"""Phases whose nodes are no cases of a suite."""


class Verdict(StrEnum):
    """What is shown and counted: the outcomes, with inconclusive told apart from an ordinary skip."""

    PASSED = "passed"
    FAILED = "failed"
    ERRORED = "errored"
    XPASSED = "xpassed"
    INCONCLUSIVE = "inconclusive"
    XFAILED = "xfailed"
    SKIPPED = "skipped"


SEVERITY = (
    Verdict.ERRORED,
    Verdict.FAILED,
    Verdict.XPASSED,
    Verdict.INCONCLUSIVE,
    Verdict.XFAILED,
    Verdict.SKIPPED,
    Verdict.PASSED,
)
"""Of several verdicts on the same node, the first in this order counts."""
RED = frozenset(SEVERITY[:4])
"""Verdicts that make the run fail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What the launcher's note ``target`` says about a program under test."""

    name: str = ""
    kind: str = ""
    role: Role = Role.TARGET
    version: str = ""
    sha256: str = ""
    path: str = ""
    null: bool = False
    """True for a control that must fail every case."""
    limits: tuple[tuple[str, float], ...] = ()
    """Its declared budgets by the name of what is measured, in the unit that the name ends in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The verdict on one node and target in one environment. Times in seconds, memory in bytes."""

    environment: str
    phase: str
    worker: str
    source: str = ""
    node: str
    cases: tuple[str, ...] = ()
    target: str = ""
    subject: Subject = Subject()
    kind: str = ""
    mode: str = ""
    parameter: str = ""
    title: str = ""
    file: str = ""
    line: int = 0
    requires: tuple[str, ...] = ()
    standby: bool = False
    tier: int = 1
    outcome: Outcome
    reason: str = ""
    message: str = ""
    expected: str = ""
    actual: str = ""
    evidence: tuple[Evidence, ...] = ()
    wall_s: float = 0.0
    target_s: float = 0.0
    cpu_s: float = 0.0
    rss_bytes: int = 0
    t: float = 0.0
    """When it was planned, Unix seconds: the order of a report."""
    started: bool = True
    completed: bool = True
    """False when no event says how it ended."""
    measured: tuple[tuple[str, Any], ...] = ()
    attempts: tuple[Verdict, ...] = ()
    """All verdicts when the node was seen more than once."""
    flaky: bool = False

    @property
    def role(self) -> Role:
        """Return what the target is in this run."""
        return Role.STANDBY if self.standby else self.subject.role

    @property
    def verdict(self) -> Verdict:
        """Return the outcome as it is shown and counted."""
        if self.outcome is Outcome.SKIPPED and self.reason == Reason.INCONCLUSIVE:
            return Verdict.INCONCLUSIVE
        return Verdict(self.outcome.value)

    @property
    def is_case(self) -> bool:
        """Return whether this is a case of a suite, not a step of preparation."""
        return self.phase not in PREPARATION

    @property
    def ran(self) -> bool:
        """Return whether the case was really executed."""
        return self.started and self.verdict is not Verdict.SKIPPED

    @property
    def missing(self) -> str:
        """Return the fact that a skip names, or an empty text."""
        return self.reason.removeprefix(MISSING) if self.reason.startswith(MISSING) else ""

    @property
    def null_passed(self) -> bool:
        """Return whether a target that does nothing passed: the case cannot fail."""
        return self.subject.null and self.outcome is Outcome.PASSED

    @property
    def red(self) -> bool:
        """Return whether this result has to be explained to the reader."""
        return self.verdict in RED or self.null_passed

    @property
    def shown_target(self) -> str:
        """Return the target with its version, as in ``tini 0.19.0``."""
        return f"{self.target} {self.subject.version}".strip()
