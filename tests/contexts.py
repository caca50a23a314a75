"""A worker's context, targets and benches, small enough to read."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from suites.catalog import ENVIRONMENTS, Environment, Kind, Privilege
from suites.framework import probes
from suites.framework.bench import Bench
from suites.framework.calls import Call, InitCall
from suites.framework.facts import Fact, Finding
from suites.framework.model import SCHEMA, Context, Limits, Paths, Profile, Role, Selection, Target

ROOT = Path(__file__).parents[1]
REFERENCE = ("/bin/sh", str(ROOT / "fixtures/inits/reference_init.py"), "{python}")
TWIN = ("{python}", "-I", "-S", str(ROOT / "fixtures/payloads/payload.py"))
MINE = "root-native" if os.geteuid() == 0 else "rootless-native"


def environment(name: str) -> Environment:
    """Return an environment by its name."""
    return next(here for here in ENVIRONMENTS if here.name == name)


def target(name: str = "reference", **changes: Any) -> Target:
    """Return a target that is the reference init in every other respect."""
    profile = changes.pop("profile", Profile(name=name))
    plain: dict[str, Any] = {
        "kind": Kind.INIT,
        "role": Role.TARGET,
        "argv": REFERENCE,
        "path": name,
        "sha256": "0" * 64,
        "version": "1.0",
        "call": Call(init=InitCall(separator="--", graceful=("--graceful-timeout-secs", "{seconds}"))),
    }
    return Target(name=name, profile=profile, **plain | changes)


def findings(*missing: Fact) -> tuple[Finding, ...]:
    """Return a finding for each fact; those in `missing` do not hold."""
    return tuple(
        Finding(fact=fact, present=fact not in missing, probe="look", detail="none here", remedy="get one")
        for fact in Fact
    )


def context(folder: Path, **changes: Any) -> Context:
    """Return a context whose paths lie below `folder`."""
    scratch = folder / "s"
    scratch.mkdir(exist_ok=True)
    plain: dict[str, Any] = {
        "schema": SCHEMA,
        "run": "20261121T101530-3f9a",
        "environment": MINE,
        "phase": "test",
        "worker": 1,
        "workers": 1,
        "selection": Selection(),
        "targets": (target(),),
        "findings": findings(),
        "promises": (),
        "limits": Limits(),
        "paths": Paths(
            suites=str(ROOT), run=str(folder), events=str(folder / "events.jsonl"), scratch=str(scratch), payload=TWIN
        ),
    }
    return Context(**plain | changes)


def bench(folder: Path, *, privilege: Privilege | None = None, **changes: Any) -> Bench:
    """Return a bench in the native environment of this user, or of another privilege."""
    name = f"{privilege}-native" if privilege else MINE
    return Bench(context(folder, environment=name, **changes), here=environment(name), python=sys.executable, number=1)


def finding(fact: Fact, made: Bench) -> Finding:
    """Return what the probe of a fact finds."""
    return probes.PROBES[fact](made)
