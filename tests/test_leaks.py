"""The census: what a test leaves is seen, called by its kind, blamed on its owner, and removed."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.framework import leaks, mountinfo, proc, process
from suites.framework.environments.run_cgroup import RunCgroup
from suites.framework.leaks import Census, Leak, Owner
from suites.framework.model import Limits
from suites.framework.process import Child, spawn
from suites.framework.waiting import Deadline, ticks
from tests.walled import mount, walled

SECONDS = 10.0
CHAIN = """
import os, sys
for path in sys.argv[2:]:
    with open(path, "w") as file:
        file.write("0")
for _ in range(int(sys.argv[1]) - 1):
    if os.fork() == 0:
        break
while True:
    try:
        if os.fork():
            os._exit(0)
    except OSError:
        continue
"""
"""Processes that each live only until they have forked the next one: a signal to a number comes too late."""


@pytest.fixture
def limited() -> Iterator[tuple[str, ...]]:
    """Yield the files through which a process enters a cgroup with few processes: a bomb must not reach the machine."""
    cgroup = RunCgroup.create(f"bomb-{os.getpid()}", Limits(processes=512))
    if missing := [finding for finding in cgroup.findings if not finding.present]:
        pytest.skip("; ".join(finding.detail for finding in missing))
    yield cgroup.procs
    assert "" == cgroup.remove()


def census(scratch: Path, *groups: Path) -> Census:
    return Census(scratch, groups=groups)


def nobody(pid: int) -> bool:  # noqa: ARG001
    return False


def start(*words: str) -> Child:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return spawn(words, environment={"PATH": "/usr/bin:/bin"}, fds={0: null})
    finally:
        os.close(null)


def left(kind: str, *what: str, owner: Owner = Owner.TARGET) -> tuple[Leak, ...]:
    return tuple(Leak(owner=owner, kind=kind, what=words) for words in what)


def shell(script: str, *left_over: str) -> None:
    """Run a script to its end, and wait until the commands that it leaves to us, its PID 1, are what they become."""
    subprocess.run(["/bin/sh", "-c", script], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found: list[str] = []
    for _ in ticks(Deadline(SECONDS)):
        found = [proc.describe(pid).split(" ", 5)[-1] for pid in proc.children(os.getpid())]
        if set(left_over) <= set(found):
            return
    raise AssertionError(found)


def alone() -> bool:
    return not proc.children(os.getpid())


def test_a_leak_reads_as_what_it_is() -> None:
    """Kind in the singular, then the stable words."""
    assert "process sleep 60" == str(left("processes", "sleep 60")[0])
    assert "descriptor /dev/null" == str(left("descriptors", "/dev/null")[0])


@walled()
def test_nothing_is_left_of_nothing(tmp_path: Path) -> None:
    """Two counts with nothing between them find nothing."""
    assert () == census(tmp_path).settle(nobody)


@walled()
def test_an_orphan_is_a_leak_and_is_ended(tmp_path: Path) -> None:
    """A daemon in a session of its own with an empty environment is found by its descent, killed and reaped."""
    counted = census(tmp_path)
    shell("setsid env -i /bin/sleep 61 </dev/null & sleep 62 &", "/bin/sleep 61", "sleep 62")
    assert set(left("processes", "/bin/sleep 61", "sleep 62")) == set(counted.settle(nobody))
    assert alone()
    assert () == census(tmp_path).settle(nobody)


@walled()
def test_a_stopped_process_is_ended_too(tmp_path: Path) -> None:
    """A process that was stopped and ignores every signal is still a leak that can be removed."""
    counted = census(tmp_path)
    shell("trap '' TERM INT HUP; sleep 60 &", "sleep 60")
    os.kill(proc.children(os.getpid())[0], signal.SIGSTOP)
    assert left("processes", "sleep 60") == counted.settle(nobody)
    assert alone()


@walled()
def test_at_most_five_processes_are_named_and_all_are_ended(tmp_path: Path) -> None:
    """A report names five; the others go as well."""
    counted = census(tmp_path)
    shell("for n in 1 2 3 4 5 6 7 8; do sleep 10$n & done", "sleep 108")
    assert 5 == len(counted.settle(nobody))
    assert alone()


@walled()
def test_what_was_there_before_is_not_touched(tmp_path: Path) -> None:
    """A process of an earlier time is neither a leak nor ended."""
    earlier = start("/bin/sleep", "60")
    assert () == census(tmp_path).settle(nobody)
    assert (earlier.pid,) == proc.children(os.getpid())


@walled()
def test_a_payload_is_ended_and_is_no_leak(tmp_path: Path) -> None:
    """Our own program is removed without blaming anybody."""
    ours = start("/bin/sleep", "60")
    counted = Census(tmp_path, groups=())
    counted._children = frozenset()
    assert () == counted.settle(lambda pid: pid == ours.pid)
    assert alone()


@walled()
def test_a_zombie_is_reaped_and_is_no_leak(tmp_path: Path) -> None:
    """What has ended already was not left running."""
    counted = census(tmp_path)
    ended = start("/bin/true")
    assert select.select([ended.pidfd], [], [], SECONDS)[0]
    os.close(ended.pidfd)
    assert () == counted.settle(nobody)
    assert alone()


@pytest.mark.parametrize("width", [1, 8, 200])
@walled()
def test_a_fork_bomb_settles(width: int, limited: tuple[str, ...], tmp_path: Path) -> None:
    """Processes that fork faster than they can be killed one by one are gone in the end."""
    assert os.getpid() == 1  # a kill of everything follows
    counted = census(tmp_path)
    bomb = start(sys.executable, "-I", "-S", "-c", CHAIN, str(width), *limited)
    assert select.select([bomb.pidfd], [], [], SECONDS)[0]
    os.close(bomb.pidfd)
    assert {leak.kind for leak in counted.settle(nobody)} <= {"processes"}
    assert alone()


@walled()
def test_mounts_are_leaks_and_are_removed(tmp_path: Path) -> None:
    """A mount, the one below it, and one whose name has a space are seen and gone."""
    folder, scratch = tmp_path / "with a space", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    counted = census(scratch)
    mount("-t", "tmpfs", "tmpfs", folder)
    (folder / "inner").mkdir()
    mount("-t", "tmpfs", "tmpfs", folder / "inner")
    assert left("mounts", str(folder), str(folder / "inner")) == counted.settle(nobody)
    assert [] == list(folder.iterdir())


@walled()
def test_files_behind_a_mount_are_not_removed(tmp_path: Path) -> None:
    """A target that binds a folder of the machine into the scratch folder loses the mount, not the folder's files."""
    scratch, precious = tmp_path / "scratch", tmp_path / "precious"
    scratch.mkdir()
    precious.mkdir()
    (precious / "file").write_text("kept")
    counted = census(scratch)
    (scratch / "a b").mkdir()
    mount("--bind", precious, scratch / "a b")
    assert (*left("mounts", str(scratch / "a b")), *left("files", "a b")) == counted.settle(nobody)
    assert "kept" == (precious / "file").read_text()
    assert [] == list(scratch.iterdir())


