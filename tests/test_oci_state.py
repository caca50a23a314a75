"""Tests of what is made of a runtime's `state`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from suites.framework.observation import Unmet
from suites.framework.oci import state

GOOD: dict[str, Any] = {
    "ociVersion": "1.0.2-dev",
    "id": "ours",
    "status": "running",
    "pid": 4422,
    "bundle": "/containers/ours",
    "annotations": {"org.example.key": "a value"},
}


def _faults(**changes: Any) -> list[str]:
    """Return the faults of the good state with these fields changed, left out where they are Ellipsis."""
    changed = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    return state.faults(changed, identifier="ours", bundle="/containers/ours")


def test_state_of_the_specification_has_no_fault() -> None:
    """The example of runtime.md is accepted, and unknown fields beside it."""
    assert _faults() == []
    assert _faults(rootfs="/x", created="2026-01-01T00:00:00Z", owner="root") == []


@pytest.mark.parametrize("key", ["ociVersion", "id", "status", "bundle"])
def test_required_field_that_is_absent_is_named(key: str) -> None:
    """Each required field is missed, and nothing else is said."""
    assert _faults(**{key: ...}) == [f"no {key}"]


@pytest.mark.parametrize("key", ["ociVersion", "id", "status", "bundle"])
@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "null"), (True, "a boolean"), (1, "a number"), (1.5, "a number"), ([], "an array"), ({}, "an object")],
)
def test_required_field_of_another_type_is_named(key: str, value: Any, words: str) -> None:
    """Each required field must be a string."""
    assert f"{key} is {words}" in _faults(**{key: value})


@pytest.mark.parametrize("version", ["1.0", "", "v1.0.2", "1.0.2 ", "one.two.three"])
def test_version_must_be_semantic(version: str) -> None:
    """Three numbers are asked for (runtime.md, "ociVersion": SemVer)."""
    assert _faults(ociVersion=version) == ["ociVersion is no version"]


def test_state_of_another_container_is_noticed() -> None:
    """Another id or another bundle is one clear fault each."""
    assert _faults(id="theirs") == ["the id of another container"]
    assert _faults(bundle="/containers/theirs") == ["another bundle"]
    assert _faults(bundle="ours") == ["the bundle's path is not absolute"]


@pytest.mark.parametrize("status", ["creating", "created", "running", "stopped"])
def test_statuses_of_the_schema_are_known(status: str) -> None:
    """The four of the schema are accepted."""
    assert _faults(status=status) == []


@pytest.mark.parametrize("status", ["Running", "paused", ""])
def test_other_statuses_are_unknown(status: str) -> None:
    """Any other is a fault, another spelling too."""
    assert _faults(status=status) == ["an unknown status"]


@pytest.mark.parametrize("status", ["created", "running"])
def test_pid_is_required_while_there_is_a_process(status: str) -> None:
    """Created and running containers have a pid above 0."""
    assert _faults(status=status, pid=...) == ["no pid"]
    assert _faults(status=status, pid=0) == ["pid is 0"]


@pytest.mark.parametrize("status", ["creating", "stopped"])
def test_pid_may_be_absent_without_a_process(status: str) -> None:
    """Others need none, and may say 0."""
    assert _faults(status=status, pid=...) == []
    assert _faults(status=status, pid=0) == []


@pytest.mark.parametrize(
    ("pid", "words"),
    [
        (-1, "pid is negative"),
        ("4422", "pid is a string"),
        (None, "pid is null"),
        (True, "pid is a boolean"),
        (4422.0, "pid is no integer"),
    ],
)
@pytest.mark.parametrize("status", ["running", "stopped"])
def test_pid_must_be_an_integer(pid: Any, words: str, status: str) -> None:
    """Whatever the status: an integer, not below 0."""
    assert _faults(status=status, pid=pid) == [words]


def test_annotations_are_a_table_of_strings_or_absent() -> None:
    """Absent and empty are accepted; null, lists and other values are not."""
    assert _faults(annotations=...) == _faults(annotations={}) == []
    assert _faults(annotations=None) == ["annotations is null"]
    assert _faults(annotations=[]) == ["annotations is an array"]
    assert _faults(annotations={"key": 1}) == ["annotations holds other than strings"]


def test_every_fault_is_told() -> None:
    """Several faults do not hide one another."""
    assert _faults(id=..., status="Running", bundle=1) == ["no id", "bundle is a number", "an unknown status"]


def test_one_object_is_read() -> None:
    """One JSON object is returned, with space around it."""
    assert state.parsed(b' {"id": "ours"}\n') == {"id": "ours"}


@pytest.mark.parametrize(
    "text",
    [b"{", b'{"id": 1} {}', b"level=warning\n{}", b"\xff\xfe\x00", b"\x00" * 9, b"[" * 100_000],
    ids=["truncated", "two", "noise-before", "not-utf-8", "zeroes", "deep"],
)
def test_no_document_is_one_failure(text: bytes) -> None:
    """What is no JSON document, or more than one, is a failed expectation with the same words always."""
    with pytest.raises(Unmet) as caught:
        state.parsed(text)
    assert caught.value.actual == "it printed something else"


@pytest.mark.parametrize(
    ("text", "words"),
    [("null", "null"), ("[]", "an array"), ('"x"', "a string"), ("1", "a number"), ("true", "a boolean")],
)
def test_document_that_is_no_object_is_named(text: str, words: str) -> None:
    """What is JSON and no object is a failed expectation that says what it is."""
    with pytest.raises(Unmet) as caught:
        state.parsed(text.encode())
    assert caught.value.actual == f"it printed {words}"


@pytest.mark.parametrize("text", [b"", b" \n"])
def test_silence_is_named(text: bytes) -> None:
    """A `state` that prints nothing is told from one that prints noise."""
    with pytest.raises(Unmet) as caught:
        state.parsed(text)
    assert caught.value.actual == "it printed nothing"


def test_pid_is_returned() -> None:
    """A number of a process is returned as it stands."""
    assert state.pid(json.loads('{"pid": 4422}')) == 4422


@pytest.mark.parametrize("value", [0, -1, "4422", None, True, [4422], {}, 1.5, 1e400, float("nan"), 2**80])
def test_pid_that_is_no_process_is_one_failure(value: Any) -> None:
    """Anything that cannot be the number of a process is a failed expectation, never a traceback."""
    with pytest.raises(Unmet):
        state.pid({"pid": value})


def test_absent_pid_is_one_failure() -> None:
    """No pid at all reads the same."""
    with pytest.raises(Unmet):
        state.pid({})
