"""One target from its checkout: the phase ``build`` of environment ``host`` (layer 2)."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from suites.framework import cleanup
from suites.framework.build import checkout as checkouts
from suites.framework.build import environment, own_tests, products, record, toolchain
from suites.framework.build.checkout import Checkout
from suites.framework.build.manifest import Choice, choose
from suites.framework.build.record import BuildRecord, LastBuild, Product
from suites.framework.build.tool import Execute, Site
from suites.framework.build.user import Builder, builder
from suites.framework.errors import InfrastructureError, UsageError
from suites.framework.facts import Finding, Missing
from suites.framework.model import Profile
from suites.framework.provisioning.cache import Cache
from suites.framework.steps.step import StepLimits

VERSION = 1
"""Of this builder: another one makes everything anew."""
_FOLDERS = ("tree", "out", "answers")
_FOR_TOOLS = ("tmp", "home")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A checkout that is to become a target."""

    name: str
    directory: Path
    profile: Profile
    executable: str = ""
    """What the user wrote after ``#``."""

    @property
    def word(self) -> str:
        """Return how a message names it."""
        return f"{self.name}={self.directory}{f'#{self.executable}' if self.executable else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A target's executable, in the cache."""

    name: str
    path: Path
    product: Product
    record: BuildRecord
    checkout: Checkout
    unchanged: bool
    """Whether an earlier build served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything that is known before anything is built."""

    request: Request
    builder: Builder
    checkout: Checkout
    choice: Choice
    hints: tuple[str, ...]
    versions: Mapping[str, str]
    findings: tuple[Finding, ...]
    missing: Missing | None
    key: str
    plain_key: str
    """Of the same build when no executable was asked for: it may have made that one too."""


def prepare(
    request: Request, *, work: Path, as_root: bool = False, environ: Mapping[str, str] = os.environ
) -> Prepared:
    """Look at a checkout and at its tools; UsageError for what cannot be built, whatever tools there are."""
    word = request.word
    checkouts.require_directory(word, request.directory)
    who = builder(word, request.directory, as_root=as_root)
    found = checkouts.survey(word, request.directory, who)
    choice = choose(word, request.directory, command_of_profile=request.profile.build.command)
    names = products.hints(request.name, request.executable, request.profile)
    # Asked before there is a folder to build in, hence with the system's own for temporary files.
    asking = {**environment.variables(who, work, environ=environ), "TMPDIR": "/tmp"}  # noqa: S108
    without = products.hints(request.name, "", request.profile)
    versions, findings = toolchain.versions(choice.tool, request.directory, who, asking)
    return Prepared(
        request=request,
        builder=who,
        checkout=found,
        choice=choice,
        hints=names,
        versions=versions,
        findings=findings,
        missing=toolchain.first_missing(findings),
        key=_key(request, found, choice, names, versions, environ),
        plain_key=_key(request, found, choice, without, versions, environ),
    )


