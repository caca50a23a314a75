"""What a wrapper's build of a package used, step by step, and what the package's own tests said (layer 1).

A metered script runs its commands below the payload's ``meter``, which tells at the gate `USED` what they and all that
they started have used, by the kernel's accounts. Samples are for the curve alone.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from suites.framework.bench import EVIDENCE
from suites.framework.buildscripts.build import Build, Ended
from suites.framework.buildscripts.gate import Gate
from suites.framework.buildscripts.package import PATIENCE_S, PHASES, USED, OwnTests, Package
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.model import PACKAGE_STEP, PACKAGE_TESTS
from suites.framework.sampler import MetricsFile, Sampler

INTERVAL_S = 0.2
"""Between two samples of a step: the shortest take a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What the commands of a step have used, as wait4(2) and getrusage(2) count. Seconds and bytes."""

    wall_s: float
    cpu_s: float
    """Of all processes that were waited for."""
    rss_bytes: int
    """Of the largest process."""
    code: int
    """What the commands ended with, 128 and more for a signal."""


def used(words: Sequence[bytes]) -> Used:
    """Return what stands behind the label of a meter's gate."""
    wall, cpu, rss, code = words
    return Used(wall_s=float(wall), cpu_s=float(cpu), rss_bytes=int(rss), code=int(code))


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many tests of a package there were, by how they ended."""

    passed: int
    failed: int
    skipped: int

    def verdict(self, *, wanted: bool) -> str:
        """Return ``none failed``, or what is wrong with these tests; `wanted` says whether there have to be any."""
        if self.failed:
            return f"{self.failed} of its {self.passed + self.failed + self.skipped} tests failed"
        return "none failed" if self.passed or not wanted else "none of its tests has passed"


def counted(said: str, tests: OwnTests) -> Counts:
    """Return how many tests the output of a test suite tells of."""
    return Counts(
        passed=_number(tests.passed, said), failed=_number(tests.failed, said), skipped=_number(tests.skipped, said)
    )


def _number(pattern: str, said: str) -> int:
    """Return how often a pattern is found, each as often as the number in its group says; empty finds nothing."""
    found = re.finditer(pattern, said, re.MULTILINE) if pattern else ()
    return sum(int(match[1]) if match.re.groups else 1 for match in found)


class Account:
    """One build of a package; its samples and totals are written while it runs, to the worker's metrics."""

    def __init__(self, wrapper: Wrapper, package: Package) -> None:
        """Open the metrics; they are closed with the test."""
        metrics = MetricsFile(Path(wrapper.bench.context.paths.metrics or os.devnull))
        wrapper.bench.own(metrics.close)
        self._wrapper, self._package = wrapper, package
        self._sampler = Sampler(metrics, interval_s=INTERVAL_S)
        self.steps: dict[str, Used] = {}
        """By name, in the order of their ends."""

    def follow(self, build: Build) -> Ended:
        """Return how a build ended, all gates open, and measure its steps meanwhile."""
        build.meanwhile = self._look
        ended = build.end(within=len(PHASES) * PATIENCE_S)
        if self.steps and not self._package.needs:  # whose scripts have no meter
            total = sum(step.cpu_s for step in self.steps.values())
            self._wrapper.note("wrapper_cpu_s", round(max(0.0, ended.cpu_s - total), 6))
        return ended

    def _look(self, gate: Gate | None) -> None:
        if gate is not None and gate.label == "before" and gate.step in PHASES:
            self._sampler.watch(self._name(gate.step), gate.state.ppid)
        elif gate is not None and gate.label == USED:
            found = self.steps[gate.step] = used(gate.words)
            self._sampler.end(self._name(gate.step), wall_s=found.wall_s, cpu_s=found.cpu_s, rss_bytes=found.rss_bytes)
        self._sampler.tick()

    def _name(self, step: str) -> str:
        return PACKAGE_STEP.format(wrapper=self._wrapper.target.name, package=self._package.name, step=step)

    def keep_logs(self) -> None:
        """Have the launcher keep the latest log of each step that ended."""
        folder = Path(self._wrapper.bench.context.paths.scratch) / EVIDENCE
        folder.mkdir(exist_ok=True)
        for step in self.steps:
            for log in self._wrapper.logs(step)[-1:]:
                if log.is_file() and not log.is_symlink():
                    shutil.copyfile(log, folder / f"{self._name(step).replace('::', '.')}.log")

    def tests(self, step: str = "check") -> Counts:
        """Return what the log of a step that ended says about the package's own tests; noted for the report."""
        logs = self._wrapper.logs(step) if step in self.steps else []
        found = counted(logs[-1].read_text(errors="replace") if logs else "", self._package.tests)
        if logs:
            self._wrapper.note(PACKAGE_TESTS, {"package": self._package.name, **asdict(found)})
        return found
