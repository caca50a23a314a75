"""The event log: what is written can be read back, whatever is in it and however the writer ended."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from suites.framework.errors import InfrastructureError
from suites.framework.events import EventLog, legible, read
from suites.framework.model import SCHEMA, Begun, Ended, Evidence, Finished, Note, Outcome, Planned, Started
from suites.framework.results import schema
from tests.fake_run import HOSTILE, begun, failed, passed, planned

EVERY_EVENT = (
    begun(),
    planned("a::b[x]", requires=("root",)),
    Started(node="a::b[x]"),
    failed("a::b[x]", evidence=(Evidence(title="log", text="one\ntwo"),)),
    Note(name="forwarding_s", value=0.1, node="a::b[x]"),
    Finished(counts={"failed": 1}),
)


def written(path: Path, *events: Any) -> Path:
    with EventLog(path) as log:
        for event in events:
            log.write(event)
    return path


def test_every_event_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    log = read(written(tmp_path / "e.jsonl", *EVERY_EVENT))
    assert tuple(record.event for record in log.records) == EVERY_EVENT
    assert [record.seq for record in log.records] == [1, 2, 3, 4, 5, 6]
    assert (log.torn, log.foreign, log.newer) == (0, 0, 0)


def test_time_is_taken_once_and_advanced_by_the_monotonic_clock(tmp_path: Path) -> None:
    wall, ticks = iter([1000.0, 5.0, 5.0]), iter([10.0, 11.5, 12.0])
    with EventLog(tmp_path / "e.jsonl", now=lambda: next(wall), clock=lambda: next(ticks)) as log:
        log.write(Started(node="a"))
        log.write(Started(node="b"))
    assert [record.t for record in read(log.path).records] == [1001.5, 1002.0]


def test_any_text_gives_one_line_of_ascii(tmp_path: Path) -> None:
    path = written(tmp_path / "e.jsonl", failed("n", actual=HOSTILE, message="\ud800 \u2028 \U0001f600"))
    assert path.read_bytes().isascii()
    assert path.read_bytes().count(b"\n") == 1
    (record,) = read(path).records
    assert isinstance(record.event, Ended)
    assert record.event.actual == HOSTILE.replace("\udcff", r"\xff")
    assert record.event.message == "\\ud800 \u2028 \U0001f600"


def test_values_that_json_does_not_know_become_text(tmp_path: Path) -> None:
    path = written(tmp_path / "e.jsonl", Note(name="odd", value={"nan": math.nan, "bytes": b"\xff", "set": {1}}))
    (record,) = read(path).records
    assert isinstance(record.event, Note)
    assert record.event.value == {"nan": "nan", "bytes": r"b'\xff'", "set": "{1}"}


def test_torn_last_line_is_counted(tmp_path: Path) -> None:
    path = written(tmp_path / "e.jsonl", *EVERY_EVENT)
    whole = path.read_bytes()
    for cut in range(1, 60):
        path.write_bytes(whole[:-cut])
        log = read(path)
        assert log.torn + len(log.records) >= len(EVERY_EVENT) - 1
        assert log.torn == (not whole[:-cut].endswith(b"\n"))
        assert log.foreign == 0


def test_writer_that_continues_a_torn_file_loses_only_the_torn_line(tmp_path: Path) -> None:
    path = written(tmp_path / "e.jsonl", Started(node="a"), Started(node="b"))
    path.write_bytes(path.read_bytes()[:-5])
    log = read(written(path, Started(node="c"), Started(node="d")))
    assert [record.event for record in log.records] == [Started(node=name) for name in "acd"]
    assert [record.seq for record in log.records] == [1, 2, 3]
    assert (log.torn, log.foreign) == (0, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b"\0\0\0",
        b"null",
        b"[]",
        b"{}",
        b'{"event":[]}',
        b'{"event":"exploded","seq":1,"t":1}',
        b'{"event":"started","seq":1,"t":1}',
        b'{"event":"started","seq":1,"t":"x","node":"a"}',
        b'{"event":"started","seq":1,"t":NaN,"node":"a"}',
        b'{"event":"ended","seq":1,"t":1,"node":"a","outcome":"fine"}',
        b"[" * 100_000,
        b'{"event":"started","seq":' + b"9" * 5000 + b',"t":1,"node":"a"}',
    ],
)
def test_foreign_line_in_the_middle_is_counted(tmp_path: Path, line: bytes) -> None:
    path = written(tmp_path / "e.jsonl", Started(node="a"))
    path.write_bytes(path.read_bytes() + line + b"\n" + path.read_bytes())
    log = read(path)
    assert (len(log.records), log.foreign, log.torn) == (2, 1, 0)


def test_surrogates_from_a_foreign_writer_do_not_get_in(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_bytes(b'{"event":"started","seq":1,"t":1,"node":"\\udcfe"}\n')
    (record,) = read(tmp_path / "e.jsonl").records
    assert record.event == Started(node=r"\xfe")


def test_newer_schema_is_named(tmp_path: Path) -> None:
    assert read(written(tmp_path / "e.jsonl", begun(schema=SCHEMA + 1), Started(node="a"))).newer == SCHEMA + 1


def test_unreadable_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"cannot read the event log .*Is a directory"):
        read(tmp_path)
    with pytest.raises(InfrastructureError, match=r"cannot open the event log .*No such file"):
        EventLog(tmp_path / "absent" / "e.jsonl")


def test_full_disk_is_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def full(*arguments: object) -> int:
        calls.append(len(arguments))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = EventLog(tmp_path / "e.jsonl")
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InfrastructureError, match=r"No space left on device.*--runs"):
        log.write(Started(node="a"))
    log.write(Started(node="b"))
    log.close()
    assert len(calls) == 1


def test_short_write_is_an_error_and_leaves_a_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path / "e.jsonl")
    log.write(Started(node="a"))
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[:9]))
    with pytest.raises(InfrastructureError, match="only 9 of"):
        log.write(Started(node="b"))
    monkeypatch.undo()
    log.write(Started(node="c"))
    assert (len(read(log.path).records), read(log.path).torn) == (1, 1)


def test_one_write_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    whole = os.write

    def counting(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return whole(fd, data)

    monkeypatch.setattr(os, "write", counting)
    written(tmp_path / "e.jsonl", failed("n", actual="x" * 200_000), passed("n"))
    assert len(sizes) == 2


def test_legible_leaves_ordinary_values_alone() -> None:
    value = {"a": [1, 2.5, True, None, "ä"]}
    assert legible(value) == value


# ---- the published schemas ----


def conforms(value: Any, wanted: dict[str, Any]) -> bool:
    """Check the few words of JSON Schema that ours use."""
    if "oneOf" in wanted:
        return sum(conforms(value, branch) for branch in wanted["oneOf"]) == 1
    if "const" in wanted or "enum" in wanted:
        return value in wanted.get("enum", [wanted.get("const")])
    match wanted.get("type"):
        case "object":
            inner = wanted.get("properties", {})
            rest = wanted.get("additionalProperties", {})
            return (
                isinstance(value, dict)
                and set(wanted.get("required", ())) <= set(value)
                and all(conforms(item, inner.get(key, rest)) for key, item in value.items())
            )
        case "array":
            return isinstance(value, list) and all(conforms(item, wanted.get("items", {})) for item in value)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case None:
            return True
        case other:
            raise AssertionError(f"the schema has a new word: {other}")


def test_published_schemas_are_those_of_the_types() -> None:
    for name, document in schema.documents().items():
        written_by_hand = f"{name}: run python -m suites.framework.results.schema"
        assert (schema.FOLDER / name).read_text() == schema.text(document), written_by_hand


def test_every_event_conforms_to_its_schema_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    wanted = json.loads((schema.FOLDER / "events.json").read_text())
    for line in written(tmp_path / "e.jsonl", *EVERY_EVENT).read_text().splitlines():
        data = json.loads(line)
        assert conforms(data, wanted), line
        assert not conforms(data | {"seq": "1"}, wanted)
        assert not conforms({key: value for key, value in data.items() if key != "t"}, wanted)
    assert not conforms({"event": "ended", "seq": 1, "t": 1.0, "node": "a", "outcome": "fine"}, wanted)


def test_begun_and_planned_are_what_the_fake_makes() -> None:
    assert isinstance(begun(), Begun)
    assert isinstance(planned("n"), Planned)
    assert passed("n").outcome is Outcome.PASSED
