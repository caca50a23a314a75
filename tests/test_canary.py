"""A machine of a test's own: what is on it, what may be written, and what becomes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from suites.catalog import Kind
from suites.framework import process
from suites.framework.bench import Bench
from suites.framework.buildscripts.canary import Canary
from suites.framework.process import exited
from tests.contexts import bench, target
from tests.walled import walled


def inside(made: Bench, canary: Canary, script: str) -> tuple[object, str]:
    """Run a shell script on that machine; return how it ended and what it said."""
    words = [*canary.words, "/bin/sh", "-c", script]
    return process.output_of(words, environment=made.environment, seconds=20.0)


def make(made: Bench, program: Path) -> Canary:
    """Return such a machine for a target that is this program."""
    made.make_folder()
    folder = made.folder / "canary"
    folder.mkdir()
    made.own(lambda: shutil.rmtree(folder))  # when nothing is mounted there any more
    program.parent.mkdir()
    program.touch()
    return Canary(made, target("w", kind=Kind.BUILDSCRIPTS, argv=(str(program),)), folder)


@walled()
def test_its_root_is_the_folder(tmp_path: Path) -> None:
    """What is written to `/` lands in the folder, and is found in its inventory."""
    made = bench(tmp_path)
    canary = make(made, tmp_path / "p/wrapper.sh")
    before = canary.inventory()
    assert (exited(0), "") == inside(made, canary, "mkdir /made && echo 1 >/made/file")
    changes = before.changes(canary.inventory())
    assert ["made added", "made/file added"] == [line for line in changes if line.startswith("made")]
    assert () == made.settle()


@walled()
def test_what_is_the_machines_is_there_to_be_read(tmp_path: Path) -> None:
    """Its programs and the target's are where they are, to be read only; /dev/null and TMPDIR are written."""
    made = bench(tmp_path)
    canary = make(made, tmp_path / "p/wrapper.sh")
    options = "while read -r _ _ _ _ point options _; do echo $point ${options%%,*}; done </proc/self/mountinfo"
    status, said = inside(made, canary, f"cat {tmp_path}/p/wrapper.sh >/dev/null && {options}")
    assert exited(0) == status
    seen = dict(line.split() for line in said.splitlines())
    assert {"/usr": "ro", "/etc": "ro", "/proc": "ro", f"{tmp_path}/p": "ro"}.items() <= seen.items()
    assert (exited(0), "") == inside(made, canary, 'echo 1 >/dev/null && echo 1 >"$TMPDIR/f" && rm "$TMPDIR/f"')
    status, said = inside(made, canary, f"echo 1 >{tmp_path}/p/file")
    assert "Read-only file system" == said.rpartition(": ")[2]
    assert () == made.settle()
