"""What wrappers took to build packages, in SBU too, and how the packages' own tests ended (layer 2; pure)."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from suites.framework.model import PACKAGE_STEP, PACKAGE_TESTS, Sample, Total
from suites.framework.results.metrics import Metrics
from suites.framework.results.result import Result

PREFIX = PACKAGE_STEP.partition("{")[0]
UNIT = ("ed", "build")
"""The package and step whose CPU seconds are one SBU."""
LIMITS = ("step_wall_s", "step_cpu_s", "step_rss_bytes", "step_sbu")
"""What a limit of a wrapper on each step of a package may be about."""
OUTCOMES = ("passed", "failed", "skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageStep:
    """One step of one package, in the median of all times that it was built. Seconds and bytes."""

    environment: str
    source: str
    """The run that it is from, in a merged directory: seconds of two machines are not the same."""
    wrapper: str
    package: str
    step: str
    wall_s: float
    cpu_s: float
    rss_bytes: int
    """Of the largest process."""
    sbu: float | None
    """CPU time in that of ed's `make` in the same environment and run; None where that was not built."""
    samples: tuple[Sample, ...] = ()
    """Of the first time, in order."""

    @property
    def place(self) -> str:
        """Return the environment, with the run where several were merged."""
        return f"{self.environment} {self.source}".strip()

    def measured(self, limit: str) -> float | None:
        """Return what a limit on steps (`LIMITS`) is about; None for another limit, and where it is not known."""
        value = getattr(self, limit.removeprefix("step_")) if limit in LIMITS else None
        return None if value is None else round(value, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageTests:
    """How the own tests of a package ended below one wrapper."""

    environment: str
    source: str
    wrapper: str
    package: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        """Return such as ``3 passed, 1 failed``."""
        numbers = [(getattr(self, word), word) for word in OUTCOMES]
        return ", ".join(f"{number} {word}" for number, word in numbers if number) or "none"


def sbu(step: PackageStep) -> str:
    """Return its SBU as people write them, a dash where the unit is not known."""
    return "-" if step.sbu is None else f"{step.sbu:.2f}"


def steps(metrics: Mapping[str, Metrics]) -> tuple[PackageStep, ...]:
    """Return every step of every package that was measured, those of a build in their order."""
    return tuple(
        step
        for environment in sorted(metrics)
        for source, totals in sorted(metrics[environment].sources.items())
        for step in _of_source(environment, source, totals, metrics[environment].samples)
    )


def _of_source(
    environment: str, source: str, totals: Iterable[Total], samples: Sequence[Sample]
) -> Iterator[PackageStep]:
    found: dict[tuple[str, str, str], list[Total]] = defaultdict(list)
    for total in sorted(totals, key=lambda total: total.t):
        if (words := total.step.split("::"))[0] == PREFIX.rstrip(":") and len(words) == 4:
            found[words[1], words[2], words[3]].append(total)
    units = [total.cpu_s for (_, *rest), group in found.items() if tuple(rest) == UNIT for total in group]
    unit = statistics.median(units) if units else 0.0
    for (wrapper, package, step), group in sorted(found.items(), key=lambda item: item[0][:2]):  # stable: in order
        cpu_s = statistics.median(total.cpu_s for total in group)
        yield PackageStep(
            environment=environment,
            source=source,
            wrapper=wrapper,
            package=package,
            step=step,
            wall_s=statistics.median(total.wall_s for total in group),
            cpu_s=cpu_s,
            rss_bytes=max(total.rss_bytes for total in group),
            sbu=cpu_s / unit if unit > 0 else None,
            samples=tuple(_during(group[0], samples)),
        )


def _during(total: Total, samples: Iterable[Sample]) -> list[Sample]:
    """Return the samples of a step between its beginning and its end."""
    found = (sample for sample in samples if sample.step == total.step)
    return sorted((each for each in found if total.t - total.wall_s - 1 <= each.t <= total.t), key=lambda each: each.t)


def others(metrics: Metrics) -> Metrics:
    """Return what was measured of anything else."""
    return replace(
        metrics,
        samples=tuple(sample for sample in metrics.samples if not sample.step.startswith(PREFIX)),
        totals=tuple(total for total in metrics.totals if not total.step.startswith(PREFIX)),
    )


def tests(results: Iterable[Result]) -> tuple[PackageTests, ...]:
    """Return what notes say of the packages' own tests; one that is no table of numbers says nothing."""
    found = [
        PackageTests(
            environment=result.environment,
            source=result.source,
            wrapper=result.target,
            package=str(value.get("package", "")),
            **{word: value[word] for word in OUTCOMES if isinstance(value.get(word), int)},
        )
        for result in results
        for name, value in result.measured
        if name == PACKAGE_TESTS and isinstance(value, dict)
    ]
    return tuple(dict.fromkeys(found))
