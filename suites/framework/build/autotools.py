"""autoconf, automake, libtool: configure, or what makes it (layer 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from suites.framework.build.scan import made_since, snapshot
from suites.framework.build.tool import COMPILER, MAKE, Probe, Site, Tool
from suites.framework.facts import Fact

_GENERATOR = (
    Probe(fact=Fact.AUTOTOOLS, argv=("autoreconf", "--version"), package="autoconf"),
    Probe(fact=Fact.AUTOTOOLS, argv=("automake", "--version"), package="automake"),
)


def build(site: Site) -> list[Path]:
    """Make configure where it is absent, configure and make in the copy; return the programs that appeared."""
    if not (site.tree / "configure").is_file():
        _generate(site)
    site.step("configure", "configure looks at this machine", _words(site.tree / "configure"))
    before = snapshot(site.tree, site.builder)
    site.step("make", "make builds the default goal", ["make", f"-j{site.jobs}"])
    return made_since(before, site.tree, site.builder)


def _generate(site: Site) -> None:
    script = site.tree / "autogen.sh"
    if script.is_file():
        site.step("autogen", "autogen.sh makes configure", _words(script), environment={"NOCONFIGURE": "1"})
    if not (site.tree / "configure").is_file():
        site.step("autoreconf", "autoreconf makes configure", ["autoreconf", "-fi"])


def _words(script: Path) -> list[str]:
    runnable = script.stat().st_mode & 0o100
    return [*([] if runnable else ["sh"]), str(script)]


def _needs(tree: Path) -> Sequence[Probe]:
    made = (tree / "configure").is_file()
    return (*(() if made else _GENERATOR), MAKE, COMPILER)


TOOL = Tool(
    name="autotools",
    fact=Fact.AUTOTOOLS,
    manifests=("configure", "autogen.sh", "configure.ac", "configure.in"),
    build=build,
    needs=_needs,
    static="LDFLAGS=-static (with libtool -all-static)",
)
