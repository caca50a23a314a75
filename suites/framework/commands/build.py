"""``build``: targets from their checkouts, ready for the acceptance sessions by name (layer 2)."""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from suites.framework.build.build import Built, Request
from suites.framework.build.manifest import TOOLS
from suites.framework.build.phase import BuildPhase, Failed, opened
from suites.framework.errors import ExitCode, SeatrialError, UsageError
from suites.framework.facts import Missing
from suites.framework.hooks import Hooks
from suites.framework.model import Profile
from suites.framework.options import Options
from suites.framework.provisioning.cache import Cache
from suites.framework.results import terminal
from suites.framework.results.derive import derive
from suites.framework.results.result import Result
from suites.framework.results.rundir import RUN_VARIABLE, RunDirectory, invoking_user
from suites.framework.results.verdict import judge
from suites.framework.results.view import HOST
from suites.framework.targets.catalogue import load_catalogue
from suites.framework.targets.profile import load
from suites.framework.targets.word import split_executable
from suites.framework.versions import CHECKOUT, versions

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_FORM = "write NAME=DIR or NAME=DIR#EXECUTABLE"


def build(options: Options) -> ExitCode:
    """Build each checkout in order; return the exit code of DESIGN's table for this session."""
    asked = requests(options, load_catalogue(CHECKOUT / "fixtures/targets"))
    directory = RunDirectory.create(
        options.runs,
        argv=options.words,
        versions=versions(),
        run=os.environ.get(RUN_VARIABLE, ""),
        owner=invoking_user(),
    )
    trouble: SeatrialError | None = None
    code, reason = ExitCode.GREEN, ""
    try:
        missing = _build_all(asked, options, directory)
        if len(missing) == len(asked):
            code, reason = ExitCode.CANNOT_RUN, f"nothing was built: {missing[0].reason}; {missing[0].remedy}"
    except SeatrialError as error:
        trouble, code, reason = error, error.exit_code, str(error)
    except KeyboardInterrupt:
        code, reason = ExitCode.INTERRUPTED, "interrupted"
    directory.conclude(HOST, code, reason)
    return _finish(directory, trouble, code)


def requests(options: Options, catalogue: Mapping[str, Profile]) -> tuple[Request, ...]:
    """Return what is to be built; UsageError for words that are malformed or name a target twice."""
    found = tuple(_request(word, options, catalogue) for word in options.checkouts)
    name, times = Counter(request.name for request in found).most_common(1)[0]
    if times > 1:
        raise UsageError(f"{name} is given {times} times", remedy="give each checkout its own name")
    if options.profile and all(request.name in catalogue for request in found):
        raise UsageError(
            f"--profile {options.profile} applies to no target",
            why="it is for targets that the catalogue does not know",
            remedy="leave it out, or give another name",
        )
    return found


def _request(word: str, options: Options, catalogue: Mapping[str, Profile]) -> Request:
    name, equals, place = word.partition("=")
    if not equals or not place or not _NAME.fullmatch(name):
        raise UsageError(f"{word!r} names no checkout", remedy=_FORM)
    path, executable = split_executable(options.base / Path(place).expanduser())
    profile = catalogue.get(name) or (load(options.profile) if options.profile else Profile())
    if profile.control is not None or "/" in profile.binary:
        raise UsageError(f"{word}: {name} is a target of Seatrial's own", remedy="give yours another name")
    return Request(name=name, directory=path, profile=replace(profile, name=name), executable=executable)


def _build_all(asked: tuple[Request, ...], options: Options, directory: RunDirectory) -> list[Missing]:
    missing = []
    with opened(
        directory,
        Cache(options.cache),
        promises=options.promises,
        offline=options.offline,
        as_root=options.as_root,
        hooks=Hooks.load(options.plugins, options.hooks, base=options.base),
    ) as phase:
        for request in asked:
            found = _build(request, phase)
            if isinstance(found, Missing):
                missing.append(found)
    return missing


def _build(request: Request, phase: BuildPhase) -> Built | Missing | Failed:
    began = time.monotonic()
    found = phase.build(request)
    match found:
        case Built():
            print("\n".join(described(found, time.monotonic() - began)), flush=True)
        case Missing():
            print(f"{request.name}: not built: {found.reason}; {found.remedy}", flush=True)
        case Failed():
            print(f"{request.name}: {found.paragraph}", file=sys.stderr, flush=True)
    return found


def described(built: Built, seconds: float) -> Iterator[str]:
    """Yield the lines that tell what was built, with what, and what came out."""
    known = built.record
    took = "unchanged" if built.unchanged else f"{seconds:.1f} s"
    others = f" ({', '.join(known.unused)} not used)" if known.unused else ""
    yield f"{built.name}: {took}, {known.tool} with {known.manifest}{others}"
    yield from (f"  warning: {sentence}" for sentence in built.checkout.remarks)
    for product in known.products:
        mark = "*" if product.name == built.product.name else " "
        yield f" {mark} {product.name}: {product.size} bytes, {product.shown}, sha256 {product.sha256}"
    yield f"   {built.path}"
    tool = next((tool for tool in TOOLS if tool.name == known.tool), None)
    if built.product.linkage == "dynamic" and tool is not None and tool.static:
        yield f"   dynamic: it starts only where {built.product.interpreter} and its libraries are; {tool.static}"


def _finish(directory: RunDirectory, trouble: SeatrialError | None, code: ExitCode) -> ExitCode:
    derived = derive(directory, howto=_howto)
    if owner := invoking_user():
        with suppress(SeatrialError):
            directory.hand_over(*owner)
    if trouble is not None:
        print(f"seatrial: {trouble}", file=sys.stderr)
    view = derived.view.only(HOST)
    summary = judge(view)
    terminal.show(view, summary, howto=_howto)
    return code if code is ExitCode.INTERRUPTED else ExitCode(summary.exit_code)


def _howto(result: Result) -> str:
    from suites.framework.commands.run import howto  # here, because only a run with cases needs them

    return howto(result)
