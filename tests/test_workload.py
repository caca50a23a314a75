"""Workloads of build scripts: texts, order, places; and the inventory that shows that a tree was left alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from suites.framework.buildscripts.inventory import Inventory
from suites.framework.buildscripts.workload import Place, Source, Step, filled, ordered
from suites.framework.calls import BuildscriptsCall

RECORDING = ("/opt/pay load", "agent", "/s", "NONCE")


def place(folder: Path, **changes: object) -> Place:
    """Return a place with the conventions of a profile that says little."""
    return Place(root=folder, call=BuildscriptsCall(**changes))  # type: ignore[arg-type]


def test_a_template_is_filled_once() -> None:
    """A value is not looked into again, and braces that stand for nothing are left alone."""
    assert "/a/{step}/b.sh ${x}" == filled("{root}/{step}.sh ${x}", root="/a/{step}", step="b")
    assert "{other}" == filled("{other}", root="/a")


def test_a_script_has_its_header_and_mark(tmp_path: Path) -> None:
    """One line for each need and each source, the step's own name, and the function that records."""
    source = Source(name="ed.tar", content=b"ed")
    header = ("# of {step}", "# needs: {need}", "# source: {source} {sha256}")
    step = Step(name="bc", needs=("ed", "m4"), sources=(source,), body="cd {artefacts}")
    lines = place(tmp_path, header=header).text(step, recording=RECORDING).splitlines()
    assert ["#!/bin/bash", "# of bc", "# needs: ed", "# needs: m4", f"# source: ed.tar {source.sha256}"] == lines[:5]
    assert ["mark() { '/opt/pay load' agent /s NONCE bc \"$@\"; }", f"cd {tmp_path}/out"] == lines[5:]


def test_mark_hands_on_what_it_is_given(tmp_path: Path) -> None:
    """The shell calls the recording words with step, label and words, each as it was."""
    where = place(tmp_path)
    where.write([Step(name="a", body='mark here "x  y" "" ü')], recording=("/usr/bin/printf", "<%s>"))
    assert "<a><here><x  y><><ü>" == subprocess.check_output(["/bin/bash", where.script("a")], text=True)


def test_scripts_and_sources_are_written_where_the_profile_says(tmp_path: Path) -> None:
    """Folders are made, the executable bit is set unless a step lacks it, a first line may be left out."""
    where = place(
        tmp_path, script="{root}/s/{step}", sources="{root}/archives", folders=("{root}/log",), artefacts="{root}/lfs"
    )
    steps = [Step(name="a", sources=(Source(name="x", content=b"\0x"),)), Step(name="b", executable=False, first="")]
    where.write(steps, recording=RECORDING)
    assert {"s", "archives", "log", "lfs"} == set(os.listdir(tmp_path))
    assert (0o755, 0o644) == tuple(where.script(name).stat().st_mode & 0o777 for name in "ab")
    assert b"\0x" == (tmp_path / "archives/x").read_bytes()
    assert where.script("b").read_text().startswith("mark() {")


@pytest.mark.parametrize(
    ("needs", "wanted"),
    [
        ({"a": "", "b": "", "c": ""}, "abc"),
        ({"a": "b", "b": "c", "c": ""}, "cba"),
        ({"a": "cb", "b": "", "c": "b"}, "bca"),
        ({"a": "b", "b": "a"}, "ba"),
        ({"a": "z"}, "a"),
    ],
)
def test_steps_come_after_their_needs(needs: dict[str, str], wanted: str) -> None:
    """Otherwise as given; a cycle and an unknown need, which are the wrapper's to refuse, do no harm."""
    steps = [Step(name=name, needs=tuple(names)) for name, names in needs.items()]
    assert list(wanted) == [step.name for step in ordered(steps)]


def test_an_untouched_tree_has_no_changes(tmp_path: Path) -> None:
    """Looking at it changes nothing either."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("x")
    before = Inventory.take(tmp_path)
    assert [] == before.changes(Inventory.take(tmp_path))


def test_every_change_of_a_tree_is_told(tmp_path: Path) -> None:
    """What was added, removed, changed in its mode, and written again with the same content."""
    for name in ("gone", "mode", "again", "text"):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, ns=(1, 1))
    before = Inventory.take(tmp_path)
    (tmp_path / "gone").unlink()
    (tmp_path / "new").touch()
    (tmp_path / "mode").chmod(0o600)
    (tmp_path / "again").write_text("again")
    (tmp_path / "text").write_text("other")
    os.utime(tmp_path, ns=(1, 1))
    changes = [line.partition(" sha256")[0] for line in before.changes(Inventory.take(tmp_path))]
    modes = "mode changed: mode 0644 -> 0600"
    assert [". written", "again written", "gone removed", modes, "new added"] == changes[:-1]
    assert "text changed: size_bytes 4 -> 5," == changes[-1]
