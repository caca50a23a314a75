"""What a machine or an environment may have, each probed by doing (layer 0: standard library only)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Fact(StrEnum):
    """One capability of a machine (probed by the launcher) or of an environment (probed inside it)."""

    # of the host, probed by the launcher
    ROOT = "root"
    """The launcher's effective uid is 0."""
    ORDINARY_USER = "ordinary-user"
    """An ordinary user is known under whom the rootless environment runs."""
    NAMESPACE_WALL = "namespace-wall"
    """A worker can be put into namespaces of its own, so that no target reaches the rest of the machine."""
    DOCKER = "docker"
    """A Docker engine answers."""
    DOCKER_PRIVILEGED = "docker-privileged"
    """The Docker engine starts a privileged container that runs Python >= 3.11."""
    DOCKER_USER_NAMESPACES = "docker-user-namespaces"
    """The Docker engine starts an unprivileged container in which a user makes user namespaces."""
    PACKAGES = "packages"
    """Packages of the distribution can be downloaded without root and unpacked without installing."""
    COMPILER = "compiler"
    """A C compiler builds the recorder payload."""
    STATIC_PAYLOAD = "static-payload"
    """The recorder payload is linked statically, so that it runs in any root file system."""
    ROOTFS = "rootfs"
    """A root file system for containers is there, or can be made: a static busybox at least."""

    CONTAINERD = "containerd"
    """The programs of a container engine are there, and the messages of its interface can be made (kind pod)."""
    POD_NETWORK = "pod-network"
    """The plugins are there that give pods a network of their own (kind pod)."""
    SOURCES = "sources"
    """The source archives of the packages that build scripts are tried with are in the cache."""

    CARGO = "cargo"
    """cargo builds checkouts with a Cargo.toml."""
    GO = "go"
    """go builds checkouts with a go.mod."""
    MESON = "meson"
    """meson and ninja build checkouts with a meson.build."""
    CMAKE = "cmake"
    """cmake builds checkouts with a CMakeLists.txt."""
    AUTOTOOLS = "autotools"
    """autoconf, automake and libtool make the configure script that a checkout lacks."""
    MAKE = "make"
    """make builds checkouts with a Makefile."""

    # of an environment, probed inside it
    PID_NAMESPACE = "pid-namespace"
    """The worker makes a PID namespace with its own /proc, in which a target is PID 1."""
    USER_NAMESPACE = "user-namespace"
    """A user namespace with a single mapped id can be made (user_namespaces(7))."""
    SUBORDINATE_IDS = "subordinate-ids"
    """newuidmap and newgidmap map a range of subordinate ids (subuid(5))."""
    CHILD_SUBREAPER = "child-subreaper"
    """PR_SET_CHILD_SUBREAPER works, or the worker is PID 1 of its namespace (prctl(2))."""
    PROC_CHILDREN = "proc-children"
    """/proc/PID/task/TID/children lists children (CONFIG_PROC_CHILDREN, proc_pid_task(5))."""
    PSEUDO_TERMINAL = "pseudo-terminal"
    """A pseudo-terminal can be opened and become a controlling terminal (pty(7))."""
    SHARED_LIBRARIES = "shared-libraries"
    """The loader and the shared libraries of a target are in the environment (ld.so(8)); found out for each target."""
    CGROUP_PIDS = "cgroup-pids"
    """A cgroup with a limit on the number of processes can be made."""
    CGROUP_MEMORY = "cgroup-memory"
    """A cgroup with a limit on memory can be made."""
    CGROUP_CPU = "cgroup-cpu"
    """A cgroup with a limit on CPU time can be made."""
    CGROUP_DEVICES = "cgroup-devices"
    """A cgroup that denies devices can be made (devices controller, or in version 2 a program: bpf(2))."""
    CGROUP_V2 = "cgroup-v2"
    """A cgroup of version 2 with limits on memory, processes and CPU time can be made."""
    MOUNT_ATTRIBUTES = "mount-attributes"
    """The attributes of a mount and of all below it are changed at once (mount_setattr(2), AT_RECURSIVE)."""
    IDMAPPED_MOUNT = "idmapped-mount"
    """The file system of the scratch folder is mounted with mapped owners (mount_setattr(2), MOUNT_ATTR_IDMAP)."""
    SECCOMP = "seccomp"
    """A filter of system calls can be installed (seccomp(2))."""
    CGROUP_FREEZER = "cgroup-freezer"
    """A cgroup can be made and frozen."""
    OVERLAY = "overlay"
    """An overlay file system can be mounted."""
    TIME_NAMESPACE = "time-namespace"
    """Clocks can be set forward in a time namespace (CONFIG_TIME_NS, time_namespaces(7))."""
    SETUID = "setuid"
    """A process can become another user (CAP_SETUID)."""
    ENTER_NAMESPACE = "enter-namespace"
    """A process enters the PID namespace of another one (nsenter(1), setns(2))."""
    BASH = "bash"
    """bash runs: a shell with job control."""
    ENGINE = "engine"
    """A container engine of the worker's own starts, takes images in and answers (kind pod)."""
    ENGINE_OUTPUT = "engine-output"
    """The engine keeps all that a program of the reference handler wrote that ended at once."""
    FIRST_MOUNTS = "first-mounts"
    """The mount namespace of PID 1 can be entered from the engine's, and the worker's folder is in it (setns(2))."""
    TOOLCHAIN = "toolchain"
    """make, a C and a C++ compiler build programs, and tar and xz unpack archives."""
    OWN_TESTS = "own-tests"
    """The target was built from its checkout, and its own tests could be run there; found out for each target."""
    DOCKER_COMMAND = "docker-command"
    """The docker command line runs and stops a container from within the environment."""
    DOCKER_EXEC = "docker-exec"
    """The docker command line starts a process in a running container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A fact that does not hold: which, how it was found out, and what would change it."""

    fact: Fact
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The verdict of one probe."""

    fact: Fact
    present: bool
    probe: str
    """The operation that was executed, such as ``unshare(CLONE_NEWPID)``."""
    detail: str = ""
    """What was seen: a version where present, the error where absent."""
    remedy: str = ""

    @property
    def missing(self) -> Missing | None:
        """Return the absence as a value, or None where the fact holds."""
        if self.present:
            return None
        return Missing(fact=self.fact, reason=f"{self.probe}: {self.detail}", remedy=self.remedy)
