"""``mutants``: seeded faults of the reference target, each to be noticed by the cases named beforehand (layer 2).

A mutant is a one-place textual change kept as data. It is applied to a copy, refused unless it matches exactly
once, and killed only by an assertion in a case that its entry names.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suites.catalog import ENVIRONMENTS, Environment, Kind, Place, Privilege
from suites.framework import cases as case_list
from suites.framework import codec
from suites.framework.errors import ExitCode, InfrastructureError, UsageError
from suites.framework.model import Reason, Role, Target
from suites.framework.options import Options
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.staging import stage
from suites.framework.results.result import Result, Verdict
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import load
from suites.framework.session import Session
from suites.framework.subjects import CHECKOUT, FIXTURES, Subjects, subjects

PREFIX = "mutant:"
REFERENCE: dict[Kind, str] = {Kind.INIT: "reference"}
"""The target of the catalogue whose copies carry the faults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One seeded fault."""

    id: str
    bug: str
    """The real-world bug it stands for."""
    find: str
    replace: str
    killed_by: tuple[str, ...]
    source: str = ""
    """Where the bug was met."""
    mode: str = ""
    """The mode in which alone it shows; empty for any."""
    file: str = ""
    """The sibling of the reference that is changed; empty for the program itself."""

    def apply(self, text: str) -> str:
        """Return the text with the fault; UsageError unless it matches exactly once."""
        if (count := text.count(self.find)) != 1:
            raise UsageError(
                f"mutant {self.id}", why=f"its text stands {count} times in the reference", remedy="correct find"
            )
        return text.replace(self.find, self.replace)


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantFile:
    """The content of fixtures/mutants/KIND.toml."""

    mutant: tuple[Mutant, ...]


def read(kind: Kind) -> tuple[Mutant, ...]:
    """Return the mutants of a kind; UsageError for a malformed list or a case that does not exist."""
    path = FIXTURES / "mutants" / f"{kind}.toml"
    try:
        found = codec.decode(MutantFile, tomllib.loads(path.read_text())).mutant
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read", why=str(error)) from error
    known = case_list.load(CHECKOUT)
    for mutant in found:
        for case in mutant.killed_by:
            case_list.find(known, case)
    return found


def mutants(options: Options) -> ExitCode:
    """Run every mutant, print the kill matrix, and return 1 when one survives or a named case misses it."""
    here = Environment(privilege=Privilege.ROOT if os.geteuid() == 0 else Privilege.ROOTLESS, place=Place.NATIVE)
    assert here in ENVIRONMENTS
    chosen = read(Kind.INIT)
    reference = subjects(replace(options, targets=(REFERENCE[Kind.INIT],)))
    with tempfile.TemporaryDirectory(prefix="seatrial-mutants-") as folder:
        targets = tuple(
            _targets(chosen, reference.targets, Path(folder), Cache(options.cache), everything=options.everything)
        )
        found = replace(reference, targets=(*_yardstick(reference, chosen, everything=options.everything), *targets))
        run = RunDirectory.create(options.runs, argv=options.words)
        Session(options, here, run).execute(found)
    results = [result for result in load(run).only(here.name).results if result.is_case]
    _require_sound(results)
    return _show(chosen, results, run)


def _yardstick(reference: Subjects, chosen: Sequence[Mutant], *, everything: bool) -> Iterator[Target]:
    """Yield the unchanged reference, for the same cases."""
    named = tuple(sorted({case for mutant in chosen for case in mutant.killed_by}))
    for target in reference.targets:
        yield replace(target, only=() if everything else named)


def _targets(
    chosen: Sequence[Mutant], reference: Sequence[Target], folder: Path, cache: Cache, *, everything: bool
) -> Iterator[Target]:
    for mutant in chosen:
        original, siblings = Path(reference[0].path), reference[0].profile.siblings
        changed = folder / mutant.id / original.name
        changed.parent.mkdir()
        for name in (original.name, *siblings):
            text = (original.parent / name).read_text()
            (changed.parent / name).write_text(mutant.apply(text) if name == (mutant.file or original.name) else text)
        staged = stage(changed, cache=cache, siblings=siblings)
        for base in reference:  # the bare reference and its variants: a fault may show in one of them only
            yield replace(
                base,
                name=f"{PREFIX}{mutant.id}{f'+{base.variant}' if base.variant else ''}",
                role=Role.TARGET,
                argv=tuple(str(staged.path) if word.endswith(f"/{original.name}") else word for word in base.argv),
                path=str(changed),
                sha256=staged.sha256,
                profile=replace(base.profile, deviation=(), reference_for=()),
                only=() if everything else mutant.killed_by,
            )


def _require_sound(results: Sequence[Result]) -> None:
    """Raise where the unchanged reference fails: then nothing is known of the mutants."""
    broken = [
        result
        for result in results
        if result.role is Role.REFERENCE and result.verdict is not Verdict.PASSED and result.red
    ]
    if broken:
        names = ", ".join(sorted({case for result in broken for case in result.cases}))
        raise InfrastructureError(
            "the unchanged reference fails",
            why=names,
            remedy="mend that first: nox -s acceptance-root -- --target reference",
        )


def kills(results: Sequence[Result], mutant: Mutant) -> Mapping[str, str]:
    """Return case: ``killed`` by an assertion, ``errored`` otherwise, ``missed`` where nothing was noticed."""
    verdicts = dict.fromkeys(mutant.killed_by, "missed")
    for result in results:
        if result.target.partition("+")[0] != f"{PREFIX}{mutant.id}" or mutant.mode not in ("", result.mode):
            continue
        for case in result.cases:
            if result.verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE) and result.reason != Reason.CRASH:
                verdicts[case] = "killed"
            elif result.verdict is Verdict.ERRORED and verdicts.get(case) != "killed":
                verdicts[case] = "errored"
    return verdicts


def _show(chosen: Sequence[Mutant], results: Sequence[Result], run: RunDirectory) -> ExitCode:
    width = max(len(mutant.id) for mutant in chosen)
    red = []
    for mutant in chosen:
        verdicts = kills(results, mutant)
        named = {case: verdicts[case] for case in mutant.killed_by}
        others = sorted(case for case, verdict in verdicts.items() if verdict == "killed" and case not in named)
        if set(named.values()) != {"killed"}:
            red.append(mutant.id)
        cells = "  ".join(f"{case} {verdict}" for case, verdict in named.items())
        print(f"{mutant.id:{width}}  {cells}" + (f"  (also {' '.join(others)})" if others else ""))
        print(f"{'':{width}}  {mutant.bug}")
    killers = {case for mutant in chosen for case, verdict in kills(results, mutant).items() if verdict == "killed"}
    print(f"{len(chosen) - len(red)} of {len(chosen)} mutants killed by every case named for them")
    print(f"{len(killers)} cases kill something: {' '.join(sorted(killers))}")
    code = ExitCode.FAILED if red else ExitCode.GREEN
    words = f"FAILED (exit 1): not killed as named: {', '.join(red)}" if red else "PASSED (exit 0)"
    print(f"seatrial: {words} · {run.path}")
    return code
