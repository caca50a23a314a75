"""Scripts that have a root folder of their own, and what others may write to."""

from __future__ import annotations

import os
from pathlib import Path
from signal import SIGTERM

import pytest

from suites.framework import proc
from suites.framework.buildscripts.build import Build
from suites.framework.buildscripts.gate import Gate
from suites.framework.buildscripts.inventory import Inventory
from suites.framework.buildscripts.package import Shelf
from suites.framework.buildscripts.tree import Tree
from suites.framework.buildscripts.workload import Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.facts import Fact
from suites.framework.manifest import difference, manifest
from suites.framework.marks import case, offered, requires, weight
from suites.framework.process import exited, killed
from suites.framework.waiting import Deadline

NAMESPACES = (Fact.USER_NAMESPACE, Fact.ENTER_NAMESPACE, Fact.STATIC_PAYLOAD)
LOOK = """\
mark inside "$(readlink /proc/1/ns/pid)" "$(head -c 3 /dev/zero | wc -c)" "$(ls -d /sys/kernel)" \\
    "$(cat {canary} 2>/dev/null || echo unreachable)"
"""
"""Tells which process 1 there is, whether dev and sys are of use, and what a file of the host holds."""


@case("W46")
@offered("chroot")
@requires(Fact.SOURCES, Fact.TOOLCHAIN, *NAMESPACES)
@weight(30)
def test_package_is_built_in_a_root_of_its_own(wrapper: Wrapper) -> None:
    """In a chroot with dev, proc and sys a package becomes what it is outside; of the host nothing is seen (LFS, 7.3).

    Why: the second half of every book is built in there, and whatever is missing is found out by some configure.
    By hand:
        $WRAPPER run --chroot $ROOT    # a tree with usr, bin, lib; scripts/ed.sh builds ed into /out
        # readlink /proc/1/ns/pid inside is not that of the host; cat of a file of the host fails
        diff -r $ROOT/out $OTHER/out    # of a build without --chroot: nothing
    """
    shelf, canary = Shelf.of(wrapper), _canary(wrapper)
    look, outside = LOOK.replace("{canary}", str(canary)), wrapper.beside("plain")
    wrapper.write(shelf.step("ed", first=look), at=outside)
    assert exited(0) == wrapper.build(options=shelf.options, at=outside).status
    tree = Tree(wrapper)
    wrapper.write(tree.inside(shelf.step("ed", first=look)))
    with wrapper.begin(options=(*shelf.options, *wrapper.option("chroot")), through=tree.through) as build:
        assert exited(0) == build.end().status
    assert ["inside", "after"] * 2 == wrapper.labels("ed")
    plain, _, inside, _ = wrapper.gatehouse.seen
    assert (b"3", b"/sys/kernel", b"a canary") == plain.words[1:]
    assert (inside.state.pid_namespace.encode(), b"3", b"/sys/kernel", b"unreachable") == inside.words
    assert "its own" == ("the host's" if inside.state.pid_namespace == plain.state.pid_namespace else "its own")
    assert () == difference(manifest(outside.artefacts), manifest(wrapper.artefacts))
    assert [] == tree.mounts()


def _canary(wrapper: Wrapper) -> Path:
    path = wrapper.beside("outside").root / "canary"
    path.write_text("a canary")
    return path


@case("W46")
@offered("chroot")
@requires(*NAMESPACES)
@pytest.mark.parametrize("way", ["success", "failure", "TERM", "kill"])
def test_nothing_stays_mounted_below_the_root(wrapper: Wrapper, way: str) -> None:
    """However a chroot ends, nothing is mounted below its root afterwards (mount_namespaces(7)).

    Why: /dev is still bound below the tree that somebody removes with rm -rf.
    By hand:
        $WRAPPER run --chroot $ROOT & kill $!    # or kill -9, or let it come to its end, or fail
        grep $ROOT /proc/self/mountinfo    # nothing
    """
    tree = Tree(wrapper)
    wrapper.write(Step(name="a", body="mark inside"))
    with wrapper.begin(options=wrapper.option("chroot"), through=tree.through) as build:
        gate = build.gate("a", "inside")
        assert "its own" == (
            "the host's" if gate.state.pid_namespace == str(Path("/proc/self/ns/pid").readlink()) else "its own"
        )
        _end(wrapper, build, gate, way)
    assert [] == tree.mounts()


