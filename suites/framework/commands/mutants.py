"""``mutants``: seeded faults of a reference target, each to be noticed by the cases named beforehand (layer 2).

A mutant is a one-place textual change kept as data. It is applied to a copy, refused unless it matches exactly
once, and killed only by an assertion in a case that its entry names.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suites.catalog import Environment, Kind, Place, Privilege
from suites.framework import cases as case_list
from suites.framework import cleanup, codec
from suites.framework.errors import CannotRunError, ExitCode, InfrastructureError, UsageError
from suites.framework.model import Reason, Role, Target
from suites.framework.options import Options
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.containerd import SHIM
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
    shim: str = ""
    """A script of fixtures/ that is put in front of the engine's shim, and changed where a mutant names it."""


CARRIERS = {
    Kind.INIT: Carrier(reference="reference"),
    Kind.OCI: Carrier(reference="runc", front="runtimes/proxy.py"),
    Kind.BUILDSCRIPTS: Carrier(reference="reference-wrapper"),
    Kind.POD: Carrier(reference="runc", front="runtimes/proxy.py", shim="runtimes/shim.py"),
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
    """What is changed beside it: a sibling of the reference, or the script in front of the shim; empty for itself."""
    kind: str = ""
    """Whose list it stands in; empty for any that its base is of."""
    privilege: Privilege | None = None
    """As whom alone it is tried; None for whoever calls."""
    base: str = ""
    """The target that is given the fault, where the reference does not offer what it takes; empty for that one."""

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
    chosen = [mutant for kind in CARRIERS if kind in options.kinds for mutant in _chosen(kind, options)]
    if not chosen:
        raise UsageError("no mutant is listed for what was asked for", remedy="leave out --suite and --case")
    found = subjects(replace(options, targets=tuple(dict.fromkeys(mutant.base for mutant in chosen))))
    if not found.targets:
        raise CannotRunError("no reference can be had", why=", ".join(absent.name for absent in found.absent))
    with cleanup.scratch("mutants") as folder:
        run = RunDirectory.create(options.runs, argv=options.words)
        tried, refusals = [], []
        for here, part in _by_environment(chosen).items():
            targets = tuple(_with_faults(part, found.targets, folder / here.name, options))
            try:
                Session(options, here, run).execute(replace(found, targets=targets))
                tried += part
            except CannotRunError as error:
                refusals.append(error)
                print(f"{len(part)} mutants are not tried: {error}")
    if not tried:
        raise refusals[0]
    results = [result for result in load(run).results if result.is_case]
    _require_sound(results)
    had = {target.profile.name for target in found.targets}
    return _show([mutant for mutant in tried if mutant.base in had], results, run)


def _by_environment(chosen: Sequence[Mutant]) -> dict[Environment, list[Mutant]]:
    """Return where mutants are tried: as the caller, and those of ordinary users as one of them if root calls."""
    caller = Privilege.ROOT if os.geteuid() == 0 else Privilege.ROOTLESS
    parts: dict[Environment, list[Mutant]] = {}
    for mutant in chosen:
        privilege = (mutant.privilege or caller) if caller is Privilege.ROOT else caller
        parts.setdefault(Environment(privilege=privilege, place=Place.NATIVE), []).append(mutant)
    return parts


def _chosen(kind: Kind, options: Options) -> Iterator[Mutant]:
    """Yield the mutants of a kind with the cases named for them that are asked for; without ``--case`` all."""
    for mutant in read(kind):
        named = tuple(case for case in mutant.killed_by if not options.cases or case in options.cases)
        if named:
            yield replace(mutant, killed_by=named, kind=kind, base=mutant.base or CARRIERS[kind].reference)


def _with_faults(chosen: Sequence[Mutant], bases: Sequence[Target], folder: Path, options: Options) -> Iterator[Target]:
    """Yield every target unchanged, and with each of the faults meant for it."""
    for name, kind in dict.fromkeys((base.profile.name, base.kind) for base in bases):
        shop = _Shop(
            bases=tuple(base for base in bases if (base.profile.name, base.kind) == (name, kind)),
            folder=folder / name / kind,
            cache=Cache(options.cache),
            everything=options.everything,
        )
        if mine := [mutant for mutant in chosen if mutant.base == name and mutant.kind in ("", kind)]:
            yield from shop.targets(mine)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shop:
    """Where the programs with a fault are made of one target and its variants."""

    bases: tuple[Target, ...]
    folder: Path
    cache: Cache
    everything: bool
    """Whether every case is tried, not only those that are named."""

    def targets(self, chosen: Sequence[Mutant]) -> Iterator[Target]:
        """Yield the target unchanged, as a reference, then with every fault; one may show in a variant only."""
        named = tuple(sorted({case for mutant in chosen for case in mutant.killed_by}))
        plain = stage(self._source, cache=self.cache, siblings=self._siblings)
        for base in self.bases:
            yield replace(base, role=Role.REFERENCE, argv=self._argv(base, plain), only=self._only(named))
            if shimmed := [mutant for mutant in chosen if self._shim(mutant)]:
                staged = stage(FIXTURES / self._carrier.shim, cache=self.cache)
                cases = tuple(sorted({case for mutant in shimmed for case in mutant.killed_by}))
                unchanged = replace(base, name=f"{base.name}+shim", role=Role.REFERENCE, only=self._only(cases))
                yield self._fronted(unchanged, staged)
        for mutant in chosen:
            staged = stage(self._changed(mutant), cache=self.cache, siblings=self._siblings)
            for base in self.bases:
                faulty = replace(
                    base,
                    name=f"{PREFIX}{mutant.id}{f'+{base.variant}' if base.variant else ''}",
                    role=Role.TARGET,
                    path=str(self._source),
                    sha256=staged.sha256,
                    profile=replace(base.profile, reference_for=()),
                    only=self._only(mutant.killed_by),
                )
                if self._shim(mutant):
                    yield self._fronted(faulty, staged)
                else:
                    yield replace(faulty, argv=self._argv(base, staged))

    @property
    def _carrier(self) -> Carrier:
        return CARRIERS[self.bases[0].kind]

    @property
    def _front(self) -> str:
        return self._carrier.front

    def _shim(self, mutant: Mutant) -> bool:
        """Return whether a fault is one of the shim's."""
        return bool(self._carrier.shim) and mutant.file == Path(self._carrier.shim).name

    @staticmethod
    def _fronted(base: Target, staged: Staged) -> Target:
        """Return a target that is reached through a script in front of the engine's shim."""
        words = (*PYTHON, str(staged.path), SHIM)
        return replace(base, call=replace(base.call, pod=replace(base.call.pod, front=words)))

    @property
    def _source(self) -> Path:
        """Return the program that is changed."""
        return FIXTURES / self._front if self._front else Path(self.bases[0].path)

    @property
    def _siblings(self) -> tuple[str, ...]:
        return () if self._front else self.bases[0].profile.siblings

    def _only(self, cases: tuple[str, ...]) -> tuple[str, ...]:
        return () if self.everything else cases

    def _changed(self, mutant: Mutant) -> Path:
        """Return a copy of the program and its siblings with the fault."""
        source = FIXTURES / self._carrier.shim if self._shim(mutant) else self._source
        folder = self.folder / mutant.id
        folder.mkdir(parents=True)
        for name in (source.name, *self._siblings):
            text = (source.parent / name).read_text()
            (folder / name).write_text(mutant.apply(text) if name == (mutant.file or source.name) else text)
        return folder / source.name

    def _argv(self, base: Target, staged: Staged) -> tuple[str, ...]:
        if self._front:
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
    """Return case: ``killed`` by an assertion, ``errored`` otherwise, ``missed`` where nothing was noticed.

    ``skipped`` is a case that cannot run here, or that the target does not offer: it says nothing of the mutant.
    """
    verdicts = dict.fromkeys(mutant.killed_by, "missed")
    for result in results:
        if result.target.partition("+")[0] != f"{PREFIX}{mutant.id}" or mutant.mode not in ("", result.mode):
            continue
        for case in result.cases:
            if result.verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE) and result.reason != Reason.CRASH:
                verdicts[case] = "killed"
            elif result.verdict is Verdict.ERRORED and verdicts.get(case) != "killed":
                verdicts[case] = "errored"
            elif result.verdict is Verdict.SKIPPED and result.reason and verdicts.get(case) == "missed":
                verdicts[case] = "skipped"
    return verdicts


