"""cmake: a CMakeLists.txt (layer 2). Source: cmake-file-api(7), object kind codemodel version 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from suites.framework.build.checkout import open_regular
from suites.framework.build.tool import COMPILER, MAKE, Probe, Site, Tool
from suites.framework.facts import Fact

_NEEDS = (Probe(fact=Fact.CMAKE, argv=("cmake", "--version"), package="cmake"), MAKE, COMPILER)
_API = ".cmake/api/v1"


def build(site: Site) -> list[Path]:
    """Configure outside the copy, build, and return the executables that cmake's file API names."""
    with site.builder.acting():
        query = site.out / _API / "query"
        query.mkdir(parents=True)
        (query / "codemodel-v2").touch()
    offline = ["-DFETCHCONTENT_FULLY_DISCONNECTED=ON"] if site.offline else []
    site.step(
        "configure",
        "cmake configures the project",
        ["cmake", "-S", str(site.tree), "-B", str(site.out), "-DCMAKE_BUILD_TYPE=Release", *offline],
    )
    site.step("cmake", "cmake builds the project", ["cmake", "--build", str(site.out), "--parallel", str(site.jobs)])
    with site.builder.acting():
        return [path for path in _programs(site.out) if path.exists()]


def _programs(out: Path) -> list[Path]:
    reply = out / _API / "reply"
    index = _json(max(reply.glob("index-*.json")))
    model = _json(reply / index["reply"]["codemodel-v2"]["jsonFile"])
    targets = [
        _json(reply / target["jsonFile"])
        for configuration in model["configurations"]
        for target in configuration["targets"]
    ]
    return [out / made["path"] for target in targets if target["type"] == "EXECUTABLE" for made in target["artifacts"]]


def _json(path: Path) -> Any:
    with open_regular(path) as stream:
        return json.load(stream)


TOOL = Tool(
    name="cmake",
    fact=Fact.CMAKE,
    manifests=("CMakeLists.txt",),
    build=build,
    needs=lambda _: _NEEDS,
    static="LDFLAGS=-static",
)
