"""The least configuration with which a container runs, as root and rootless (layer 1: pure)."""

from __future__ import annotations

from collections.abc import Sequence

from suites.framework.oci.spec import VERSION, Capabilities, IdMapping, Mount, Namespace, Spec

ROOTFS = "rootfs"
"""Folder of the root file system in a bundle."""
PATH = "PATH=/bin:/usr/bin:/sbin:/usr/sbin"
NAMESPACES = ("pid", "mount", "ipc", "uts")
"""What every container gets; a network namespace costs a grace period of the kernel, so cases that want one ask."""
CAPABILITIES = ("CAP_KILL", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID")


def minimal(args: Sequence[str], *, rootless: tuple[int, int] | None = None, cgroup: str = "") -> Spec:
    """Return a configuration that executes `args` as root of its container.

    `rootless` is the uid and gid of the user who calls the runtime: then they are mapped to 0 in a user namespace,
    which takes no privilege (user_namespaces(7)). `cgroup` is the container's cgroupsPath, empty for none.
    """
    spec: Spec = {
        "ociVersion": VERSION,
        "root": {"path": ROOTFS},
        "mounts": mounts(),
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": list(args),
            "env": [PATH],
            "cwd": "/",
            "capabilities": capabilities(*CAPABILITIES),
            "noNewPrivileges": True,
        },
        "linux": {"namespaces": namespaces(*NAMESPACES)},
    }
    if rootless is not None:
        uid, gid = rootless
        spec["linux"]["namespaces"].insert(0, {"type": "user"})
        spec["linux"] |= {"uidMappings": [alone(uid)], "gidMappings": [alone(gid)]}
    if cgroup:
        spec["linux"]["cgroupsPath"] = cgroup
    return spec


def capabilities(*names: str) -> Capabilities:
    """Return these capabilities as a program of root has them: bounding, effective and permitted."""
    return {"bounding": list(names), "effective": list(names), "permitted": list(names)}


def namespaces(*kinds: str) -> list[Namespace]:
    """Return entries that make new namespaces of these types."""
    return [{"type": kind} for kind in kinds]


def alone(identity: int, *, inside: int = 0) -> IdMapping:
    """Return the mapping of one uid or gid, which its owner may write without help."""
    return {"containerID": inside, "hostID": identity, "size": 1}


def mounts() -> list[Mount]:
    """Return /proc and /dev, without which no container works."""
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
    ]


def bind(source: str, destination: str, *options: str) -> Mount:
    """Return a bind mount of a file or folder (mount(8), --bind)."""
    return {"destination": destination, "type": "bind", "source": source, "options": ["bind", *options]}