@walled()
def test_a_mount_that_withstands_saves_what_is_behind_it(tmp_path: Path) -> None:
    """Where a mount cannot be removed, no file below it is."""
    scratch, precious = tmp_path / "scratch", tmp_path / "precious"
    scratch.mkdir()
    precious.mkdir()
    (precious / "file").write_text("kept")
    counted = census(scratch)
    (scratch / "bound").mkdir()
    mount("--bind", precious, scratch / "bound")
    counted._mounts = mountinfo.table()  # as if it could not be removed
    counted.settle(nobody)
    assert "kept" == (precious / "file").read_text()


@walled()
def test_a_home_that_was_replaced_is_made_again(tmp_path: Path) -> None:
    """A link in the place of the home is replaced by a home; what it points to is not emptied."""
    scratch, precious = tmp_path / "scratch", tmp_path / "precious"
    scratch.mkdir()
    precious.mkdir()
    (precious / "file").write_text("kept")
    counted = census(scratch)
    scratch.rmdir()
    scratch.symlink_to(precious)
    assert {"files"} == {leak.kind for leak in counted.settle(nobody)}
    assert "kept" == (precious / "file").read_text()
    assert scratch.is_dir()
    assert not scratch.is_symlink()


@walled()
def test_folders_without_permissions_are_removed(tmp_path: Path) -> None:
    """A folder that its owner may not enter any more is removed all the same."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    counted = census(scratch)
    (scratch / "a/b").mkdir(parents=True)
    (scratch / "a/b/file").touch()
    (scratch / "a/b").chmod(0)
    (scratch / "a").chmod(0)
    scratch.chmod(0)
    assert left("files", "a") == counted.settle(nobody)
    assert [] == list(scratch.iterdir())


@walled()
def test_files_of_every_sort_are_leaks_and_are_removed(tmp_path: Path) -> None:
    """A file, a full folder and a link are removed, not what the link points to."""
    scratch, outside = tmp_path / "scratch", tmp_path / "outside"
    scratch.mkdir()
    outside.mkdir()
    (outside / "file").touch()
    counted = census(scratch)
    (scratch / "a").write_text("x")
    (scratch / "b/c/d").mkdir(parents=True)
    (scratch / "e").symlink_to(outside)
    (scratch / "f").symlink_to("/nowhere")
    assert left("files", "a", "b", "e", "f") == counted.settle(nobody)
    assert [] == list(scratch.iterdir())
    assert (outside / "file").exists()


@walled()
def test_cgroups_are_leaks_and_are_removed(tmp_path: Path) -> None:
    """A group made below the worker's own is seen, and removed with the groups inside it."""
    group, scratch = tmp_path / "group", tmp_path / "scratch"
    (group / "earlier").mkdir(parents=True)
    scratch.mkdir()
    counted = census(scratch, group, tmp_path / "gone")
    (group / "made/deep").mkdir(parents=True)
    assert left("cgroups", "made") == counted.settle(nobody)
    assert ["earlier"] == [path.name for path in group.iterdir()]


