"""What a runtime does to its caller is noticed and undone, behind a wall."""

from __future__ import annotations

import ctypes
import os
import socket
import tempfile
from pathlib import Path

from suites.framework import mountinfo, mounting
from suites.framework.oci import caller
from suites.framework.oci.caller import Caller
from tests.walled import mount, walled

MS_BIND = 4096


def made() -> Caller:
    """Return a caller with a workspace of its own, on a file system of its own."""
    caller.spare()
    folder = Path(tempfile.mkdtemp(prefix="caller-"))
    mount("-t", "tmpfs", "tmpfs", folder)
    caller.spare.cache_clear()
    caller.spare()
    (folder / "home").mkdir()
    return Caller(folder / "home")


def pivot() -> None:
    """Give this process another root, as a runtime does that was told of no mount namespace."""
    foreign = tempfile.mkdtemp(prefix="foreign-")
    mount("-t", "tmpfs", "tmpfs", foreign)
    Path(foreign, "old").mkdir()
    assert ctypes.CDLL(None).pivot_root(foreign.encode(), f"{foreign}/old".encode()) == 0
    assert ["old"] == os.listdir("/")


@walled()
def test_who_changes_nothing_is_told_nothing() -> None:
    """There is nothing to undo where nothing was done."""
    assert not made().undo()


@walled()
def test_a_pivoted_root_is_given_back() -> None:
    """The root is the former one again, with the mounts below it and the directory, and the foreign one is gone."""
    watched, before, directory = made(), set(mountinfo.points().values()), Path.cwd()
    pivot()
    assert "another root" == watched.undo()
    assert before == set(mountinfo.points().values())
    assert directory == Path.cwd()
    assert not watched.undo()


@walled()
def test_a_root_that_was_unmounted_comes_back_as_a_copy() -> None:
    """Where the former root is gone the spare one takes its place, twice if it must."""
    watched = made()
    before = set(mountinfo.points().values())
    for _ in range(2):
        pivot()
        mounting.detach("/old")
        assert [] == list(Path("/").glob("old/*"))
        assert "another root" == watched.undo()
        assert before == set(mountinfo.points().values())
        assert str(os.getpid()) == Path("/proc/self").readlink().name


@walled()
def test_a_host_name_is_given_back() -> None:
    """The host name is the former one again."""
    watched, name = made(), socket.gethostname()
    socket.sethostname("hostile")
    assert "another host name" == watched.undo()
    assert name == socket.gethostname()


@walled()
def test_mounts_made_read_only_are_writable_again() -> None:
    """Mounts have their former options, those too that were read-only before."""
    watched = made()
    held = watched._own.parent
    mount("-o", "remount,bind,ro,nosuid", held)
    assert "read-only mounts" == watched.undo()
    (held / "file").touch()
    assert [] == mountinfo.restore_options(watched._mounts)
