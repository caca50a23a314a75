"""Manifests of folders of artefacts as files of a run (layer 2)."""

from __future__ import annotations

from pathlib import Path

from suites.framework.manifest import Difference, Entry, Manifest, Type, difference, manifest
from suites.framework.results.rundir import read_json, write_json

__all__ = ["GOLDEN", "SUFFIX", "Difference", "Entry", "Manifest", "Type", "difference", "manifest", "read", "write"]

SUFFIX = ".manifest.json"
"""How a manifest's file name ends, below ``<environment>/artefacts/``."""
GOLDEN = ".golden.json"
"""How the name of the one ends that it must equal."""


def write(path: Path, content: Manifest) -> None:
    """Write a manifest, whole or not at all."""
    write_json(path, content)


def read(path: Path) -> Manifest:
    """Return a manifest from its file; raise UsageError where it is absent, damaged or of a newer version."""
    return read_json(Manifest, path, remedy="make it again")
