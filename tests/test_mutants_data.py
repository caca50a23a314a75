"""The lists of seeded faults fit what carries them: each applies in exactly one place and gives a program."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from suites.framework.cases import load

FIXTURES = Path(__file__).parent.parent / "fixtures"
CARRIERS = {
    "init": "inits/reference_init.py",
    "oci": "runtimes/proxy.py",
    "buildscripts": "wrappers/reference.sh",
    "pod": "runtimes/proxy.py",
}
"""The program that carries the faults of a kind."""
CHAPTERS = {
    "init": {"SG", "TM", "EX", "RP", "TT", "FD"},
    "oci": set("ABCDEFGHIJKLP"),
    "buildscripts": {"W"},
    "pod": set("ABCDEFG"),
}
CASES = {f"{case.kind}:{case.id}" for case in load(FIXTURES.parent)}
REQUIRED = {"id": str, "bug": str, "find": str, "replace": str, "killed_by": list}
OPTIONAL = {"mode": str, "source": str, "file": str, "base": str, "privilege": str}


def listed(kind: str) -> list[dict[str, Any]]:
    found = tomllib.loads((FIXTURES / f"mutants/{kind}.toml").read_text(encoding="utf-8"))["mutant"]
    return [{**mutant, "kind": kind} for mutant in found]


MUTANTS = [mutant for kind in CARRIERS for mutant in listed(kind)]
each = pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{mutant['kind']}-{mutant['id']}" for mutant in MUTANTS])
each_kind = pytest.mark.parametrize("kind", CARRIERS)


def original(mutant: dict[str, Any]) -> str:
    program = FIXTURES / CARRIERS[mutant["kind"]]
    return (program.parent / str(mutant.get("file", program.name))).read_text(encoding="utf-8")


def applied(mutant: dict[str, Any]) -> str:
    return original(mutant).replace(mutant["find"], mutant["replace"])


@each_kind
def test_there_are_enough_and_each_has_its_own_name_and_effect(kind: str) -> None:
    mutants = listed(kind)
    assert len(mutants) >= {"init": 18, "oci": 40, "buildscripts": 20, "pod": 20}[kind]
    assert [] == [name for name, count in Counter(mutant["id"] for mutant in mutants).items() if count > 1]
    assert len(mutants) == len({(mutant.get("base"), applied(mutant)) for mutant in mutants})


@each_kind
def test_every_chapter_is_tried(kind: str) -> None:
    named = {case.rstrip("0123456789").rstrip("-") for mutant in listed(kind) for case in mutant["killed_by"]}
    assert CHAPTERS[kind] <= named


@each
def test_entry_has_its_keys_and_no_other(mutant: dict[str, Any]) -> None:
    assert set(REQUIRED) <= set(mutant) - {"kind"} <= set(REQUIRED) | set(OPTIONAL)
    assert all(isinstance(mutant[key], kind) for key, kind in (REQUIRED | OPTIONAL).items() if key in mutant)
    assert mutant.get("mode", "plain") in ("plain", "pid1")
    assert "base" not in mutant or (FIXTURES / f"targets/{mutant['base']}.toml").is_file()
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", mutant["id"])


@each
def test_fault_has_exactly_one_place(mutant: dict[str, Any]) -> None:
    assert 1 == original(mutant).count(mutant["find"])
    assert applied(mutant) != original(mutant)


@each
def test_faulty_copy_is_a_program(mutant: dict[str, Any]) -> None:
    text = applied(mutant)
    if text.startswith("#!/bin/bash"):
        assert b"" == subprocess.run(["bash", "-n"], input=text.encode(), capture_output=True, check=False).stderr
    else:
        compile(text, mutant["id"], "exec")


@each
def test_named_cases_exist_and_are_named_once(mutant: dict[str, Any]) -> None:
    assert mutant["killed_by"]
    assert {f"{mutant['kind']}:{case}" for case in mutant["killed_by"]} <= CASES
    assert len(mutant["killed_by"]) == len(set(mutant["killed_by"]))
