"""``run``: try targets in one environment, then derive and show the results (layer 2)."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, suppress
from functools import cache

from suites.catalog import Environment
from suites.framework import cases as case_list
from suites.framework.build.wanted import from_checkouts
from suites.framework.errors import CannotRunError, ExitCode, SeatrialError
from suites.framework.hooks import Hooks
from suites.framework.options import Options
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.debian import Packages
from suites.framework.provisioning.phase import ProvisionPhase
from suites.framework.results import terminal
from suites.framework.results.derive import Derived, derive
from suites.framework.results.result import Result
from suites.framework.results.rundir import RUN_VARIABLE, RunDirectory, invoking_user
from suites.framework.session import Session
from suites.framework.subjects import CHECKOUT, Subjects, subjects, with_failed
from suites.framework.versions import versions


def run(options: Options) -> ExitCode:
    """Try the targets in one environment; return the exit code of DESIGN's table for this session."""
    here = Environment(privilege=options.privilege, place=options.place)
    directory = RunDirectory.create(
        options.runs,
        argv=options.words,
        versions=versions(),
        run=os.environ.get(RUN_VARIABLE, ""),
        owner=invoking_user(),
    )
    options = with_failed(options, current=directory.path.name)
    trouble: SeatrialError | None = None
    interrupted = False
    try:
        hooks = Hooks.load(options.plugins, options.hooks, base=options.base)
        found = _subjects(options, directory, hooks)
        Session(options, here, directory, hooks=hooks).execute(found)
        directory.conclude(here.name, ExitCode.GREEN)
    except SeatrialError as error:
        trouble = error
        directory.conclude(here.name, error.exit_code, str(error))
    except KeyboardInterrupt:
        interrupted = True
        directory.conclude(here.name, ExitCode.INTERRUPTED, "interrupted")
    return _finish(directory, here, trouble, interrupted)


def _subjects(options: Options, directory: RunDirectory, hooks: Hooks) -> Subjects:
    """Build and provision the targets, as phases of this run."""
    with ExitStack() as stack:
        packages = Packages(Cache(options.cache), offline=options.offline)
        return subjects(
            options,
            build=from_checkouts(options, directory, hooks),
            packages=ProvisionPhase(packages, directory, stack),
        )


def _finish(directory: RunDirectory, here: Environment, trouble: SeatrialError | None, interrupted: bool) -> ExitCode:
    """Derive, show this session's part, and return its code."""
    derived = derive(directory, howto=howto)
    if owner := invoking_user():
        with suppress(SeatrialError):
            directory.hand_over(*owner)
    if trouble is not None:
        print(f"seatrial: {trouble}", file=sys.stderr)
        if isinstance(trouble, CannotRunError):
            return ExitCode.CANNOT_RUN
    code = show(derived, here)
    return ExitCode.INTERRUPTED if interrupted else code


def show(derived: Derived, here: Environment) -> ExitCode:
    """Print the report of one environment of a run and return the exit code that it deserves."""
    from suites.framework.results.verdict import judge

    view = derived.view.only(here.name)
    summary = judge(view)
    terminal.show(view, summary, howto=howto)
    return ExitCode(summary.exit_code)


def howto(result: Result) -> str:
    """Return how to see by hand what this test saw: a case may have several tests."""
    known = _known().get(result.node.partition("[")[0])
    return known.by_hand if known else ""


@cache
def _known() -> dict[str, case_list.Case]:
    return {case.node: case for case in case_list.load(CHECKOUT)}
