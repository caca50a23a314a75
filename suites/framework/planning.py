"""Which tests run here, with which target and in which mode: pure functions over marks and the context (layer 1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from suites.catalog import MODES, Environment, Kind, Mode, Place, Privilege
from suites.framework.facts import Fact, Finding, Missing
from suites.framework.model import Context, Role, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """A target in a mode: what a test of a suite is parametrised with."""

    target: Target
    mode: Mode
    repetition: int = 1

    @property
    def id(self) -> str:
        """Return the first part of the node's parameters, ``tini+g-pid1`` or ``tini-plain-r2``."""
        suffix = f"-r{self.repetition}" if self.repetition > 1 else ""
        return f"{self.target.name}-{self.mode}{suffix}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What is known of a collected test before it runs."""

    cases: tuple[str, ...]
    requires: tuple[Fact, ...]
    offers: tuple[str, ...]
    tier: int
    weight: int
    parameter: str
    pairing: Pairing | None
    test: str = ""
    """Name of the test function."""

    @property
    def key(self) -> tuple[tuple[str, ...], str, str, int]:
        """Return what all targets of one case share: cases, mode, parameter and repetition."""
        pairing = self.pairing
        return self.cases, pairing.mode if pairing else "", self.parameter, pairing.repetition if pairing else 1


def pairings(marks: Sequence[pytest.Mark], context: Context, here: Environment, kind: Kind) -> list[Pairing]:
    """Return the targets of a kind with the modes in which a test so marked makes sense here."""
    if not makes_sense(marks, here):
        return []
    wanted = arguments(marks, "modes") or MODES[kind]
    allowed = [mode for mode in wanted if mode in context.modes and possible(mode, here)]
    only = arguments(marks, "controls")
    targets = [
        target
        for target in context.targets
        if target.kind is kind
        and concerned(target, arguments(marks, "case"))
        and (not only or (target.name.removeprefix("control:") in only and target.role is Role.CONTROL))
    ]
    return [
        Pairing(target=target, mode=mode, repetition=repetition)
        for target in targets
        for mode in allowed
        for repetition in range(1, context.selection.repeat + 1)
    ]


def concerned(target: Target, cases: Sequence[str]) -> bool:
    """Return whether a target is tried with a test of these cases; each of hundreds of mutants has a case or two."""
    return not (target.only and cases) or bool(named(target.kind, cases) & set(target.only))


def named(kind: Kind, cases: Iterable[str]) -> frozenset[str]:
    """Return every way to write these cases: ``ID`` and ``KIND:ID``."""
    return frozenset(name for case in cases for name in (case, f"{kind}:{case}"))


def possible(mode: Mode, here: Environment) -> bool:
    """Return whether a mode makes sense in an environment: the docker command is called from the host only."""
    return mode is not Mode.DOCKER or here.place is Place.NATIVE


def makes_sense(marks: Iterable[pytest.Mark], here: Environment) -> bool:
    """Return whether a test so marked makes sense in an environment."""
    limits = [mark.kwargs for mark in marks if mark.name == "within"]
    return all(
        limit["privilege"] in (None, here.privilege) and limit["place"] in (None, here.place) for limit in limits
    )


def arguments(marks: Iterable[pytest.Mark], name: str) -> tuple[Any, ...]:
    """Return the arguments of all marks of this name, in order."""
    return tuple(argument for mark in marks if mark.name == name for argument in mark.args)


def node(item: pytest.Item, here: Environment) -> Node:
    """Return what an item's marks and parameters say."""
    marks = list(item.iter_markers())
    pairing, parameter = None, ""
    if callspec := getattr(item, "callspec", None):
        pairing = next((value for value in callspec.params.values() if isinstance(value, Pairing)), None)
        parameter = callspec.id.replace(pairing.id, "", 1).strip("-") if pairing else callspec.id
    return Node(
        cases=tuple(dict.fromkeys(arguments(marks, "case"))),
        requires=tuple(dict.fromkeys((*arguments(marks, "requires"), *_implied(pairing, here, item)))),
        offers=arguments(marks, "offered"),
        tier=max(arguments(marks, "tier"), default=1),
        weight=max(arguments(marks, "weight"), default=1),
        parameter=parameter,
        pairing=pairing,
        test=getattr(item, "originalname", ""),
    )


