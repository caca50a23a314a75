"""Frozen dataclasses to JSON values and back (layer 0: standard library only).

Every persisted type of the project is a dataclass of scalars, enums, optionals, tuples, string-keyed
dictionaries and other such dataclasses; this module is the one place that knows how they look as JSON.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union

T = TypeVar("T")


class DecodeError(ValueError):
    """A JSON value does not have the shape of the type that was asked for; says where and what."""


def encode(value: Any) -> Any:
    """Return the JSON value for a dataclass, enum, tuple, mapping or scalar."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list, frozenset)):
        return [encode(item) for item in value]
    return value


def decode(wanted: type[T], value: Any, *, at: str = "") -> T:
    """Return ``value`` as ``wanted``.

    Unknown keys are ignored (a newer writer), missing ones without a default raise DecodeError.
    """
    return typing.cast("T", _decode(wanted, value, at or getattr(wanted, "__name__", "value")))


@cache
def _fields(wanted: type) -> dict[str, tuple[Any, bool]]:
    hints = typing.get_type_hints(wanted)
    return {
        field.name: (
            hints[field.name],
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(wanted)
    }


def _decode(wanted: Any, value: Any, at: str) -> Any:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return value
    if origin in (Union, types.UnionType):
        return _optional(arguments, value, at)
    if origin is tuple:
        return _tuple(arguments, value, at)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise DecodeError(f"{at}: expected a table, got {type(value).__name__}")
        return {
            _decode(arguments[0], key, at): _decode(arguments[1], item, f"{at}.{key}") for key, item in value.items()
        }
    if dataclasses.is_dataclass(wanted):
        return _dataclass(typing.cast("type", wanted), value, at)
    return _scalar(wanted, value, at)


def _optional(arguments: tuple[Any, ...], value: Any, at: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    choices = [argument for argument in arguments if argument is not type(None)]
    for choice in choices[:-1]:
        try:
            return _decode(choice, value, at)
        except DecodeError:
            continue
    return _decode(choices[-1], value, at)


def _tuple(arguments: tuple[Any, ...], value: Any, at: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise DecodeError(f"{at}: expected a list, got {type(value).__name__}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_decode(arguments[0], item, f"{at}[{index}]") for index, item in enumerate(value))
    if len(arguments) != len(value):
        raise DecodeError(f"{at}: expected {len(arguments)} items, got {len(value)}")
    return tuple(
        _decode(kind, item, f"{at}[{index}]") for index, (kind, item) in enumerate(zip(arguments, value, strict=True))
    )


def _dataclass(wanted: type, value: Any, at: str) -> Any:
    if not isinstance(value, dict):
        raise DecodeError(f"{at}: expected a table, got {type(value).__name__}")
    known = _fields(wanted)
    if absent := [name for name, (_, needed) in known.items() if needed and name not in value]:
        raise DecodeError(f"{at}: {', '.join(absent)} missing")
    return wanted(
        **{name: _decode(known[name][0], item, f"{at}.{name}") for name, item in value.items() if name in known}
    )


def _scalar(wanted: Any, value: Any, at: str) -> Any:
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        try:
            return wanted(value)
        except ValueError as error:
            known = ", ".join(str(member.value) for member in wanted)
            raise DecodeError(f"{at}: {value!r} is not one of {known}") from error
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(wanted, type) and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
        raise DecodeError(f"{at}: expected {wanted.__name__}, got {value!r}")
    return value
