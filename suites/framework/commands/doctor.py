"""``doctor``: what this machine has, what each fact unlocks, and whether a target runs here (layer 2)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from suites.catalog import ENVIRONMENTS, Environment, Mode
from suites.framework import cases as case_list
from suites.framework import cleanup
from suites.framework.build import availability
from suites.framework.cases import Case
from suites.framework.errors import CannotRunError, ExitCode, SeatrialError
from suites.framework.facts import Fact, Finding
from suites.framework.options import Options
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.debian import Packages, probe_packages
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import load
from suites.framework.session import Session
from suites.framework.subjects import CHECKOUT, Subjects, subjects

SMOKE = ("init:EX-02", "buildscripts:W2")
"""The cases that tell whether a target runs anything at all."""
WHOLE: dict[Fact, tuple[str, ...]] = {
    Fact.ROOT: ("root-native",),
    Fact.ORDINARY_USER: ("rootless-native",),
    Fact.NAMESPACE_WALL: ("root-native", "rootless-native"),
    Fact.DOCKER: ("root-container", "rootless-container"),
    Fact.DOCKER_PRIVILEGED: ("root-container",),
    Fact.DOCKER_USER_NAMESPACES: ("rootless-container",),
}
"""Host facts without which a whole environment cannot run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was found in one environment, or why it cannot run."""

    findings: tuple[Finding, ...] = ()
    refusal: str = ""
    smoke: Mapping[str, str] | None = None
    """Target: how the smoke case ended, where a target was named."""


def doctor(options: Options) -> ExitCode:
    """Examine the four environments and print the table; with ``--target`` also whether that target runs in each."""
    found = subjects(replace(options, cases=SMOKE))
    if not options.targets:
        found = replace(found, targets=(), absent=())
    with cleanup.scratch("doctor") as folder:
        run = RunDirectory.create(folder, argv=options.words)
        seen = {here.name: examine(options, here, run, found) for here in ENVIRONMENTS}
    packages = probe_packages(Packages(Cache(options.cache), offline=options.offline))
    show(seen, (*found.findings, packages, *availability.findings()), case_list.load(CHECKOUT))
    if options.targets:
        return show_targets(found, seen)
    return ExitCode.GREEN if any(not one.refusal for one in seen.values()) else ExitCode.CANNOT_RUN


def examine(options: Options, here: Environment, run: RunDirectory, found: Subjects) -> Examination:
    """Probe one environment as a session would meet it."""
    words = replace(options, cases=SMOKE, workers=1, promises=())
    with Path(os.devnull).open("w") as quiet:
        session = Session(words, here, run, stream=quiet)
        try:
            findings = session.examine(found)
        except CannotRunError as error:
            return Examination(findings=session.seen, refusal=error.why or str(error))
        except SeatrialError as error:
            return Examination(findings=session.seen, refusal=str(error))
    return Examination(findings=findings, smoke=smoked(run, here) if found.targets else None)


def smoked(run: RunDirectory, here: Environment) -> dict[str, str]:
    """Return target: how the smoke case ended, by mode."""
    rows: dict[str, list[str]] = {}
    for result in load(run).only(here.name).results:
        if result.is_case and result.target and not result.standby:
            ending = result.verdict if result.verdict == "passed" else result.actual or result.message or result.reason
            rows.setdefault(result.target, []).append(f"{result.mode} {ending}")
    return {target: ", ".join(sorted(endings)) for target, endings in rows.items()}


# ---- the table


def unlocked(fact: Fact, cases: Sequence[Case]) -> str:
    """Return which cases a fact unlocks, in words."""
    if fact in WHOLE:
        return f"{' and '.join(WHOLE[fact])}: all {len({case.id for case in cases})}"
    if fact is Fact.PACKAGES:
        return "targets that are not installed"
    if fact is Fact.COMPILER:
        return "the fast payload"
    if fact is Fact.ROOTFS:
        return "containers to run in"
    if fact in availability.FACTS:
        return "builds"
    if fact in (Fact.SHARED_LIBRARIES, Fact.OWN_TESTS):
        return "each target by itself"
    if fact is Fact.PROC_CHILDREN:
        return f"all {len(cases)}"
    whole = [case for case in cases if fact in case.requires]
    half = [case for case in cases if case not in whole and fact is Fact.PID_NAMESPACE and Mode.PID1 in case.modes]
    if fact is Fact.USER_NAMESPACE:
        half = [case for case in cases if Mode.PID1 in case.modes]
        return f"{len(half)} in mode pid1, rootless" if half else "0"
    return f"{len(whole)}" + (f", and mode pid1 of {len(half)}" if half else "")


def show(seen: Mapping[str, Examination], host: Sequence[Finding], cases: Sequence[Case]) -> None:
    """Print one row per fact: verdict per environment, how it was probed, the cases it unlocks; then the remedies."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 150, highlight=False, soft_wrap=False)
    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else box.ASCII2, pad_edge=False)
    for heading in ("fact", *seen, "cases unlocked", "probed by"):
        table.add_column(heading)
    for fact in Fact:
        cells = [_cell(fact, one, host) for one in seen.values()]
        probe = next((finding.probe for finding in _all(fact, seen, host)), "not reached")
        table.add_row(fact.value, *cells, unlocked(fact, cases), probe)
    console.print(table)
    for line in remedies(seen, host):
        console.print(line, markup=False, soft_wrap=True)


