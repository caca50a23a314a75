"""What a runtime's `state` prints, read and held against the published schema (layer 1: pure).

The schema is runtime-spec's schema/state-schema.json; what it leaves open is said by runtime.md, "State".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from suites.framework.observation import Unmet

STATUSES = ("creating", "created", "running", "stopped")
WITH_A_PROCESS = ("created", "running")
"""In which ``pid`` must stand (runtime.md, "State")."""
LARGEST_PID = 1 << 22
"""PID_MAX_LIMIT (proc_sys_kernel(5), pid_max)."""
_VERSION = re.compile(r"\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?")
"""Semantic versioning 2.0.0."""
_NAMES = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}


def parsed(text: bytes) -> dict[str, Any]:
    """Return the JSON object that `text` is; Unmet where it is anything else, or more than one document."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        what = "something else" if text.strip() else "nothing"
        raise Unmet("state prints one JSON document", f"it printed {what}") from None
    if not isinstance(found, dict):
        raise Unmet("state prints a JSON object", f"it printed {kind(found)}")
    return found


def pid(state: Mapping[str, Any]) -> int:
    """Return the number that a state has for the container's process; Unmet where there is none."""
    found = state.get("pid")
    if type(found) is not int or not 0 < found <= LARGEST_PID:
        raise Unmet("state tells the pid of the container's process", "its pid is no number of a process")
    return found


def kind(value: object) -> str:
    """Return what a JSON value is, in JSON's words."""
    return _NAMES.get(type(value), "an object")


def faults(state: Mapping[str, Any], *, identifier: str, bundle: str) -> list[str]:
    """Return what is wrong with the state of container `identifier`, made from `bundle`: stable words, no values."""
    text = [_text(state, key) for key in ("ociVersion", "id", "status", "bundle")]
    found = [*text, _version(state), _owner(state, identifier), _status(state), _bundle(state, bundle)]
    return [fault for fault in (*found, _process(state), _annotations(state)) if fault]


def _text(state: Mapping[str, Any], key: str) -> str:
    if key not in state:
        return f"no {key}"
    return "" if isinstance(state[key], str) else f"{key} is {kind(state[key])}"


def _version(state: Mapping[str, Any]) -> str:
    version = state.get("ociVersion")
    return "ociVersion is no version" if isinstance(version, str) and not _VERSION.fullmatch(version) else ""


def _owner(state: Mapping[str, Any], identifier: str) -> str:
    found = state.get("id")
    return "the id of another container" if isinstance(found, str) and found != identifier else ""


def _status(state: Mapping[str, Any]) -> str:
    status = state.get("status")
    return "an unknown status" if isinstance(status, str) and status not in STATUSES else ""


def _bundle(state: Mapping[str, Any], bundle: str) -> str:
    found = state.get("bundle")
    if not isinstance(found, str) or found == bundle:
        return ""
    return "another bundle" if found.startswith("/") else "the bundle's path is not absolute"


def _process(state: Mapping[str, Any]) -> str:
    needed = state.get("status") in WITH_A_PROCESS
    if "pid" not in state:
        return "no pid" if needed else ""
    value = state["pid"]
    if type(value) is not int:
        return f"pid is {kind(value)}" if type(value) is not float else "pid is no integer"
    if value < 0:
        return "pid is negative"
    return "pid is 0" if needed and value == 0 else ""


def _annotations(state: Mapping[str, Any]) -> str:
    if "annotations" not in state:
        return ""
    value = state["annotations"]
    if not isinstance(value, dict):
        return f"annotations is {kind(value)}"
    return "" if all(isinstance(text, str) for text in value.values()) else "annotations holds other than strings"
