"""A container's control groups: where they are, what they limit, that they go (config-linux.md, "Control groups")."""

from __future__ import annotations

from typing import Any

from suites.catalog import Privilege
from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires, tier, within
from suites.framework.oci import cgroup
from suites.framework.oci.config import capabilities
from suites.framework.oci.container import Container
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.traces import NOTHING, Traces
from suites.framework.oci.words import DENIED, complaint
from suites.framework.process import killed
from suites.framework.recorder import Recorder
from suites.framework.waiting import Deadline, ticks

MIB = 1 << 20
NO_FORK = "Resource temporarily unavailable"
NO_DRIVER = "No such device or address"
EATER = """exec awk 'BEGIN { for (all = "x"; length(all) < 32 * 1024 * 1024; ) all = all all }'"""
"""Takes more memory than its container has, and touches all of it; it needs no device, which a runtime may not make."""


def limited(runtime: Runtime, **resources: Any) -> Container:
    """Return a container with these resources, not yet created."""
    container = runtime.container()
    container.spec["linux"]["resources"] = resources
    return container


def membership(container: Container, controller: str, pid: int) -> str:
    """Return whether a process is in the container's cgroup in the hierarchy of a controller."""
    folder = cgroup.folder(container.cgroup, controller)
    if folder is None:
        return "no such cgroup"
    return "there" if str(pid) in (folder / "cgroup.procs").read_text().split() else "not in it"


def values(container: Container, *settings: str) -> dict[str, str]:
    """Return what the kernel has for these settings of the container's cgroup."""
    return {setting: cgroup.value(container.cgroup, setting) for setting in settings}


def forks(recorder: Recorder, number: int) -> str:
    """Return ``done`` where a shell starts so many processes, which stay, else why one that fails does."""
    waiting = "mkfifo /root/queue 2>/dev/null; exec 9<>/root/queue"
    return complaint(recorder, f"{waiting}; for i in $(seq {number}); do read word <&9 >/dev/null 2>&1 & done")


@case("G01")
@tier(2)
@requires(Fact.CGROUP_PIDS, Fact.CGROUP_MEMORY)
@within(privilege=Privilege.ROOT)
def test_cgroups_path_is_honoured(runtime: Runtime) -> None:
    """The container's program is in the cgroups that linux.cgroupsPath names (config-linux.md#cgroups-path).

    Why: an orchestrator has made and limited the place; a container beside it is under nobody's limit.
    By hand:
        # "cgroupsPath": "/place/ID", "resources": {"pids": {"limit": 37}, "memory": {"limit": 80740352}}
        cat /sys/fs/cgroup/{pids,memory}/place/ID/cgroup.procs    # the pid that state prints, in each
    """
    container = limited(runtime, pids={"limit": 37}, memory={"limit": 77 * MIB})
    recorder = container.running()
    found = {controller: membership(container, controller, recorder.pid) for controller in ("pids", "memory")}
    assert {"pids": "there", "memory": "there"} == found


@case("G02")
@tier(2)
@requires(Fact.CGROUP_PIDS)
@within(privilege=Privilege.ROOT)
def test_limit_of_processes_is_enforced(runtime: Runtime) -> None:
    """pids.limit is written, and the fork beyond it fails (config-linux.md#pids; pids.rst of the kernel).

    Why: without it, a fork bomb in one container takes the host down.
    By hand:
        # "resources": {"pids": {"limit": 37}}
        for i in $(seq 60); do sleep 60 & done    # in the container: can't fork
        cat /sys/fs/cgroup/pids/PATH/pids.{max,current}    # 37 and less
    """
    container = limited(runtime, pids={"limit": 37})
    recorder = container.running()
    assert {"pids.limit": "37"} == values(container, "pids.limit")
    assert ("done", NO_FORK) == (forks(recorder, 20), forks(recorder, 20))


