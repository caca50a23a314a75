"""The metrics of a run, read back: curves by sampling, totals by step (layer 2)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from suites.framework import codec
from suites.framework.model import METRICS, Sample, Total
from suites.framework.results.rundir import RunDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What was measured in one environment."""

    samples: tuple[Sample, ...] = ()
    totals: tuple[Total, ...] = ()


def load(run: RunDirectory) -> dict[str, Metrics]:
    """Return what was measured, by environment; lines that are torn or foreign are left out."""
    return {
        folder.name: read(folder / "metrics") for folder in sorted(run.path.iterdir()) if (folder / "metrics").is_dir()
    }


def read(folder: Path) -> Metrics:
    """Return the content of all metrics files in a folder."""
    found = [metric for file in sorted(folder.glob("*.jsonl")) if not file.is_symlink() for metric in _lines(file)]
    return Metrics(
        samples=tuple(metric for metric in found if isinstance(metric, Sample)),
        totals=tuple(metric for metric in found if isinstance(metric, Total)),
    )


def _lines(file: Path) -> Iterator[Sample | Total]:
    for line in file.read_bytes().splitlines():
        try:
            value = json.loads(line)
            yield codec.decode(METRICS[value["metric"]], value)
        except (ValueError, KeyError, TypeError):
            continue
