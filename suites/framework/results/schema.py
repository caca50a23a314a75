"""JSON schemas of the persisted types, generated from the dataclasses themselves (layer 2).

``python -m suites.framework.results.schema`` writes them to ``schemas/``; a test fails when they differ.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Union

from suites.framework.manifest import Manifest
from suites.framework.model import EVENTS, METRICS
from suites.framework.results.rundir import Conclusion, FactSheet, RunRecord
from suites.framework.results.verdict import Summary

FOLDER = Path(__file__).parent / "schemas"
_SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}


def documents() -> dict[str, dict[str, Any]]:
    """Return every published schema by file name."""
    return {
        "events.json": _lines("One line of a Seatrial event file", "event", EVENTS, seq={"type": "integer"}),
        "facts.json": _document("Seatrial facts.json", FactSheet),
        "manifest.json": _document("Seatrial manifest of artefacts", Manifest),
        "metrics.json": _lines("One line of a Seatrial metrics file", "metric", METRICS),
        "run.json": _document("Seatrial run.json", RunRecord),
        "session.json": _document("Seatrial session.json", Conclusion),
        "verdict.json": _document("Seatrial verdict.json", Summary),
    }


def text(document: dict[str, Any]) -> str:
    """Return a schema as it stands in its file."""
    return json.dumps(document, indent=2) + "\n"


def _document(title: str, wanted: type) -> dict[str, Any]:
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **_of(wanted)}


def _lines(title: str, key: str, kinds: Mapping[str, type], **every: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a file of lines: `key` says which type a line is, and every line has `t`."""
    branches = []
    for name, kind in kinds.items():
        branch = _of(kind)
        common = {key: {"const": name}, **every, "t": {"type": "number"}}
        branch["properties"] = common | branch["properties"]
        branch["required"] = list(dict.fromkeys((*common, *branch["required"])))
        branches.append(branch)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, "oneOf": branches}


def _of(wanted: Any) -> dict[str, Any]:
    """Return the schema of a type as suites.framework.codec reads and writes it."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return {}
    if dataclasses.is_dataclass(wanted):
        return _object(typing.cast("type", wanted))
    if origin is tuple:
        return _array(arguments)
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1])}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_of(argument) for argument in arguments]}
    if wanted is type(None):
        return {"type": "null"}
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return {"enum": [member.value for member in wanted]}
    return {"type": _SCALARS[wanted]}


def _object(wanted: type) -> dict[str, Any]:
    hints = typing.get_type_hints(wanted)
    fields = dataclasses.fields(wanted)
    needed = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    return {
        "type": "object",
        "properties": {field.name: _of(hints[field.name]) for field in fields},
        "required": needed,
    }


def _array(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": _of(arguments[0])}
    items = [_of(argument) for argument in arguments]
    return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}


if __name__ == "__main__":
    for file, document in documents().items():
        (FOLDER / file).write_text(text(document), encoding="utf-8")
