"""The list of seeded faults fits the reference init: each applies in exactly one place and gives a program."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from suites.framework.cases import load

FIXTURES = Path(__file__).parent.parent / "fixtures"
DATA = tomllib.loads((FIXTURES / "mutants/init.toml").read_text(encoding="utf-8"))
MUTANTS: list[dict[str, Any]] = DATA["mutant"]
CASES = {case.id for case in load(FIXTURES.parent)}
REQUIRED = {"id": str, "bug": str, "find": str, "replace": str, "killed_by": list}
OPTIONAL = {"mode": str, "source": str, "file": str}

each = pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant["id"] for mutant in MUTANTS])


def original(mutant: dict[str, Any]) -> str:
    return Path(FIXTURES / "inits" / mutant.get("file", "reference_init.py")).read_text(encoding="utf-8")


def applied(mutant: dict[str, Any]) -> str:
    return original(mutant).replace(mutant["find"], mutant["replace"])


def test_there_are_enough_and_each_has_its_own_name_and_effect() -> None:
    assert len(MUTANTS) >= 18
    assert [] == [name for name, count in Counter(mutant["id"] for mutant in MUTANTS).items() if count > 1]
    assert len(MUTANTS) == len({applied(mutant) for mutant in MUTANTS})


def test_every_chapter_is_tried() -> None:
    named = {case.partition("-")[0] for mutant in MUTANTS for case in mutant["killed_by"]}
    assert {"SG", "TM", "EX", "RP", "TT", "FD"} <= named


@each
def test_entry_has_its_keys_and_no_other(mutant: dict[str, Any]) -> None:
    assert set(REQUIRED) <= set(mutant) <= set(REQUIRED) | set(OPTIONAL)
    assert all(isinstance(mutant[key], kind) for key, kind in (REQUIRED | OPTIONAL).items() if key in mutant)
    assert mutant.get("mode", "plain") in ("plain", "pid1")
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", mutant["id"])


@each
def test_fault_has_exactly_one_place(mutant: dict[str, Any]) -> None:
    assert 1 == original(mutant).count(mutant["find"])
    assert applied(mutant) != original(mutant)


@each
def test_faulty_copy_is_a_program(mutant: dict[str, Any]) -> None:
    compile(applied(mutant), mutant["id"], "exec")


@each
def test_named_cases_exist_and_are_named_once(mutant: dict[str, Any]) -> None:
    assert mutant["killed_by"]
    assert set(mutant["killed_by"]) <= CASES
    assert len(mutant["killed_by"]) == len(set(mutant["killed_by"]))
