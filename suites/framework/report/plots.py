"""Curves and distributions as inline SVG that says in words what it shows (layer 2; pure)."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat

from markupsafe import Markup

from suites.framework.model import Sample
from suites.framework.report.words import line, seconds, size
from suites.framework.results.metrics import Metrics
from suites.framework.results.packages import PackageStep, sbu

Point = tuple[float, float]

POINTS = 90
"""Of one curve; of what lies between two, the highest is kept."""
STEPS = 24
"""Steps of an environment whose curves are shown: those with the highest peaks."""
WIDTH, HEIGHT = 170, 36
EDGES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)
"""Upper ends of the classes of durations, seconds; one more is open."""
_BAR, _ROW, _LABEL = 160, 18, 124


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What one step used over time, and in total where that is known."""

    step: str
    memory: Markup
    peak: str
    cpu: Markup
    cpu_s: str
    wall: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """The steps of one environment, drawn to the same scales."""

    environment: str
    rows: tuple[Curve, ...]
    span: str
    memory: str
    """The top of every memory curve."""
    cores: str
    """The top of every CPU curve."""
    left_out: int


def curves(environment: str, metrics: Metrics) -> Curves:
    """Return the curves of an environment: time from its first sample, all steps to one scale."""
    by_step: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(metrics.samples, key=lambda sample: sample.t):
        by_step[sample.step].append(sample)
    steps = _steps(by_step, metrics)
    start = min((samples[0].t for samples in by_step.values()), default=0.0)
    memory = {name: [(sample.t - start, float(sample.rss_bytes)) for sample in by_step[name]] for name in steps}
    cores = {name: _cores(by_step[name], start) for name in steps}
    span = max((points[-1][0] for points in memory.values() if points), default=0.0)
    tops = tuple(max((y for points in found.values() for _, y in points), default=0.0) for found in (memory, cores))
    return Curves(
        environment=environment,
        rows=tuple(_curve(name, metrics, memory[name], cores[name], span, tops) for name in steps),
        span=seconds(span),
        memory=size(tops[0]),
        cores=f"{tops[1]:.2g}",
        left_out=len(set(by_step) | {total.step for total in metrics.totals}) - len(steps),
    )


def _steps(by_step: dict[str, list[Sample]], metrics: Metrics) -> list[str]:
    peaks = {name: max(sample.rss_bytes for sample in samples) for name, samples in by_step.items()}
    for total in metrics.totals:
        peaks[total.step] = max(total.rss_bytes, peaks.get(total.step, 0))
    kept = sorted(peaks, key=lambda name: (-peaks[name], name))[:STEPS]
    return sorted(kept)


