"""The versions that a reader of a run may ask for (layer 2)."""

from __future__ import annotations

import platform
import tomllib
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def versions() -> dict[str, str]:
    """Return the versions of Seatrial and of what every run depends on."""
    return {
        "seatrial": _own_version(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "pytest": metadata.version("pytest"),
        "psutil": metadata.version("psutil"),
    }


def _own_version() -> str:
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])
