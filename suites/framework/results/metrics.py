"""The metrics of a run, read back: curves by sampling, totals by step (layer 2)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from suites.framework import codec
from suites.framework.errors import InfrastructureError
from suites.framework.model import METRICS, Sample, Total
from suites.framework.results.rundir import RunDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What was measured in one environment."""

    samples: tuple[Sample, ...] = ()
    totals: tuple[Total, ...] = ()
    sources: Mapping[str, tuple[Total, ...]] = field(default_factory=dict)
    """The totals by the run that they come from in a merged directory: steps of two machines are not one step."""


def load(run: RunDirectory) -> dict[str, Metrics]:
    """Return what was measured, by environment; lines that are torn or foreign are left out."""
    return {
        folder.name: read(folder / "metrics") for folder in sorted(run.path.iterdir()) if (folder / "metrics").is_dir()
    }


def read(folder: Path) -> Metrics:
    """Return the content of all metrics files in a folder."""
    found = [
        (file.stem.partition("@")[2], metric)
        for file in sorted(folder.glob("*.jsonl"))
        if file.is_file() and not file.is_symlink()
        for metric in _lines(file)
    ]
    sources: dict[str, list[Total]] = defaultdict(list)
    for source, metric in found:
        if isinstance(metric, Total):
            sources[source].append(metric)
    return Metrics(
        samples=tuple(metric for _, metric in found if isinstance(metric, Sample)),
        totals=tuple(metric for _, metric in found if isinstance(metric, Total)),
        sources={source: tuple(totals) for source, totals in sources.items()},
    )


def _lines(file: Path) -> Iterator[Sample | Total]:
    """Yield what can be used; a last line without its end is torn, even where it looks whole."""
    try:
        *lines, _ = file.read_bytes().split(b"\n")
    except OSError as error:
        raise InfrastructureError(
            f"cannot read the metrics {file}", why=error.strerror or "", remedy="run as its owner, or chown it"
        ) from error
    for line in lines:
        try:
            value = json.loads(line)
            yield codec.decode(METRICS[value["metric"]], value)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
