"""The cases as their tests describe them: what, why, source, how to see it by hand (layer 2).

Read from the marks and docstrings of the test modules, so that there is no second list to keep in step.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import ENVIRONMENTS, MODES, SUITES, Environment, Kind, Mode
from suites.framework import planning
from suites.framework.codec import encode
from suites.framework.errors import UsageError
from suites.framework.facts import Fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One row of the case list, as its test describes it."""

    id: str
    kind: Kind
    title: str
    """What is checked, with the contract in brackets: the first line of the docstring."""
    why: str
    by_hand: str
    """A few lines of shell in which ``$INIT``, ``$RUNTIME`` or ``$WRAPPER`` stands for the target."""
    modes: tuple[Mode, ...]
    environments: tuple[str, ...]
    requires: tuple[Fact, ...]
    tier: int
    node: str
    """Node id of the test, without parameters."""


def load(checkout: Path) -> tuple[Case, ...]:
    """Return every case of every suite, by kind and id."""
    found = [
        case
        for kind, folder in SUITES.items()
        for path in sorted((checkout / folder).glob("test_*.py"))
        for case in _of_module(path, kind, path.relative_to(checkout))
    ]
    return tuple(sorted(found, key=lambda case: (case.kind, case.id)))


def _of_module(path: Path, kind: Kind, shown: Path) -> Iterator[Case]:
    label = f"{kind}.{path.stem}"
    spec = importlib.util.spec_from_file_location(label, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[label] = importlib.util.module_from_spec(spec)  # a dataclass looks itself up there
    spec.loader.exec_module(module)
    for name, function in vars(module).items():
        if name.startswith("test_"):
            yield from _of_test(function, kind, f"{shown}::{name}")


def _of_test(function: Callable[..., Any], kind: Kind, node: str) -> Iterator[Case]:
    marks: list[pytest.Mark] = list(getattr(function, "pytestmark", []))
    title, why, by_hand = described(inspect.getdoc(function) or "")
    modes: tuple[Mode, ...] = planning.arguments(marks, "modes") or MODES[kind]
    for identifier in planning.arguments(marks, "case"):
        yield Case(
            id=identifier,
            kind=kind,
            title=title,
            why=why,
            by_hand=by_hand,
            modes=modes,
            environments=tuple(here.name for here in ENVIRONMENTS if _tried(marks, modes, here)),
            requires=tuple(dict.fromkeys((*planning.arguments(marks, "requires"), *_implied(function, modes)))),
            tier=max(planning.arguments(marks, "tier"), default=1),
            node=node,
        )


def _tried(marks: Sequence[pytest.Mark], modes: Sequence[Mode], here: Environment) -> bool:
    return planning.makes_sense(marks, here) and any(planning.possible(mode, here) for mode in modes)


def _implied(function: Callable[..., Any], modes: Sequence[Mode]) -> Iterator[Fact]:
    if "terminal" in inspect.signature(function).parameters:
        yield Fact.PSEUDO_TERMINAL
    if "wrapper" in inspect.signature(function).parameters:
        yield Fact.BASH
    if tuple(modes) == (Mode.PID1,):
        yield Fact.PID_NAMESPACE
    if tuple(modes) == (Mode.DOCKER,):
        yield Fact.DOCKER_COMMAND


def described(documentation: str) -> tuple[str, str, str]:
    """Return title, reason and instructions of a test's docstring (``Why:``, ``By hand:``)."""
    title, _, rest = documentation.partition("\n")
    reason, _, by_hand = rest.partition("By hand:")
    return title.strip(), reason.strip().removeprefix("Why:").strip(), inspect.cleandoc(by_hand)


def find(cases: Sequence[Case], word: str) -> tuple[Case, ...]:
    """Return the cases that ``ID`` or ``KIND:ID`` names; UsageError where there is none."""
    found = tuple(case for case in cases if word in (case.id, f"{case.kind}:{case.id}"))
    if not found:
        near = difflib.get_close_matches(word.upper(), [case.id for case in cases], n=3)
        remedy = f"did you mean {', '.join(near)}?" if near else "nox -s cases lists them"
        raise UsageError(f"unknown case {word}", remedy=remedy)
    return found


def as_json(cases: Sequence[Case]) -> str:
    """Return the cases as one JSON document."""
    return json.dumps({"schema": 1, "cases": encode(tuple(cases))}, indent=1)


def as_table(cases: Sequence[Case]) -> str:
    """Return one line per case."""
    return "\n".join(f"{case.kind:5} {case.id:6} {'/'.join(case.modes):12} {case.title}" for case in cases)


def explained(case: Case) -> str:
    """Return everything about one case, for a terminal."""
    lines = [f"{case.kind} {case.id}: {case.title}", "", f"Why: {' '.join(case.why.split())}", "By hand:"]
    lines += [f"    {line}" for line in case.by_hand.splitlines()]
    needs = ", ".join(case.requires) or "nothing special"
    lines += [
        "",
        f"Modes: {', '.join(case.modes)}. Environments: {', '.join(case.environments)}. Needs: {needs}.",
        f"Test: {case.node}",
    ]
    return "\n".join(lines)
