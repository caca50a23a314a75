"""The namespaces of an engine: what it is put into, what joins it, and how its files go."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from suites.framework import process
from suites.framework.errors import InfrastructureError
from suites.framework.pod import enclosure, network
from suites.framework.pod.enclosure import Enclosure
from tests.walled import mount, walled

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
MINE = Enclosure(rootless=False, python=sys.executable)
USERS = Enclosure(rootless=True, python=sys.executable)


def give_ranges() -> None:
    """Give root a range of subordinate ids, in this mount namespace, whose /run is empty then."""
    ranges = Path(tempfile.gettempdir(), "ranges")
    ranges.write_text("root:100000:65536\n")
    for name in ("subuid", "subgid"):
        mount("--bind", ranges, f"/etc/{name}")


def looked(made: Enclosure, script: str) -> str:
    """Return what a program says that joins the enclosure of another one."""
    reading, writing = os.pipe()
    words = [*made.words, "/bin/sh", "-c", "hostname engine 2>/dev/null; echo mine >/run/mine; echo up; exec sleep 60"]
    first = process.spawn(words, environment=ENVIRONMENT, fds={1: writing})
    os.close(writing)
    assert b"up\n" == os.read(reading, 100)
    os.close(reading)
    held = made.held(first.pid)
    reading, writing = os.pipe()
    words = [*made.entering, "/bin/sh", "-c", script]
    second = process.spawn(words, environment=ENVIRONMENT, fds={1: writing, 2: writing, **held})
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    for child in (second, first):
        child.kill()
    for fd in held.values():
        os.close(fd)
    return text


_CALL = (
    "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()); print('up')"
)
SHOW = f'cat /run/mine; id -u; {sys.executable} -c "{_CALL}"; mkdir /var/lib/cni/x; echo $?'


@walled()
def test_the_next_engine_finds_what_the_first_left() -> None:
    """Its /run is the same and no one else's, and loopback is up; nothing of it is here."""
    mount("-t", "tmpfs", "tmpfs", "/run")
    assert ["mine", "0", "up", "0"] == looked(MINE, SHOW).split()
    assert not Path("/run/mine").exists()
    assert not Path("/var/lib/cni/x").exists()


@walled()
def test_a_user_is_root_in_there_with_all_of_his_ids() -> None:
    """Uid 0 and the subordinate ones are mapped, network and host name are the enclosure's own."""
    give_ranges()
    name = os.uname().nodename
    said = looked(USERS, f"{SHOW}; wc -l </proc/self/uid_map; hostname")
    assert ["mine", "0", "up", "0", "2", "engine"] == said.split()
    assert name == os.uname().nodename


def test_an_engines_files_are_removed(tmp_path: Path) -> None:
    """With all that is below; a folder that is not there is no error."""
    (tmp_path / "e/below").mkdir(parents=True)
    for made in (MINE, USERS):
        made.remove(tmp_path / "e", environment=ENVIRONMENT)
        assert not (tmp_path / "e").exists()


def test_files_of_other_ids_are_removed_by_their_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user himself cannot remove, a program in his user namespace does."""
    folder = tmp_path / "e"
    folder.mkdir()
    monkeypatch.setattr("suites.framework.pod.enclosure.shutil.rmtree", lambda *_, **__: None)
    monkeypatch.setattr(enclosure, "MAPPED", ("/usr/bin/env",))
    USERS.remove(folder, environment=ENVIRONMENT)
    assert not folder.exists()


def test_files_that_cannot_be_removed_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words of the program that tried are the reason."""
    monkeypatch.setattr("suites.framework.pod.enclosure.shutil.rmtree", lambda *_, **__: None)
    monkeypatch.setattr(enclosure, "MAPPED", ("/bin/sh", "-c", "echo 'no ids'; exit 1", "sh"))
    with pytest.raises(InfrastructureError, match=f"{tmp_path} is not removed: no ids"):
        USERS.remove(tmp_path, environment=ENVIRONMENT)


@walled()
def test_a_folder_is_made_where_none_is() -> None:
    """Where libcni keeps its results is there for an ordinary user's engine, and what stood beside it still is."""
    give_ranges()
    mount("-t", "tmpfs", "tmpfs", "/var/lib")
    Path("/var/lib/there").mkdir()
    Path("/var/lib/there/file").write_text("kept\n")
    Path("/var/lib/plain").write_text("plain\n")
    Path("/var/lib/link").symlink_to("there")
    Path("/var/lib").chmod(0o755)
    network.HIDDEN = ":"  # as where it could not be done
    said = looked(USERS, "cd /var/lib; cat there/file plain link/file; mkdir cni/x && ls; mount | grep -c ' /run/lib'")
    assert "kept plain kept cni link plain there 0" == " ".join(said.split())
