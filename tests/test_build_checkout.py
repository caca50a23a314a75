"""What belongs to a checkout, what identifies it, and that nothing in it is touched."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from suites.framework.build.checkout import Checkout, copy, require_directory, survey
from suites.framework.build.user import builder
from suites.framework.errors import UsageError
from tests.projects import commit, git, snapshot, write

FILES = {"a.c": "a\n", "sub/b.c": "b\n", "run.sh": "#!/bin/sh\n", ".gitignore": "*.o\n/out/\n"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a source tree without git, with a link and an executable."""
    write(tmp_path / "tree", FILES)
    (tmp_path / "tree/link").symlink_to("/nowhere/at/all")
    return tmp_path / "tree"


def look(path: Path) -> Checkout:
    return survey("x=y", path, builder("x=y", path, as_root=True))


def copied(path: Path, to: Path) -> Path:
    to.mkdir()
    copy("x=y", look(path), to, builder("x=y", path, as_root=True))
    return to


def names(path: Path) -> set[str]:
    return {name for name in look(path).entries if not (path / name).is_dir()}


def test_without_git_everything_belongs(tree: Path) -> None:
    """Files, links and empty folders, ignored ones too."""
    write(tree, {"x.o": ""})
    (tree / "empty").mkdir()
    assert names(tree) == {*FILES, "x.o", "link"}
    assert "empty" in look(tree).entries


def test_git_says_what_belongs(tree: Path) -> None:
    """What is committed, what is new, not what is ignored, nor what was removed."""
    commit(tree)
    write(tree, {"new.c": "", "x.o": "", "out/y": ""})
    (tree / "a.c").unlink()
    assert names(tree) == {"sub/b.c", "run.sh", ".gitignore", "link", "new.c"}


def test_the_copy_equals_the_source_and_is_its_own(tree: Path, tmp_path: Path) -> None:
    """Contents, modes, times and links are the same; no file is shared; the source is as it was."""
    commit(tree)
    before = snapshot(tree)
    other = copied(tree, tmp_path / "copy")
    assert snapshot(tree) == before
    for name in names(tree):
        ours, theirs = (tree / name).lstat(), (other / name).lstat()
        assert (ours.st_mode, ours.st_size) == (theirs.st_mode, theirs.st_size)
        assert ours.st_ino != theirs.st_ino
    assert (other / "a.c").stat().st_mtime_ns == (tree / "a.c").stat().st_mtime_ns
    assert str((other / "link").readlink()) == "/nowhere/at/all"
    assert git(other, "rev-parse", "HEAD") == git(tree, "rev-parse", "HEAD")
    assert git(other, "status", "--porcelain") == ""


def test_touching_changes_nothing(tree: Path) -> None:
    """Times are not content."""
    before = look(tree).tree
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (1, 1), follow_symlinks=False)
    assert look(tree).tree == before


@pytest.mark.parametrize("change", ["content", "mode", "name", "link", "new", "empty folder"])
def test_every_change_of_content_is_one(change: str, tree: Path) -> None:
    """Content, mode, name, the target of a link, what is new: each makes another tree."""
    before = look(tree).tree
    match change:
        case "content":
            (tree / "a.c").write_text("c\n")
        case "mode":
            (tree / "a.c").chmod(0o755)
        case "name":
            (tree / "a.c").rename(tree / "c.c")
        case "link":
            (tree / "link").unlink()
            (tree / "link").symlink_to("elsewhere")
        case "new":
            (tree / "c.c").write_text("")
        case _:
            (tree / "folder").mkdir()
    assert look(tree).tree != before


def test_a_commit_or_a_tag_is_a_change(tree: Path) -> None:
    """Versions are stamped from what git says; what is ignored is none."""
    commit(tree)
    seen = {look(tree).tree}
    git(tree, "commit", "--quiet", "--allow-empty", "-m", "n")
    seen.add(look(tree).tree)
    git(tree, "tag", "v1")
    seen.add(look(tree).tree)
    assert len(seen) == 3
    write(tree, {"x.o": "new"})
    assert look(tree).tree in seen


