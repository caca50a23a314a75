"""What can be known of an engine without one: handlers, a socket in use, the last words of a log."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import Kind
from suites.framework.calls import Call, PodCall
from suites.framework.errors import InfrastructureError
from suites.framework.model import EnginePlace
from suites.framework.pod import config, engine
from suites.framework.pod.engine import Engine, Site
from tests.contexts import target


def made(folder: Path, **changes: Any) -> config.Handler:
    return engine.handler(target(kind=Kind.POD, **changes), folder=folder, python="/usr/bin/python3")


def test_a_program_is_its_own_handler(tmp_path: Path) -> None:
    """A target of one word is called directly, and its name is one that a cluster would take."""
    found = made(tmp_path, name="control:It+x", argv=("/opt/runc",))
    assert ("control-it-x", "/opt/runc", config.RUNC_SHIM) == (found.name, found.binary, found.runtime_type)
    assert [] == list(tmp_path.iterdir())


def test_more_words_become_a_script(tmp_path: Path) -> None:
    """Words, variables and the interpreter stand in front of what the shim adds, each as it was."""
    found = made(
        tmp_path, name="t", argv=("/bin/echo", "a  b", "{python}"), environment={"X": "$1"}, wrap=("/bin/echo",)
    )
    said = subprocess.run([found.binary, "last word"], capture_output=True, text=True, check=True).stdout
    assert "/bin/echo a  b /usr/bin/python3 last word\n" == said
    assert "X=$1" in Path(found.binary).read_text().replace("'", "")


def test_a_shim_is_known_by_its_type(tmp_path: Path) -> None:
    """A target with a shim of its own has no binary for runc's."""
    call = Call(pod=PodCall(runtime_type="io.containerd.mine.v2", annotations=("m/*",)))
    found = made(tmp_path, name="mine", call=call)
    assert ("io.containerd.mine.v2", "", ("m/*",)) == (found.runtime_type, found.binary, found.annotations)


def test_a_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    """Where somebody listens nothing is started; a socket that nobody holds is no obstacle."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(InfrastructureError, match=r"socket .*/s is in use"):
            engine.refuse_used(path)
    engine.refuse_used(path)
    engine.refuse_used(tmp_path / "none")


def test_the_last_lines_are_shown_without_their_times(tmp_path: Path) -> None:
    """Of a long log the end is kept; an empty one and none say so."""
    log = tmp_path / "log"
    log.write_text("\n".join(f'time="2026-11-22T04:09:28Z" level=warning msg="n{number}"' for number in range(20)))
    assert 'level=warning msg="n18" | level=warning msg="n19"' == engine.last_lines(log, most=2)
    log.write_text("\n")
    assert ["it said nothing"] * 2 == [engine.last_lines(log), engine.last_lines(tmp_path / "none")]


def test_an_engine_that_does_not_stay_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit and its last words are the error, and its folder is gone."""
    program = tmp_path / "containerd"
    program.write_text("#!/bin/sh\necho 'containerd: no space left' >&2\nexit 1\n")
    program.chmod(0o755)
    place = EnginePlace(containerd=str(program), ctr="ctr", version="1.6", stubs="")
    site = Site(place=place, folder=tmp_path / "e", rootfs=tmp_path, environment={"PATH": "/usr/bin:/bin"})
    monkeypatch.setattr(engine, "UNSHARE", ("/usr/bin/env",))  # nobody may mount here
    with pytest.raises(InfrastructureError, match=r"did not stay: exit 1: containerd: no space left"):
        Engine(site, [], python="python3")
    assert not (tmp_path / "e").exists()
