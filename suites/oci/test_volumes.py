"""What not every runtime and kernel has: recursive mount flags, mapped owners, filters (config.md, config-linux.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.catalog import Privilege
from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires, tier, within
from suites.framework.mounting import MS_BIND
from suites.framework.oci import place
from suites.framework.oci.config import bind
from suites.framework.oci.place import MARKER, Place
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.spec import IdMapping, Mount
from suites.framework.oci.words import FULL, READ_ONLY, complaint, reading, writing


@case("F21")
@tier(3)
@within(privilege=Privilege.ROOT)
@pytest.mark.parametrize(("option", "seen"), [("bind", "nothing"), ("rbind", "the submount")])
def test_recursive_bind_shows_what_is_mounted_below(runtime: Runtime, option: str, seen: str) -> None:
    """``rbind`` shows what is mounted below its source, ``bind`` does not (config.md#linux-mount-options; mount(8)).

    Why: data of a volume that is itself a mount is missing, or shown to a container that was to see the folder alone.
    By hand:
        mount --bind OTHER FOLDER/below
        # mount {"destination": "/given", "type": "bind", "source": FOLDER, "options": ["rbind"]}
        ls /given/below    # in the container
    """
    container = runtime.container()
    container.spec["mounts"].append(given(nested(runtime), "/given", option))
    recorder = container.running()
    assert "below" == recorder.sh("ls /given").ok
    found = reading(recorder, f"/given/below/{MARKER}")
    assert seen == ("the submount" if found == runtime.bench.nonce else "nothing")


def nested(runtime: Runtime) -> Path:
    """Return a folder with another one mounted at ``below``."""
    upper, lower = Place(runtime.bench, "upper"), Place(runtime.bench, "lower")
    upper.marker.unlink()
    (upper.path / "below").mkdir()
    place.mount(runtime.bench, lower.path, upper.path / "below", flags=MS_BIND)
    return upper.path


def given(folder: Path, destination: str, *options: str) -> Mount:
    """Return a bind mount with exactly these options."""
    return {"destination": destination, "type": "bind", "source": str(folder), "options": list(options)}


@case("F22")
@tier(3)
@offered("rro")
@requires(Fact.MOUNT_ATTRIBUTES)
@within(privilege=Privilege.ROOT)
def test_recursive_read_only_reaches_submounts(runtime: Runtime) -> None:
    """``rro`` makes what is mounted below read-only too, ``ro`` does not (config.md#linux-mount-options).

    Why: a read-only volume with a writable disk somewhere below it is not what its user believes it is.
    By hand:
        # mount {"destination": "/kept", "type": "bind", "source": FOLDER, "options": ["rbind", "rro"]}
        touch /kept/below/new    # in the container: Read-only file system
    """
    container, folder = runtime.container(), nested(runtime)
    container.spec["mounts"] += [given(folder, "/kept", "rbind", "rro"), given(folder, "/half", "rbind", "ro")]
    recorder = container.running()
    assert runtime.bench.nonce == reading(recorder, f"/kept/below/{MARKER}")
    assert (READ_ONLY, READ_ONLY) == (writing(recorder, "/kept/new"), writing(recorder, "/kept/below/new"))
    assert (READ_ONLY, "written") == (writing(recorder, "/half/new"), writing(recorder, "/half/below/new"))


@case("F23")
@tier(3)
@offered("idmapped")
@requires(Fact.IDMAPPED_MOUNT)
@within(privilege=Privilege.ROOT)
def test_owners_in_an_idmapped_mount_are_mapped(runtime: Runtime) -> None:
    """Files of a mount with mappings have the mapped owners inside, and keep theirs outside (config.md#mounts).

    Why: the alternative is to chown whole volumes, for every container anew.
    By hand:
        # mount {..., "options": ["bind"], "uidMappings": [{"containerID": 0, "hostID": 5000, "size": 10}],
        #        "gidMappings": [{"containerID": 0, "hostID": 6000, "size": 10}]}
        stat -c %u:%g /given/marker    # in the container: 5000:6000
    """
    container, volume = runtime.container(), Place(runtime.bench, "volume")
    uids: list[IdMapping] = [{"containerID": 0, "hostID": 5000, "size": 10}]
    gids: list[IdMapping] = [{"containerID": 0, "hostID": 6000, "size": 10}]
    container.spec["mounts"].append({**bind(str(volume.path), "/given"), "uidMappings": uids, "gidMappings": gids})
    recorder = container.running()
    assert "5000:6000" == recorder.sh(f"stat -c %u:%g /given/{MARKER}").ok
    assert "0:0" == f"{volume.marker.stat().st_uid}:{volume.marker.stat().st_gid}"


@case("F24")
@tier(3)
@offered("seccomp")
@requires(Fact.SECCOMP)
def test_filtered_system_call_fails_with_the_errno_given(runtime: Runtime) -> None:
    """A system call that the filter answers fails with errnoRet, others go on (config-linux.md#seccomp).

    Why: a filter that is not loaded protects nobody; one with the wrong errno breaks programs that have a way around.
    By hand:
        # "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
        #   [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}
        mkdir /root/new    # in the container: No space left on device
    """
    container = runtime.container()
    answered = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    container.spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [answered]}
    recorder = container.running()
    assert "2" == recorder.sh("grep '^Seccomp:' /proc/self/status | cut -f2").ok
    assert FULL == complaint(recorder, "mkdir /root/new")
    assert "written" == writing(recorder, "/root/file")