def _end(wrapper: Wrapper, build: Build, gate: Gate, way: str) -> None:
    """End a build whose script stands at a gate."""
    match way:
        case "success" | "failure":
            code = 0 if way == "success" else 7
            gate.open(code)
            assert exited(code) == build.end().status
        case "TERM":
            build.send(SIGTERM)
            assert killed(SIGTERM) == build.end().status
        case _:
            line = [os.pidfd_open(pid) for pid in _ancestry(gate.recorder.pid, below=build.child.pid)]
            build.kill()
            gate.open()
            for pidfd in line:
                assert (pidfd,) == wrapper.waiter.wait((pidfd,), Deadline(wrapper.seconds))
                os.close(pidfd)


def _ancestry(pid: int, *, below: int) -> list[int]:
    """Return a process, its parent and so on, as long as they are below another."""
    found = []
    while pid != below and (state := proc.stat(pid)) is not None:
        found.append(pid)
        pid = state.parent
    return found


@case("W14")
@requires(Fact.SOURCES, Fact.TOOLCHAIN)
@weight(30)
def test_building_writes_nowhere_else(wrapper: Wrapper) -> None:
    r"""Building a package changes nothing outside the root: not the caller's home, not what stands beside (LFS, 1.3).

    Why: half of the new system in the old one's /usr.
    By hand:
        find $HOME $ROOT/../outside -printf '%p %T@ %s\n' >before; $WRAPPER run $ROOT
        find $HOME $ROOT/../outside -printf '%p %T@ %s\n' | diff before -    # nothing
    """
    shelf, canary = Shelf.of(wrapper), _canary(wrapper)
    folders = canary.parent, wrapper.bench.home
    before = [Inventory.take(folder) for folder in folders]
    names = sorted(path.name for path in wrapper.root.parent.iterdir())
    wrapper.write(shelf.step("ed"))
    assert exited(0) == wrapper.build(options=shelf.options).status
    assert ["before", "after"] == wrapper.labels("ed")
    assert [[], []] == [old.changes(Inventory.take(folder)) for old, folder in zip(before, folders, strict=True)]
    assert names == sorted(path.name for path in wrapper.root.parent.iterdir())


@case("W14")
@offered("chroot")
@requires(*NAMESPACES)
def test_script_with_a_root_of_its_own_cannot_write_elsewhere(wrapper: Wrapper) -> None:
    """In a chroot the write itself fails: the path of the host is not there (chroot(2); LFS, 7.4).

    Why: a package whose install forgets DESTDIR.
    By hand:
        echo 'echo changed >/tmp/canary' >>$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; cat /tmp/canary    # changed
        $WRAPPER run --chroot $ROOT; echo $?    # not 0, and /tmp/canary is as it was
    """
    canary = _canary(wrapper)
    step = Step(name="a", body=f"mark before\necho changed >{canary}\nmark after")
    outside = wrapper.beside("plain")
    wrapper.write(step, at=outside)
    assert exited(0) == wrapper.build(at=outside).status
    assert "changed\n" == canary.read_text()
    tree = Tree(wrapper)
    wrapper.write(step)
    before = Inventory.take(canary.parent)
    with wrapper.begin(options=wrapper.option("chroot"), through=tree.through) as build:
        assert exited(1) == build.end().status
    assert ["before", "after", "before"] == wrapper.labels("a")
    assert [] == before.changes(Inventory.take(canary.parent))
