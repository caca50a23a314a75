"""Who may do what with a runtime: the cases P of kind oci as one table (layer 2: pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from suites.catalog import Kind
from suites.framework.model import Role
from suites.framework.report import words
from suites.framework.report.grid import natural
from suites.framework.results.result import Result

PREFIX = "P"
"""Of the ids of the cases about privilege."""
MESSAGE = "message"
"""Name of the note that holds what a runtime said when it refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Privileges:
    """The table: a row is a case with its parameter and a target, a cell what became of it in an environment."""

    environments: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What should happen, and to each environment the tone, the word and the runtime's own words."""

    case: str
    title: str
    target: str
    cells: tuple[tuple[str, str, str], ...]


def privileges(results: Sequence[Result]) -> Privileges | None:
    """Return the table, or None where no such case ran."""
    found = [
        result
        for result in results
        if result.kind == Kind.OCI
        and result.cases
        and result.cases[0].startswith(PREFIX)
        and result.role in (Role.TARGET, Role.REFERENCE)
    ]
    environments = tuple(sorted({result.environment for result in found}))
    keys = sorted({_key(result) for result in found}, key=lambda key: (natural(key[0]), key[1:]))
    rows = tuple(_row(key, [result for result in found if _key(result) == key], environments) for key in keys)
    return Privileges(environments=environments, rows=rows) if rows else None


def _key(result: Result) -> tuple[str, str]:
    return f"{result.cases[0]} {result.parameter}".strip(), result.target


def _row(key: tuple[str, str], results: Sequence[Result], environments: Sequence[str]) -> Row:
    by_environment = {result.environment: result for result in results}
    cells = tuple(_cell(by_environment.get(environment)) for environment in environments)
    return Row(case=key[0], title=results[0].title, target=key[1], cells=cells)


def _cell(result: Result | None) -> tuple[str, str, str]:
    if result is None:
        return "", "not asked", ""
    said = dict(result.measured).get(MESSAGE, "")
    return words.verdict_tone(result), f"{words.symbol(result)} {words.WORDS[result.verdict]}", str(said)
