"""Manifests of folders of artefacts as files of a run (layer 2)."""

from __future__ import annotations

from pathlib import Path

from suites.framework.manifest import Manifest
from suites.framework.results.rundir import read_json, write_json

GOLDEN = ".golden.json"
"""How the name of the one ends that a manifest must equal."""


def write(path: Path, content: Manifest) -> None:
    """Write a manifest, whole or not at all."""
    write_json(path, content)


def read(path: Path) -> Manifest:
    """Return a manifest from its file; raise UsageError where it is absent, damaged or of a newer version."""
    return read_json(Manifest, path, remedy="make it again")
