"""A manifest holds every kind of file, and two of them differ exactly where the folders do."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from suites.framework.errors import UsageError
from suites.framework.manifest import Entry, Manifest, Type, difference, manifest
from suites.framework.model import SCHEMA
from suites.framework.results.manifest import read, write

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one of everything that an ordinary user can make."""
    top = tmp_path / "made"
    (top / "sub").mkdir(parents=True)
    (top / "sub").chmod(0o751)
    (top / "sub/file").write_bytes(b"content")
    (top / "sub/file").chmod(0o4755)
    (top / "empty").touch(0o600)
    (top / "link").symlink_to("sub/file")
    (top / "dangling").symlink_to("/nowhere")
    (top / "loop").symlink_to(".")
    os.mkfifo(top / "pipe", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "socket"))
    return top


def shown(found: Manifest) -> dict[str, tuple[str, str]]:
    return {entry.path: (entry.type.value, entry.target or entry.sha256 or entry.trouble) for entry in found.entries}


def test_everything_is_listed_once_by_path(folder: Path) -> None:
    """Links are not followed, pipes not opened, and the order does not depend on the file system."""
    found = manifest(folder)
    empty = hashlib.sha256(b"").hexdigest()
    assert shown(found) == {
        "dangling": ("link", "/nowhere"),
        "empty": ("file", empty),
        "link": ("link", "sub/file"),
        "loop": ("link", "."),
        "pipe": ("pipe", ""),
        "socket": ("socket", ""),
        "sub": ("folder", ""),
        "sub/file": ("file", hashlib.sha256(b"content").hexdigest()),
    }
    assert [entry.path for entry in found.entries] == sorted(entry.path for entry in found.entries)
    by = {entry.path: entry for entry in found.entries}
    assert (by["sub"].mode, by["sub/file"].mode, by["pipe"].mode) == ("0751", "4755", "0640")
    assert (by["sub/file"].size_bytes, by["empty"].size_bytes, by["sub"].size_bytes) == (7, 0, 0)