def _implied(pairing: Pairing | None, here: Environment, item: pytest.Item) -> Iterator[Fact]:
    """Yield the facts that a mode or a fixture needs."""
    if pairing is None:
        return
    yield Fact.PROC_CHILDREN
    if pairing.mode is Mode.PID1 or pairing.target.kind is Kind.OCI:
        yield Fact.PID_NAMESPACE
        if here.privilege is Privilege.ROOTLESS:
            yield Fact.USER_NAMESPACE
    if pairing.target.kind is Kind.OCI:
        yield from (Fact.ROOTFS, Fact.STATIC_PAYLOAD)
    if pairing.target.kind is Kind.BUILDSCRIPTS:
        yield Fact.BASH
    if pairing.target.kind is Kind.POD:
        yield from (Fact.ROOTFS, Fact.CONTAINERD)
        if here.privilege is Privilege.ROOTLESS:
            yield from (Fact.USER_NAMESPACE, Fact.SUBORDINATE_IDS)
        yield Fact.ENGINE
        needs = dict(word.split("=") for word in pairing.target.call.pod.needs)
        yield from (Fact(needs[word]) for word in arguments(list(item.iter_markers()), "offered") if word in needs)
    if pairing.mode is Mode.DOCKER:
        yield Fact.DOCKER_COMMAND
    if "terminal" in getattr(item, "fixturenames", ()):
        yield Fact.PSEUDO_TERMINAL


def of_target(pairing: Pairing | None) -> tuple[Finding, ...]:
    """Return what is found out of each target, not of an environment."""
    if pairing is None or not (words := pairing.target.profile.build.tests):
        return ()
    told = pairing.target.own_tests
    trouble = told.trouble if told else "it was not built from its checkout"
    finding = Finding(
        fact=Fact.OWN_TESTS,
        present=not trouble,
        probe=" ".join(words),
        detail=trouble,
        remedy=f"give its checkout, and what builds it: --target {pairing.target.profile.name}=DIR" if trouble else "",
    )
    return (finding,)


def bare(nodeid: str) -> str:
    """Return a node id without its repetition."""
    return re.sub(r"-r\d+(?=[]-])", "", nodeid)


def wanted(candidate: Node, context: Context, identifier: str) -> bool:
    """Return whether the selection (cases, nodes, tier) asks for this node; a standby reference follows the cases."""
    selection = context.selection
    if candidate.pairing is None:
        return not candidate.cases  # a case for which no target and mode make sense here
    of_pods = candidate.pairing.target.kind is Kind.POD
    if candidate.tier > (selection.pod_tier if of_pods else selection.tier):
        return False
    ids = named(candidate.pairing.target.kind, candidate.cases)
    if any(only and not ids & set(only) for only in (selection.cases, candidate.pairing.target.only)):
        return False
    standby = candidate.pairing.target.role is Role.STANDBY
    return standby or not selection.nodes or bool({identifier, bare(identifier)} & set(selection.nodes))


def share(weights: Mapping[str, int], parts: int, *, few: Mapping[str, Sequence[int]] | None = None) -> dict[str, int]:
    """Return which of `parts` (from 0) each group belongs to: the heaviest first, to the lightest part.

    Groups of `few` belong to the parts that are named there, and choose before all others.
    """
    loads = [0] * parts
    shares = {}
    limited = few or {}
    for name in sorted(weights, key=lambda group: (group not in limited, -weights[group], group)):
        shares[name] = min(limited.get(name, range(parts)), key=loads.__getitem__)
        loads[shares[name]] += weights[name]
    return shares


POD_WEIGHT = 4
"""About how many times as long as most cases one of pods takes."""
WORKERS_OF_AN_ENGINE = 4
"""Of so many workers one gets pods, where there are other cases too: an engine and its shims keep a processor busy,
and there are as many workers for each (`crew.PER_PROCESSOR`)."""


def weighed(candidate: Node) -> int:
    """Return how much a node counts when the work is shared."""
    of_pods = candidate.pairing is not None and candidate.pairing.target.kind is Kind.POD
    return candidate.weight * (POD_WEIGHT if of_pods else 1)


def with_engines(workers: int, shards: int) -> tuple[int, ...]:
    """Return which parts of the whole, `workers` of each shard, have an engine: at least one of each shard."""
    engines = max(1, workers // WORKERS_OF_AN_ENGINE)
    return tuple(shard * workers + number for shard in range(shards) for number in range(engines))


def absence(facts: Iterable[Fact], findings: Iterable[Finding]) -> Missing | None:
    """Return the first fact that does not hold; one that nobody probed counts as missing."""
    known = {finding.fact: finding for finding in findings}
    for fact in facts:
        if fact not in known:
            return Missing(
                fact=fact, reason="it was not probed in this environment", remedy="report this as a defect of Seatrial"
            )
        if missing := known[fact].missing:
            return missing
    return None
