"""make: a Makefile and nothing else (layer 2)."""

from __future__ import annotations

from pathlib import Path

from suites.framework.build.scan import made_since, snapshot
from suites.framework.build.tool import COMPILERS, MAKE, Site, Tool
from suites.framework.facts import Fact


def build(site: Site) -> list[Path]:
    """Make the default goal in the copy; return the programs that appeared."""
    before = snapshot(site.tree, site.builder)
    site.step("make", "make builds the default goal", ["make", f"-j{site.jobs}"])
    return made_since(before, site.tree, site.builder)


TOOL = Tool(
    name="make",
    fact=Fact.MAKE,
    manifests=("GNUmakefile", "makefile", "Makefile"),  # the order of make itself
    build=build,
    needs=lambda _: (MAKE,),
    also=COMPILERS,
    static="LDFLAGS=-static",
)