def _all(fact: Fact, seen: Mapping[str, Examination], host: Sequence[Finding]) -> list[Finding]:
    return [finding for one in seen.values() for finding in one.findings if finding.fact is fact] + [
        finding for finding in host if finding.fact is fact
    ]


def _cell(fact: Fact, one: Examination, host: Sequence[Finding]) -> str:
    finding = next((finding for finding in (*reversed(one.findings), *host) if finding.fact is fact), None)
    if finding is None:
        return "cannot run" if one.refusal else "-"
    return "yes" if finding.present else "missing"


def remedies(seen: Mapping[str, Examination], host: Sequence[Finding]) -> Iterator[str]:
    """Yield what is missing where, why, and what would change it."""
    groups: dict[tuple[Fact, str, str], list[str]] = {}
    for name, one in seen.items():
        for finding in one.findings:
            if not finding.present:
                groups.setdefault((finding.fact, finding.detail, finding.remedy), []).append(name)
    for finding in host:
        if not finding.present:
            groups.setdefault((finding.fact, finding.detail, finding.remedy), []).append("host")
    for (fact, detail, remedy), names in groups.items():
        yield f"missing {fact} ({', '.join(dict.fromkeys(names))}): {detail}"
        yield f"    remedy: {remedy}"
    for name, one in seen.items():
        if one.refusal:
            yield f"{name} cannot run here: {one.refusal}"


def show_targets(found: Subjects, seen: Mapping[str, Examination]) -> ExitCode:
    """Print what each named target is and how the smoke case ended in each environment."""
    good = bool(found.targets)
    for absent in found.absent:
        print(f"{absent.name}: {absent.missing.reason}; {absent.missing.remedy}")
    for target in found.targets:
        if target.role == "standby":
            continue
        print(f"{target.name}: version {target.version}, sha256 {target.sha256[:12]}, {nature(Path(target.path))}")
        for name, one in seen.items():
            ending = (one.smoke or {}).get(target.name, "not tried")
            if one.refusal:
                ending = f"cannot run here: {one.refusal}"
            good = good and (bool(one.refusal) or "passed" in ending)
            print(f"    {name}: {ending}")
    return ExitCode.GREEN if good else ExitCode.FAILED


def nature(path: Path) -> str:
    """Return whether a program is static, dynamic (with its loader), or a script (with its interpreter)."""
    from suites.framework.targets.executable import inspect

    try:
        found = inspect(path)
    except SeatrialError as error:
        return str(error)
    kind = "script" if found.form == "script" else "dynamic" if found.interpreter else "static"
    return f"{kind}{f' ({found.interpreter})' if found.interpreter else ''}"
