"""The cgroups of a process on machines with version 1, version 2 and both, as /proc shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from suites.framework import cgroups

HEAD = "30 20 0:26"
PIDS = f"{HEAD} {{root}} {{at}}/pids rw,relatime shared:9 - cgroup cgroup rw,pids\n"
BOTH = f"{HEAD} {{root}} {{at}}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
UNIFIED = f"{HEAD} {{root}} {{at}}/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
DISK = f"{HEAD} / /home rw - ext4 /dev/vda rw\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Return the folder that stands for /proc/self."""
    folder = tmp_path / "proc"
    folder.mkdir()
    return folder


def write(proc: Path, groups: str, mounts: str, *, root: str = "/") -> Path:
    (proc / "cgroup").write_text(groups)
    (proc / "mountinfo").write_text(mounts.format(root=root, at=proc.parent))
    return proc.parent


def test_version_1_has_a_folder_for_each_controller(proc: Path) -> None:
    """Controllers that are mounted together share their folder; one that is not mounted has none."""
    at = write(proc, "4:cpu,cpuacct:/work\n3:pids:/\n2:memory:/work\n1:name=systemd:/s\n", DISK + PIDS + BOTH)
    both = at / "cpu,cpuacct/work"
    assert {"pids": at / "pids", "cpu": both, "cpuacct": both} == cgroups.memberships(proc=proc)
    assert (at / "pids", False) == cgroups.controlled_by("pids", proc=proc)
    assert cgroups.controlled_by("memory", proc=proc) is None


def test_version_2_has_one_folder_for_all(proc: Path) -> None:
    """A controller counts where it is enabled for the own group."""
    at = write(proc, "0::/user.slice/me\n", DISK + UNIFIED)
    folder = at / "unified/user.slice/me"
    folder.mkdir(parents=True)
    (folder / "cgroup.controllers").write_text("cpu pids\n")
    assert {cgroups.UNIFIED: folder} == cgroups.memberships(proc=proc)
    assert (folder, True) == cgroups.controlled_by("pids", proc=proc)
    assert cgroups.controlled_by("memory", proc=proc) is None


def test_a_hybrid_machine_limits_by_version_1(proc: Path) -> None:
    """Where both are mounted, a controller is where version 1 has it."""
    at = write(proc, "3:pids:/a\n0::/b\n", PIDS + UNIFIED)
    (at / "unified/b").mkdir(parents=True)
    (at / "unified/b/cgroup.controllers").write_text("\n")
    assert (at / "pids/a", False) == cgroups.controlled_by("pids", proc=proc)
    assert cgroups.controlled_by("cpu", proc=proc) is None
    assert at / "unified/b" == cgroups.memberships(proc=proc)[cgroups.UNIFIED]


def test_a_containers_own_folder_is_the_mount_itself(proc: Path) -> None:
    """In a container the mount shows only the part below its group."""
    at = write(proc, "3:pids:/docker/abc/inner\n", PIDS, root="/docker/abc")
    assert {"pids": at / "pids/inner"} == cgroups.memberships(proc=proc)


def test_without_cgroups_nothing_is_controlled(proc: Path) -> None:
    """Where no hierarchy is mounted, there is no folder for a limit."""
    write(proc, "0::/\n", DISK)
    assert cgroups.controlled_by("pids", proc=proc) is None


def test_groups_below_are_its_folders(tmp_path: Path) -> None:
    """Folders count, knobs and links do not; a group that is gone has none."""
    (tmp_path / "made").mkdir()
    (tmp_path / "cgroup.procs").touch()
    (tmp_path / "link").symlink_to(tmp_path / "made")
    assert {tmp_path / "made"} == cgroups.below(tmp_path)
    assert frozenset() == cgroups.below(tmp_path / "gone")


def test_the_folders_of_this_process_exist() -> None:
    """On this machine, whatever it has, each folder found is one that lists this process."""
    for folder in cgroups.memberships().values():
        assert str(os.getpid()) in (folder / "cgroup.procs").read_text().split()
