"""The targets that Seatrial knows by name: one TOML file each (layer 1: standard library only)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from suites.framework.errors import InfrastructureError
from suites.framework.model import Profile
from suites.framework.targets.profile import load

CONTROL = "control:"
"""Prefix of the shown name of a negative control, whose file is called ``control-NAME.toml``."""


def load_catalogue(folder: Path) -> dict[str, Profile]:
    """Return the profiles in ``folder`` by name, in alphabetical order; a bad file raises UsageError."""
    if not folder.is_dir():
        raise InfrastructureError(
            f"no catalogue of targets at {folder}", remedy="is this a whole checkout of Seatrial?"
        )
    profiles = (load(path) for path in sorted(folder.glob("*.toml")))
    named = (dataclasses.replace(profile, name=_shown(profile.name)) for profile in profiles)
    return {profile.name: profile for profile in named}


def _shown(stem: str) -> str:
    prefix = CONTROL.replace(":", "-")
    return CONTROL + stem.removeprefix(prefix) if stem.startswith(prefix) else stem