def _show(chosen: Sequence[Mutant], results: Sequence[Result], run: RunDirectory) -> ExitCode:
    found = {mutant.id: kills(results, mutant) for mutant in chosen}
    named = {mutant.id: {found[mutant.id][case] for case in mutant.killed_by} for mutant in chosen}
    red = [name for name, verdicts in named.items() if {"missed", "errored"} & verdicts]
    untried = [name for name, verdicts in named.items() if verdicts == {"skipped"}]
    killers = sorted({case for verdicts in found.values() for case in verdicts if verdicts[case] == "killed"})
    for line in _matrix(chosen, found):
        print(line)
    done = len(chosen) - len(red) - len(untried)
    print(f"{done} of {len(chosen)} mutants killed by every case named for them")
    if untried:
        print(f"{len(untried)} not tried, because no case named for them runs here: {' '.join(untried)}")
    print(f"{len(killers)} cases kill something: {' '.join(killers)}")
    code = ExitCode.FAILED if red or not killers else ExitCode.GREEN
    reasons = f"not killed as named: {', '.join(red)}" if red else "nothing was killed"
    words = f"FAILED (exit 1): {reasons}" if code is ExitCode.FAILED else "PASSED (exit 0)"
    print(f"seatrial: {words} · {run.path}")
    return code


def _matrix(chosen: Sequence[Mutant], found: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield what became of each mutant: the cases named for it, those that killed it besides, and its bug."""
    width = max(len(mutant.id) for mutant in chosen)
    for mutant in chosen:
        verdicts = found[mutant.id]
        cells = "  ".join(f"{case} {verdicts[case]}" for case in mutant.killed_by)
        others = sorted(case for case in verdicts.keys() - set(mutant.killed_by) if verdicts[case] == "killed")
        yield f"{mutant.id:{width}}  {cells}" + (f"  (also {' '.join(others)})" if others else "")
        yield f"{'':{width}}  {mutant.bug}"
