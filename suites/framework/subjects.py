"""What a run is about: the staged targets, those that cannot be had, and the payload (layer 2)."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suites.catalog import Kind
from suites.framework import cases as case_list
from suites.framework.errors import CannotRunError, UsageError
from suites.framework.facts import Fact, Finding
from suites.framework.model import EnginePlace, Profile, Target
from suites.framework.options import LATEST, Options
from suites.framework.planning import bare
from suites.framework.provisioning import cni, sources
from suites.framework.provisioning import payload as payloads
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.containerd import engine_place
from suites.framework.provisioning.debian import Packages, Provider
from suites.framework.provisioning.resolve import Absent, Build, resolve
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import load
from suites.framework.rootfs import rootfs
from suites.framework.targets.catalogue import load_catalogue
from suites.framework.targets.profile import check_cases

CHECKOUT = Path(__file__).parents[2]
FIXTURES = CHECKOUT / "fixtures"
OWN_PROFILE = "seatrial.toml"
"""A user's own profile, found where nox was invoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """The targets of a run, and those that cannot be had."""

    targets: tuple[Target, ...]
    absent: tuple[Absent, ...]
    payload: tuple[str, ...]
    """Words that start the payload."""
    findings: tuple[Finding, ...]
    """What the machine has for them: compiler, static payload, root file system."""
    rootfs: str = ""
    """A root file system for containers; empty where there is none."""
    sources: tuple[str, ...] = ()
    """Source archives of packages."""
    engine: EnginePlace | None = None
    """Of kind pod."""

    @property
    def folders(self) -> frozenset[str]:
        """Return the folders outside /usr that hold targets, their libraries and the payload."""
        words = [word for target in self.targets for word in target.argv] + [*self.payload, *self.sources]
        words += [f"{self.rootfs}/."] if self.rootfs else []
        words += [self.engine.containerd, f"{self.engine.stubs}/.", f"{self.engine.plugins}/."] if self.engine else []
        found = {str(Path(word).parent) for word in words if word.startswith("/") and not word.startswith("/usr/")}
        variables = [target.environment for target in self.targets]
        variables += [self.engine.environment] if self.engine else []
        for each in variables:
            found.update(filter(None, each.get("LD_LIBRARY_PATH", "").split(":")))
        return frozenset(folder for folder in found if Path(folder).is_dir())

    def work(self, cases: Sequence[str]) -> int:
        """Return how many pairs of case and target there are to try; `cases` is the selection, empty for all."""
        everything = len(case_list.load(CHECKOUT))
        return sum(len(cases or target.only) or everything for target in self.targets)

    def moved(self, places: Mapping[str, str]) -> Subjects:
        """Return the same with folders replaced: old place, new place."""
        return replace(
            self,
            targets=tuple(
                replace(
                    target,
                    argv=tuple(_moved(word, places) for word in target.argv),
                    environment={name: _moved_all(value, places) for name, value in target.environment.items()},
                )
                for target in self.targets
            ),
            payload=tuple(_moved(word, places) for word in self.payload),
            rootfs=places.get(self.rootfs, self.rootfs),
            sources=tuple(_moved(word, places) for word in self.sources),
            engine=_moved_engine(self.engine, places) if self.engine else None,
        )


def _engine(packages: Provider, cache: Cache) -> tuple[EnginePlace | None, list[Finding]]:
    """Return what pods are run with, and whether that is there, the plugins of their networks included."""
    place, there = engine_place(CHECKOUT, cache=cache, packages=packages)
    if place is None:
        return None, [there]
    folder, networks = cni.plugins(packages=packages)
    return replace(place, plugins=folder), [there, networks]


def _moved(word: str, places: Mapping[str, str]) -> str:
    folder, slash, name = word.rpartition("/")
    return f"{places[folder]}/{name}" if slash and folder in places else word


def _moved_engine(engine: EnginePlace, places: Mapping[str, str]) -> EnginePlace:
    return replace(
        engine,
        containerd=_moved(engine.containerd, places),
        ctr=_moved(engine.ctr, places),
        stubs=places.get(engine.stubs, engine.stubs),
        plugins=places.get(engine.plugins, engine.plugins),
        environment={name: _moved_all(value, places) for name, value in engine.environment.items()},
    )


def _moved_all(value: str, places: Mapping[str, str]) -> str:
    return ":".join(places.get(part, part) for part in value.split(":"))


