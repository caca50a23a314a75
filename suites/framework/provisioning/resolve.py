"""From the words of the command line to staged targets, and those that cannot be had with the reason (layer 2)."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from suites.catalog import Kind
from suites.framework.build import record
from suites.framework.build.pickup import last_build
from suites.framework.calls import Call, interpreted
from suites.framework.errors import UsageError
from suites.framework.facts import Fact, Missing
from suites.framework.model import OwnTests, Profile, Role, Target
from suites.framework.provisioning.cache import Cache, sha256_of
from suites.framework.provisioning.debian import Packages, Provider
from suites.framework.provisioning.staging import everything_beside, stage
from suites.framework.provisioning.version import UNKNOWN, first_line, version
from suites.framework.targets.executable import inspect
from suites.framework.targets.profile import BINARY, load, overlay, suggestion
from suites.framework.targets.word import Word, parse

Build = Callable[[Word, Profile], Path | Missing]
"""Builds the checkout of a word; returns the executable, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A target that was wanted and cannot be had."""

    name: str
    missing: Missing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    """What starts a target, before its variants."""

    argv: tuple[str, ...]
    path: str
    sha256: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """A profile, and how it was asked for."""

    profile: Profile
    kind: Kind
    role: Role
    path: Path | None = None
    variant: str | None = None
    origin: Path | None = None
    """What the user gave: the checkout from which the program at `path` was built, or the folder that holds it."""
    whole: bool = False
    """Whether everything in the folder of the program belongs to it."""
    missing: Missing | None = None
    """Why it cannot be had, where that is known already."""
    wanted: bool = True
    """Whether it was named; one that no package holds is not missed by who asked for everything."""
    own: bool = True
    """Whether the user's variables and wrapper are meant for it."""


def resolve(
    words: Sequence[str],
    catalogue: Mapping[str, Profile],
    *,
    base: Path,
    cache: Cache,
    fixtures: Path,
    offline: bool = False,
    profile_file: Path | None = None,
    target_env: Mapping[str, str] | None = None,
    wrap: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    packages: Provider | None = None,
    build: Build | None = None,
) -> tuple[tuple[Target, ...], tuple[Absent, ...]]:
    """Return the staged targets in the order to show them, and those that are absent.

    Without ``words``: everything in the catalogue. With them: those, and the references on standby if none was
    named. A program is the one given, else the last build of that name, else on PATH, else of a package; ``build``
    builds the checkouts among the words. ``--profile`` is for names the catalogue does not know; ``target_env`` and
    ``wrap`` are for the targets that were named or, without words, for all that are neither reference nor control.
    Wrong input raises UsageError.
    """
    site = _Site(
        cache=cache,
        fixtures=fixtures,
        packages=packages or Packages(cache, offline=offline),
        environ=environ,
        target_env=dict(target_env or {}),
        wrap=tuple(wrap),
    )
    chosen = parse(words, base=base, catalogue=catalogue)
    named = [
        _with_build(wish, cache)
        for wish in _named(chosen, catalogue, base / profile_file if profile_file else None, build or _refuse)
    ]
    everything = (_with_build(wish, cache) for wish in _everything(catalogue))
    wishes = [*named, *_standby(named, catalogue)] if named else list(everything)
    programs = {(wish.profile.name, wish.path): _of_one_build(wish, site.program(wish)) for wish in wishes}
    targets, absent = _sorted_out(wishes, programs, site)
    return _without_repetition(targets), tuple(absent.values())


# ---- which


def _everything(catalogue: Mapping[str, Profile]) -> Iterator[_Wish]:
    wishes = (_wish(profile, kind) for profile in catalogue.values() for kind in profile.kinds)
    yield from sorted(wishes, key=lambda wish: wish.role is Role.CONTROL)


def _wish(profile: Profile, kind: Kind) -> _Wish:
    role = _role(profile, kind)
    return _Wish(profile=profile, kind=kind, role=role, wanted=False, own=role is Role.TARGET)


def _role(profile: Profile, kind: Kind) -> Role:
    if profile.control is not None:
        return Role.CONTROL
    return Role.REFERENCE if kind in profile.reference_for else Role.TARGET


def _with_build(wish: _Wish, cache: Cache) -> _Wish:
    """Return the wish for the last build of its name, if there is one; what is embedded or a control stays."""
    profile = wish.profile
    if wish.path or wish.missing or wish.role is Role.CONTROL or profile.command or "/" in profile.binary:
        return wish
    if (found := last_build(profile.name, cache)) is None:
        return wish
    return dataclasses.replace(wish, path=found.path, origin=found.checkout, role=Role.TARGET, own=True)


def _refuse(word: Word, _: Profile) -> NoReturn:
    raise UsageError(
        f"--target {word.name}={word.checkout} is a checkout, and nothing is built here",
        remedy=f"nox -s build -- {word.name}={word.checkout}, then --target {word.name}",
    )


