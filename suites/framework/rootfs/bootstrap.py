"""A Debian with little more than its package manager, made by mmdebstrap(1) without touching the system (layer 2)."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from suites.framework.errors import CannotRunError, InfrastructureError
from suites.framework.provisioning.command import Run, run

TOOL = "mmdebstrap"
DEADLINE_S = 1200.0
"""17 s on a quiet machine with a mirror nearby, 130 s under load."""
ARCHIVE = "tree.tar"
_OS_RELEASE = Path("/etc/os-release")
_REMEDY = "apt-get install mmdebstrap, or give another --rootfs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The distribution's release that this machine runs, which is the one that is made again."""

    name: str
    codename: str
    machine: str

    @property
    def key(self) -> str:
        """Return a name for the tree."""
        return f"{self.codename}-{self.machine}"


def release(*, file: Path = _OS_RELEASE, environ: Mapping[str, str] = os.environ) -> Release:
    """Return what would be made here; CannotRunError where that is nothing."""
    if shutil.which(TOOL, path=environ.get("PATH", os.defpath)) is None:
        raise CannotRunError("rootfs mmdebstrap cannot be had", why="mmdebstrap is not on PATH", remedy=_REMEDY)
    try:
        found = platform.freedesktop_os_release() if file == _OS_RELEASE else _parsed(file)
    except OSError as error:
        raise CannotRunError("rootfs mmdebstrap cannot be had", why=str(error), remedy=_REMEDY) from None
    if not (codename := found.get("VERSION_CODENAME", "")).isalnum():
        why = f"{found.get('NAME', 'this system')} names no release that mmdebstrap could make"
        raise CannotRunError("rootfs mmdebstrap cannot be had", why=why, remedy="give another --rootfs")
    return Release(name=found.get("NAME", "Debian"), codename=codename, machine=platform.machine())


def _parsed(file: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in file.read_text(encoding="utf-8").splitlines())
    return {name: value.strip("\"'") for name, _, value in lines}


def archive(of: Release, folder: Path, *, run: Run = run, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the tar archive of a minimal system, made in ``folder``; without device nodes, which a runtime makes."""
    path = folder / ARCHIVE
    words = (TOOL, "--variant=minbase", "--mode=auto", "--format=tar", "--skip=output/dev", of.codename, str(path))
    done = run(words, deadline_s=DEADLINE_S, environment={**environ, "LC_ALL": "C", **_scratch(folder)})
    if not done.ok:
        raise InfrastructureError(
            "rootfs mmdebstrap was not made", why=done.complaint, remedy="check the network and the sources of apt"
        )
    return path


def _scratch(folder: Path) -> dict[str, str]:
    """Keep what a killed mmdebstrap leaves below ``folder``; a user's subordinate ids might not get there."""
    if os.geteuid() != 0:
        return {}
    place = folder / "scratch"
    place.mkdir()
    return {"TMPDIR": str(place)}