def subjects(options: Options, *, build: Build | None = None, packages: Provider | None = None) -> Subjects:
    """Resolve and stage the targets, build the payload; UsageError for names, paths and cases that do not exist.

    ``build`` builds the checkouts among the targets; without it they are refused. ``packages`` replaces the provider
    of the distribution's packages.
    """
    cache = Cache(options.cache)
    catalogue = load_catalogue(FIXTURES / "targets")
    known = case_list.load(CHECKOUT)
    for word in options.cases:
        case_list.find(known, word)
    targets, absent = resolve(
        options.targets,
        catalogue,
        base=options.base,
        cache=cache,
        fixtures=FIXTURES,
        offline=options.offline,
        profile_file=options.profile or own_profile(options, catalogue),
        target_env=options.target_env,
        wrap=options.wrap,
        build=build,
        packages=packages,
    )
    ids = {case.id for case in known} | {f"{case.kind}:{case.id}" for case in known}
    for target in targets:
        check_cases(target.profile, ids)
    payload = payloads.payload(FIXTURES, cache=cache)
    tree, finding = _tree(options, cache)
    findings = [payloads.probe_compiler(), payloads.static_finding(payload), finding]
    archives: tuple[str, ...] = ()
    if Kind.BUILDSCRIPTS in options.kinds and any(target.kind is Kind.BUILDSCRIPTS for target in targets):
        archives, there = sources.archives(FIXTURES, tier=options.tier, cache=cache, offline=options.offline)
        findings.append(there)
    place = None
    if Kind.POD in options.kinds and any(target.kind is Kind.POD for target in targets):
        place, parts = _engine(packages or Packages(cache, offline=options.offline), cache)
        findings += parts
    return Subjects(
        targets=targets,
        absent=absent,
        payload=payload,
        findings=tuple(findings),
        rootfs=tree,
        sources=archives,
        engine=place,
    )


def _tree(options: Options, cache: Cache) -> tuple[str, Finding]:
    """Return the root file system for containers and that it is there; an empty path and why where it is not.

    One that the user names is used or refused; the default one is a fact like any other.
    """
    if options.rootfs == rootfs.DEFAULT:
        finding, tree = rootfs.probe_rootfs(cache=cache, offline=options.offline)
        return str(tree.path) if tree else "", finding
    found = rootfs.provide(options.rootfs, cache=cache, offline=options.offline, base=options.base)
    probe = f"rootfs fetch {options.rootfs}"
    return str(found.path), Finding(fact=Fact.ROOTFS, present=True, probe=probe, detail=found.description)


def own_profile(options: Options, catalogue: Mapping[str, Profile]) -> Path | None:
    """Return the user's own seatrial.toml for a target that the catalogue lacks: in its folder, or where we are."""
    unknown = [word for word in options.targets if re.split(r"[=+]", word, maxsplit=1)[0] not in catalogue]
    places = [re.sub(r"^[a-z]+:|#[^/]*$", "", word.partition("=")[2]) for word in unknown]
    paths = [*(options.base / place / OWN_PROFILE for place in places if place), options.base / OWN_PROFILE]
    return next((path for path in paths if unknown and path.is_file()), None)


def within_reach(found: Subjects, folder: Path) -> Subjects:
    """Return the subjects with every folder copied below `folder` that not everybody can enter.

    A cache below a private home serves root, and not the user under whom a rootless worker runs.
    """
    closed = sorted(place for place in found.folders if not _open_to_all(Path(place)))
    places = {place: str(folder / str(number)) for number, place in enumerate(closed)}
    for place, copy in places.items():
        shutil.copytree(place, copy, symlinks=place == found.rootfs)
        for below, _, _ in os.walk(copy):
            Path(below).chmod(Path(below).stat().st_mode & 0o7777 | 0o755)
    return found.moved(places)


def _open_to_all(folder: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))


# ---- what failed before


def with_failed(options: Options, *, current: str) -> Options:
    """Return the options with ``--failed`` bound to one run directory: the newest but `current` where none is named."""
    if options.failed is None:
        return options
    if options.failed != LATEST:
        named = options.runs / options.failed if "/" not in options.failed else options.base / options.failed
        return replace(options, failed=str(RunDirectory.open(named).path))
    for path in sorted(options.runs.glob("*/run.json"), reverse=True):
        if not path.parent.is_symlink() and path.parent.name != current:
            return replace(options, failed=str(RunDirectory.open(path.parent).path))
    raise UsageError(f"--failed: there is no earlier run in {options.runs}", remedy="run once without it")


def failed_nodes(options: Options, environment: str) -> tuple[str, ...]:
    """Return the nodes of an earlier run that ``--failed`` asks for; CannotRunError where nothing failed."""
    if options.failed is None:
        return ()
    run = RunDirectory.open(Path(options.failed))
    problems = load(run).only(environment).problems
    nodes = tuple(dict.fromkeys(bare(result.node) for result in problems if result.is_case and result.target))
    if not nodes:
        what = f"nothing failed in {environment} of {run.path.name}"
        raise CannotRunError(what, remedy="leave out --failed to run everything")
    return nodes
