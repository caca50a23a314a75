"""A target's TOML file as a typed `Profile` (layer 1: standard library only; knows no path but the one it is given)."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
import typing
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, Union

from suites.catalog import ENVIRONMENTS, Mode
from suites.framework.calls import PODS, BuildscriptsCall, Call, InitCall, PodCall, Variant
from suites.framework.codec import DecodeError, decode, encode
from suites.framework.errors import UsageError
from suites.framework.facts import Fact
from suites.framework.model import SCHEMA, Deviation, Profile

EVERY = "*"
"""In a control's list: every case."""
BINARY = "{binary}"
"""Word of `command` that stands for the staged binary."""
BARE = "-"
"""In a deviation's scope: the target without a variant."""

_DELIVERIES = ("child", "group")
_ANSWERS_TO_TSTP = ("forwarded", "stopped", "ignored")
_STANDING_FOR = {
    "graceful": ("seconds",),
    "rewrite": ("from", "to"),
    "remap": ("code",),
    "ports": ("ports",),
    "listen_fds": ("ports",),
    "reload": ("debounce_ms", "delay_ms"),
    "watch": ("path",),
}
"""Options of an init that take a value: what must stand in their words, in braces."""
_STANDING_FOR_OF_A_WRAPPER = {
    "jobs": ("jobs",),
    "timeout": ("seconds",),
    "silence": ("seconds",),
    "log_cap": ("bytes",),
    "memory": ("kib",),
    "processes": ("processes",),
    "disk": ("kib",),
    "ram": ("kib",),
    "tool": ("tool",),
}
"""The same of a wrapper of build scripts."""
_DEATHS = ("128+n", "-n", "n")
SCOPES = ("environment", "mode", "parameter", "version", "variant", "test")
"""Keys of a deviation that say where it holds; empty = everywhere."""
_FROM_THE_FILE = frozenset({"name"})


def load(path: Path) -> Profile:
    """Return the profile in the TOML file ``path``, named after the file; anything wrong with it raises UsageError."""
    table = _parse(path)
    try:
        _check_schema(table)
        profile = _decode(table)
        if wrong := next(_contradictions(profile), None):
            raise DecodeError(wrong)
    except DecodeError as error:
        raise UsageError(f"profile {path}", why=_readable(str(error)), remedy="correct the file") from None
    return dataclasses.replace(profile, name=path.stem)


def overlay(call: Call, variant: Variant) -> Call:
    """Return ``call`` with the fields that ``variant`` names laid over it; a field no kind has raises DecodeError."""
    merged = encode(call)
    for kind, table in variant.call.items():
        merged[kind] = {**merged.get(kind, {}), **table}
    return decode(Call, _renamed(Call, _dashed(merged), "call"), at="call")


def check_cases(profile: Profile, known: Collection[str]) -> None:
    """Raise UsageError when a deviation or a control's list names a case that is not in ``known``."""
    for where, case in _cases(profile):
        if case != EVERY and case.rpartition(":")[2] not in known and case not in known:
            raise UsageError(
                f"profile {profile.name or '(unnamed)'}",
                why=f"{where}: unknown case {case!r}{suggestion(case, known)}",
                remedy="`python -m suites.framework cases` lists the known ones",
            )


def suggestion(word: str, known: Collection[str]) -> str:
    """Return ``, did you mean ...?`` with the closest of ``known``, or nothing when none is close."""
    close = get_close_matches(word, sorted(known), n=3, cutoff=0.5)
    return f", did you mean {' or '.join(close)}?" if close else ""


def _cases(profile: Profile) -> Iterator[tuple[str, str]]:
    for index, deviation in enumerate(profile.deviation):
        yield from ((f"deviation[{index}].case", case) for case in deviation.case)
    if profile.control is not None:
        for mode in Mode:
            for case in getattr(profile.control, mode):
                yield f"control.{mode}", case


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"profile {path} cannot be read", why=why, remedy="give the path of a readable file") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"profile {path} is not UTF-8", why=f"byte {error.start}: {error.reason}") from None
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f", line {line[1]}" if line else ""
        raise UsageError(f"profile {path}{where}", why=f"not TOML: {error}", remedy="correct the file") from None


