"""What can be known of an engine without one: handlers, a socket in use, the last words of a log."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from errno import ENOSPC
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from suites.catalog import Kind
from suites.framework.calls import Call, PodCall
from suites.framework.errors import InfrastructureError
from suites.framework.model import EnginePlace
from suites.framework.plugin import Worker
from suites.framework.pod import config, engine, shim
from suites.framework.pod.cri import Client
from suites.framework.pod.enclosure import Enclosure
from suites.framework.pod.engine import Engine, Site
from suites.framework.pod.engines import ENVIRONMENT
from tests.contexts import target
from tests.engines import needs_group, place


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


def test_what_stands_in_front_of_the_shim_finds_the_runtime(tmp_path: Path) -> None:
    """Its type is its own, its words come before the engine's, and the runc on its PATH is the target."""
    front = Call(pod=PodCall(front=("{python}", "-c", "import shutil, sys; print(sys.argv, shutil.which('runc'))")))
    runtime = tmp_path / "my runtime"
    runtime.write_text('#!/bin/sh\necho "runtime: $@"\n')
    runtime.chmod(0o755)
    found = engine.handler(
        target(kind=Kind.POD, name="t", argv=(str(runtime),), call=front), folder=tmp_path, python=sys.executable
    )
    assert ("io.containerd.t-behind.v2", "") == (found.runtime_type, found.binary)
    script = tmp_path / shim.FOLDER / "containerd-shim-t-behind-v2"
    said = subprocess.run([script, "-id", "a b"], capture_output=True, text=True, check=True).stdout
    assert f"['-c', '-id', 'a b'] {tmp_path}/t/runc\n" == said
    assert (
        "runtime: a  b\n"
        == subprocess.run([tmp_path / "t/runc", "a  b"], capture_output=True, text=True, check=True).stdout
    )


def imported(folder: Path, ctr: str) -> Engine:
    """Return an engine that has not taken in its images yet, with this script in the place of its client program."""
    program = folder / "ctr"
    program.write_text(f"#!/bin/sh\n{ctr}\n")
    program.chmod(0o755)
    place = EnginePlace(containerd=str(folder / "containerd"), ctr=str(program), version="1.6", stubs="")
    made = object.__new__(Engine)
    made._site = Site(place=place, folder=folder, rootfs=folder / "tree", environment={"PATH": "/usr/bin:/bin"})
    made.folder, made.socket, made.log = folder, folder / "s", folder / "log"
    made.client = cast(Client, object())
    (folder / "tree").mkdir()
    return made


def test_a_damaged_archive_is_told_in_one_line(tmp_path: Path) -> None:
    """What is said is what the program says that takes it in, and no more."""
    (tmp_path / "log").write_text("level=error msg=unrelated\n")
    made = imported(tmp_path, "echo 'ctr: failed to ingest x.tar: unexpected EOF'; exit 1")
    with pytest.raises(InfrastructureError) as caught:
        made._import()
    assert ("the images are not imported", "ctr: failed to ingest x.tar: unexpected EOF") == (
        caught.value.what,
        caught.value.why,
    )


def test_images_that_cannot_be_written_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full is what is told, with the place where something is to be done."""

    def full(*_: object) -> None:
        raise OSError(ENOSPC, os.strerror(ENOSPC))

    monkeypatch.setattr("suites.framework.pod.image.write", full)
    with pytest.raises(InfrastructureError, match=r"No space left on device.*TMPDIR"):
        imported(tmp_path, "exit 0")._import()


def test_an_engine_that_never_answers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever for one that runs and says nothing, and it is ended."""
    program = tmp_path / "containerd"
    program.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 1000\n")
    program.chmod(0o755)
    place = EnginePlace(containerd=str(program), ctr="ctr", version="1.6", stubs="")
    site = Site(place=place, folder=tmp_path / "e", rootfs=tmp_path, environment={"PATH": "/usr/bin:/bin"})
    monkeypatch.setattr(Enclosure, "words", ("/usr/bin/env",))
    monkeypatch.setattr(engine, "START_S", 0.5)
    with pytest.raises(InfrastructureError, match=r"does not answer: .* it said nothing"):
        Engine(site, [], python="python3")
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


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
    # nobody may mount here
    monkeypatch.setattr(Enclosure, "words", ("/bin/sh", "-c", 'exec "$@"', "sh"))
    with pytest.raises(InfrastructureError, match=r"did not stay: exit 1: containerd: no space left"):
        Engine(site, [], python="python3")
    assert not (tmp_path / "e").exists()


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Yield an engine whose containerd is a stand-in that only answers, in no namespace of its own."""
    monkeypatch.setattr(Enclosure, "words", ("/usr/bin/env",))
    monkeypatch.setattr(Enclosure, "entering", ("/usr/bin/env",))
    rootfs = tmp_path / "rootfs"
    (rootfs / "bin").mkdir(parents=True)
    site = Site(place=place(tmp_path / "p"), folder=tmp_path / "e", rootfs=rootfs, environment=ENVIRONMENT)
    made = Engine(site, [target("t", kind=Kind.POD, argv=("/bin/true",))], python=sys.executable)
    yield made
    made.close()
    made.close()
    assert (False, False) == (made.alive, site.folder.exists())


@needs_group
def test_an_engine_starts_with_its_images(running: Engine, tmp_path: Path) -> None:
    """It answers, knows its handler, was given the images, and finds its networks described."""
    assert ("9.9", True, False) == (running.version, running.alive, running.spoilt)
    assert ["t"] == list(running.handlers)
    asked = (tmp_path / "p/ctr.asked").read_text()
    assert f"--address {running.socket} --namespace k8s.io images import" in asked
    assert (running.root / "cni/conf/10-seatrial.conflist").is_file()
    assert "the engine was given no plugins" == running.networks
    assert "serving" in running.said()


@needs_group
def test_an_engine_that_is_killed_has_a_successor(running: Engine) -> None:
    """Another process answers at the same socket, its log goes on, and it serves this one test alone."""
    first = running.pid
    os.kill(first, 0)
    running.crash()
    assert first != running.pid
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert running.client is not None
    assert "9.9" == running.client.call("Version", seconds=10).runtime_version
    assert (True, True, 2) == (running.alive, running.spoilt, running.log.read_text().count("serving"))


@needs_group
def test_a_successor_that_does_not_stay_is_quoted(running: Engine) -> None:
    """As the first one would be; closing goes on from there."""
    Path(running._site.place.containerd).write_text(f"#!{sys.executable}\nimport sys; sys.exit('no space left')")
    with pytest.raises(InfrastructureError, match=r"did not stay: exit 1: .*no space left"):
        running.crash()


def test_what_a_new_engine_has_is_nobodys_leak() -> None:
    """Where one was started, what there is of it is counted before a test counts; else nothing is counted anew."""
    closed: list[str] = []
    worker: Any = object.__new__(Worker)
    worker.__dict__["_census"] = SimpleNamespace(close=lambda: closed.append("census"))
    fixture: Any = Worker.engine
    for started, left in ((False, True), (True, False), (True, False)):
        worker._engines = SimpleNamespace(take=lambda started=started: ("engine", started))
        assert "engine" == fixture._get_wrapped_function()(worker)
        assert left == ("_census" in worker.__dict__)
    assert ["census"] == closed