@walled()
def test_cgroup_that_a_test_of_another_worker_makes_is_left_alone(tmp_path: Path) -> None:
    """The workers of a run may share a group: what one of them limits its target by is no leak of another's."""
    group, scratch = tmp_path / "group", tmp_path / "scratch"
    group.mkdir()
    scratch.mkdir()
    counted = census(scratch, group)
    (group / "seatrial-limit-x").mkdir()
    assert () == counted.settle(nobody)
    assert ["seatrial-limit-x"] == [path.name for path in group.iterdir()]


@walled()
def test_a_descriptor_is_the_harness_own_leak(tmp_path: Path) -> None:
    """Nobody but the harness can leave a descriptor open in the worker."""
    counted = census(tmp_path)
    fd = os.open(os.devnull, os.O_RDONLY)
    assert left("descriptors", os.devnull, owner=Owner.HARNESS) == counted.settle(nobody)
    counted = census(tmp_path)
    os.close(fd)
    assert () == counted.settle(nobody)


def test_only_groups_made_for_a_run_are_the_workers_own() -> None:
    """On the machine itself the groups of others are never looked at; in a container all are its own."""
    names = {folder.name for folder in leaks.own_cgroups(contained=False)}
    assert all(name.startswith("seatrial-") for name in names)
    assert set(leaks.own_cgroups(contained=False)) <= set(leaks.own_cgroups(contained=True))


@walled()
def test_a_process_that_is_not_ours_is_not_reaped() -> None:
    """A number that belongs to nobody, or to a grandchild, is passed over."""
    leaks._reap(2**22 - 1)
    ctypes.CDLL(None).prctl(36, 0, 0, 0, 0)
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        process.Child(pid=grandchild, pidfd=os.pidfd_open(grandchild), started=0.0).send(9)
        parent.wait()
        leaks._reap(grandchild)
