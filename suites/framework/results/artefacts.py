"""The manifests of a run: what each environment made, and what it should have made (layer 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from suites.framework.errors import SeatrialError, UsageError
from suites.framework.manifest import SUFFIX, Manifest
from suites.framework.results import manifest
from suites.framework.results.manifest import GOLDEN
from suites.framework.results.rundir import RunDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """One manifest of a run directory. The name of its file is ``<name>[@<run>].manifest.json``."""

    environment: str
    name: str
    source: str = ""
    """The run it came from, in a merged directory."""
    golden: bool = False
    """True for what an artefact must equal, kept beside it as ``<name>.golden.json``."""
    content: Manifest | None
    trouble: str = ""
    """Why there is no content."""

    @property
    def place(self) -> str:
        """Return what stands for it in an offence."""
        return f"artefacts/{self.name}{SUFFIX}"

    @property
    def origin(self) -> str:
        """Return where it was made, told apart from the same environment of another run."""
        return f"{self.environment} of {self.source}" if self.source else self.environment


def artefacts(run: RunDirectory) -> tuple[Artefact, ...]:
    """Return every manifest of a run in a fixed order; one that cannot be read says why."""
    files = (file for suffix in (GOLDEN, SUFFIX) for file in sorted(run.path.glob(f"*/artefacts/*{suffix}")))
    return tuple(_artefact(file) for file in files if file.is_file() and not file.is_symlink())


def _artefact(file: Path) -> Artefact:
    golden = file.name.endswith(GOLDEN)
    name, _, source = file.name.removesuffix(GOLDEN if golden else SUFFIX).partition("@")
    content, trouble = _read(file)
    environment = file.parent.parent.name
    return Artefact(environment=environment, name=name, source=source, golden=golden, content=content, trouble=trouble)


def _read(file: Path) -> tuple[Manifest | None, str]:
    try:
        return manifest.read(file), ""
    except SeatrialError as error:
        return None, ": ".join(filter(None, (error.what.replace(str(file), file.name), error.why)))


def golden(folder: Path) -> dict[str, Manifest]:
    """Return the manifests of a folder by name; raise UsageError where there is none, or one cannot be read."""
    found = dict(_golden(folder))
    if not found:
        raise UsageError(f"no manifest in {folder}", why=f"no file ends in {SUFFIX}", remedy="give another --golden")
    return found


def _golden(folder: Path) -> Iterator[tuple[str, Manifest]]:
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        yield file.name.removesuffix(SUFFIX), manifest.read(file)