def test_submodules_belong(tree: Path, tmp_path: Path) -> None:
    """Their files are copied, and git understands the copy."""
    commit(tree)
    part = commit(write(tmp_path / "part", {"part.c": "p\n", ".gitignore": "*.o\n"}))
    git(tree, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(part), "lib/part")
    git(tree, "commit", "--quiet", "-m", "s")
    write(tree, {"lib/part/x.o": ""})
    assert {"lib/part/part.c", "lib/part/.gitignore"} == {name for name in names(tree) if name.startswith("lib/")} - {
        "lib/part/.git"
    }
    other = copied(tree, tmp_path / "copy")
    assert (other / "lib/part/part.c").read_text() == "p\n"


def test_an_absent_submodule_is_named(tree: Path, tmp_path: Path) -> None:
    """With the command that fetches it: builds fail in strange ways without."""
    commit(tree)
    part = commit(write(tmp_path / "part", {"part.c": "p\n"}))
    git(tree, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(part), "lib/part")
    git(tree, "commit", "--quiet", "-m", "s")
    assert look(tree).remarks == ()
    git(tree, "submodule", "--quiet", "deinit", "--force", "lib/part")
    assert look(tree).remarks == ("submodule lib/part is not checked out: git submodule update --init lib/part",)


def test_a_linked_work_tree_becomes_a_repository_of_its_own(tree: Path, tmp_path: Path) -> None:
    """A build that writes into git's folder does not reach the one of the source."""
    commit(tree)
    linked = tmp_path / "linked"
    git(tree, "worktree", "add", "--quiet", "-b", "other", str(linked))
    git(linked, "commit", "--quiet", "--allow-empty", "-m", "n")
    before = snapshot(tree)
    other = copied(linked, tmp_path / "copy")
    assert git(other, "rev-parse", "HEAD") == git(linked, "rev-parse", "HEAD") != git(tree, "rev-parse", "HEAD")
    assert git(other, "rev-parse", "--show-toplevel") == str(other)
    assert Path(git(other, "rev-parse", "--absolute-git-dir")) == other / ".git"
    assert len(git(other, "worktree", "list").splitlines()) == 1
    assert snapshot(tree) == before


def test_a_folder_of_a_checkout_has_its_own_files(tree: Path) -> None:
    """Below the top git still says what is ignored."""
    commit(tree)
    write(tree, {"sub/x.o": ""})
    assert names(tree / "sub") == {"b.c"}


def test_a_folder_that_git_ignores_is_a_tree_of_its_own(tree: Path) -> None:
    """Somebody's repository around it does not make it empty."""
    commit(tree)
    write(tree, {"out/c.c": ""})
    assert names(tree / "out") == {"c.c"}


def test_sockets_and_pipes_are_left_out_and_named(tree: Path, tmp_path: Path) -> None:
    """They are not opened: a pipe would wait for ever."""
    os.mkfifo(tree / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "socket"))
    assert look(tree).remarks == tuple(
        f"{name} is not copied: it is a socket, a pipe or a device" for name in ("pipe", "socket")
    )
    other = copied(tree, tmp_path / "copy")
    assert not (other / "pipe").exists()


def test_names_that_are_not_utf8_are_kept(tree: Path, tmp_path: Path) -> None:
    """A name is bytes, with and without git."""
    odd = os.fsdecode(b"\xff \n.c")
    (tree / odd).write_text("o")
    assert (copied(tree, tmp_path / "one") / odd).read_text() == "o"
    commit(tree)
    assert (copied(tree, tmp_path / "two") / odd).read_text() == "o"


@pytest.mark.parametrize(
    ("place", "message"),
    [("nowhere", "No such file or directory; give the checkout's directory"), ("a.c", "is not a directory")],
)
def test_what_is_no_directory_is_refused(place: str, message: str, tree: Path) -> None:
    """Before anything else is tried."""
    with pytest.raises(UsageError, match=message):
        require_directory("x=y", tree / place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(tree: Path) -> None:
    """One sentence, with the path."""
    (tree / "a.c").chmod(0)
    with pytest.raises(UsageError, match=r"a\.c cannot be read: Permission denied"):
        look(tree)


def test_a_change_during_the_copy_is_noticed(tree: Path, tmp_path: Path) -> None:
    """What is built is what the key says."""
    seen = look(tree)
    (tree / "a.c").write_text("changed\n")
    (tmp_path / "copy").mkdir()
    with pytest.raises(UsageError, match="changed while it was copied"):
        copy("x=y", seen, tmp_path / "copy", builder("x=y", tree, as_root=True))
