"""The list of mounts is never an old one, though it is rarely read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from suites.framework import mountinfo, mounting
from suites.framework.mounting import MS_BIND, MS_RDONLY, MS_REMOUNT
from tests.walled import mount, walled


def listed() -> bytes:
    return Path("/proc/self/mountinfo").read_bytes()


@walled()
def test_each_change_is_seen() -> None:
    """A mount, other options of it, one over it, and the end of both: after each the list is the kernel's."""
    folder = Path(tempfile.mkdtemp())
    assert listed() == mountinfo.table()
    changes: list[Callable[[], None]] = [
        lambda: mount("-t", "tmpfs", "tmpfs", folder),
        lambda: mounting.mount("none", folder, flags=MS_REMOUNT | MS_BIND | MS_RDONLY),
        lambda: mount("--bind", "/", folder),
        lambda: mounting.detach(folder),
        lambda: mounting.detach(folder),
    ]
    for change in changes:
        before = mountinfo.table()
        change()
        assert before != mountinfo.table()
        assert listed() == mountinfo.table()


@walled()
def test_it_is_read_only_where_something_has_changed() -> None:
    """Without a change nothing is read again: the very same object is returned."""
    assert mountinfo.table() is mountinfo.table()


@walled()
def test_a_child_in_another_namespace_sees_its_own() -> None:
    """A process that was forked, and went elsewhere, is not told of its parent's mounts."""
    folder, before = Path(tempfile.mkdtemp()), mountinfo.table()
    child = os.fork()
    if child == 0:
        os.close(os.open("/", os.O_PATH))
        mounting.libc().unshare(0x00020000)  # CLONE_NEWNS
        mount_here = mounting.libc().mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, None)
        os._exit(0 if mount_here == 0 and mountinfo.table() == listed() != before else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert before == mountinfo.table()


@walled()
def test_a_point_with_blanks_is_read_as_it_is() -> None:
    """White space and backslashes are escaped in the list (proc_pid_mountinfo(5))."""
    folder = Path(tempfile.mkdtemp()) / "a b\\c\td"
    folder.mkdir()
    mount("-t", "tmpfs", "tmpfs", folder)
    assert str(folder) in mountinfo.points().values()