def _key(
    request: Request,
    found: Checkout,
    choice: Choice,
    names: tuple[str, ...],
    versions: Mapping[str, str],
    environ: Mapping[str, str],
) -> str:
    parts = {
        "version": VERSION,
        "tree": found.tree,
        "tool": choice.tool.name,
        "versions": dict(versions),
        "command": request.profile.build.command,
        "hints": names if choice.tool.hinted else (),
        "variables": environment.knobs(environ),
        "machine": os.uname().machine,
        **({"tests": tests} if (tests := request.profile.build.tests) else {}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()


def make(
    prepared: Prepared,
    *,
    cache: Cache,
    logs: Path,
    execute: Execute,
    offline: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Built:
    """Return the executable that is meant, built unless the cache has it.

    Raises BuildFailedError when a step fails, UsageError where it is not clear which executable is meant. A failed
    build leaves its logs and nothing else.
    """
    request, fresh = prepared.request, []

    def fill(folder: Path) -> None:
        fresh.append(folder)
        began = time.time()
        with _site(prepared, cache, logs, execute, offline, environ) as site:
            made = products.take(
                request.word, _programs(prepared, site), site.tree.parent, folder / products.FOLDER, prepared.builder
            )
            own = own_tests.run(request.profile.build.tests, site)
        record.write(folder / record.RECORD, replace(_record(prepared, made, began), own_tests=own))

    entry = cache.entry(f"builds/{_chosen_key(prepared, cache)}", fill, patience_s=StepLimits().time_s)
    known = record.read(entry)
    if known is None:
        raise InfrastructureError(f"{entry / record.RECORD} cannot be used", remedy=f"remove {entry}")
    product = products.meant(known, request.name, request.directory, request.executable, request.profile)
    products.require_siblings(known, request.name, request.profile)
    record.remember(cache, _last(prepared, known, product))
    return Built(
        name=request.name,
        path=entry / products.FOLDER / product.name,
        product=product,
        record=known,
        checkout=prepared.checkout,
        unchanged=not fresh,
    )


def _chosen_key(prepared: Prepared, cache: Cache) -> str:
    """Return the key of the build to use: one that found several executables serves when one of them is asked for."""
    known = record.read(cache.root / "builds" / prepared.plain_key)
    made = {product.name for product in known.products} if known else set()
    return prepared.plain_key if prepared.request.executable in made else prepared.key


@contextmanager
def _site(
    prepared: Prepared, cache: Cache, logs: Path, execute: Execute, offline: bool, environ: Mapping[str, str]
) -> Iterator[Site]:
    """Make the folders of a build below the cache, with a copy of the checkout; take them away again.

    Their place follows from the key, so that the paths in a debugger are the same each time, and what a killed
    build left there goes now: the lock of the entry is held.
    """
    word, who = prepared.request.word, prepared.builder
    work = cache.folder("work") / prepared.key[:16]
    _require_reach(word, work.parent, who)
    if problem := cleanup.remove_scratch(work):
        raise InfrastructureError(problem, remedy="remove it, or use another cache with --cache DIR")
    cleanup.make_scratch(work)
    try:
        work.chmod(0o755)
        tree, out, answers = (_folder(work / name, None if name == "answers" else who) for name in _FOLDERS)
        for name in _FOR_TOOLS:
            _folder(work / name, who)
        checkouts.copy(word, prepared.checkout, tree, who)
        yield Site(
            name=prepared.request.name,
            tree=tree,
            out=out,
            answers=answers,
            logs=logs,
            hints=prepared.hints,
            builder=who,
            environment=environment.variables(who, work, environ=environ),
            execute=execute,
            offline=offline,
            command=prepared.request.profile.build.command,
        )
    finally:
        if problem := cleanup.remove_scratch(work):
            cache.say(f"warning: {problem}")


def _require_reach(word: str, folder: Path, who: Builder) -> None:
    closed = [path for path in (folder, *folder.parents) if not path.stat().st_mode & 0o001]
    if closed and not who.own:
        raise UsageError(
            f"{word}: {who.user.name}, who owns it, cannot build in {folder}",
            why=f"{closed[-1]} is closed to other users",
            remedy="use another cache with --cache DIR",
        )


def _folder(path: Path, who: Builder | None) -> Path:
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    if who is not None and not who.own:
        os.chown(path, who.user.uid, who.user.gid)
    return path


def _programs(prepared: Prepared, site: Site) -> list[Path]:
    tool = prepared.choice.tool
    try:
        return tool.build(site)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UsageError(
            f"{prepared.request.word}: what {tool.name} answers about its products is not understood",
            why=f"{type(error).__name__}: {error}",
            remedy="give a [build] command with --profile",
        ) from None


def _record(prepared: Prepared, made: tuple[Product, ...], began: float) -> BuildRecord:
    return BuildRecord(
        schema=record.SCHEMA,
        name=prepared.request.name,
        checkout=str(prepared.request.directory),
        key=prepared.key,
        tree=prepared.checkout.tree,
        tool=prepared.choice.tool.name,
        manifest=prepared.choice.manifest,
        unused=prepared.choice.unused,
        versions=dict(prepared.versions),
        products=made,
        built_at=began,
        wall_s=round(time.time() - began, 3),
    )


def _last(prepared: Prepared, known: BuildRecord, product: Product) -> LastBuild:
    return LastBuild(
        schema=record.SCHEMA,
        name=prepared.request.name,
        key=known.key,
        executable=product.name,
        sha256=product.sha256,
        checkout=str(prepared.request.directory),
        tree=prepared.checkout.tree,
        as_root=prepared.builder.user.uid == 0,
        built_at=known.built_at,
    )
