"""The root file system and the mounts of a container (config.md, "Root" and "Mounts"; config-linux.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.catalog import Privilege
from suites.framework import mountinfo
from suites.framework.marks import case, tier, within
from suites.framework.mounting import MS_BIND
from suites.framework.oci import place
from suites.framework.oci.config import bind, namespaces
from suites.framework.oci.container import Container
from suites.framework.oci.place import MARKER, Place
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.spec import Mount
from suites.framework.oci.words import FULL, READ_ONLY, complaint, reading, writing

DEVICES = {"null": "1:3", "zero": "1:5", "full": "1:7", "random": "1:8", "urandom": "1:9", "tty": "5:0"}
"""Device: its numbers (devices.txt of the kernel), in hexadecimal as stat(1) prints them."""
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


@case("F01")
def test_host_root_is_out_of_reach(runtime: Runtime) -> None:
    """The root of a container is its root file system, and nothing lies above or beside it (config.md#root).

    Why: a process that is merely chroot(2)ed walks out, and an old root that stays mounted needs no walking.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID
        ls /proc/PID/root/..; cut -d' ' -f5 /proc/PID/mountinfo
        # the container's own files; / and what the configuration mounts
    """
    container, bait = runtime.container(), Place(runtime.bench, "outside")
    recorder = container.running()
    assert "No such file or directory" == reading(recorder, str(bait.marker))
    points = recorder.sh("cut -d' ' -f5 /proc/self/mountinfo").ok.splitlines()
    asked = ("/", "/proc", "/dev")
    assert [] == [point for point in points if point not in asked and not point.startswith("/dev/")]
    assert "nothing" == _above(recorder.pid)


def _above(pid: int) -> str:
    """Return what a walk upwards from a process's root comes to: a mount's root has nothing above it."""
    root = f"/proc/{pid}/root"
    return "nothing" if Path(f"{root}/..").samefile(root) else "a folder of the host"


@case("F02")
def test_read_only_root_is_not_written_to(runtime: Runtime) -> None:
    """With root.readonly nothing in the root file system changes, and mounts stay writable (config.md#root).

    Why: an image that several containers share must not carry what one of them wrote.
    By hand:
        # config.json: "root": {"path": "rootfs", "readonly": true}
        touch /new /dev/new    # in the container: /new: Read-only file system
    """
    container = runtime.container()
    container.spec["root"]["readonly"] = True
    recorder = container.running()
    assert (READ_ONLY, READ_ONLY) == (writing(recorder, "/new"), writing(recorder, "/etc/passwd"))
    assert "written" == writing(recorder, "/dev/new")


@case("F03")
@tier(3)
def test_root_is_writable_without_readonly(runtime: Runtime) -> None:
    """What a container writes to its root is in the bundle's root file system (config.md#root).

    Why: a runtime that hides the writes in a layer of its own loses them.
    By hand:
        echo hello >/new    # in the container
        cat BUNDLE/rootfs/new
    """
    container = runtime.container()
    container.spec["root"]["readonly"] = False
    assert "written" == writing(container.running(), "/new")
    new = container.bundle.inside("/new")
    assert "new" == (new.read_text().strip() if new.exists() else "nothing")


@case("F04")
@tier(2)
def test_options_of_a_tmpfs_are_applied(runtime: Runtime) -> None:
    """A tmpfs has the mode, the size and the flags of its options (config.md#mounts; tmpfs(5)).

    Why: a lost size lets one container fill the memory, a lost mode opens the folder to all, a lost noexec runs it.
    By hand:
        # mount {"destination": "/fresh", "type": "tmpfs", "source": "tmpfs",
        #        "options": ["noexec", "nosuid", "mode=1750", "size=64k"]}
        stat -c %a /fresh; df -k /fresh; grep /fresh /proc/self/mountinfo    # in the container
    """
    container = runtime.container()
    options = ["noexec", "nosuid", "mode=1750", "size=64k"]
    container.spec["mounts"].append({"destination": "/fresh", "type": "tmpfs", "source": "tmpfs", "options": options})
    recorder = container.running()
    assert "1750" == recorder.sh("stat -c %a /fresh").ok
    flags = recorder.sh("grep ' /fresh ' /proc/self/mountinfo | cut -d' ' -f6").ok.split(",")
    assert ["noexec", "nosuid"] == sorted({"noexec", "nosuid"} & set(flags))
    assert "done" == complaint(recorder, "echo '#!/bin/true' >/fresh/run && chmod 755 /fresh/run")
    assert "Permission denied" == complaint(recorder, "/fresh/run")
    filling = [complaint(recorder, f"dd if=/proc/self/exe of=/fresh/full bs=1k count={kib}") for kib in (48, 65)]
    assert ["done", FULL] == filling  # what dd itself is made of: a runtime may make no devices


@case("F05")
def test_read_only_bind_mount_is_enforced(runtime: Runtime) -> None:
    """A bind mount with ``ro`` is read and not written to, one without is written to (config.md#mounts).

    Why: bind takes no other flags along (mount(2)); without a second remount the ro is lost without a word.
    By hand:
        # mount {"destination": "/kept", "type": "bind", "source": FOLDER, "options": ["bind", "ro"]}
        cat /kept/marker; touch /kept/new    # in the container: Read-only file system
    """
    container, kept, free = runtime.container(), Place(runtime.bench, "kept"), Place(runtime.bench, "free")
    container.spec["mounts"] += [bind(str(kept.path), "/kept", "ro"), bind(str(free.path), "/free")]
    recorder = container.running()
    assert runtime.bench.nonce == reading(recorder, f"/kept/{MARKER}")
    assert (READ_ONLY, READ_ONLY) == (writing(recorder, "/kept/new"), writing(recorder, f"/kept/{MARKER}"))
    assert [] == kept.changes()
    assert "written" == writing(recorder, "/free/new")
    assert ["new was added"] == free.changes()


@case("F06")
@tier(2)
def test_single_file_is_bind_mounted(runtime: Runtime) -> None:
    """A single file is mounted at a path that did not exist, and what is beside it stays (config.md#mounts).

    Why: configuration and sockets are given to containers as single files; a folder in their place breaks programs.
    By hand:
        # mount {"destination": "/etc/one", "type": "bind", "source": FILE, "options": ["bind"]}
        cat /etc/one /etc/passwd    # in the container
    """
    container, kept = runtime.container(), Place(runtime.bench, "kept")
    container.spec["mounts"].append(bind(str(kept.marker), "/etc/one"))
    recorder = container.running()
    assert "regular file" == recorder.sh("stat -c %F /etc/one").text.strip()
    assert runtime.bench.nonce == reading(recorder, "/etc/one")
    assert reading(recorder, "/etc/passwd") == container.bundle.inside("/etc/passwd").read_text().strip()
    assert "written" == writing(recorder, "/etc/one")
    assert "new" == kept.marker.read_text().strip()


@case("F07")
def test_mounts_of_a_container_stay_its_own(runtime: Runtime) -> None:
    """What a container has mounted does not appear in the mount table of the host (config-linux.md#namespaces).

    Why: systemd makes every mount shared; a runtime that does not stop that fills the host's table for ever.
    By hand:
        mount --bind BUNDLE BUNDLE; mount --make-shared BUNDLE
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID
        grep BUNDLE /proc/self/mountinfo    # the one line of before
    """
    container = runtime.container()
    container.spec["mounts"].append({"destination": "/fresh", "type": "tmpfs", "source": "tmpfs"})
    if runtime.rootless is None:  # a user may not share, and mounts below a user namespace do not come back up
        place.share(runtime.bench, container.folder)
    before = mountinfo.points()
    recorder = container.running()
    assert "done" == complaint(recorder, "grep -q ' /fresh tmpfs ' /proc/mounts")
    added = [point for number, point in mountinfo.points().items() if number not in before]
    assert [] == [point.replace(str(container.folder), "BUNDLE") for point in added]


@case("F08")
@tier(2)
def test_masked_paths_show_nothing(runtime: Runtime) -> None:
    """Masked files and folders show nothing of what they hold; absent ones are no error (config-linux.md#masked-paths).

    Why: /proc/kcore and /proc/keys of the host are readable otherwise.
    By hand:
        # "maskedPaths": ["/secret", "/vault", "/absent"]
        cat /secret; ls -A /vault    # in the container: nothing
    """
    container, nonce = runtime.container(), runtime.bench.nonce
    inside = container.bundle.inside
    inside("/vault").mkdir()
    for path in ("/secret", "/vault/secret", "/open"):
        inside(path).write_text(nonce)
    container.spec["linux"]["maskedPaths"] = ["/secret", "/vault", "/absent"]
    recorder = container.running()
    file, folder = reading(recorder, "/secret"), recorder.sh("ls -A /vault").text.strip()
    assert "file: nothing, folder: nothing" == f"file: {file or 'nothing'}, folder: {folder or 'nothing'}"
    assert nonce == reading(recorder, "/open")
    assert (nonce, nonce) == (inside("/secret").read_text(), inside("/vault/secret").read_text())


@case("F09")
@tier(2)
def test_read_only_paths_are_not_written_to(runtime: Runtime) -> None:
    """Read-only paths are read and not written to; absent ones are no error (config-linux.md#readonly-paths).

    Why: a writable /proc/sys or /proc/sysrq-trigger lets a container change or reboot the host.
    By hand:
        # "readonlyPaths": ["/etc", "/root/one", "/absent"]
        cat /root/one; touch /etc/new /root/one    # in the container: Read-only file system
    """
    container = runtime.container()
    container.bundle.inside("/root/one").write_text(runtime.bench.nonce)
    container.spec["linux"]["readonlyPaths"] = ["/etc", "/root/one", "/absent"]
    recorder = container.running()
    seen = f"in the folder: {writing(recorder, '/etc/new')}, the file: {writing(recorder, '/root/one')}"
    assert f"in the folder: {READ_ONLY}, the file: {READ_ONLY}" == seen
    assert runtime.bench.nonce == reading(recorder, "/root/one")
    assert "written" == writing(recorder, "/root/new")


@case("F10")
@tier(2)
def test_default_devices_are_there_and_work(runtime: Runtime) -> None:
    """/dev has the six default devices and the links to the descriptors (config-linux.md#default-devices).

    Why: every shell writes to /dev/null; where that is a plain file, it fills the disk.
    By hand:
        cd /dev; stat -c '%n %F %t:%T' null zero full random urandom tty    # in the container
        readlink fd stdin stdout stderr    # runtime-linux.md#dev-symbolic-links
    """
    recorder = runtime.container().running()
    kinds = recorder.sh(f"cd /dev; for name in {' '.join(DEVICES)}; do stat -c '%n %F %t:%T' $name; done").text
    assert [f"{name} character special file {numbers}" for name, numbers in DEVICES.items()] == kinds.splitlines()
    links = recorder.sh(f"cd /dev; for name in {' '.join(LINKS)}; do echo $name $(readlink $name); done").text
    assert [f"{name} {target}" for name, target in LINKS.items()] == links.splitlines()
    assert ("written", FULL) == (writing(recorder, "/dev/null"), complaint(recorder, "echo new >/dev/full"))
    read = "head -c 8 /dev/zero | wc -c; head -c 8 /dev/urandom | wc -c; cat /dev/null | wc -c"
    assert ["8", "8", "0"] == recorder.sh(read).ok.split()


@case("F11")
@tier(2)
@within(privilege=Privilege.ROOT)
def test_listed_devices_are_made(runtime: Runtime) -> None:
    """Each of linux.devices is there with its type, numbers, permissions and owner (config-linux.md#devices).

    Why: the umask of the runtime must not eat the permissions of a device that was given on purpose.
    By hand:
        # "devices": [{"path": "/dev/made", "type": "c", "major": 1, "minor": 5, "fileMode": 438, "uid": 1, "gid": 2}]
        stat -c '%F %t:%T %a %u:%g' /dev/made; head -c 8 /dev/made | wc -c    # in the container
    """
    container = runtime.container()
    container.spec["linux"]["devices"] = [
        {"path": "/dev/made", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666, "uid": 1, "gid": 2},
        {"path": "/dev/queue", "type": "p", "fileMode": 0o620, "uid": 3, "gid": 4},
    ]
    recorder = container.running()
    assert "character special file 1:5 666 1:2" == recorder.sh("stat -c '%F %t:%T %a %u:%g' /dev/made").text.strip()
    assert "fifo 620 3:4" == recorder.sh("stat -c '%F %a %u:%g' /dev/queue").text.strip()
    assert "8" == recorder.sh("head -c 8 /dev/made | wc -c").ok


@case("F17")
@pytest.mark.parametrize("what", ["files", "folders"])
def test_root_file_system_is_left_as_it_was(runtime: Runtime, what: str) -> None:
    """After delete the root file system holds what it held, and the mount points that it lacked (runtime.md#delete).

    Why: an image that changes with every run is no image; a file emptied as a mount point is lost.
    By hand:
        find BUNDLE/rootfs -ls >before; $RUNTIME run --bundle BUNDLE ID
        find BUNDLE/rootfs -ls | diff before -
    """
    container, kept = runtime.container(), Place(runtime.bench, "kept")
    fresh: Mount = {"destination": "/fresh", "type": "tmpfs", "source": "tmpfs"}
    mounts = {
        "files": [bind(str(kept.marker), "/etc/one"), bind(str(kept.marker), "/etc/group")],
        "folders": [fresh, bind(str(kept.path), "/root/deep")],
    }
    container.spec["mounts"] += mounts[what]
    before = container.bundle.names()
    container.running()
    container.stop()
    container.delete().ok()
    after = container.bundle.names()
    assert {} == {name: after.get(name, "gone") for name, was in before.items() if after.get(name) != was}
    made = {"files": ["etc/one"], "folders": ["fresh", "root/deep"]}
    assert made[what] == sorted(after.keys() - before.keys())
    assert [] == kept.changes()


@case("F18")
@tier(2)
@within(privilege=Privilege.ROOT)
def test_later_mounts_of_the_host_do_not_appear_in_a_private_root(runtime: Runtime) -> None:
    """A mount of the host after create does not appear in a private root (config-linux.md, rootfsPropagation).

    Why: a container that receives mounts holds them, and no disk of the host can be unmounted any more.
    By hand:
        # "rootfsPropagation": "private"
        mount --bind BUNDLE BUNDLE; mount --make-shared BUNDLE; $RUNTIME create --bundle BUNDLE ID
        mount --bind FOLDER BUNDLE/rootfs/late; $RUNTIME start ID
        ls /late    # in the container: empty
    """
    container, bait = runtime.container(), Place(runtime.bench, "outside")
    place.share(runtime.bench, container.folder)
    late = container.bundle.inside("/late")
    late.mkdir()
    container.spec["linux"]["rootfsPropagation"] = "private"
    container.create().ok()
    place.mount(runtime.bench, bait.path, late, flags=MS_BIND)
    container.start().ok()
    recorder = container.recorder()
    recorder.ready()
    assert "nothing" == ("the mount" if reading(recorder, f"/late/{MARKER}") == runtime.bench.nonce else "nothing")


@case("F18")
@tier(2)
@within(privilege=Privilege.ROOT)
@pytest.mark.parametrize(("propagation", "seen"), [("private", "private"), ("shared", "shared")])
def test_root_has_the_propagation_that_was_asked_for(runtime: Runtime, propagation: str, seen: str) -> None:
    """The mount of the container's root is private or shared as rootfsPropagation says (config-linux.md).

    Why: programs that mount for containers of their own, such as storage drivers, need a shared root.
    By hand:
        # "rootfsPropagation": "shared"
        awk '$5 == "/" { print $7 }' /proc/self/mountinfo    # in the container: shared:NUMBER; private: -
    """
    container = runtime.container()
    container.spec["linux"]["rootfsPropagation"] = propagation
    field = container.running().sh("""awk '$5 == "/" { print $7 }' /proc/self/mountinfo""").ok
    assert seen == {"-": "private", "master": "slave"}.get(kind := field.partition(":")[0], kind)


@case("F19")
@tier(2)
def test_sysctl_is_applied_in_the_network_namespace(runtime: Runtime) -> None:
    """linux.sysctl sets values of the container's namespaces, and the host keeps its own (config-linux.md#sysctl).

    Why: a value that is lost, or set on the host instead, is noticed when the traffic comes.
    By hand:
        # namespaces: and {"type": "network"}; "sysctl": {"net.ipv4.ip_unprivileged_port_start": "777"}
        cat /proc/sys/net/ipv4/ip_unprivileged_port_start    # in the container: 777; outside: 1024
    """
    container = runtime.container()
    container.spec["linux"]["namespaces"] += namespaces("network")
    assert "777 inside, unchanged outside" == _sysctl(container, "net.ipv4.ip_unprivileged_port_start")


@case("F19")
@tier(2)
@within(privilege=Privilege.ROOT)
def test_sysctl_is_applied_in_the_ipc_namespace(runtime: Runtime) -> None:
    """linux.sysctl sets kernel.shmmni in the container's IPC namespace alone (config-linux.md#sysctl).

    Why: databases are tuned by this value and its neighbours.
    By hand:
        # "sysctl": {"kernel.shmmni": "777"}
        cat /proc/sys/kernel/shmmni    # in the container: 777; outside: 4096
    """
    assert "777 inside, unchanged outside" == _sysctl(runtime.container(), "kernel.shmmni")


def _sysctl(container: Container, name: str) -> str:
    """Return what a value set to 777 is inside, and whether it is another one outside."""
    path = Path("/proc/sys", *name.split("."))
    before = path.read_text()
    container.spec["linux"]["sysctl"] = {name: "777"}
    inside = reading(container.running(), str(path))
    return f"{inside} inside, {'unchanged' if path.read_text() == before else 'changed'} outside"
