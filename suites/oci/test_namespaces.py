"""Namespaces made, inherited, joined and refused, and what is set in them (config-linux.md, "Namespaces")."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from suites.catalog import Privilege
from suites.framework import probes, process
from suites.framework.bench import Bench
from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires, tier, within
from suites.framework.oci import inside
from suites.framework.oci.bundle import Bundle
from suites.framework.oci.config import namespaces
from suites.framework.oci.container import Container
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.spec import IdMapping
from suites.framework.waiting import Deadline

FILES = {"pid": "pid", "mount": "mnt", "ipc": "ipc", "uts": "uts", "network": "net", "cgroup": "cgroup", "user": "user"}
"""Types of the configuration, and their names in /proc/PID/ns (namespaces(7))."""
HOSTNAME, DOMAIN = "seatrial-hostname", "seatrial.example"
DOMAINNAME = Path("/proc/sys/kernel/domainname")
UIDS: IdMapping = {"containerID": 0, "hostID": 70000, "size": 1000}
GIDS: IdMapping = {"containerID": 0, "hostID": 80000, "size": 2000}
"""Different in every number, so that swapped ones are seen."""
DAY_S = 86400
MONOTONIC_DAYS, BOOT_DAYS = 3, 5


@case("E01")
def test_listed_namespaces_are_new(runtime: Runtime) -> None:
    """Every namespace that the configuration lists without a path is a new one (config-linux.md#namespaces).

    Why: one that is shared by mistake is a hole in the wall.
    By hand:
        # config.json: "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, ...]
        ls -l /proc/PID/ns /proc/self/ns    # no number twice
    """
    container = runtime.container()
    container.spec["linux"]["namespaces"] += namespaces("network", "cgroup")
    listed = [entry["type"] for entry in container.spec["linux"]["namespaces"]]
    assert [] == _shared(container, listed)


@case("E02")
def test_unlisted_namespaces_are_inherited(runtime: Runtime) -> None:
    """A namespace that the configuration does not list is the runtime's own (config-linux.md#namespaces: MUST inherit).

    Why: the host's network and IPC are given to a container in this way.
    By hand:
        # config.json: "namespaces": [{"type": "pid"}, {"type": "mount"}]
        ls -l /proc/PID/ns /proc/self/ns    # all the same but for pid and mnt
    """
    container = runtime.container()
    kept = [entry for entry in container.spec["linux"]["namespaces"] if entry["type"] in ("pid", "mount", "user")]
    container.spec["linux"]["namespaces"] = kept
    unlisted = [kind for kind in FILES if kind not in {entry["type"] for entry in kept}]
    assert unlisted == _shared(container, unlisted)


def _shared(container: Container, kinds: Sequence[str]) -> list[str]:
    """Start it; return those of these namespaces that it has in common with this process."""
    theirs = inside.namespaces(container.running(), [FILES[kind] for kind in kinds])
    return [kind for kind in kinds if theirs[FILES[kind]] == _own(FILES[kind])]


def _own(file: str) -> str:
    return str(Path(f"/proc/self/ns/{file}").readlink())


@case("E03")
@tier(2)
@within(privilege=Privilege.ROOT)
def test_namespace_is_joined_by_path(runtime: Runtime) -> None:
    """A network namespace with a path is that very one, no new one (config-linux.md#namespaces, path).

    Why: the containers of a pod share a network that somebody has set up before.
    By hand:
        unshare --net sleep 60 &
        # config.json: {"type": "network", "path": "/proc/PID_OF_SLEEP/ns/net"}
        ls -l /proc/PID_OF_SLEEP/ns/net /proc/PID/ns/net    # twice the same
    """
    container = runtime.container()
    with _network(runtime) as path:
        container.spec["linux"]["namespaces"].append({"type": "network", "path": path})
        found = inside.namespaces(container.running(), ["net"])["net"]
        words = {str(Path(path).readlink()): "the one at the path", _own("net"): "the runtime's"}
        assert "the one at the path" == words.get(found, "a new one")


@contextmanager
def _network(runtime: Runtime) -> Iterator[str]:
    """Give the path of a network namespace of the test's own, as long as it takes: a process is held in it."""
    (reading, writing), (waiting, held) = os.pipe(), os.pipe()
    words = [probes.tool("unshare"), "--net", "--", "/bin/sh", "-c", "echo; read -r _"]
    try:
        fds = {0: waiting, 1: writing, 2: writing}
        child = process.spawn(words, environment=runtime.bench.environment, fds=fds)
        try:
            runtime.waiter.wait((reading, child.pidfd), Deadline(runtime.seconds))
            yield f"/proc/{child.pid}/ns/net"
        finally:
            child.kill()
    finally:
        for fd in (reading, writing, waiting, held):
            os.close(fd)


@case("E04")
@tier(2)
@pytest.mark.parametrize("what", ["nothing", "another-type", "no-namespace"])
def test_path_without_such_a_namespace_is_refused(runtime: Runtime, what: str) -> None:
    """Where the path is no namespace of the type, create fails (config-linux.md#namespaces, path: MUST).

    Why: a container that gets some other network instead talks to the wrong peers.
    By hand:
        # config.json: {"type": "network", "path": "/nonexistent"}
        $RUNTIME create --bundle BUNDLE ID; echo $?    # not 0
    """
    folder = runtime.bench.make_folder()
    paths = {"nothing": folder / "nothing", "another-type": Path(f"/proc/{os.getpid()}/ns/ipc"), "no-namespace": folder}
    container = runtime.container()
    container.spec["linux"]["namespaces"].append({"type": "network", "path": str(paths[what])})
    assert "refused" == container.create().outcome
    runtime.container().running()


@case("E05")
def test_user_namespace_has_the_mappings(runtime: Runtime) -> None:
    """The ids of a user namespace, and of files made in it, are mapped (config-linux.md#user-namespace-mappings).

    Why: the container's root must be nobody in particular outside.
    By hand:
        # config.json: {"type": "user"}, "uidMappings": [{"containerID": 0, "hostID": 70000, "size": 1000}], ...
        cat /proc/PID/uid_map /proc/PID/gid_map
    """
    container = _mapped(runtime)
    linux = container.spec["linux"]
    recorder = container.running()
    maps = [inside.mapping(recorder, name) for name in ("uid_map", "gid_map")]
    assert [_rows(linux["uidMappings"]), _rows(linux["gidMappings"])] == maps
    recorder.sh("echo >/tmp/made").ok  # noqa: B018 -- raises
    made = container.bundle.inside("/tmp/made").stat()  # noqa: S108 -- the container's
    assert (linux["uidMappings"][0]["hostID"], linux["gidMappings"][0]["hostID"]) == (made.st_uid, made.st_gid)


def _mapped(runtime: Runtime) -> Container:
    """Return a container with a user namespace: as root a range of ids, rootless the caller's, as ever."""
    container = runtime.container()
    if runtime.rootless is None:
        container.spec["linux"]["namespaces"] += namespaces("user")
        container.spec["linux"] |= {"uidMappings": [UIDS], "gidMappings": [GIDS]}
        _give(container.bundle, UIDS["hostID"], GIDS["hostID"])
    return container


def _rows(mappings: Sequence[IdMapping]) -> list[list[int]]:
    return [[mapping["containerID"], mapping["hostID"], mapping["size"]] for mapping in mappings]


def _give(bundle: Bundle, uid: int, gid: int) -> None:
    """Give the root file system to the container's root; all of it is this test's own, and links are not followed."""
    for path in (bundle.rootfs, *bundle.rootfs.rglob("*")):
        os.lchown(path, uid, gid)


@case("E06")
@tier(3)
def test_namespace_listed_twice_is_refused(runtime: Runtime) -> None:
    """A type of namespace that stands there twice makes create fail (config-linux.md#namespaces: MUST).

    Why: which of two paths would count?
    By hand:
        # config.json: "namespaces": [{"type": "uts"}, {"type": "uts"}, ...]
        $RUNTIME create --bundle BUNDLE ID; echo $?    # not 0
    """
    container = runtime.container()
    container.spec["linux"]["namespaces"] += namespaces("uts")
    assert "refused" == container.create().outcome
    runtime.container().running()


@case("E07")
@tier(3)
def test_program_is_pid_1(runtime: Runtime) -> None:
    """In a new pid namespace the program itself is pid 1, without a parent (pid_namespaces(7)).

    Why: only pid 1 gets the container's orphans, and its death ends them all.
    By hand:
        # config.json: "args": ["sh", "-c", "echo $$ $PPID"]
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID    # 1 0
    """
    state = runtime.container().running().state()
    assert (1, 0) == (state.pid, state.ppid)


@case("D18")
def test_hostname_is_the_containers_alone(runtime: Runtime) -> None:
    """The container has the hostname of the configuration, and the machine keeps its own (config.md#hostname).

    Why: the wrong order of two calls renames the machine.
    By hand:
        # config.json: "hostname": "seatrial-hostname", "args": ["hostname"]
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID; hostname
    """
    before = _hostname(runtime.bench)
    container = runtime.container()
    container.spec["hostname"] = HOSTNAME
    inner = container.running().sh("hostname").ok
    assert (HOSTNAME, "unchanged") == (inner, "unchanged" if before == socket.gethostname() else "changed")


@case("D19")
def test_hostname_without_a_namespace_is_refused(runtime: Runtime) -> None:
    """A hostname without a uts namespace of the container's own is an error; nobody is renamed (config.md#hostname).

    Why: it would rename the machine.
    By hand:
        # config.json: "hostname": "seatrial-hostname", and no {"type": "uts"}
        unshare --uts sh -c '$RUNTIME create --bundle BUNDLE ID; echo $?; hostname'
    """
    before = _hostname(runtime.bench)
    container = runtime.container()
    linux = container.spec["linux"]
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "uts"]
    container.spec["hostname"] = HOSTNAME
    outcome = container.create().outcome
    assert ("refused", "unchanged") == (outcome, "unchanged" if before == socket.gethostname() else "changed")
    named = runtime.container()
    named.spec["hostname"] = HOSTNAME
    named.running()


def _hostname(bench: Bench) -> str:
    """Return this worker's hostname, which the bench gives back to it in the end."""
    before = socket.gethostname()

    def restore() -> None:
        if socket.gethostname() != before:
            socket.sethostname(before)

    bench.own(restore)
    return before


@case("D30")
@tier(3)
@offered("domainname")
def test_domainname_is_the_containers_alone(runtime: Runtime) -> None:
    """The container has the NIS domain name of the configuration, and the machine keeps its own (config.md#domainname).

    Why: it is hostname's younger sister, with the same mistakes.
    By hand:
        # config.json: "domainname": "seatrial.example"
        cat /proc/sys/kernel/domainname    # in the container, and outside
    """
    before = DOMAINNAME.read_text()
    container = runtime.container()
    container.spec["domainname"] = DOMAIN
    inner = container.running().sh(f"cat {DOMAINNAME}").ok
    assert (DOMAIN, "unchanged") == (inner, "unchanged" if before == DOMAINNAME.read_text() else "changed")


@case("E08")
@tier(3)
@requires(Fact.TIME_NAMESPACE)
@offered("time-offsets")
def test_clocks_are_set_forward(runtime: Runtime) -> None:
    """Monotonic and boot time are ahead by linux.timeOffsets (config-linux.md#offset-for-time-namespace).

    Why: a migrated container must not see its clocks jump back.
    By hand:
        # config.json: {"type": "time"}, "timeOffsets": {"boottime": {"secs": 432000}, ...}
        cat /proc/uptime    # in the container and outside: five days apart
    """
    container = _mapped(runtime)  # to set clocks takes CAP_SYS_TIME, which no case has outside of a user namespace
    linux = container.spec["linux"]
    linux["namespaces"] += namespaces("time")
    offsets = {"monotonic": MONOTONIC_DAYS, "boottime": BOOT_DAYS}
    linux["timeOffsets"] = {clock: {"secs": days * DAY_S, "nanosecs": 0} for clock, days in offsets.items()}
    recorder = container.running()
    uptime = float(recorder.sh("cat /proc/uptime").ok.split()[0])
    ahead = recorder.log[0].at - time.monotonic(), uptime - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert (MONOTONIC_DAYS, BOOT_DAYS) == tuple(round(seconds / DAY_S) for seconds in ahead)
