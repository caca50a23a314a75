"""Images made by us: what an engine finds in the archive."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from suites.framework.pod import image
from suites.framework.pod.image import Image


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a small root file system with a link and a socket."""
    folder = tmp_path / "tree"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/busybox").write_bytes(b"\x7fELF")
    (folder / "bin/busybox").chmod(0o755)
    (folder / "bin/sh").symlink_to("busybox")
    os.mkfifo(folder / "fifo")
    return folder


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def read(path: Path) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    with tarfile.open(path) as archive:
        files = {name: file.read() for name in archive.getnames() if (file := archive.extractfile(name))}
    return json.loads(files["manifest.json"]), files


def test_a_layer_has_everything_and_nothing_of_this_machine(tree: Path) -> None:
    """Files, modes and links stay; owners and times do not, nor what no image holds."""
    found = members(image.layer(tree))
    assert {"bin", "bin/busybox", "bin/sh"} == set(found)
    assert (0o755, "busybox") == (found["bin/busybox"].mode, found["bin/sh"].linkname)
    assert {(0, 0, 0, "")} == {(each.uid, each.gid, each.mtime, each.uname) for each in found.values()}


def test_the_same_tree_gives_the_same_archive(tree: Path, tmp_path: Path) -> None:
    """Another time of a file makes no other image."""
    wanted = Image(name="localhost/a:1", tree=tree)
    image.write(tmp_path / "one.tar", wanted)
    os.utime(tree / "bin/busybox", (1, 1))
    image.write(tmp_path / "two.tar", wanted)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_the_manifest_names_what_is_there(tree: Path, tmp_path: Path) -> None:
    """Each image has its name, its configuration by its hash, and the one layer by its own."""
    names = ("localhost/a:1", "localhost/b:1")
    one, two = (Image(name=name, tree=tree, entrypoint=("/bin/sh",), stop_signal="USR1") for name in names)
    image.write(tmp_path / "x.tar", one, two, machine="x86_64")
    manifest, files = read(tmp_path / "x.tar")
    assert [["localhost/a:1"], ["localhost/b:1"]] == [entry["RepoTags"] for entry in manifest]
    assert 1 == len({entry["Layers"][0] for entry in manifest})
    for entry in manifest:
        configuration = json.loads(files[entry["Config"]])
        (layer,) = entry["Layers"]
        assert f"{hashlib.sha256(files[entry['Config']]).hexdigest()}.json" == entry["Config"]
        assert [f"sha256:{hashlib.sha256(files[layer]).hexdigest()}"] == configuration["rootfs"]["diff_ids"]
        assert ("amd64", ["/bin/sh"], "USR1") == (
            configuration["architecture"],
            configuration["config"]["Entrypoint"],
            configuration["config"]["StopSignal"],
        )
