"""cargo: a Cargo.toml (layer 2). Sources: cargo-build(1), The Cargo Book, "External tools"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suites.framework.build.tool import COMPILER, Probe, Site, Tool
from suites.framework.facts import Fact

_NEEDS = (
    Probe(fact=Fact.CARGO, argv=("cargo", "--version"), package="cargo"),
    Probe(fact=Fact.CARGO, argv=("rustc", "--version"), package="rustc"),
)


def build(site: Site) -> list[Path]:
    """Build the binary that is meant where a package has it, else all; return the executables that cargo names."""
    words = ["--offline"] if site.offline else []
    answer = site.step(
        "metadata",
        "cargo names the binaries of the workspace",
        ["cargo", "metadata", "--no-deps", "--format-version=1", *words],
        answer=True,
    )
    words += ["--locked"] if (site.tree / "Cargo.lock").is_file() else []
    messages = site.step(
        "cargo",
        "cargo builds the workspace",
        ["cargo", "build", "--release", "--message-format=json-render-diagnostics", *_selected(site, answer), *words],
        environment={"CARGO_TARGET_DIR": str(site.out)},
        answer=True,
    )
    return [Path(message["executable"]) for message in _lines(messages) if _is_program(message)]


def _selected(site: Site, metadata: Path) -> list[str]:
    """Return the words that choose the first hint that is a binary of some package."""
    packages = json.loads(metadata.read_bytes())["packages"]
    made = {
        target["name"]: package["name"]
        for package in packages
        for target in package["targets"]
        if "bin" in target["kind"]
    }
    return next((["--package", made[hint], "--bin", hint] for hint in site.hints if hint in made), [])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        if line.startswith(b"{"):
            yield json.loads(line)


def _is_program(message: dict[str, Any]) -> bool:
    return bool(message.get("executable")) and "bin" in message.get("target", {}).get("kind", ())


TOOL = Tool(
    name="cargo",
    fact=Fact.CARGO,
    manifests=("Cargo.toml",),
    build=build,
    needs=lambda _: _NEEDS,
    also=(COMPILER,),
    hinted=True,
    static="CARGO_BUILD_TARGET=x86_64-unknown-linux-musl (cargo's --target)",
)
