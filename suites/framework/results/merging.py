"""Putting several run directories, also of other machines, together into a new one (layer 2)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from suites.framework.results.rundir import RunDirectory, RunRecord


def merge(runs: Sequence[RunDirectory], into: Path, *, argv: Sequence[str] = ()) -> RunDirectory:
    """Make a new run directory below `into` that holds the events and facts of several.

    A source that was merged itself keeps its own sources; the same run given twice counts once.
    """
    sources = {run.record().id: run for run in runs}
    records = [run.record() for run in sources.values()]
    merged = RunDirectory.create(into, argv=argv)
    for name, source in sources.items():
        _copy(source, merged, name)
    merged.update(lambda own: _united(own, records))
    return merged


def _copy(source: RunDirectory, merged: RunDirectory, run: str) -> None:
    for file in source.event_files():
        name = f"{file.phase}.{file.worker}@{file.source or run}.jsonl"
        shutil.copyfile(file.path, merged.environment(file.environment) / "events" / name, follow_symlinks=False)
    for sheet in source.path.glob("*/facts*.json"):
        name = sheet.name if "@" in sheet.name else f"facts@{run}.json"
        shutil.copyfile(sheet, merged.environment(sheet.parent.name) / name, follow_symlinks=False)


def _united(own: RunRecord, records: Sequence[RunRecord]) -> RunRecord:
    return replace(
        own,
        versions=records[0].versions if records else own.versions,
        findings=tuple(dict.fromkeys(finding for record in records for finding in record.findings)),
        promises=tuple(dict.fromkeys(promise for record in records for promise in record.promises)),
        merged=tuple(sorted({name for record in records for name in record.merged or (record.id,)})),
    )
