"""Whether the programs that a build needs work for its builder, and which versions they are (layer 2)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from suites.framework.build.tool import Probe, Tool
from suites.framework.build.user import Builder
from suites.framework.facts import Finding, Missing
from suites.framework.provisioning.command import Run, run

DEADLINE_S = 60.0


def versions(
    tool: Tool, directory: Path, builder: Builder, environment: Mapping[str, str], *, run: Run = run
) -> tuple[dict[str, str], tuple[Finding, ...]]:
    """Return the versions by program, and a finding for each program that is needed.

    They are asked in the checkout, because that is where a toolchain may be chosen (rust-toolchain.toml, go.mod).
    """
    found: dict[str, str] = {}
    findings = []
    needed = tool.needs(directory)
    for probe in dict.fromkeys((*needed, *tool.also)):
        finding = ask(probe, directory, builder, environment, run)
        if finding.present:
            found[probe.argv[0]] = finding.detail
        if probe in needed:
            findings.append(finding)
    return found, tuple(findings)


def first_missing(findings: Sequence[Finding]) -> Missing | None:
    """Return the first absence among findings."""
    return next((finding.missing for finding in findings if finding.missing), None)


def ask(probe: Probe, directory: Path, builder: Builder, environment: Mapping[str, str], run: Run) -> Finding:
    """Return whether a program works for the builder in a directory: it prints its version."""
    name = probe.argv[0]
    shown = " ".join(probe.argv)
    place = shutil.which(name, path=environment["PATH"])
    if place is None:
        return _absent(probe, shown, f"{name} is not on PATH", f"apt-get install {probe.package}")
    words = (*builder.prefix, *probe.argv)
    done = run(words, deadline_s=DEADLINE_S, environment=environment, cwd=directory)
    if done.ok:
        return Finding(fact=probe.fact, present=True, probe=shown, detail=(done.stdout.splitlines() or ["unknown"])[0])
    if builder.own:
        return _absent(
            probe, shown, done.complaint, f"make that work in {directory}, or apt-get install {probe.package}"
        )
    remedy = f"install one for everybody (apt-get install {probe.package}), or start the build as {builder.user.name}"
    return _absent(probe, shown, f"{place} does not work for {builder.user.name}: {done.complaint}", remedy)


def _absent(probe: Probe, shown: str, detail: str, remedy: str) -> Finding:
    return Finding(fact=probe.fact, present=False, probe=shown, detail=detail, remedy=remedy)
