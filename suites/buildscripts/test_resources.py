"""Too little of something: disk, memory, processes, and what a wrapper looks at before it starts."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from signal import SIGKILL

import pytest

from suites.catalog import Privilege
from suites.framework import proc, process
from suites.framework.buildscripts.enclosure import Enclosure, Group
from suites.framework.buildscripts.package import Shelf
from suites.framework.buildscripts.workload import Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires, weight, within
from suites.framework.observation import Unmet
from suites.framework.process import exited

ENLARGED = "size=64m"
MEMORY = 64 << 20
"""Bytes of memory that a cgroup gets; its eater wants five times as much."""
SPACE_KIB = 512 << 10
"""Address space that a script gets, in KiB; its reserver wants twice as much, and touches none of it."""
RESERVING = "dd if=/dev/null of=/dev/null bs=1G count=1"
EATING = "head -c 320M /dev/zero | tail"
PROCESSES = 100
MOST = 400
"""Where the process bomb stops by itself."""
BOMB_CODE = 11
BOMB = f"""
import os, signal, sys
count = 0
try:
    while count < {MOST}:
        if not os.fork():
            while True:
                signal.pause()
        count += 1
except OSError:
    pass
os.execv(sys.argv[1], [*sys.argv[1:], "limited" if count < {MOST} else "not limited"])
"""
"""Forks until it may not, then becomes the gate that tells whether it was stopped."""
TOO_MUCH_KIB = 1 << 42
TOOL = "no-such-tool-of-anybody"


@case("W36")
@requires(Fact.USER_NAMESPACE, Fact.SOURCES, Fact.TOOLCHAIN)
@weight(60)
@pytest.mark.parametrize(("where", "size"), [("work", "256k"), ("out", "32k")], ids=["work", "artefacts"])
def test_full_disk_is_told_apart_and_named(wrapper: Wrapper, where: str, size: str) -> None:
    """A step for which the disk was too small says so, and which one it was; on a larger one it is built (ENOSPC).

    Why: "ld: final link failed" at the end of a night, and nobody thinks of df.
    By hand:
        mount -t tmpfs -o size=256k none $ROOT/work    # with a script that unpacks and builds ed there
        $WRAPPER run $ROOT; echo $?    # disk-full on $ROOT/work; not 0
        mount -o remount,size=64m $ROOT/work; $WRAPPER run $ROOT    # done
    """
    shelf, enclosure = Shelf.of(wrapper), Enclosure(wrapper.bench)
    point = wrapper.artefacts if where == "out" else wrapper.root / where
    wrapper.write(shelf.step("ed"))
    point.mkdir(exist_ok=True)
    enclosure.mount(point, size=size)
    wrapper.behind(enclosure)
    ended = wrapper.build(options=shelf.options)
    assert ["before"] == wrapper.labels("ed")
    assert (wrapper.told("disk-full"), "named") == (wrapper.standing("ed"), _named(point, ended.stderr))
    assert "a failure" == ("success" if ended.status == exited(0) else "a failure")
    enclosure.change(point, ENLARGED)
    assert exited(0) == wrapper.build(options=shelf.options).status
    assert ["before", "before", "after"] == wrapper.labels("ed")
    assert wrapper.told("done") == wrapper.standing("ed")


def _named(point: Path, said: bytes) -> str:
    """Return whether a mount point itself is named; what a program says of a file below it is no word of a wrapper."""
    tokens = re.findall(r"[^\s:,;()'\"]+", said.decode(errors="replace"))
    return "named" if str(point) in tokens else "not named on stderr"


@case("W36")
@requires(Fact.USER_NAMESPACE, Fact.SOURCES, Fact.TOOLCHAIN)
@offered("state-file")
@weight(60)
def test_full_disk_below_the_state_makes_nothing_done(wrapper: Wrapper) -> None:
    """A step that cannot be written down is not done, and the full file system is named; larger, it is built (ENOSPC).

    Why: an empty stamp that is taken for "done": the package is missing, and nothing ever builds it again.
    By hand:
        mount -t tmpfs -o size=8k none $ROOT/.build
        # cat /dev/zero >$ROOT/.build/filler, in the middle of a build of ed:
        $WRAPPER run $ROOT; echo $?    # full is: $ROOT/.build; 74; where that is written in place: 0, and it is done
        rm $ROOT/.build/filler; mount -o remount,size=64m $ROOT/.build; $WRAPPER run $ROOT    # done
    """
    if not wrapper.call.state_file:
        raise Unmet("a file that says how a step stands", "the profile names none")
    shelf, enclosure = Shelf.of(wrapper), Enclosure(wrapper.bench)
    point = wrapper.place.path(wrapper.call.state_file, step="ed").parent
    wrapper.write(shelf.step("ed"))
    point.mkdir(parents=True, exist_ok=True)
    enclosure.mount(point, size="8k")
    wrapper.behind(enclosure)
    with wrapper.begin(options=shelf.options) as build:
        gate = build.gate("ed", "before")
        filler = enclosure.inside(point / "filler")
        _fill(filler)
        gate.open()
        ended = build.end()
    if (exited(0), wrapper.told("done")) != (ended.status, wrapper.standing("ed")):  # its few bytes may have had room
        assert (exited(wrapper.call.infrastructure), "named") == (ended.status, _named(point, ended.stderr))
        assert wrapper.told("pending") == wrapper.standing("ed")
    enclosure.change(point, ENLARGED)
    filler.unlink()
    assert exited(0) == wrapper.build(options=shelf.options).status
    assert ["after"] == wrapper.labels("ed")[-1:]
    assert wrapper.told("done") == wrapper.standing("ed")


def _fill(filler: Path) -> None:
    """Take what is left of a file system."""
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 10))


@case("W37")
@requires(Fact.CGROUP_MEMORY)
@offered("oom")
@weight(4)
def test_step_killed_for_want_of_memory_is_told_apart(wrapper: Wrapper) -> None:
    """A step of which the kernel killed a process for want of memory has a state of its own (memory.events, oom_kill).

    Why: "exit 137" is looked for in the compiler for a day, where one word says: fewer jobs, or more memory.
    By hand:
        echo 67108864 >/sys/fs/cgroup/memory/x/memory.limit_in_bytes; echo $$ >/sys/fs/cgroup/memory/x/cgroup.procs
        # a script: head -c 320M /dev/zero | tail
        $WRAPPER run $ROOT; $WRAPPER state $ROOT    # oom
    """
    group = Group(wrapper.bench, "memory", MEMORY)
    wrapper.through = group.words
    wrapper.write(Step(name="a", body=f"mark ran\n{EATING}"))
    ended = wrapper.build()
    assert ["a"] == wrapper.ran()
    assert "killed" == ("killed" if group.kills else "nothing was killed")
    assert "a failure" == ("success" if ended.status == exited(0) else "a failure")
    assert wrapper.told("oom") == wrapper.standing("a")
    wrapper.write(Step(name="a", body="mark ran\nkill -KILL $$"))  # another kill is another matter
    assert wrapper.ended_by(SIGKILL) == wrapper.build().status
    assert wrapper.told("signal") == wrapper.standing("a")


@case("W38")
@offered("memory")
def test_step_with_too_little_address_space_fails_by_itself(wrapper: Wrapper) -> None:
    """A limit of memory makes an allocation fail, so that the program says so itself (setrlimit(2), RLIMIT_AS).

    Why: a limit that only half of the processes get is none; a kill in its place takes the message away.
    By hand:
        echo '#!/bin/bash
        dd if=/dev/null of=/dev/null bs=1G count=1' >$ROOT/scripts/a.sh
        $WRAPPER run --memory 524288 $ROOT; echo $?    # dd: memory exhausted; 1
        $WRAPPER run $ROOT; echo $?    # 0
    """
    wrapper.write(Step(name="a", body=f"mark before\n{RESERVING}\nmark after"))
    ended = wrapper.build(options=wrapper.option("memory", kib=SPACE_KIB))
    assert ["before"] == wrapper.labels("a")
    assert (exited(1), wrapper.told("exit")) == (ended.status, wrapper.standing("a"))
    assert exited(0) == wrapper.build().status
    assert ["before", "before", "after"] == wrapper.labels("a")


@case("W39")
@within(privilege=Privilege.ROOTLESS)
@offered("processes")
@weight(2)
def test_process_bomb_stops_at_the_limit_of_its_user(wrapper: Wrapper) -> None:
    """A step that forks without end is stopped by the limit, fails, and nothing of it is left (RLIMIT_NPROC).

    Why: a recursive make without a base case takes the whole machine with it. For root this limit does nothing.
    By hand:
        # a script that forks 400 times
        $WRAPPER run --processes 100 $ROOT; echo $?    # not 0
        pgrep -f bomb    # nothing
    """
    _bomb(wrapper, options=wrapper.option("processes", processes=PROCESSES))


@case("W39")
@requires(Fact.CGROUP_PIDS)
@weight(2)
def test_process_bomb_stops_at_the_limit_of_its_cgroup(wrapper: Wrapper) -> None:
    """In a cgroup that is full of its step's processes a wrapper ends them all, and reports the failure (pids.max).

    Why: where nothing can be forked, a wrapper that needs `kill` and `ps` to clean up cannot.
    By hand:
        echo 100 >/sys/fs/cgroup/pids/x/pids.max; echo $$ >/sys/fs/cgroup/pids/x/cgroup.procs
        # a script that forks 400 times
        $WRAPPER run $ROOT; echo $?    # not 0
        pgrep -f bomb    # nothing
    """
    group = Group(wrapper.bench, "pids", PROCESSES)
    wrapper.through = group.words
    _bomb(wrapper, options=())


def _bomb(wrapper: Wrapper, *, options: Sequence[str]) -> None:
    """Show that a process bomb is stopped, that others can fork meanwhile, and that nothing of it is left."""
    bench = wrapper.bench
    gate = [*wrapper.gatehouse.recording(bench.payload), "a", "bombed"]
    wrapper.write(Step(name="a", body=f"exec {shlex.join([bench.python, '-I', '-S', '-c', BOMB, *gate])}"))
    with wrapper.begin(options=options) as build:
        bombed = build.gate("a", "bombed")
        assert (b"limited",) == bombed.words
        answered, _ = process.output_of(["/bin/sh", "-c", "/bin/true"], environment=bench.environment, seconds=20)
        assert exited(0) == answered
        bombed.open(BOMB_CODE)
        assert exited(BOMB_CODE) == build.end().status
    assert "nothing is left" == _left(bench.nonce)
    assert wrapper.told("exit") == wrapper.standing("a")


def _left(nonce: str) -> str:
    """Return whether processes of a bomb, which hold the nonce among their words, live on below us."""
    pids = [pid for pid in proc.descendants(os.getpid()) if proc.state(pid) not in ("", "Z")]
    left = [pid for pid in pids if nonce in proc.describe(pid)]
    return "processes are left" if left else "nothing is left"


@case("W40")
@pytest.mark.parametrize("what", [pytest.param(name, marks=offered(name)) for name in ("disk", "ram")])
def test_too_little_is_refused_before_anything_starts(wrapper: Wrapper, what: str) -> None:
    """Where less disk or memory is free than asked for, nothing starts, and both numbers are told (sysexits.h, 69).

    Why: four hours of a build for an error that was certain from the first minute.
    By hand:
        $WRAPPER run --disk 4398046511104 $ROOT; echo $?    # how much is free, 4398046511104; 69
        $WRAPPER run --disk 1 $ROOT; echo $?    # 0
        # and the same with --ram
    """
    wrapper.write(Step(name="a"))
    ended = wrapper.build(options=wrapper.option(what, kib=TOO_MUCH_KIB))
    numbers = [int(number) for number in re.findall(r"\b\d+\b", ended.stderr.decode(errors="replace"))]
    free = _free_kib(what, wrapper.root)
    told = {"found": any(free // 2 <= number <= free * 2 for number in numbers), "needed": TOO_MUCH_KIB in numbers}
    assert (exited(wrapper.call.precluded), []) == (ended.status, wrapper.ran())
    assert "found, needed" == (", ".join(name for name, there in told.items() if there) or "no number")
    assert wrapper.told("pending") == wrapper.standing("a")
    assert exited(0) == wrapper.build(options=wrapper.option(what, kib=1)).status
    assert ["a"] == wrapper.ran()


def _free_kib(what: str, root: Path) -> int:
    if what == "disk":
        found = os.statvfs(root)
        return found.f_bavail * found.f_frsize // 1024
    rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(rows["MemAvailable"].split()[0])


@case("W40")
@offered("tool")
def test_missing_tool_is_refused_before_anything_starts(wrapper: Wrapper) -> None:
    """Where a program that is asked for is missing, nothing starts, and it is named (sysexits.h, 69).

    Why: "makeinfo: command not found" comes at the very end of a build.
    By hand:
        $WRAPPER run --tool no-such-tool $ROOT; echo $?    # names no-such-tool; 69
        $WRAPPER run --tool bash $ROOT; echo $?    # 0
    """
    wrapper.write(Step(name="a"))
    ended = wrapper.build(options=wrapper.option("tool", tool=TOOL))
    named = "named" if TOOL.encode() in ended.stderr else "not named on stderr"
    assert (exited(wrapper.call.precluded), "named", []) == (ended.status, named, wrapper.ran())
    assert wrapper.told("pending") == wrapper.standing("a")
    assert exited(0) == wrapper.build(options=wrapper.option("tool", tool="bash")).status
    assert ["a"] == wrapper.ran()


@case("W40")
@requires(Fact.USER_NAMESPACE)
@offered("mounts")
def test_leftover_mount_is_refused_before_anything_starts(wrapper: Wrapper) -> None:
    """What an earlier build left mounted below the root is named, and nothing starts there (umount(8); sysexits.h, 69).

    Why: an `rm -rf` of a root in which the machine's /dev is still mounted.
    By hand:
        mkdir $ROOT/proc; mount -t tmpfs none $ROOT/proc
        $WRAPPER run $ROOT; echo $?    # 1 left over: $ROOT/proc, needed are 0; 69
        umount $ROOT/proc; $WRAPPER run $ROOT; echo $?    # 0
    """
    enclosure, point = Enclosure(wrapper.bench), wrapper.root / "proc"
    wrapper.write(Step(name="a"))
    point.mkdir()
    enclosure.mount(point, size="64k")
    wrapper.behind(enclosure)
    ended = wrapper.build()
    numbers = set(re.findall(r"\b[01]\b", ended.stderr.decode(errors="replace")))
    assert (exited(wrapper.call.precluded), []) == (ended.status, wrapper.ran())
    assert ("named", {"0", "1"}) == (_named(point, ended.stderr), numbers)
    enclosure.unmount(point)
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()