def _check_schema(table: dict[str, Any]) -> None:
    schema = table.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise DecodeError(f"schema: {schema} is newer than {SCHEMA}, the newest that this Seatrial reads")
    if schema != SCHEMA or isinstance(schema, bool):
        raise DecodeError(f"schema: expected {SCHEMA}, got {schema!r}")


def _decode(table: dict[str, Any]) -> Profile:
    profile = decode(Profile, _renamed(Profile, table, ""))
    for name, variant in profile.variant.items():
        try:
            overlay(profile.call, variant)
        except DecodeError as error:
            raise DecodeError(f"variant.{name}.{error}") from None
    return profile


def _renamed(wanted: Any, value: Any, at: str) -> Any:
    """Return ``value`` with its keys called as the fields of the dataclasses in ``wanted``; raise on any other key."""
    arguments = typing.get_args(wanted)
    if dataclasses.is_dataclass(wanted) and isinstance(value, dict):
        return _table(typing.cast("type", wanted), value, at)
    if isinstance(value, list) and arguments:
        return [_renamed(arguments[0], item, f"{at}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict) and typing.get_origin(wanted) is dict:
        return {key: _renamed(arguments[1], item, f"{at}.{key}") for key, item in value.items()}
    if typing.get_origin(wanted) in (Union, types.UnionType):
        return _renamed(arguments[0], value, at)
    return value


def _table(wanted: type, value: dict[str, Any], at: str) -> dict[str, Any]:
    hints = typing.get_type_hints(wanted)
    hidden = _FROM_THE_FILE if wanted is Profile else frozenset()
    fields = {name.replace("_", "-"): name for name in hints if name not in hidden}
    if unknown := [key for key in value if key not in fields]:
        key = f"{at}.{unknown[0]}".lstrip(".")
        raise DecodeError(f"{key}: unknown key{suggestion(unknown[0], fields)}; allowed are {', '.join(fields)}")
    if wanted is Deviation:
        value = {key: _listed(key, item) for key, item in value.items()}
    return {fields[key]: _renamed(hints[fields[key]], item, f"{at}.{key}".lstrip(".")) for key, item in value.items()}


def _listed(key: str, item: Any) -> Any:
    """Return the cases and scopes of a deviation as lists, of which one may stand alone."""
    return [item] if key in ("case", *SCOPES) and isinstance(item, str) else item


def _dashed(value: Any) -> Any:
    return {key.replace("_", "-"): _dashed(item) for key, item in value.items()} if isinstance(value, dict) else value


def _readable(message: str) -> str:
    key, separator, rest = message.removeprefix("Profile.").partition(": ")
    return f"{key.replace('_', '-')}{separator}{rest}"


def _contradictions(profile: Profile) -> Iterator[str]:
    yield from _program_contradictions(profile)
    yield from _role_contradictions(profile)
    for at, call in _calls(profile):
        yield from _call_contradictions(call, at)
    for index, deviation in enumerate(profile.deviation):
        yield from _deviation_contradictions(deviation, f"deviation[{index}]", profile)
    scopes = Counter(scope for deviation in profile.deviation for scope in _scopes(deviation))
    if twice := [scope[0] for scope, count in scopes.items() if count > 1]:
        yield f"deviation: two entries for {twice[0]} have the same scope; a deviation is one observation"


def _program_contradictions(profile: Profile) -> Iterator[str]:
    if profile.command and bool(profile.binary) != (BINARY in profile.command):
        yield f"command: contradicts binary; {BINARY} stands for it, and is there exactly when there is one"
    if profile.binary.startswith("/") or ".." in PurePosixPath(profile.binary).parts:
        yield f"binary: {profile.binary!r} is not a file name; give a path with --target NAME=PATH"


def _role_contradictions(profile: Profile) -> Iterator[str]:
    if not profile.kinds:
        yield "kinds: empty; name at least one"
    if strange := set(profile.reference_for) - set(profile.kinds):
        yield f"reference-for: {', '.join(sorted(strange))} is not among its kinds"
    if profile.control is not None and profile.reference_for:
        yield "control: contradicts reference-for; what must fail is no reference"


def _calls(profile: Profile) -> Iterator[tuple[str, Call]]:
    yield "call", profile.call
    for name, variant in profile.variant.items():
        yield f"variant.{name}.call", overlay(profile.call, variant)


def _call_contradictions(call: Call, at: str) -> Iterator[str]:
    if call.init.delivery not in _DELIVERIES:
        yield f"{at}.init.delivery: {call.init.delivery!r} is not one of {', '.join(_DELIVERIES)}"
    if not 1 <= call.init.fence <= 64:
        yield f"{at}.init.fence: {call.init.fence} is no signal; allowed are 1 to 64"
    yield from _valueless(call.init, _STANDING_FOR, f"{at}.init")
    if call.init.watch and not call.init.reload:
        yield f"{at}.init.watch: contradicts an empty reload; nothing is watched without it"
    if call.init.tstp not in _ANSWERS_TO_TSTP:
        yield f"{at}.init.tstp: {call.init.tstp!r} is not one of {', '.join(_ANSWERS_TO_TSTP)}"
    if not 1 <= call.init.usage <= 255:
        yield f"{at}.init.usage: {call.init.usage} is no exit code of an error; allowed are 1 to 255"
    yield from _wrapper_contradictions(call.buildscripts, f"{at}.buildscripts")
    yield from _pod_contradictions(call.pod, f"{at}.pod")
    if call.init.subreaper and not call.init.adopts:
        yield f"{at}.init.adopts: false contradicts subreaper, the options that make it adopt"


def _valueless(call: InitCall | BuildscriptsCall, values: Mapping[str, Sequence[str]], at: str) -> Iterator[str]:
    """Yield the options that are offered without a word for one of their values."""
    for option, names in values.items():
        words = " ".join(getattr(call, option))
        if lacking := [name for name in names if words and f"{{{name}}}" not in words]:
            yield f"{at}.{option.replace('_', '-')}: no word has {{{lacking[0]}}}, which stands for its value"


def _wrapper_contradictions(call: BuildscriptsCall, at: str) -> Iterator[str]:
    yield from _valueless(call, _STANDING_FOR_OF_A_WRAPPER, at)
    try:
        re.compile(call.race)
    except re.error as error:
        yield f"{at}.race: {call.race!r} is no regular expression: {error}"
    if call.signals not in _DEATHS:
        yield f"{at}.signals: {call.signals!r} is not one of {', '.join(_DEATHS)}"
    for option in ("script", "stamp", "log"):
        template = getattr(call, option)
        if template and "{step}" not in template:
            yield f"{at}.{option}: {template!r} has no {{step}}, so that it would be the same for all"


def _pod_contradictions(call: PodCall, at: str) -> Iterator[str]:
    if call.runtime_type and not re.fullmatch(r"[^./]+(\.[^./]+){2,}", call.runtime_type):
        yield f"{at}.runtime-type: {call.runtime_type!r} is not of the form io.containerd.NAME.VERSION"
    for word in call.environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", word, re.DOTALL):
            yield f"{at}.environment: {word!r} is not NAME=VALUE"
    if strange := set(call.lacks) - set(PODS):
        yield f"{at}.lacks: {sorted(strange)[0]!r} is not one of {', '.join(PODS)}"
    for word in call.needs:
        what, _, fact = word.partition("=")
        if what not in PODS or fact not in tuple(Fact):
            yield f"{at}.needs: {word!r} is not WORD=FACT, a word of {', '.join(PODS)} and a fact of doctor's"
    if call.state and "{id}" not in call.state:
        yield f"{at}.state: {call.state!r} has no {{id}}, so that it would be the same for all"


def _deviation_contradictions(deviation: Deviation, at: str, profile: Profile) -> Iterator[str]:
    for key in ("case", "observed", "reason"):
        if not "".join(getattr(deviation, key)).strip():
            yield f"{at}.{key}: empty; a deviation needs case, observed and reason"
    allowed: dict[str, Collection[str]] = {
        "environment": [environment.name for environment in ENVIRONMENTS],
        "mode": [str(mode) for mode in Mode],
        "variant": [BARE, *profile.variant],
    }
    for key, known in allowed.items():
        if strange := [value for value in getattr(deviation, key) if value not in known]:
            yield f"{at}.{key}: {strange[0]!r} is not one of {', '.join(known)}"


def _scopes(deviation: Deviation) -> Iterator[tuple[Any, ...]]:
    return ((case, *(frozenset(getattr(deviation, key)) for key in SCOPES)) for case in deviation.case)
