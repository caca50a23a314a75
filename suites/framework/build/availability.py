"""Which build tools this machine has for the caller, without a checkout (layer 2)."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from suites.framework.build import toolchain
from suites.framework.build.environment import variables
from suites.framework.build.manifest import TOOLS
from suites.framework.build.user import Builder
from suites.framework.environments.user import User
from suites.framework.facts import Fact, Finding
from suites.framework.provisioning.command import Run, run

FACTS = tuple(tool.fact for tool in TOOLS)


def findings(wanted: Collection[Fact] = FACTS, *, run: Run = run, anywhere: Path = Path("/")) -> tuple[Finding, ...]:
    """Return whether each tool works, by asking its programs for their versions; a tool needs all of its own."""
    builder = Builder(user=User(name="", uid=os.geteuid(), gid=os.getegid(), home=str(Path.home())), own=True)
    environment = {**variables(builder, anywhere), "TMPDIR": "/tmp"}  # noqa: S108 -- nothing is written
    found = []
    for tool in TOOLS:
        probes = [probe for probe in tool.needs(anywhere) if probe.fact is tool.fact and tool.fact in wanted]
        asked = [toolchain.ask(probe, anywhere, builder, environment, run) for probe in probes]
        found += [next((finding for finding in asked if not finding.present), asked[0])] if asked else []
    return tuple(found)
