"""Each fact of an environment is found where it holds, and is found missing where it was really taken away."""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from suites.catalog import Place, Privilege
from suites.framework import cgroups, probes, proc
from suites.framework.environments.engine import EngineError, connect
from suites.framework.environments.image import host_image
from suites.framework.facts import Fact, Finding
from tests.contexts import bench
from tests.walled import behind, forbid_user_namespaces, mount, walled

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root")
WITHOUT_ADMIN = ("setpriv", "--bounding-set=-sys_admin", "--")
WITHOUT_SETUID = ("setpriv", "--bounding-set=-setuid", "--")


def nothing() -> None:
    """Leave the machine as it is."""


def give_ranges() -> None:
    """Give root a range of subordinate ids, in this mount namespace."""
    ranges = Path("/run/ranges")
    mount("-t", "tmpfs", "tmpfs", "/run")
    ranges.write_text("root:100000:65536\n")
    mount("--bind", ranges, "/etc/subuid")
    mount("--bind", ranges, "/etc/subgid")


def take_newuidmap() -> None:
    """Put something that is no program in the place of newuidmap; the ranges are there."""
    give_ranges()
    mount("--bind", "/etc/subuid", "/usr/bin/newuidmap")


def take_ranges() -> None:
    """Leave no range of subordinate ids."""
    mount("--bind", os.devnull, "/etc/subuid")


def take_filters() -> None:
    """Have a filter answer prctl(PR_SET_SECCOMP) as a kernel without filters does."""
    number = {"x86_64": 157, "aarch64": 167}[os.uname().machine]
    rows = ((0x20, 0, 0, 0), (0x15, 0, 3, number), (0x20, 0, 0, 16), (0x15, 0, 1, 22), (6, 0, 0, 0x50016))
    code = b"".join(struct.pack("HBBI", *row) for row in (*rows, (6, 0, 0, 0x7FFF0000)))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxQ", len(rows) + 1, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program, 0, 0) == 0, os.strerror(ctypes.get_errno())


def take_proc_children() -> None:
    """Cover the folder of the main thread."""
    mount("-t", "tmpfs", "tmpfs", f"/proc/{os.getpid()}/task/{os.getpid()}")


def take_terminals() -> None:
    """Cover the folder of the pseudo-terminals."""
    mount("-t", "tmpfs", "tmpfs", "/dev/pts")


def take_nsenter() -> None:
    """Put something that is no program in the place of nsenter."""
    mount("--bind", os.devnull, os.path.realpath(probes.tool("nsenter")))


def take_bash() -> None:
    """Put something that is no program in the place of bash."""
    mount("--bind", os.devnull, os.path.realpath(probes.tool("bash")))


def take_make() -> None:
    """Put something that is no program in the place of make."""
    mount("--bind", os.devnull, os.path.realpath(probes.tool("make")))


def take_cgroups() -> None:
    """Make every hierarchy read-only, in this mount namespace."""
    for folder in set(cgroups.memberships().values()):
        mount("--bind", folder, folder)
        mount("-o", "remount,bind,ro", folder)


