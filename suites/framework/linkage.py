"""Whether a target can be loaded in this environment: a container has other libraries (layer 1; ld.so(8))."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from suites.framework.errors import UsageError
from suites.framework.facts import Fact, Missing
from suites.framework.model import Target
from suites.framework.process import exited, output_of
from suites.framework.targets.executable import inspect

LIST_S = 5.0
REMEDY = (
    "link it statically (cargo build --target x86_64-unknown-linux-musl, CGO_ENABLED=0 go build, cc -static),"
    " or use an --image that has them"
)


def unloadable(target: Target, *, environment: Mapping[str, str]) -> Missing | None:
    """Return what a target needs in order to start and does not find here, None where it can be loaded.

    What is no program at all is none of this: its cases will say so.
    """
    program = next((word for word in target.argv if word.startswith("/")), "")
    if not program or not Path(program).is_file():
        return None
    try:
        found = inspect(Path(program))
    except UsageError as error:
        return _missing(target, error.why) if "interpreter" in error.why else None
    if found.form != "elf" or not found.interpreter:
        return None
    return _refused(target, found.interpreter, program, environment)


def _refused(target: Target, loader: str, program: str, environment: Mapping[str, str]) -> Missing | None:
    """Let the loader list what it would load."""
    status, output = output_of(
        [loader, "--list", program], environment={**environment, **target.environment}, seconds=LIST_S
    )
    lines = [line.strip() for line in output.splitlines()]
    lacking = [line for line in lines if "not found" in line or "cannot open shared object" in line]
    if status == exited(0) and not lacking:
        return None
    return _missing(target, "; ".join(lacking[:3]) or f"{loader} --list: {status}, {' '.join(lines[-1:])}")


def _missing(target: Target, why: str) -> Missing:
    return Missing(fact=Fact.SHARED_LIBRARIES, reason=f"{target.name} cannot be loaded here: {why}", remedy=REMEDY)