@as_root
def test_devices_are_told_by_their_numbers(folder: Path) -> None:
    """Nothing is read from a device: /dev/zero would never end."""
    os.mknod(folder / "zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    os.mknod(folder / "disk", 0o600 | stat.S_IFBLK, os.makedev(7, 99))
    found = shown(manifest(folder))
    assert (found["zero"], found["disk"]) == (("character-device", "1:5"), ("block-device", "7:99"))


def test_names_that_are_no_text_stay_apart(tmp_path: Path) -> None:
    """A byte that is not UTF-8, and the four characters it is written as, are two files."""
    for name in (b"\xff", rb"\xff", "é\n".encode(), b"a\\b"):
        (tmp_path / os.fsdecode(name)).touch()
    (tmp_path / "target").symlink_to(os.fsdecode(b"\xfe"))
    found = manifest(tmp_path)
    assert {entry.path for entry in found.entries} == {r"\xff", r"\\xff", "é\n", r"a\\b", "target"}
    assert r"\xfe" in {entry.target for entry in found.entries}
    write(tmp_path.parent / "m.json", found)
    assert read(tmp_path.parent / "m.json") == found


def test_what_cannot_be_read_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreadable file or folder is an entry with a reason, and equals nothing, itself included."""
    real_open, real_list = os.open, os.listdir

    def refuse_open(path: bytes, *rest: int) -> int:
        if path.endswith(b"empty"):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *rest)

    def refuse_list(path: bytes) -> list[bytes]:
        if os.fsencode(path).endswith(b"sub"):
            raise PermissionError(13, "Permission denied")
        return real_list(path)

    monkeypatch.setattr(os, "open", refuse_open)
    monkeypatch.setattr(os, "listdir", refuse_list)
    found = manifest(folder)
    said = {entry.path: entry.trouble for entry in found.entries if entry.trouble}
    assert said == {"empty": "Permission denied", "sub": "Permission denied"}
    assert "sub/file" not in shown(found)
    assert [str(each) for each in difference(found, found)] == [
        "empty not compared: Permission denied",
        "sub not compared: Permission denied",
    ]


def test_depth_has_no_limit_of_ours(tmp_path: Path) -> None:
    """Folders nested deeper than Python calls itself are listed."""
    fd, depth = os.open(tmp_path, os.O_RDONLY), sys.getrecursionlimit() + 100
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    found = manifest(tmp_path)
    subprocess.run(["rm", "-r", tmp_path / "d"], check=True)
    assert len(found.entries) == depth
    assert not [entry for entry in found.entries if entry.trouble]


@pytest.mark.parametrize("make", [lambda _: None, lambda path: path.touch()], ids=["absent", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x")
    with pytest.raises(UsageError, match=r"no manifest of .*/x: (No such file|Not a directory)"):
        manifest(tmp_path / "x")


# ---- differences -----------------------------------------------------------------------------------------------------


def test_same_folder_twice_does_not_differ(folder: Path) -> None:
    assert difference(manifest(folder), manifest(folder)) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda top: (top / "sub/file").write_bytes(b"contend"), "sub/file changed: sha256 "),
        (lambda top: (top / "sub/file").write_bytes(b"more content"), "sub/file changed: size_bytes 7 -> 12, sha256 "),
        (lambda top: (top / "empty").chmod(0o644), "empty changed: mode 0600 -> 0644"),
        (lambda top: (top / "new").mkdir(), "new added"),
        (lambda top: (top / "empty").unlink(), "empty removed"),
        (lambda top: ((top / "link").unlink(), (top / "link").symlink_to("x")), "link changed: target sub/file -> x"),
        (lambda top: ((top / "empty").unlink(), (top / "empty").mkdir(0o600)), "empty changed: type file -> folder"),
    ],
)
def test_every_change_is_named(folder: Path, change: Callable[[Path], object], said: str) -> None:
    before = manifest(folder)
    change(folder)
    (found,) = difference(before, manifest(folder))
    assert str(found).startswith(said)


def test_time_and_owner_are_no_difference(folder: Path) -> None:
    before = manifest(folder)
    os.utime(folder / "empty", (1, 1))
    assert difference(before, manifest(folder)) == ()


# ---- files -----------------------------------------------------------------------------------------------------------


def test_written_and_read_it_is_the_same(folder: Path, tmp_path: Path) -> None:
    found = manifest(folder)
    write(tmp_path / "m.json", found)
    assert read(tmp_path / "m.json") == found
    assert found.schema == SCHEMA


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{{"schema": {SCHEMA + 1}}}', "was written by a newer Seatrial"),
        ("{", "is damaged"),
        ('{"schema": 1, "entries": [{"path": "a", "type": "moon", "mode": ""}]}', "'moon' is not one of file"),
    ],
)
def test_file_that_is_no_manifest_of_ours_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(UsageError, match=said):
        read(tmp_path / "m.json")


def test_entry_that_only_one_side_could_read_differs() -> None:
    entry = Entry(path="a", type=Type.FILE, mode="0644", sha256="ab" * 32)
    whole = Manifest(schema=SCHEMA, entries=(entry,))
    lacking = Manifest(schema=SCHEMA, entries=(replace(entry, sha256="", trouble="Input/output error"),))
    assert [str(each) for each in difference(whole, lacking)] == ["a not compared: Input/output error"]
    assert difference(lacking, whole) == difference(whole, lacking)


@as_root
def test_a_file_of_any_size_is_soon_done_with(folder: Path) -> None:
    """A file with holes as large as a disk is not read, and says so; it is the same as no other."""
    with (folder / "holes").open("wb") as file:
        file.truncate(64 << 30)
    found = manifest(folder)
    (entry,) = (entry for entry in found.entries if entry.path == "holes")
    assert entry.trouble == "larger than 4 GiB"
    assert [each.path for each in difference(found, manifest(folder))] == ["holes"]


def test_what_is_larger_than_it_said_is_not_read_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose size is not known before its end, as in /proc, counts by what was read."""
    monkeypatch.setattr("suites.framework.manifest.UNREAD", 0)
    (entry,) = (entry for entry in manifest(Path("/proc/self/fdinfo")).entries[:1])
    assert entry.trouble.startswith("larger than")
    assert next(entry for entry in manifest(folder).entries if entry.path == "empty").sha256


def test_other_file_systems_are_not_entered(folder: Path) -> None:
    """What is mounted in the folder is said, not read: it may be /proc, or somebody's disk."""
    script = (
        "import sys; from pathlib import Path; from suites.framework.manifest import manifest\n"
        "print([(e.path, e.trouble) for e in manifest(Path(sys.argv[1])).entries if e.path.startswith('sub')])"
    )
    mount = 'mount -t tmpfs none "$1/sub" && touch "$1/sub/inside" && shift && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", folder, sys.executable, "-c", script, folder],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stdout == "[('sub', 'stands on another file system')]\n"
