"""Putting several run directories, also of other machines, together into a new one (layer 2)."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from suites.framework.errors import PRECEDENCE, ExitCode
from suites.framework.manifest import CONTENT, SUFFIX
from suites.framework.results.manifest import GOLDEN
from suites.framework.results.rundir import Conclusion, RunDirectory, RunRecord, united


def merge(runs: Sequence[RunDirectory], into: Path, *, argv: Sequence[str] = ()) -> RunDirectory:
    """Make a new run directory below `into` that holds the events, facts, metrics and manifests of several.

    A source that was merged itself keeps its own sources; the same run given twice counts once.
    """
    sources = {run.record().id: run for run in runs}
    records = [run.record() for run in sources.values()]
    merged = RunDirectory.create(into, argv=argv)
    for name, source in sources.items():
        _copy(source, merged, name)
    _conclude(merged, sources.values())
    merged.update(lambda own: _united(own, records))
    return merged


def _copy(source: RunDirectory, merged: RunDirectory, run: str) -> None:
    for file in source.event_files():
        name = f"{file.phase}.{file.worker}@{file.source or run}.jsonl"
        shutil.copyfile(file.path, merged.environment(file.environment) / "events" / name, follow_symlinks=False)
    for sheet in _files(source, "facts*.json"):
        _keep(sheet, merged.environment(sheet.parent.name), run, suffix=".json")
    for curve in _files(source, "metrics/*.jsonl"):
        _keep(curve, merged.environment(curve.parent.parent.name) / "metrics", run, suffix=".jsonl")
    for suffix in (SUFFIX, GOLDEN):
        for listed in _files(source, f"artefacts/*{suffix}"):
            _keep(listed, merged.environment(listed.parent.parent.name) / "artefacts", run, suffix=suffix)
    for kept in _files(source, f"artefacts/{CONTENT}/*"):
        folder = merged.environment(kept.parent.parent.parent.name) / "artefacts" / CONTENT
        folder.mkdir(exist_ok=True)
        shutil.copyfile(kept, folder / kept.name, follow_symlinks=False)


def _files(source: RunDirectory, pattern: str) -> list[Path]:
    """Return the files of all environments that a pattern names; a link may point anywhere."""
    return [path for path in sorted(source.path.glob(f"*/{pattern}")) if path.is_file() and not path.is_symlink()]


def _keep(file: Path, folder: Path, run: str, *, suffix: str) -> None:
    """Copy a file with the run it came from in its name, unless an earlier merge put one there."""
    stem = file.name.removesuffix(suffix)
    shutil.copyfile(file, folder / (file.name if "@" in stem else f"{stem}@{run}{suffix}"), follow_symlinks=False)


def _conclude(merged: RunDirectory, sources: Iterable[RunDirectory]) -> None:
    """Conclude each environment as badly as any source did; one that cannot run here may have run elsewhere."""
    found: dict[str, list[Conclusion]] = defaultdict(list)
    for source in sources:
        for environment, conclusion in source.conclusions().items():
            if conclusion.code in WORST:  # a damaged one says nothing
                found[environment].append(conclusion)
    for environment, conclusions in found.items():
        worst = min(conclusions, key=lambda conclusion: WORST.index(conclusion.code))
        merged.conclude(environment, ExitCode(worst.code), worst.reason)


WORST: list[int] = [*(code for code in PRECEDENCE if code is not ExitCode.CANNOT_RUN), ExitCode.CANNOT_RUN]
"""Codes of one environment in several runs: the first counts."""


def _united(own: RunRecord, records: Sequence[RunRecord]) -> RunRecord:
    return replace(
        own,
        versions=records[0].versions if records else own.versions,
        findings=tuple(dict.fromkeys(finding for record in records for finding in record.findings)),
        promised=united(*(record.promised for record in records)),
        merged=tuple(sorted({name for record in records for name in record.merged or (record.id,)})),
    )