@case("G03")
@tier(2)
@requires(Fact.CGROUP_MEMORY)
@within(privilege=Privilege.ROOT)
def test_limits_of_memory_are_written(runtime: Runtime) -> None:
    """memory.limit and memory.reservation are set for the container's cgroup (config-linux.md#memory).

    Why: a limit that is not set lets one container push all others out of memory.
    By hand:
        # "resources": {"memory": {"limit": 80740352, "reservation": 34603008}}
        cat /sys/fs/cgroup/memory/PATH/memory.limit_in_bytes    # version 2: memory.max
    """
    container = limited(runtime, memory={"limit": 77 * MIB, "reservation": 33 * MIB})
    container.running()
    wanted = {"memory.limit": str(77 * MIB), "memory.reservation": str(33 * MIB)}
    assert wanted == values(container, *wanted)


@case("G04")
@tier(2)
@requires(Fact.CGROUP_CPU)
@within(privilege=Privilege.ROOT)
def test_limits_of_cpu_are_written(runtime: Runtime) -> None:
    """cpu.quota, cpu.period and cpu.shares are set for the container's cgroup (config-linux.md#cpu).

    Why: quota and period swapped or left out give a container many times what it was to have.
    By hand:
        # "resources": {"cpu": {"shares": 777, "quota": 33000, "period": 77000}}
        cat /sys/fs/cgroup/cpu/PATH/cpu.{shares,cfs_quota_us,cfs_period_us}    # version 2: cpu.max
    """
    container = limited(runtime, cpu={"shares": 777, "quota": 33000, "period": 77000})
    container.running()
    wanted = {"cpu.quota": "33000", "cpu.period": "77000"}
    if cgroup.version("cpu") == 1:  # version 2 has weights, and more than one formula is in use for them
        wanted["cpu.shares"] = "777"
    assert wanted == values(container, *wanted)


@case("G05")
@requires(Fact.CGROUP_PIDS)
@within(privilege=Privilege.ROOT)
def test_cgroups_are_removed_by_delete(runtime: Runtime) -> None:
    """Delete removes the container's cgroup in every hierarchy (runtime.md#delete).

    Why: the kernel visits every folder that stays, and slows down with each container that ever was.
    By hand:
        $RUNTIME delete ID; ls -d /sys/fs/cgroup/*/PATH    # none
    """
    container = limited(runtime, pids={"limit": 37})
    recorder = container.running()
    assert "there" == membership(container, "pids", recorder.pid)
    recorder.tell("exit 0")
    container.ended()
    assert "stopped" == container.becomes("stopped")
    container.delete().ok()
    assert [] == cgroup.names(container.cgroup)


@case("G06")
@tier(2)
@requires(Fact.CGROUP_DEVICES)
@within(privilege=Privilege.ROOT)
def test_devices_that_are_not_listed_are_denied(runtime: Runtime) -> None:
    """A device that is not allowed cannot be opened, one that is allowed can (config-linux.md#allowed-device-list).

    Why: with mknod(2), which a container of root may call, the host's disk is a file away.
    By hand:
        # "resources": {"devices": [{"allow": false, "access": "rwm"},
        #   {"allow": true, "type": "c", "major": 300, "minor": 7, "access": "rwm"}]}, made: c 300 7 and c 300 8
        cat /dev/listed; cat /dev/unlisted    # no such device (the kernel has no driver of 300); not permitted
    """
    rule = {"allow": True, "type": "c", "major": 300, "minor": 7, "access": "rwm"}
    container = limited(runtime, devices=[{"allow": False, "access": "rwm"}, rule])
    node = {"type": "c", "major": 300, "fileMode": 0o666}
    made = [{**node, "path": "/dev/listed", "minor": 7}, {**node, "path": "/dev/unlisted", "minor": 8}]
    container.spec["linux"]["devices"] = made
    container.spec["process"]["capabilities"] = capabilities("CAP_DAC_OVERRIDE")
    recorder = container.running()
    assert (NO_DRIVER, DENIED) == (complaint(recorder, "cat /dev/listed"), complaint(recorder, "cat /dev/unlisted"))


