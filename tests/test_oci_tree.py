"""A tree is used again only while nothing in it has changed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TextIO

import pytest

from suites.framework.oci.tree import Trees


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a provided root file system: a shell, links to it, a configuration file."""
    root = tmp_path / "source"
    for folder in ("bin", "etc", "proc"):
        (root / folder).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(b"program")
    (root / "bin/busybox").chmod(0o755)
    for name in ("sh", "vi"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\n")
    return root


def await_the_clock(place: Path) -> None:
    """Return when the kernel gives later changes another time than earlier ones; it counts in ticks (inode(7))."""
    (place / "clock").touch()
    began = (place / "clock").stat().st_ctime_ns
    while (place / "clock").stat().st_ctime_ns == began:
        (place / "clock").touch()
    (place / "clock").unlink()


def used(trees: Trees, source: Path, place: Path, change: Callable[[Path], object]) -> int:
    """Take a tree, change it, give it back; return the inode that a file of it has."""
    place.mkdir(exist_ok=True)
    seen = trees.take(place / "bundle", source=str(source), payload=str(source / "bin/busybox"), name="payload")
    inode = (place / "bundle/rootfs/bin/busybox").stat().st_ino
    await_the_clock(place)
    change(place / "bundle/rootfs")
    trees.give(place / "bundle", seen, scratch=place)
    return inode


def test_a_tree_is_a_copy_with_the_payload_and_the_links_that_cases_call(source: Path, tmp_path: Path) -> None:
    """Files, modes and links are the source's; of busybox's names only those that scripts call are there."""
    Trees().take(tmp_path / "bundle", source=str(source), payload=str(source / "bin/busybox"), name="payload")
    root = tmp_path / "bundle/rootfs"
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    assert names == ["bin", "bin/busybox", "bin/sh", "etc", "etc/passwd", "payload", "proc"]
    assert os.access(root / "payload", os.X_OK)


def test_an_unchanged_tree_is_used_again(source: Path, tmp_path: Path) -> None:
    """What only was read, or had a socket in its top for a while, is the next test's tree."""

    def bind(root: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(root / "channel"))
        (root / "channel").unlink()
        (root / "etc/passwd").read_bytes()

    trees = Trees()
    inodes = {used(trees, source, tmp_path / "t", bind) for _ in range(3)}
    assert len(inodes) == 1


def rewrite(root: Path) -> None:
    """Change a program and hide it in its times."""
    (root / "bin/busybox").write_bytes(b"another")
    os.utime(root / "bin/busybox", ns=((root / "etc").stat().st_mtime_ns,) * 2)


def relink(root: Path) -> None:
    """Replace a link by an equal one."""
    (root / "bin/sh").unlink()
    (root / "bin/sh").symlink_to("busybox")


def remake(root: Path) -> None:
    """Replace a folder by an equal one."""
    (root / "proc").rmdir()
    (root / "proc").mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "etc/passwd").write_text("mallory:x:0:0::/:/bin/sh\n"),
    "content, its times set back": rewrite,
    "mode": lambda root: (root / "bin/busybox").chmod(0o700),
    "mode of the top": lambda root: root.chmod(0o700),
    "a new file": lambda root: (root / "etc/new").touch(),
    "a file less": lambda root: (root / "etc/passwd").unlink(),
    "a link replaced": relink,
    "a folder replaced": remake,
    "a hard link from outside": lambda root: os.link(root / "etc/passwd", root.parents[1] / "linked"),
    "a new file beside the tree": lambda root: (root.parent / "new").touch(),
    "mode of the bundle": lambda root: root.parent.chmod(0o700),
    "the tree gone": lambda root: root.rename(root.parents[1] / "gone"),
    "an attribute": lambda root: os.setxattr(root / "etc/passwd", "user.mark", b"1"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_tree_is_not_used_again(source: Path, tmp_path: Path, change: Callable[[Path], object]) -> None:
    """After any change of any file the next test gets a new tree, and the old one is removed."""
    trees, held, texts = Trees(), list[BinaryIO](), list[str]()

    def held_and_changed(root: Path) -> None:
        held.append((root / "bin/busybox").open("rb"))  # so its inode's number is given to no other file
        change(root)

    first = used(trees, source, tmp_path / "t", held_and_changed)
    with held[0]:
        assert first != used(
            trees, source, tmp_path / "t", lambda root: texts.append((root / "etc/passwd").read_text())
        )
    assert texts == [(source / "etc/passwd").read_text()]
    assert len([path for path in (tmp_path / "t").iterdir() if path.name not in ("linked", "gone")]) == 1


ADDITIONS: dict[str, Callable[[Path], object]] = {
    "a file": lambda root: (root / "new").write_text("of the test before"),
    "a folder": lambda root: (root / "new/below").mkdir(parents=True),
    "a link to a folder outside": lambda root: (root / "new").symlink_to(root.parents[1] / "outside"),
}


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS)
def test_what_a_case_has_laid_into_the_top_is_gone(source: Path, tmp_path: Path, add: Callable[[Path], object]) -> None:
    """The next test gets the same tree without it; what a link led to is still there."""
    trees, names = Trees(), list[str]()
    (kept := tmp_path / "t/outside/kept").mkdir(parents=True)
    inode = used(trees, source, tmp_path / "t", add)
    assert inode == used(trees, source, tmp_path / "t", lambda root: names.extend(os.listdir(root)))
    assert "new" not in names
    assert kept.exists()


def test_what_is_written_after_the_test_is_seen_too(source: Path, tmp_path: Path) -> None:
    """A file that somebody held open and wrote to between two tests is not passed on."""
    trees, held, texts = Trees(), list[TextIO](), list[str]()
    used(trees, source, tmp_path / "t", lambda root: held.append((root / "etc/passwd").open("a")))
    with held[0] as file:
        file.write("mallory\n")
    used(trees, source, tmp_path / "t", lambda root: texts.append((root / "etc/passwd").read_text()))
    assert texts == [(source / "etc/passwd").read_text()]
    assert len(list((tmp_path / "t").iterdir())) == 1


def test_a_tree_replaced_by_a_link_is_not_followed(source: Path, tmp_path: Path) -> None:
    """A link that stands where the tree was is removed with the bundle, and what it shows is left alone."""

    def replace(root: Path) -> None:
        root.rename(root.parents[1] / "aside")
        root.symlink_to(root.parents[1] / "aside")

    trees = Trees()
    used(trees, source, tmp_path / "t", replace)
    used(trees, source, tmp_path / "t", lambda root: (root / "etc/passwd").unlink())
    assert not (tmp_path / "t/tree2/rootfs").is_symlink()
    assert (tmp_path / "t/aside/etc/passwd").exists()
    assert (tmp_path / "t/aside/bin/busybox").exists()


def test_more_trees_than_are_kept_are_removed(source: Path, tmp_path: Path) -> None:
    """A worker keeps as many as it was told."""
    trees, program = Trees(keep=1), str(source / "bin/busybox")
    bundles = [tmp_path / "b0", tmp_path / "b1"]
    seen = [trees.take(bundle, source=str(source), payload=program, name="payload") for bundle in bundles]
    for bundle, look in zip(bundles, seen, strict=True):
        trees.give(bundle, look, scratch=tmp_path)
    assert {"source", "tree1"} == {path.name for path in tmp_path.iterdir()}