def _named(
    chosen: Sequence[Word], catalogue: Mapping[str, Profile], profile_file: Path | None, build: Build
) -> Iterator[_Wish]:
    given = load(profile_file) if profile_file else None
    if given is not None and all(word.name in catalogue for word in chosen):
        raise UsageError(
            f"--profile {profile_file} applies to no target",
            why="it is for targets that the catalogue does not know",
            remedy="name yours with --target NAME=PATH",
        )
    for word in chosen:
        profile = catalogue.get(word.name) or dataclasses.replace(given or _unknown(word), name=word.name)
        _require_variant(word, profile)
        _require_kind(word, profile)
        # A binary that the user gives for a reference's name is what is being tried, not the yardstick.
        given_here = word.path is not None or word.checkout is not None
        built = build(word, profile) if word.checkout else None
        for kind in (word.kind,) if word.kind else profile.kinds:
            yield _Wish(
                profile=profile,
                kind=kind,
                role=Role.TARGET if given_here and profile.control is None else _role(profile, kind),
                path=built if isinstance(built, Path) else _program_of(word, profile),
                variant=word.variant,
                origin=word.checkout or word.path,
                whole=word.path is not None and word.path.is_dir(),
                missing=built if isinstance(built, Missing) else None,
            )


def _program_of(word: Word, profile: Profile) -> Path | None:
    """Return the program that a word gives: a file, or the one of a folder that it, or the profile, names."""
    if word.path is None or not word.path.is_dir():
        return word.path
    wanted = word.executable or profile.binary
    if wanted:
        direct = word.path / wanted
        found = [direct] if direct.is_file() else sorted(word.path.rglob(wanted))
    else:
        found = sorted(path for path in word.path.iterdir() if path.is_file() and os.access(path, os.X_OK))
    if len(found) != 1:
        raise UsageError(
            f"--target {word.name}={word.path}: which of its files is the program?",
            why=f"{len(found)} are {f'called {wanted}' if wanted else 'executable'}",
            remedy=f"{word.name}={word.path}#FILE, or binary = in its profile",
        )
    inspect(found[0])
    return found[0]


def _unknown(word: Word) -> Profile:
    """Return the profile of a target of which nothing is known but the kind that the user says."""
    return Profile(kinds=(word.kind,)) if word.kind else Profile()


def _require_variant(word: Word, profile: Profile) -> None:
    if word.variant is not None and word.variant not in profile.variant:
        raise UsageError(
            f"--target {word.name}+{word.variant}: no such variant{suggestion(word.variant, profile.variant)}",
            why=f"its profile has {', '.join(profile.variant) or 'none'}",
        )


def _require_kind(word: Word, profile: Profile) -> None:
    if word.kind is not None and word.kind not in profile.kinds:
        raise UsageError(
            f"--target {word.name}: its profile is not for kind {word.kind}", why=f"kinds = {', '.join(profile.kinds)}"
        )


def _standby(named: Sequence[_Wish], catalogue: Mapping[str, Profile]) -> Iterator[_Wish]:
    """Yield the references of those kinds for which none was named."""
    names = {wish.profile.name for wish in named}
    for kind in dict.fromkeys(wish.kind for wish in named if wish.role is not Role.CONTROL):
        if any(wish.role is Role.REFERENCE and wish.kind is kind for wish in named):
            continue
        for profile in catalogue.values():
            if kind in profile.reference_for and profile.name not in names:
                yield _Wish(profile=profile, kind=kind, role=Role.STANDBY, variant="", own=False)


# ---- where


@dataclass(frozen=True, slots=True, kw_only=True)
class _Site:
    """Where programs come from and what is added to them."""

    cache: Cache
    fixtures: Path
    packages: Provider
    environ: Mapping[str, str]
    target_env: dict[str, str]
    wrap: tuple[str, ...]

    def program(self, wish: _Wish) -> _Program | Missing:
        """Find and stage the program of a wish, or say why it cannot be had."""
        profile = wish.profile
        if wish.missing is not None:
            return wish.missing
        if wish.path is not None:
            siblings = everything_beside(wish.path) if wish.whole else profile.siblings
            staged = self._staged(dataclasses.replace(profile, siblings=siblings), wish.path)
            return dataclasses.replace(staged, path=str(wish.origin or wish.path))
        if not profile.binary and profile.command:
            return self._words(profile)
        if "/" in profile.binary:
            return self._staged(profile, self.fixtures / profile.binary)
        return self._from_path(profile) or self._from_package(profile)

    def _words(self, profile: Profile) -> _Program | Missing:
        found = self._which(profile.command[0])
        if found is None:
            return _absent(profile, f"{profile.command[0]} is not on PATH")
        return _Program(argv=profile.command, path=found, sha256=sha256_of(Path(found)))

    def _staged(self, profile: Profile, source: Path, environment: dict[str, str] | None = None) -> _Program:
        staged = stage(source, cache=self.cache, siblings=profile.siblings)
        argv = tuple(str(staged.path) if word == BINARY else word for word in profile.command or (BINARY,))
        return _Program(argv=argv, path=str(source), sha256=staged.sha256, environment=environment or {})

    def _from_path(self, profile: Profile) -> _Program | None:
        found = self._which(profile.binary or profile.name)
        if found is None:
            return None
        try:
            inspect(Path(found))
        except UsageError as error:
            self.cache.say(f"{profile.name}: not used from PATH: {error}")
            return None
        return self._staged(profile, Path(found))

    def _from_package(self, profile: Profile) -> _Program | Missing:
        package = next((profile.package[name] for name in _distributions() if name in profile.package), None)
        if package is None:
            return _absent(
                profile,
                f"{profile.binary or profile.name} is not on PATH and its profile names no package for this system",
            )
        got = self.packages.provision(package, profile.binary or profile.name)
        if isinstance(got, Missing):
            return got
        return self._staged(profile, got.path, got.environment)

    def _which(self, name: str) -> str | None:
        return shutil.which(name, path=self.environ.get("PATH", os.defpath))


