"""``report``: derive the results of run directories again, merge several, pin a young target's failures (layer 2)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from suites.framework.commands.run import howto
from suites.framework.errors import ExitCode, InfrastructureError, UsageError
from suites.framework.model import Deviation
from suites.framework.options import LATEST, Options
from suites.framework.results import inspection, terminal
from suites.framework.results.derive import derive
from suites.framework.results.merging import merge
from suites.framework.results.result import Result, Verdict
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import View, load
from suites.framework.targets import deviations
from suites.framework.targets.profile import BARE


def report(options: Options) -> ExitCode:
    """Derive everything again from the events, print the report, and return the run's exit code."""
    runs = [RunDirectory.open(path) for path in options.run_directories or (options.runs / LATEST,)]
    against = load(RunDirectory.open(options.against)) if options.against else None
    run = runs[0] if len(runs) == 1 else merge(runs, options.runs, argv=options.words)
    derived = derive(run, howto=howto, against=against)
    inspection.show(run, derived.view)
    terminal.show(derived.view, derived.summary, howto=howto)
    if options.write_profile:
        write_profile(derived.view, options.write_profile, options.targets)
    return ExitCode(derived.summary.exit_code)


def write_profile(view: View, file: Path, names: Iterable[str]) -> None:
    """Write the failures of one target as known deviations; UsageError where it is not clear which target is meant."""
    failed = [result for result in view.problems if observed(result)]
    wanted = set(names) or {base(result) for result in failed if result.subject.role == "target"}
    if len(wanted) != 1:
        known = ", ".join(sorted({base(result) for result in failed})) or "none failed"
        raise UsageError(
            "--write-profile is for one target", why=f"failed: {known}", remedy="name it with --target NAME"
        )
    (name,) = wanted
    text = deviations.dump(pinned([result for result in view.results if result.is_case and base(result) == name]))
    kinds = sorted({result.kind for result in failed if base(result) == name})
    try:
        with file.open("x") as stream:
            stream.write(f"schema = 1\nkinds = {json.dumps(kinds)}\n\n{text}")
    except FileExistsError:
        raise UsageError(
            f"{file} exists", why="a written profile is not overwritten", remedy="give another name"
        ) from None
    except OSError as error:
        raise InfrastructureError(f"cannot write {file}", why=error.strerror or str(error)) from error
    print(f"seatrial: {file} pins what {name} does today; write the reasons, then run with --profile {file}")


def base(result: Result) -> str:
    """Return a target's name without its variant."""
    return result.target.partition("+")[0]


def observed(result: Result) -> bool:
    """Return whether a result is a failure with an observation, which a deviation can pin."""
    return result.verdict is Verdict.FAILED and result.is_case and bool(result.actual)


def pinned(results: Iterable[Result]) -> list[Deviation]:
    """Return deviations whose scopes hold exactly the failures among these results of one target."""
    tests: dict[str, set[str]] = defaultdict(set)
    environments: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for result in results:
        tests[result.cases[0]].add(test := result.node.rpartition("::")[2].partition("[")[0])
        if observed(result):
            variant = result.target.partition("+")[2] or BARE
            key = (result.cases[0], test, result.actual, variant, result.mode, result.parameter)
            environments[key].add(result.environment)
    parameters: dict[tuple[tuple[str, ...], tuple[str, ...]], set[str]] = defaultdict(set)
    for (*seen, parameter), names in environments.items():
        parameters[tuple(seen), tuple(sorted(names))].add(parameter)
    return [
        Deviation(
            case=(case,),
            observed=actual,
            reason="",
            environment=names,
            mode=(mode,),
            parameter=tuple(sorted(filter(None, found))),
            variant=(variant,),
            test=(test,) if len(tests[case]) > 1 else (),
        )
        for ((case, test, actual, variant, mode), names), found in sorted(parameters.items())
    ]
