"""Persisted types to JSON and back: the journey changes nothing, and a wrong shape says where it is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from suites.framework.codec import DecodeError, decode, encode
from suites.framework.errors import PRECEDENCE, CannotRunError, ExitCode, InfrastructureError, SeatrialError, UsageError
from suites.framework.model import Context
from tests.contexts import context


class Colour(StrEnum):
    """An enum."""

    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A dataclass inside another one."""

    number: int
    share: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Everything that a persisted type may hold."""

    name: str
    colour: Colour = Colour.RED
    leaves: tuple[Leaf, ...] = ()
    pair: tuple[int, str] = (1, "a")
    table: dict[str, Leaf] = field(default_factory=dict)
    maybe: Leaf | None = None
    either: int | str = 0
    anything: Any = None


def test_a_context_survives_its_journey(tmp_path: Path) -> None:
    """What a worker reads is equal to what the launcher wrote."""
    made = context(tmp_path)
    assert made == decode(Context, json.loads(json.dumps(encode(made))))


def test_every_shape_survives_its_journey() -> None:
    """Enums, tuples, tables, optionals and what is any value."""
    leaf = Leaf(number=1)
    tree = Tree(
        name="t", colour=Colour.BLUE, leaves=(leaf,), table={"x": leaf}, maybe=leaf, either="word", anything={"a": [1]}
    )
    assert tree == decode(Tree, json.loads(json.dumps(encode(tree))))


def test_a_newer_writer_may_say_more_and_an_older_one_less() -> None:
    """Unknown keys are passed over, missing ones have their default; a whole number is a number."""
    assert Tree(name="t") == decode(Tree, {"name": "t", "since": "tomorrow"})
    assert Leaf(number=1, share=2.0) == decode(Leaf, {"number": 1, "share": 2})


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({}, "Tree: name missing"),
        ([], "Tree: expected a table, got list"),
        ({"name": 7}, "Tree.name: expected str, got 7"),
        ({"name": "t", "colour": "green"}, "Tree.colour: 'green' is not one of red, blue"),
        ({"name": "t", "leaves": "x"}, "Tree.leaves: expected a list, got str"),
        ({"name": "t", "leaves": [{"number": 1}, {"number": True}]}, "Tree.leaves[1].number: expected int, got True"),
        ({"name": "t", "pair": [1]}, "Tree.pair: expected 2 items, got 1"),
        ({"name": "t", "pair": [1, 2]}, "Tree.pair[1]: expected str, got 2"),
        ({"name": "t", "table": []}, "Tree.table: expected a table, got list"),
        ({"name": "t", "table": {"x": {}}}, "Tree.table.x: number missing"),
        ({"name": "t", "maybe": 3}, "Tree.maybe: expected a table, got int"),
        ({"name": "t", "either": None}, "Tree.either: expected str, got None"),
    ],
)
def test_a_wrong_shape_says_where(value: Any, complaint: str) -> None:
    """The path to the value, what was expected, and what was found."""
    with pytest.raises(DecodeError) as caught:
        decode(Tree, value)
    assert complaint == str(caught.value)


@pytest.mark.parametrize(
    ("kind", "code"), [(UsageError, 64), (InfrastructureError, 3), (CannotRunError, 77), (SeatrialError, 3)]
)
def test_an_error_is_what_why_and_remedy(kind: type[SeatrialError], code: int) -> None:
    """One sentence of three parts, of which two may be missing, and a code of the table."""
    assert ("a: b; c", "a; c", "a") == (str(kind("a", why="b", remedy="c")), str(kind("a", remedy="c")), str(kind("a")))
    assert code == kind.exit_code


def test_every_code_has_its_rank() -> None:
    """Interrupted is first, green is last, and none is left out."""
    assert (ExitCode.INTERRUPTED, ExitCode.GREEN) == (PRECEDENCE[0], PRECEDENCE[-1])
    assert set(ExitCode) == set(PRECEDENCE)
