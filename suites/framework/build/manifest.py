"""Which tool builds a directory (layer 2)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from suites.framework.build import autotools, cargo, cmake, command, go, make, meson
from suites.framework.build.tool import Tool
from suites.framework.errors import UsageError

TOOLS = (cargo.TOOL, go.TOOL, meson.TOOL, cmake.TOOL, autotools.TOOL, make.TOOL)
"""In the order in which their manifests are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The tool that builds a directory, and why."""

    tool: Tool
    manifest: str
    """The file that decided, or ``[build] command``."""
    unused: tuple[str, ...] = ()
    """Manifests of other tools that are there too."""


def choose(word: str, directory: Path, *, command_of_profile: tuple[str, ...] = ()) -> Choice:
    """Return the tool for ``directory``: the profile's command, else that of the first manifest; UsageError if none."""
    there = {tool.name: [name for name in tool.manifests if (directory / name).is_file()] for tool in TOOLS}
    found = [(tool, there[tool.name][0]) for tool in TOOLS if there[tool.name]]
    if command_of_profile:
        return Choice(tool=command.TOOL, manifest="[build] command", unused=tuple(name for _, name in found))
    if not found:
        looked_for = ", ".join(name for tool in TOOLS for name in tool.manifests)
        raise UsageError(
            f"{word}: nothing in {directory} says how it is built",
            why=f"looked for {looked_for}",
            remedy="give the top of the checkout, or a [build] command with --profile",
        )
    (tool, manifest), *others = found
    return Choice(tool=tool, manifest=manifest, unused=tuple(name for _, name in others))