def _of_one_build(wish: _Wish, program: _Program | Missing) -> _Program | Missing:
    """Return the program unless its profile wants siblings of the same build beside it and one is of another.

    One that was given is told at once, by UsageError: no case of it could say anything else.
    """
    call = wish.profile.call.pod
    if wish.kind is not Kind.POD or not call.same_build or isinstance(program, Missing):
        return program
    staged = Path(program.argv[0])
    said = {
        name: first_line((str(staged.with_name(name)), *wish.profile.version)).partition(" ")[2] or UNKNOWN
        for name in (staged.name, *call.same_build)
    }
    if len(set(said.values())) == 1:
        return program
    told = "; ".join(f"{name} is {version}" for name, version in said.items())
    if wish.path is None:
        return _absent(wish.profile, f"its programs are of different builds: {told}")
    raise UsageError(
        f"--target {wish.profile.name}={wish.origin or wish.path}: its programs are of different builds",
        why=told,
        remedy="build them together",
    )


def _absent(profile: Profile, reason: str) -> Missing:
    return Missing(
        fact=Fact.PACKAGES, reason=reason, remedy=f"install it, or give its binary with --target {profile.name}=PATH"
    )


def _distributions() -> list[str]:
    """Return this system's ids and those it is like (os-release(5)), the closest first."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return []
    return [release.get("ID", ""), *release.get("ID_LIKE", "").split()]


# ---- targets


def _sorted_out(
    wishes: Iterable[_Wish], programs: Mapping[tuple[str, Path | None], _Program | Missing], site: _Site
) -> tuple[list[Target], dict[str, Absent]]:
    targets: list[Target] = []
    absent: dict[str, Absent] = {}
    for wish in wishes:
        found = programs[wish.profile.name, wish.path]
        if isinstance(found, _Program):
            targets += _targets(wish, found, site)
        elif wish.role is not Role.STANDBY and (wish.wanted or wish.profile.package):
            absent[wish.profile.name] = Absent(name=wish.profile.name, missing=found)
    return targets, absent


def _targets(wish: _Wish, program: _Program, site: _Site) -> Iterator[Target]:
    profile = wish.profile
    environment = _merged(program.environment, site.target_env if wish.own else {})
    asking = (*interpreted(program.argv, sys.executable), *profile.version)
    said = version(asking, environment=environment) if profile.version else UNKNOWN
    for name in ["", *profile.variant] if wish.variant is None else [wish.variant]:
        arguments, call = _variant(profile, name)
        yield Target(
            name=f"{profile.name}+{name}" if name else profile.name,
            kind=wish.kind,
            role=wish.role,
            argv=(*program.argv, *arguments),
            path=program.path,
            sha256=program.sha256,
            version=said,
            profile=profile,
            variant=name,
            environment=environment,
            wrap=site.wrap if wish.own else (),
            call=call,
            own_tests=_own_tests(wish),
        )


def _own_tests(wish: _Wish) -> OwnTests | None:
    """Return what the own tests came to where a target was built; None for one that no build made."""
    known = record.read(wish.path.parent.parent) if wish.path and wish.profile.build.tests else None
    return known.own_tests if known else None


def _variant(profile: Profile, name: str) -> tuple[tuple[str, ...], Call]:
    if not name:
        return (), profile.call
    return profile.variant[name].arguments, overlay(profile.call, profile.variant[name])


def _merged(provisioned: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    both = {**provisioned, **given}
    if "LD_LIBRARY_PATH" in provisioned and "LD_LIBRARY_PATH" in given:
        both["LD_LIBRARY_PATH"] = f"{given['LD_LIBRARY_PATH']}:{provisioned['LD_LIBRARY_PATH']}"
    return both


def _without_repetition(targets: Iterable[Target]) -> tuple[Target, ...]:
    """Return each name once for a kind: ``tini`` and ``tini+g`` named together give tini+g twice."""
    return tuple({(target.kind, target.name): target for target in reversed(list(targets))}.values())[::-1]
