"""``mutants``: seeded faults of a reference target, each to be noticed by the cases named beforehand (layer 2).

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
from suites.framework.errors import CannotRunError, ExitCode, InfrastructureError, UsageError
from suites.framework.model import Reason, Role, Target
from suites.framework.options import Options
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.staging import PYTHON, Staged, stage
from suites.framework.results.result import Result, Verdict
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import load
from suites.framework.session import Session
from suites.framework.subjects import CHECKOUT, FIXTURES, subjects

PREFIX = "mutant:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """What carries the faults of a kind."""

    reference: str
    """The target of the catalogue; its own program is what is changed, unless something stands in front of it."""
    front: str = ""
    """A script of fixtures/ that is put in front of the reference, and changed instead of it."""


CARRIERS = {
    Kind.INIT: Carrier(reference="reference"),
    Kind.OCI: Carrier(reference="runc", front="runtimes/proxy.py"),
}


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
    """Run every mutant, print the kill matrix, and return 1 when one survives or a named case misses it.

    A kind whose reference cannot be had is left out and said so; CannotRunError where that leaves none.
    """
    here = Environment(privilege=Privilege.ROOT if os.geteuid() == 0 else Privilege.ROOTLESS, place=Place.NATIVE)
    assert here in ENVIRONMENTS
    carriers = {kind: carrier for kind, carrier in CARRIERS.items() if kind in options.kinds}
    found = subjects(replace(options, targets=tuple(carrier.reference for carrier in carriers.values())))
    chosen = {kind: _chosen(read(kind), options) for kind in dict.fromkeys(target.kind for target in found.targets)}
    if not any(chosen.values()):
        raise CannotRunError("there is no mutant to try", why=", ".join(absent.name for absent in found.absent))
    with tempfile.TemporaryDirectory(prefix="seatrial-mutants-") as folder:
        targets: list[Target] = []
        for kind, some in chosen.items():
            bench = _Bench(carrier=CARRIERS[kind], folder=Path(folder) / kind, cache=Cache(options.cache))
            bases = tuple(target for target in found.targets if target.kind is kind)
            targets += bench.targets(some, bases, everything=options.everything)
        run = RunDirectory.create(options.runs, argv=options.words)
        Session(options, here, run).execute(replace(found, targets=tuple(targets)))
    results = [result for result in load(run).only(here.name).results if result.is_case]
    _require_sound(results)
    return _show([mutant for some in chosen.values() for mutant in some], results, run)


def _chosen(known: Sequence[Mutant], options: Options) -> tuple[Mutant, ...]:
    """Return the mutants with the cases named for them that are asked for; without ``--case`` all."""
    if not options.cases:
        return tuple(known)
    asked = [replace(each, killed_by=tuple(case for case in each.killed_by if case in options.cases)) for each in known]
    return tuple(mutant for mutant in asked if mutant.killed_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """Where the programs with a fault are made."""

    carrier: Carrier
    folder: Path
    cache: Cache

    def targets(self, chosen: Sequence[Mutant], bases: Sequence[Target], *, everything: bool) -> Iterator[Target]:
        """Yield the unchanged reference, then every mutant; `bases` are the bare reference and its variants."""
        named = tuple(sorted({case for mutant in chosen for case in mutant.killed_by}))
        source = FIXTURES / self.carrier.front if self.carrier.front else Path(bases[0].path)
        siblings = () if self.carrier.front else bases[0].profile.siblings
        plain = stage(source, cache=self.cache, siblings=siblings)
        for base in bases:
            yield replace(base, role=Role.REFERENCE, argv=self._argv(base, plain), only=() if everything else named)
        for mutant in chosen:
            staged = stage(self._changed(mutant, source, siblings), cache=self.cache, siblings=siblings)
            for base in bases:  # a fault may show in a variant only
                yield replace(
                    base,
                    name=f"{PREFIX}{mutant.id}{f'+{base.variant}' if base.variant else ''}",
                    role=Role.TARGET,
                    argv=self._argv(base, staged),
                    path=str(source),
                    sha256=staged.sha256,
                    profile=replace(base.profile, reference_for=()),
                    only=() if everything else mutant.killed_by,
                )

    def _changed(self, mutant: Mutant, source: Path, siblings: Sequence[str]) -> Path:
        """Return a copy of the program and its siblings with the fault."""
        folder = self.folder / mutant.id
        folder.mkdir(parents=True)
        for name in (source.name, *siblings):
            text = (source.parent / name).read_text()
            (folder / name).write_text(mutant.apply(text) if name == (mutant.file or source.name) else text)
        return folder / source.name

    def _argv(self, base: Target, staged: Staged) -> tuple[str, ...]:
        if self.carrier.front:
            return (*PYTHON, str(staged.path), *base.argv, "--")
        return tuple(str(staged.path) if word.endswith(f"/{staged.path.name}") else word for word in base.argv)


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
            remedy=f"mend that first: nox -s acceptance-root -- --target {broken[0].target}",
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
