"""One command run with limits, told apart exactly by how it ended (layer 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from suites.framework.environments.user import User
from suites.framework.model import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLimits:
    """What a step may use. Seconds, bytes and counts."""

    time_s: float = 3600.0
    silence_s: float = 900.0
    """Without a byte of output for so long it is taken for hanging."""
    memory_bytes: int = 8 * 1024**3
    processes: int = 4096
    open_files: int = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command of a phase on the host, such as one call of a build tool."""

    name: str
    """Its node, such as ``build::tini::cmake``."""
    title: str
    """One sentence for a report."""
    target: str
    argv: Sequence[str]
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """All variables that it gets."""
    user: User | None = None
    """As whom root runs it; None: as the caller."""
    limits: StepLimits = StepLimits()
    output: Path | None = None
    """File that gets stdout alone (for tools that answer in JSON); otherwise both streams go to the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnd:
    """How a step ended. Times in seconds, memory in bytes."""

    reason: Reason | None
    """None for exit status 0, else exit, signal, timeout, silence, oom, disk-full, hook, not-started or interrupted."""
    code: int
    """Exit status, or the number of the signal."""
    detail: str
    """One sentence: what ended it."""
    log: Path
    tail: str
    """The last 40 lines of its log."""
    wall_s: float
    cpu_s: float
    rss_bytes: int

    @property
    def ok(self) -> bool:
        """Return whether it ended by itself with status 0."""
        return self.reason is None
