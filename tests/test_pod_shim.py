"""Shims of targets' own: under which type an engine knows them, and what they are started with."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import Kind
from suites.framework.calls import Call, PodCall
from suites.framework.model import Profile, Target
from suites.framework.pod import shim
from suites.framework.pod.config import RUNC_SHIM, Handler
from tests.contexts import target


def mine(argv: tuple[str, ...] = ("/cache/x/containerd-shim-mine-v2",), *, binary: str = "", **pod: Any) -> Target:
    return target("mine", kind=Kind.POD, argv=argv, call=Call(pod=PodCall(**pod)), profile=Profile(binary=binary))


def made(folder: Path, wanted: Target, *taken: str) -> Handler:
    return shim.handler(wanted, "mine", folder=folder, python="/usr/bin/python3", taken=taken)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("/x/containerd-shim-mine-v2", "io.containerd.mine.v2"),
        ("/x/containerd-shim-of-mine-v1", "io.containerd.of-mine.v1"),
        ("/x/containerd-shim", ""),
        ("/x/containerd-shim-mine", ""),
        ("/x/runc", ""),
        ("/containerd-shim-mine-v2/runc", ""),
    ],
)
def test_a_shim_is_known_by_the_name_of_its_program(program: str, expected: str) -> None:
    """It is containerd's own rule, read backwards; a program of any other name is an OCI runtime."""
    assert expected == shim.runtime_type(mine((program,)))


def test_the_type_of_the_profile_comes_first() -> None:
    """Whatever the program is called."""
    assert "com.example.other.v3" == shim.runtime_type(mine(runtime_type="com.example.other.v3"))


def test_the_script_has_the_name_that_an_engine_looks_for(tmp_path: Path) -> None:
    """containerd-shim-NAME-VERSION, in a folder of its own."""
    found = made(tmp_path, mine(annotations=("a/*",)))
    assert ("io.containerd.mine.v2", ("a/*",), "") == (found.runtime_type, found.annotations, found.binary)
    assert str(tmp_path / "shims/containerd-shim-mine-v2") == found.shim


def test_two_targets_of_one_type_are_two_shims(tmp_path: Path) -> None:
    """So are the engine's own and a target's: nobody is tried with another's program."""
    wanted = mine(runtime_type=RUNC_SHIM)
    assert "io.containerd.mine.v2" == made(tmp_path, wanted).runtime_type
    other = mine(("/y/containerd-shim-other-v2",))
    assert "io.containerd.mine.v2" == made(tmp_path, other, "io.containerd.other.v2").runtime_type
    assert ["containerd-shim-mine-v2"] == [path.name for path in (tmp_path / "shims").iterdir()]


def test_a_shim_is_started_with_its_variables_and_words(tmp_path: Path) -> None:
    """{folder} is where the program is, a user's variable wins, and words stand in front of the engine's."""
    program = tmp_path / "containerd-shim-mine-v2"
    program.write_text('#!/bin/sh\necho "$SIBLING|$BOTH|$1|$2"\n')
    program.chmod(0o755)
    wanted = target(
        "mine",
        kind=Kind.POD,
        argv=(str(program), "own word"),
        call=Call(pod=PodCall(environment=("SIBLING={folder}/other", "BOTH=profile's"))),
        environment={"BOTH": "user's $1"},
    )
    found = made(tmp_path, wanted)
    assert f"{tmp_path}/other|user's $1|own word|start\n" == said(found, "start")


def said(handler: Handler, *words: str) -> str:
    return subprocess.run([handler.shim, *words], capture_output=True, text=True, check=True, env={}).stdout


def test_a_case_changes_variables_for_its_own_time(tmp_path: Path) -> None:
    """Shims that are started meanwhile have them, those before and after have not."""
    program = tmp_path / "containerd-shim-mine-v2"
    program.write_text('#!/bin/sh\necho "$SWITCH"\n')
    program.chmod(0o755)
    found = made(tmp_path, mine((str(program),), environment=("SWITCH=on",)))
    with shim.changed(found, {"SWITCH": "it's off"}):
        assert "it's off\n" == said(found)
    assert "on\n" == said(found)


def test_the_program_behind_an_interpreter_is_the_targets() -> None:
    """What stands in front of a shim is not the folder of its siblings."""
    words = ("/usr/bin/python3", "/front/proxy.py", "/cache/x/containerd-shim-mine-v2", "--")
    wanted = mine(words, binary="containerd-shim-mine-v2", runtime_type="a.b.v2", environment=("HERE={folder}",))
    assert {"HERE": "/cache/x"} == shim.variables(wanted)
