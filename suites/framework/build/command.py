"""The command of a target's own profile, in place of a tool (layer 2)."""

from __future__ import annotations

from pathlib import Path

from suites.framework.build.scan import made_since, snapshot
from suites.framework.build.tool import COMPILERS, Site, Tool
from suites.framework.facts import Fact


def build(site: Site) -> list[Path]:
    """Execute the command in the copy; return the programs that appeared."""
    before = snapshot(site.tree, site.builder)
    site.step("command", "the profile's command builds the target", site.command)
    return made_since(before, site.tree, site.builder)


TOOL = Tool(name="command", fact=Fact.COMPILER, manifests=(), build=build, needs=lambda _: (), also=COMPILERS)
