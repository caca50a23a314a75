"""go: a go.mod (layer 2). Source: https://go.dev/ref/mod."""

from __future__ import annotations

import re
from pathlib import Path

from suites.framework.build.tool import COMPILER, Probe, Site, Tool
from suites.framework.facts import Fact

_NEEDS = (Probe(fact=Fact.GO, argv=("go", "version"), package="golang-go"),)
_FORMAT = '{{if eq .Name "main"}}{{.ImportPath}}{{end}}'
_MAJOR = re.compile(r"v[0-9]+")


def build(site: Site) -> list[Path]:
    """Build the main package that is meant where there is one, else all; return the executables.

    A ``vendor`` folder is used by itself.
    """
    offline = {"GOPROXY": "off", "GOTOOLCHAIN": "local"} if site.offline else {}
    answer = site.step(
        "packages",
        "go names the main packages of the module",
        ["go", "list", "-e", "-f", _FORMAT, "./..."],
        environment=offline,
        answer=True,
    )
    mains = answer.read_text(encoding="utf-8", errors="replace").split()
    site.step(
        "go",
        "go builds the module",
        ["go", "build", "-trimpath", "-o", f"{site.out}/", *_selected(mains, site.hints)],
        environment=offline,
    )
    return sorted(path for path in site.out.iterdir() if not path.is_symlink() and path.is_file())


def _selected(mains: list[str], hints: tuple[str, ...]) -> list[str]:
    named = {_program(main): main for main in reversed(mains)}
    return next(([named[hint]] for hint in hints if hint in named), mains or ["./..."])


def _program(package: str) -> str:
    """Return what go calls the program of a package: its last element that is no major version."""
    *_, before, last = ("", *package.split("/"))
    return before if before and _MAJOR.fullmatch(last) else last


TOOL = Tool(
    name="go",
    fact=Fact.GO,
    manifests=("go.mod",),
    build=build,
    needs=lambda _: _NEEDS,
    also=(COMPILER,),
    hinted=True,
    static="CGO_ENABLED=0",
)