def _curve(
    step: str, metrics: Metrics, memory: list[Point], cores: list[Point], span: float, tops: Sequence[float]
) -> Curve:
    totals = [total for total in metrics.totals if total.step == step]
    peak = size(max([y for _, y in memory] + [total.rss_bytes for total in totals]))
    name = line(step, 80)
    return Curve(
        step=name,
        memory=sparkline(memory, span=span, top=tops[0], label=f"Memory of {name}: at most {peak}")
        if memory
        else Markup(),
        peak=peak,
        cpu=sparkline(cores, span=span, top=tops[1], label=f"CPU of {name}: {_range(cores)} cores")
        if cores
        else Markup(),
        cpu_s=seconds(sum(total.cpu_s for total in totals)) if totals else "",
        wall=seconds(sum(total.wall_s for total in totals)) if totals else "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One step of a package: its curves from its own beginning to its own end, and the numbers."""

    wrapper: str
    package: str
    step: str
    cpu: Markup
    memory: Markup
    wall: str
    cpu_s: str
    sbu: str
    peak: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loads:
    """The steps of the packages that were built in one environment, drawn to the same heights."""

    environment: str
    rows: tuple[Load, ...]
    memory: str
    cores: str


def loads(environment: str, steps: Sequence[PackageStep]) -> Loads:
    """Return the curves of an environment's packages."""
    memory = [[(each.t - step.samples[0].t, float(each.rss_bytes)) for each in step.samples] for step in steps]
    cores = [_cores(step.samples, step.samples[0].t) if step.samples else [] for step in steps]
    tops = [max((y for points in found for _, y in points), default=0.0) for found in (memory, cores)]
    return Loads(
        environment=environment,
        rows=tuple(map(_load, steps, memory, cores, repeat(tops[0]), repeat(tops[1]))),
        memory=size(tops[0]),
        cores=f"{tops[1]:.2g}",
    )


def _load(step: PackageStep, memory: list[Point], cores: list[Point], most: float, fastest: float) -> Load:
    name = line(f"{step.package} {step.step}", 80)
    span = memory[-1][0] if memory else 0.0
    said = f"CPU of {name} in {seconds(span)}: {_range(cores)} cores" if cores else ""
    held = f"Memory of {name}: at most {size(max(y for _, y in memory))}" if memory else ""
    return Load(
        wrapper=line(step.wrapper, 60),
        package=line(step.package, 60),
        step=line(step.step, 60),
        cpu=sparkline(cores, span=span, top=fastest, label=said) if cores else Markup(),
        memory=sparkline(memory, span=span, top=most, label=held) if len(memory) > 1 else Markup(),
        wall=seconds(step.wall_s),
        cpu_s=seconds(step.cpu_s),
        sbu=sbu(step),
        peak=size(step.rss_bytes),
    )


def _cores(samples: Sequence[Sample], start: float) -> list[Point]:
    """Return CPU seconds per second between samples; what ended without being counted would make it negative."""
    return [
        (later.t - start, max(0.0, (later.cpu_s - earlier.cpu_s) / (later.t - earlier.t)))
        for earlier, later in pairwise(samples)
        if later.t > earlier.t
    ]


def _range(points: Sequence[Point]) -> str:
    return f"{min(y for _, y in points):.2g} to {max(y for _, y in points):.2g}"


def thinned(points: Sequence[Point], most: int = POINTS) -> list[Point]:
    """Return at most `most` points: of every stretch the highest, so that no peak is lost."""
    stride = -(-len(points) // most) or 1
    return [max(points[at : at + stride], key=lambda point: point[1]) for at in range(0, len(points), stride)]


def sparkline(points: Sequence[Point], *, span: float, top: float, label: str) -> Markup:
    """Return a curve without axes, from 0 to `span` and `top`."""
    across, up = (WIDTH - 4) / (span or 1.0), (HEIGHT - 4) / (top or 1.0)
    drawn = [(2 + x * across, HEIGHT - 2 - y * up) for x, y in thinned(points)]
    path = " ".join(f"{x:.0f},{y:.1f}" for x, y in drawn)
    last = drawn[-1]
    return Markup(
        '<svg class="spark" role="img" viewBox="0 0 {w} {h}" width="{w}" height="{h}"><title>{label}</title>'
        '<polyline points="{path}"/><circle cx="{x}" cy="{y}" r="2"/></svg>'
    ).format(w=WIDTH, h=HEIGHT, label=label, path=path, x=f"{last[0]:.0f}", y=f"{last[1]:.1f}")


# ---- durations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long the cases of one environment took."""

    environment: str
    plot: Markup
    said: str


def durations(environment: str, walls: Iterable[float]) -> Durations:
    """Return the distribution of wall times in seconds; there is at least one."""
    found = sorted(walls)
    said = (
        f"{len(found)} results: half of them within {seconds(statistics.median(found))}, "
        f"95 % within {seconds(found[int(0.95 * (len(found) - 1))])}, the longest {seconds(found[-1])}; "
        f"{seconds(sum(found))} in all"
    )
    return Durations(
        environment=environment, plot=histogram(found, label=f"Durations in {line(environment)}"), said=said
    )


def histogram(values: Sequence[float], *, label: str) -> Markup:
    """Return horizontal bars of the classes of `EDGES`, empty ones at both ends left out."""
    classes = [0] * (len(EDGES) + 1)
    for value in values:
        classes[bisect_right(EDGES, value)] += 1
    filled = [at for at, number in enumerate(classes) if number]
    rows = [(_class(at), classes[at]) for at in range(filled[0], filled[-1] + 1)]
    height = _ROW * len(rows)
    bars = Markup("").join(_bar(row, name, number, max(classes)) for row, (name, number) in enumerate(rows))
    words = ", ".join(f"{name}: {number}" for name, number in rows)
    return Markup(
        '<svg class="bars" role="img" viewBox="0 0 {w} {h}" width="{w}" height="{h}"><title>{label}</title>{bars}</svg>'
    ).format(w=_LABEL + _BAR + 50, h=height, label=f"{label}: {words}", bars=bars)


def _bar(row: int, name: str, number: int, most: int) -> Markup:
    y, width = row * _ROW, max(1.0, _BAR * number / most) if number else 0.0
    return Markup(
        '<text x="{end}" y="{base}" text-anchor="end">{name}</text>'
        '<rect x="{x}" y="{y}" width="{width}" height="{h}"/><text x="{after}" y="{base}">{number}</text>'
    ).format(
        end=_LABEL - 6,
        base=y + 13,
        name=name,
        x=_LABEL,
        y=y + 2,
        width=f"{width:.0f}",
        h=_ROW - 4,
        after=f"{_LABEL + width + 5:.0f}",
        number=number,
    )


def _class(at: int) -> str:
    if at == len(EDGES):
        return f"over {seconds(EDGES[-1])}"
    return f"{seconds(EDGES[at - 1])} to {seconds(EDGES[at])}" if at else f"under {seconds(EDGES[0])}"
