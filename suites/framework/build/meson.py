"""meson: a meson.build (layer 2). Source: https://mesonbuild.com/IDE-integration.html."""

from __future__ import annotations

import json
from pathlib import Path

from suites.framework.build.tool import COMPILER, Probe, Site, Tool
from suites.framework.facts import Fact

_NEEDS = (
    Probe(fact=Fact.MESON, argv=("meson", "--version"), package="meson"),
    Probe(fact=Fact.MESON, argv=("ninja", "--version"), package="ninja-build"),
    COMPILER,
)


def build(site: Site) -> list[Path]:
    """Configure outside the copy, build, and return the executables that meson names."""
    wraps = ["--wrap-mode=nodownload"] if site.offline else []
    site.step(
        "setup",
        "meson configures the project",
        ["meson", "setup", str(site.out), str(site.tree), "--buildtype=release", *wraps],
    )
    site.step("meson", "meson builds the project", ["meson", "compile", "-C", str(site.out), "-j", str(site.jobs)])
    answer = site.step(
        "targets", "meson names what it builds", ["meson", "introspect", "--targets", str(site.out)], answer=True
    )
    targets = json.loads(answer.read_bytes())
    made = [Path(name) for target in targets if target["type"] == "executable" for name in target["filename"]]
    return [path for path in made if path.exists()]


TOOL = Tool(
    name="meson",
    fact=Fact.MESON,
    manifests=("meson.build",),
    build=build,
    needs=lambda _: _NEEDS,
    static="LDFLAGS=-static",
)
