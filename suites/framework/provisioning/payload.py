"""The recorder payload, compiled once per source and compiler, or its Python twin where no compiler is (layer 2)."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from suites.framework import cleanup
from suites.framework.errors import InfrastructureError
from suites.framework.facts import Fact, Finding
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.command import Completed, Run, run
from suites.framework.provisioning.staging import PYTHON
from suites.framework.targets.executable import inspect

COMPILE_DEADLINE_S = 60.0

_VARIABLES = ("SEATRIAL_CC", "CC")
_DEFAULTS = ("cc", "gcc", "clang")
_FLAGS = ("-O2", "-std=gnu11", "-Wall")
# Static first: it starts faster and runs in any image.
_LINKING = (("-static",), ())
_PROBE = "int main(void) { return 0; }\n"
_STATIC_REMEDY = "install a C compiler and the static C library: apt-get install gcc libc6-dev"
_REMEDY = (
    "install a C compiler (apt-get install gcc libc6-dev) or name one in SEATRIAL_CC; the Python twin is used meanwhile"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A C compiler that was seen to build a program that runs."""

    argv: tuple[str, ...]
    version: str


def payload(
    fixtures: Path, *, cache: Cache, environ: Mapping[str, str] = os.environ, run: Run = run
) -> tuple[str, ...]:
    """Return the words that start the payload: the compiled payloads/*.c, or the interpreter and its twin.

    A compiler that works but refuses our source raises InfrastructureError.
    """
    folder = fixtures / "payloads"
    for words in _candidates(environ):
        if (version := _version(words, run)) is None:
            continue
        key = f"payloads/{_digest(folder, words, version)}"
        if cache.holds(key) or not _refusal(words, run):
            return (str(cache.entry(key, _make(words, sorted(folder.glob("*.c")), run)) / "payload"),)
    return (*PYTHON, str(folder / "payload.py"))


def probe_compiler(*, environ: Mapping[str, str] = os.environ, run: Run = run) -> Finding:
    """Return whether a C compiler builds a program that runs here, by compiling and running one."""
    found = _compiler(environ, run)
    if isinstance(found, Compiler):
        return Finding(
            fact=Fact.COMPILER, present=True, probe=f"{shlex.join(found.argv)} probe.c", detail=found.version
        )
    candidates = " or ".join(shlex.join(words) for words in _candidates(environ))
    return Finding(fact=Fact.COMPILER, present=False, probe=f"{candidates} probe.c", detail=found, remedy=_REMEDY)


def static_finding(words: Sequence[str]) -> Finding:
    """Return whether the payload that these words start runs without an interpreter or shared libraries."""
    found = inspect(Path(words[0])) if words[0] != PYTHON[0] else None
    static = found is not None and found.form == "elf" and not found.interpreter
    detail = words[0] if static else "it is a script" if found is None else "it is linked dynamically"
    return Finding(
        fact=Fact.STATIC_PAYLOAD,
        present=static,
        probe="ELF header of the payload",
        detail=detail,
        remedy="" if static else _STATIC_REMEDY,
    )


def _candidates(environ: Mapping[str, str]) -> list[list[str]]:
    """Return the compiler that the user named, and nothing else then; otherwise the usual ones."""
    named = next((environ[name] for name in _VARIABLES if environ.get(name, "").strip()), None)
    if named is None:
        return [[name] for name in _DEFAULTS]
    try:
        return [shlex.split(named) or [named]]
    except ValueError:  # an open quotation mark
        return [[named]]


def _compiler(environ: Mapping[str, str], run: Run) -> Compiler | str:
    """Return the first compiler that works, or why the first one does not."""
    reasons = []
    for words in _candidates(environ):
        if not (reason := _refusal(words, run)):
            return Compiler(argv=tuple(words), version=_version(words, run) or "version unknown")
        reasons.append(reason)
    return reasons[0]


def _version(words: Sequence[str], run: Run) -> str | None:
    asked = run((*words, "--version"), deadline_s=COMPILE_DEADLINE_S)
    return (asked.stdout.splitlines() or ["version unknown"])[0].strip() if asked.ok else None


def _digest(folder: Path, words: Sequence[str], version: str) -> str:
    sources = [path.read_bytes() for path in sorted(folder.glob("*.[ch]"))]
    parts = [*sources, *map(os.fsencode, (*words, version, *_FLAGS))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _make(words: Sequence[str], sources: Sequence[Path], run: Run) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        done = _compile(words, sources, folder / "payload", run)
        if not done.ok:
            raise InfrastructureError(
                f"{sources[0].parent} does not compile", why=done.complaint, remedy="try another SEATRIAL_CC"
            )

    return make


def _refusal(words: Sequence[str], run: Run) -> str:
    with cleanup.scratch("compiler") as folder:
        source, program = folder / "probe.c", folder / "probe"
        source.write_text(_PROBE, encoding="utf-8")
        compiled = _compile(words, [source], program, run)
        if not compiled.ok:
            return compiled.complaint
        started = run((str(program),), deadline_s=COMPILE_DEADLINE_S)
        return "" if started.ok else f"what it built does not run: {started.complaint}"


def _compile(words: Sequence[str], sources: Sequence[Path], program: Path, run: Run) -> Completed:
    """Compile beside the program: a compiler that is killed leaves its temporary files where they are removed."""
    environment, done = os.environ | {"TMPDIR": str(program.parent)}, Completed(code=1)
    for linking in _LINKING:
        argv = (*words, *_FLAGS, *linking, "-o", str(program), *map(str, sources))
        done = run(argv, deadline_s=COMPILE_DEADLINE_S, environment=environment)
        if done.ok:
            return done
    return done