@case("G07")
@tier(2)
@requires(Fact.CGROUP_CPU)
@within(privilege=Privilege.ROOT)
def test_invalid_resource_fails_create_and_leaves_nothing(runtime: Runtime) -> None:
    """A limit that the kernel refuses fails create, and nothing is left of the container (runtime.md#errors).

    Why: a container that runs without the limit it was to have is worse than none.
    By hand:
        # "resources": {"cpu": {"quota": 33000, "period": 1}}: the kernel takes 1000 to 1000000
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME state ID; ls -d /sys/fs/cgroup/*/PATH
    """
    container = limited(runtime, cpu={"quota": 33000, "period": 1})
    traces = Traces(runtime, container)
    assert "refused" == container.create().outcome
    assert NOTHING == traces.found()
    container.spec["linux"]["resources"] = {"cpu": {"quota": 33000, "period": 77000}}
    container.running()


@case("G08")
@tier(3)
@requires(Fact.CGROUP_V2)
@within(privilege=Privilege.ROOT)
def test_unified_settings_are_written_and_enforced(runtime: Runtime) -> None:
    """What resources.unified names is set for the container's cgroup of version 2 (config-linux.md#unified).

    Why: it is the only way to settings that version 1 did not have.
    By hand:
        # "resources": {"unified": {"memory.max": "80740352", "pids.max": "37", "cpu.max": "33000 77000"}}
        cd /sys/fs/cgroup/PATH; cat memory.max pids.max cpu.max
    """
    unified = {"memory.max": str(77 * MIB), "pids.max": "37", "cpu.max": "33000 77000"}
    container = limited(runtime, unified=unified)
    recorder = container.running()
    wanted = {"memory.limit": str(77 * MIB), "pids.limit": "37", "cpu.quota": "33000", "cpu.period": "77000"}
    assert wanted == values(container, *wanted)
    assert ("done", NO_FORK) == (forks(recorder, 20), forks(recorder, 20))


def little_memory() -> dict[str, int]:
    """Return the limit under which the eater dies, with no swap to flee to where the kernel limits that."""
    return {"limit": 16 * MIB} | ({"swap": 16 * MIB} if cgroup.limits_swap() else {})


@case("G09")
@tier(3)
@requires(Fact.CGROUP_MEMORY)
@within(privilege=Privilege.ROOT)
def test_process_beyond_the_limit_of_memory_is_killed(runtime: Runtime) -> None:
    """A process that exceeds the memory of its container is killed, and the container lives (config-linux.md#memory).

    Why: without the limit the host runs out of memory, and the kernel kills whom it likes.
    By hand:
        # "resources": {"memory": {"limit": 16777216}}
        awk 'BEGIN { for (s = "x"; length(s) < 33554432; ) s = s s }'; echo $?    # in the container: 137
        cat /sys/fs/cgroup/memory/PATH/memory.oom_control    # oom_kill 1; version 2: memory.events
    """
    container = limited(runtime, memory=little_memory())
    recorder = container.running()
    assert killed(9) == recorder.sh(EATER).status
    assert {"memory.kills": "1"} == values(container, "memory.kills")
    assert "running" == container.status()


@case("G09")
@tier(3)
@offered("events")
@requires(Fact.CGROUP_MEMORY)
@within(privilege=Privilege.ROOT)
def test_lack_of_memory_is_an_event(runtime: Runtime) -> None:
    """The events verb tells that the memory of a container was exceeded (runc-events(8)).

    Why: who sees only an exit by KILL looks for a person who did it.
    By hand:
        $RUNTIME events ID &
        awk 'BEGIN { for (s = "x"; length(s) < 33554432; ) s = s s }'    # in the container
        # {"type":"oom","id":"ID"}
    """
    container = limited(runtime, memory=little_memory())
    recorder = container.running()
    events = runtime.begin("events", container.id)
    told = False
    for _ in ticks(Deadline(runtime.seconds)):  # when it has begun to listen, it does not say
        assert killed(9) == recorder.sh(EATER).status
        if told := b'"type":"oom"' in events.output("stdout"):
            break
    assert "an event" == ("an event" if told else "nothing")