def unmount_cgroups() -> None:
    """Leave no hierarchy at all, in this mount namespace."""
    rows = Path("/proc/self/mountinfo").read_text().splitlines()
    for point in (row.split()[4] for row in reversed(rows) if " - cgroup" in row):
        subprocess.run(["umount", "--lazy", point], check=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How a fact is made untrue, and a word of what its probe then says."""

    says: str
    take: Callable[[], None] = nothing
    before: tuple[str, ...] = ()
    user: bool = False
    privilege: Privilege = Privilege.ROOT


PRESENT: dict[Fact, Callable[[], None]] = {
    Fact.PID_NAMESPACE: nothing,
    Fact.USER_NAMESPACE: nothing,
    Fact.SUBORDINATE_IDS: give_ranges,
    Fact.CHILD_SUBREAPER: nothing,
    Fact.PROC_CHILDREN: nothing,
    Fact.PSEUDO_TERMINAL: nothing,
    Fact.CGROUP_PIDS: nothing,
    Fact.CGROUP_MEMORY: nothing,
    Fact.CGROUP_FREEZER: nothing,
    Fact.CGROUP_CPU: nothing,
    Fact.CGROUP_DEVICES: nothing,
    Fact.MOUNT_ATTRIBUTES: nothing,
    Fact.IDMAPPED_MOUNT: nothing,
    Fact.SECCOMP: nothing,
    Fact.OVERLAY: nothing,
    Fact.TIME_NAMESPACE: nothing,
    Fact.SETUID: nothing,
    Fact.ENTER_NAMESPACE: nothing,
    Fact.FIRST_MOUNTS: nothing,
    Fact.BASH: nothing,
    Fact.TOOLCHAIN: nothing,
}
"""What must be prepared so that a fact holds behind the wall of root, on a machine that has it."""
TAKEN: dict[str, tuple[Fact, Taken]] = {
    "no capability": (Fact.PID_NAMESPACE, Taken(before=WITHOUT_ADMIN, says="unshare: Operation not permitted")),
    "no user namespaces": (
        Fact.PID_NAMESPACE,
        Taken(take=forbid_user_namespaces, user=True, privilege=Privilege.ROOTLESS, says="unshare: No space left"),
    ),
    "limit of 0": (Fact.USER_NAMESPACE, Taken(take=forbid_user_namespaces, user=True, says="No space left")),
    "no newuidmap": (Fact.SUBORDINATE_IDS, Taken(take=take_newuidmap, says="newuidmap")),
    "no range": (Fact.SUBORDINATE_IDS, Taken(take=take_ranges, says="subuid")),
    "covered": (Fact.PROC_CHILDREN, Taken(take=take_proc_children, says="children: No such file or directory")),
    "no devpts": (Fact.PSEUDO_TERMINAL, Taken(take=take_terminals, says="out of pty devices")),
    "read-only pids": (Fact.CGROUP_PIDS, Taken(take=take_cgroups, says="Read-only file system")),
    "no pids hierarchy": (Fact.CGROUP_PIDS, Taken(take=unmount_cgroups, says="has the pids controller")),
    "read-only memory": (Fact.CGROUP_MEMORY, Taken(take=take_cgroups, says="Read-only file system")),
    "read-only freezer": (Fact.CGROUP_FREEZER, Taken(take=take_cgroups, says="Read-only file system")),
    "no freezer": (Fact.CGROUP_FREEZER, Taken(take=unmount_cgroups, says="has a freezer")),
    "read-only cpu": (Fact.CGROUP_CPU, Taken(take=take_cgroups, says="Read-only file system")),
    "no cpu hierarchy": (Fact.CGROUP_CPU, Taken(take=unmount_cgroups, says="has the cpu controller")),
    "read-only devices": (Fact.CGROUP_DEVICES, Taken(take=take_cgroups, says="Read-only file system")),
    "no devices hierarchy": (Fact.CGROUP_DEVICES, Taken(take=unmount_cgroups, says="has the devices controller")),
    "no cgroup of version 2": (Fact.CGROUP_V2, Taken(take=unmount_cgroups, says="has the memory controller")),
    "no recursion": (Fact.MOUNT_ATTRIBUTES, Taken(before=WITHOUT_ADMIN, says="Operation not permitted")),
    "no mapping": (Fact.IDMAPPED_MOUNT, Taken(before=WITHOUT_ADMIN, says="Operation not permitted")),
    "no filters": (Fact.SECCOMP, Taken(take=take_filters, says="prctl: Invalid argument")),
    "no memory hierarchy": (Fact.CGROUP_MEMORY, Taken(take=unmount_cgroups, says="has the memory controller")),
    "no right to mount": (Fact.OVERLAY, Taken(before=WITHOUT_ADMIN, says="unshare failed: Operation not permitted")),
    "no user namespace": (
        Fact.OVERLAY,
        Taken(take=forbid_user_namespaces, user=True, privilege=Privilege.ROOTLESS, says="No space left"),
    ),
    "no clocks to set": (Fact.TIME_NAMESPACE, Taken(take=forbid_user_namespaces, user=True, says="No space left")),
    "no setuid": (Fact.SETUID, Taken(before=WITHOUT_SETUID, says="PermissionError")),
    "nothing to enter": (Fact.ENTER_NAMESPACE, Taken(before=WITHOUT_ADMIN, says="unshare: Operation not permitted")),
    "no first mounts": (Fact.FIRST_MOUNTS, Taken(before=WITHOUT_ADMIN, says="Operation not permitted")),
    "no nsenter": (Fact.ENTER_NAMESPACE, Taken(take=take_nsenter, says="nsenter: Permission denied")),
    "no bash": (Fact.BASH, Taken(take=take_bash, says="bash: Permission denied")),
    "no make": (Fact.TOOLCHAIN, Taken(take=take_make, says="make: ")),
}
"""Each way in which a fact is taken away."""
OF_DOCKER = {Fact.DOCKER_COMMAND, Fact.DOCKER_EXEC}
OF_PODS = {Fact.ENGINE, Fact.FIRST_MOUNTS}
ELSEWHERE = {Fact.CHILD_SUBREAPER, *OF_DOCKER, Fact.ENGINE}
"""Facts that are taken away in tests of their own."""


def test_every_fact_is_taken_away() -> None:
    """No probe is without a test in which its fact holds and one in which it does not."""
    assert probes.PROBES.keys() == {fact for fact, _ in TAKEN.values()} | ELSEWHERE
    assert probes.PROBES.keys() == PRESENT.keys() | OF_DOCKER | OF_PODS | {Fact.CGROUP_V2}


@AS_ROOT
@pytest.mark.parametrize("fact", PRESENT, ids=str)
def test_a_fact_that_holds_is_found(fact: Fact, tmp_path: Path) -> None:
    """Behind the wall of root the operation succeeds, and nothing is left of it."""
    behind(__name__, "look_where_it_holds", (fact, tmp_path), {}, before=(), user=False)


def look_where_it_holds(fact: Fact, folder: Path) -> None:
    """Probe a fact, in the way that its environment does."""
    PRESENT[fact]()
    made = bench(folder)
    before = os.listdir("/proc/self/fd")
    found = probes.PROBES[fact](made)
    assert (fact, True, "", "") == (found.fact, found.present, found.detail, found.remedy), found
    assert found.missing is None
    assert before == os.listdir("/proc/self/fd")
    assert () == proc.children(os.getpid())


@AS_ROOT
@pytest.mark.parametrize("how", TAKEN)
def test_a_fact_that_was_taken_away_is_missing(how: str, tmp_path: Path) -> None:
    """The probe says what it did, what it saw and what would help."""
    taken = TAKEN[how][1]
    behind(__name__, "look_where_it_was_taken", (how, tmp_path), {}, before=taken.before, user=taken.user)


def look_where_it_was_taken(how: str, folder: Path) -> None:
    """Take a fact away, then probe it."""
    fact, taken = TAKEN[how]
    taken.take()
    made = bench(folder, privilege=taken.privilege)
    before = os.listdir("/proc/self/fd")
    found = probes.PROBES[fact](made)
    assert not found.present
    assert taken.says in found.detail, found
    assert found.remedy
    assert found.missing is not None
    assert found.missing.reason.startswith(found.probe)
    assert before == os.listdir("/proc/self/fd")


@walled()
def test_a_worker_that_is_not_pid_1_adopts_nobody(tmp_path: Path) -> None:
    """A process that is neither PID 1 nor a subreaper loses its orphans, and says so."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        found = probes.child_subreaper(bench(tmp_path))
        os.write(writing, f"{found.present} {found.detail}; {found.remedy}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    expected = "False another process adopted it; run the worker as PID 1 of a namespace"
    assert expected == os.read(reading, 1000).decode()


@AS_ROOT
def test_the_rootless_way_is_probed_as_such(tmp_path: Path) -> None:
    """As an ordinary user a PID namespace and an overlay are made inside a user namespace."""
    behind(__name__, "look_as_a_user", (tmp_path,), {}, before=(), user=True)


def look_as_a_user(folder: Path) -> None:
    """Probe what a rootless worker needs, as mapped root that may make further namespaces."""
    for fact in (Fact.PID_NAMESPACE, Fact.OVERLAY, Fact.USER_NAMESPACE):
        found = probes.PROBES[fact](bench(folder, privilege=Privilege.ROOTLESS))
        assert found.present, found
    assert "--user" in probes.pid_namespace(bench(folder, privilege=Privilege.ROOTLESS)).probe


@AS_ROOT
def test_a_cgroup_that_another_probe_left_is_no_harm(tmp_path: Path) -> None:
    """A run that was killed while it probed does not make the next one miss the fact."""
    behind(__name__, "look_beside_another", (tmp_path,), {}, before=(), user=False)


def look_beside_another(folder: Path) -> None:
    """Probe while a probe of another worker, PID 1 like this one, is at it."""
    place = cgroups.controlled_by("pids")
    assert place is not None
    other = place[0] / f"seatrial-probe-{os.getpid()}"
    other.mkdir(exist_ok=True)
    try:
        assert probes.PROBES[Fact.CGROUP_PIDS](bench(folder)).present
    finally:
        with suppress(FileNotFoundError):
            other.rmdir()


def docker_finding(folder: Path) -> Finding:
    """Probe the docker command with the image that is made of this machine."""
    try:
        with connect() as engine:
            image = host_image(engine)
    except EngineError as error:
        pytest.skip(f"no Docker engine: {error}")
    return look_for_docker(folder, image.name, tuple(mounted.path for mounted in image.mounts))


def look_for_docker(folder: Path, image: str, mounts: tuple[str, ...], take: str = "") -> Finding:
    """Probe the docker command with an image, after something was taken away."""
    if take:
        mount("--bind", os.devnull, take)
    made = bench(folder, image=image, image_mounts=mounts)
    found, entered = probes.docker_command(made), probes.docker_exec(made)
    assert not (take and (found.present or entered.present)), (found, entered)
    assert entered.present or "exec" in entered.detail or not found.present, entered
    return found


def test_the_docker_command_is_found_where_it_works(tmp_path: Path) -> None:
    """A container was really run."""
    found = docker_finding(tmp_path)
    assert found.present, found


@pytest.mark.skipif(not os.access(probes.tool("docker"), os.X_OK), reason="needs the docker command")
def test_the_docker_command_is_missing_without_its_engine(tmp_path: Path) -> None:
    """A socket that is covered, or a command that is no program, is told apart from a container that ran."""
    docker_finding(tmp_path)
    places = [os.path.realpath("/var/run/docker.sock"), os.path.realpath(probes.tool("docker"))]
    for place in places:
        behind(__name__, "look_for_docker", (tmp_path, "image", (), place), {}, before=(), user=False)


def test_without_an_image_no_container_is_started(tmp_path: Path) -> None:
    """A run without image has no docker cases, and says what would give it one."""
    for probe, fact in ((probes.docker_command, Fact.DOCKER_COMMAND), (probes.docker_exec, Fact.DOCKER_EXEC)):
        found = probe(bench(tmp_path))
        assert (fact, False, "no container image for this run") == (found.fact, found.present, found.detail)
        assert "Docker engine" in found.remedy


def test_a_probe_whose_program_hangs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not end within the time is the trouble."""
    monkeypatch.setattr(probes, "PROBE_S", 0.1)
    assert "no end within 0.1 s" == probes._try(bench(tmp_path), ["/bin/sleep", "60"])


def test_a_probe_whose_program_is_not_there_says_so(tmp_path: Path) -> None:
    """A missing program is the trouble, and its path is named."""
    assert "/nowhere/x: No such file or directory" == probes._try(bench(tmp_path), ["/nowhere/x"])
    assert "exit 3" == probes._try(bench(tmp_path), ["/bin/sh", "-c", "exit 3"])


def test_containers_do_not_probe_the_docker_command() -> None:
    """Inside a container there is no engine to talk to; everything else is probed everywhere."""
    assert set(probes.PROBES) == set(probes.applicable(Place.NATIVE, pods=True))
    assert set(probes.PROBES) - OF_DOCKER == set(probes.applicable(Place.CONTAINER, pods=True))


def test_the_engine_is_probed_where_pods_are_planned() -> None:
    """Nobody waits for a containerd who tries an init."""
    assert OF_PODS == set(probes.applicable(Place.NATIVE, pods=True)) - set(probes.applicable(Place.NATIVE))


@pytest.mark.parametrize(
    ("table", "about"),
    [("1000 1000 1\n", "start the session as root with --as-user USER"), ("0 0 4294967295\n", "usermod")],
)
def test_a_user_behind_his_own_wall_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, about: str
) -> None:
    """Where one id is mapped no range can be given: the remedy is another way to start."""
    (tmp_path / "uid_map").write_text(table)
    mapped = functools.partial(probes._mapped, table=tmp_path / "uid_map")
    monkeypatch.setattr(probes, "_mapped", mapped)
    monkeypatch.setattr(probes, "_try", lambda *_: "newuidmap: write to uid_map failed")
    assert about in probes.subordinate_ids(bench(tmp_path)).remedy


def test_a_tool_is_named_even_where_it_is_not() -> None:
    """A program of the system is found by its path; one that is nowhere still has a name to complain about."""
    assert "/usr/bin/unshare" == probes.tool("unshare")
    assert "/usr/bin/no-such-tool" == probes.tool("no-such-tool")


@pytest.mark.parametrize(
    ("unified", "said"), [(True, ""), (False, "the memory controller is in a hierarchy of version 1")]
)
def test_version_2_is_looked_for_by_each_of_its_controllers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unified: bool, said: str
) -> None:
    """Three limits are set in the hierarchy of version 2; one controller in version 1 is enough to say no."""
    written: list[tuple[str, str]] = []

    def write(_child: Path, knob: str, word: str) -> str:
        written.append((knob, word))
        return ""

    monkeypatch.setattr(cgroups, "controlled_by", lambda _: (tmp_path, unified))
    monkeypatch.setattr(probes, "_write_in_new", write)
    finding = probes.cgroup_v2(bench(tmp_path))
    assert (not said, said) == (finding.present, finding.detail)
    assert ["memory.max", "pids.max", "cpu.max"] == [knob for knob, _ in written] or not unified
