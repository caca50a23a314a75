"""What an environment has, found out by doing the exact operation once in a child (layer 1).

Each probe returns a `Finding`; none looks at a uid, a sysctl or a version to guess.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from suites.catalog import Place, Privilege
from suites.framework import cgroups, kernel_scripts, proc, process
from suites.framework.bench import Bench
from suites.framework.errors import InfrastructureError
from suites.framework.facts import Fact, Finding
from suites.framework.launch import NotLaunched, launch
from suites.framework.pod import engines
from suites.framework.process import exited
from suites.framework.waiting import Deadline, Waiter

PROBE_S = 10.0
USERNS_REMEDY = (
    "allow user namespaces: sudo sysctl -w user.max_user_namespaces=15000"
    " kernel.apparmor_restrict_unprivileged_userns=0 (the second on Ubuntu)"
)


def _try(bench: Bench, argv: Sequence[str]) -> str:
    """Run a command; return an empty string when it exits 0, otherwise what went wrong."""
    try:
        environment = bench.environment | {"PATH": os.environ.get("PATH", bench.environment["PATH"])}
        status, output = process.output_of(argv, environment=environment, seconds=PROBE_S)
    except OSError as error:
        return f"{argv[0]}: {os.strerror(error.errno or 0)}"
    if status == exited(0):
        return ""
    said = [line for line in output.splitlines() if line.strip() and not line.startswith("See ")]
    return said[-1] if said else str(status or f"no end within {PROBE_S:g} s")


def tool(name: str) -> str:
    """Return the path of a program of the system."""
    folders = ("/usr/bin", "/usr/sbin", "/bin", "/sbin", "/opt/seatrial/bin", "/usr/local/bin")
    found = (f"{folder}/{name}" for folder in folders if os.access(f"{folder}/{name}", os.X_OK))
    return next(found, f"/usr/bin/{name}")


def _finding(fact: Fact, probe: str, trouble: str, remedy: str) -> Finding:
    return Finding(fact=fact, present=not trouble, probe=probe, detail=trouble, remedy=remedy if trouble else "")


def pid_namespace(bench: Bench) -> Finding:
    """Make a PID namespace with its own /proc in the very way a case of mode pid1 does."""
    user = bench.privilege is Privilege.ROOTLESS
    script = "import os; raise SystemExit(0 if os.getpid() == 1 and os.listdir('/proc/1') else 1)"
    trouble = _launch(bench, "--pid1", *(["--user"] if user else []), script=script)
    remedy = USERNS_REMEDY if user else "give the container CAP_SYS_ADMIN and an unmasked /proc"
    probe = "launch --pid1 --user" if user else "launch --pid1"
    return _finding(Fact.PID_NAMESPACE, probe, trouble, remedy)


def enter_namespace(bench: Bench) -> Finding:
    """Enter the namespaces of a PID 1 that the worker has made."""
    user = bench.privilege is Privilege.ROOTLESS
    words = [*(["--user", "--preserve-credentials"] if user else []), "--mount", "--pid"]
    try:
        child = _launched(bench, [tool("sleep"), "60"], options=["--pid1", *(["--user"] if user else [])])
    except NotLaunched as error:
        trouble = str(error)
    else:
        trouble = _try(bench, [tool("nsenter"), f"--target={child.pid}", *words, "--", "true"])
        child.kill()
    remedy = "install nsenter (sudo apt-get install util-linux), and give the container CAP_SYS_ADMIN"
    return _finding(Fact.ENTER_NAMESPACE, f"nsenter {' '.join(words)}", trouble, remedy)


def bash(bench: Bench) -> Finding:
    """Run bash."""
    trouble = _try(bench, [tool("bash"), "--norc", "-c", '[ -n "$BASH_VERSION" ]'])
    return _finding(Fact.BASH, "bash -c", trouble, "install bash: sudo apt-get install bash")


_BUILD = r"""set -e
cd "$1"
echo 'int main(void) { return 0; }' | tee a.c >b.cc
printf 'all: a b\na: a.c\n\tcc -o a a.c\nb: b.cc\n\tc++ -o b b.cc\n' >Makefile
make >/dev/null
tar --create --xz --file c.tar.xz a b
tar --extract --file c.tar.xz
./a
./b
"""
"""Builds two programs, packs and unpacks and runs them."""


def toolchain(bench: Bench) -> Finding:
    """Build and run programs with make, cc and c++, and unpack an archive."""
    with tempfile.TemporaryDirectory(dir=bench.home) as folder:
        trouble = _try(bench, ["/bin/sh", "-c", _BUILD, "sh", folder])
    remedy = "install them: sudo apt-get install build-essential xz-utils"
    return _finding(Fact.TOOLCHAIN, "make with cc and c++; tar --xz", trouble, remedy)


def _launch(bench: Bench, *options: str, script: str) -> str:
    """Start a Python script through the payload's ``launch``; return what went wrong."""
    try:
        child = _launched(bench, [bench.python, "-I", "-S", "-c", script], options=options)
    except NotLaunched as error:
        return str(error)
    status = child.wait(Deadline(PROBE_S), Waiter())
    child.kill()
    return "" if status == exited(0) else f"the program inside: {status or 'no end'}"


def _launched(bench: Bench, words: Sequence[str], *, options: Sequence[str]) -> process.Child:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return launch(
            words,
            payload=bench.payload,
            options=options,
            environment=bench.environment,
            fds=dict.fromkeys((0, 1, 2), null),
            waiter=Waiter(),
        )
    finally:
        os.close(null)


def user_namespace(bench: Bench) -> Finding:
    """Map this user to root in a user namespace of its own."""
    trouble = _try(bench, [tool("unshare"), "--user", "--map-root-user", "--mount", "true"])
    return _finding(Fact.USER_NAMESPACE, "unshare --user --map-root-user --mount", trouble, USERNS_REMEDY)


def subordinate_ids(bench: Bench) -> Finding:
    """Map a range of ids with newuidmap and newgidmap."""
    trouble = _try(bench, [tool("unshare"), "--user", "--map-root-user", "--map-auto", "true"])
    ranges = "--add-subuids 100000-165535 --add-subgids 100000-165535"
    remedy = f"install uidmap, and give the user a range: sudo usermod {ranges} USER"
    if _mapped() == 1:
        remedy = "start the session as root with --as-user USER: behind a wall of his own a user has no id but one"
    return _finding(Fact.SUBORDINATE_IDS, "unshare --user --map-root-user --map-auto", trouble, remedy)


def _mapped(*, table: Path = Path("/proc/self/uid_map")) -> int:
    """Return how many user ids there are here (user_namespaces(7))."""
    return sum(int(line.split()[2]) for line in table.read_text().splitlines())


def child_subreaper(bench: Bench) -> Finding:
    """Orphan a process and see it become a child of the worker."""
    status, output = process.output_of(
        ["/bin/sh", "-c", "sleep 9 >/dev/null 2>&1 </dev/null & echo $!"],
        environment=bench.environment,
        seconds=PROBE_S,
    )
    pid = int(output) if status == exited(0) and output.isdigit() else -1
    adopted = pid in proc.children(os.getpid())
    if adopted:
        process.Child.adopt(pid).kill()
    elif pid > 0:
        process.dismiss(pid)
    return _finding(
        Fact.CHILD_SUBREAPER,
        "orphan a process, look for it among the own children",
        "" if adopted else "another process adopted it",
        "run the worker as PID 1 of a namespace",
    )


def proc_children(_bench: Bench) -> Finding:
    """Read the file in which the kernel lists a task's children."""
    path = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    try:
        path.read_text()
        trouble = ""
    except OSError as error:
        trouble = f"{path}: {error.strerror}"
    return _finding(
        Fact.PROC_CHILDREN, "read /proc/PID/task/TID/children", trouble, "use a kernel built with CONFIG_PROC_CHILDREN"
    )


def pseudo_terminal(bench: Bench) -> Finding:
    """Open a pseudo-terminal and make it the controlling terminal of a child."""
    script = (
        "import os, pty; pid, fd = pty.fork(); "
        "os._exit(os.waitpid(pid, 0)[1] >> 8 if pid else int(os.tcgetpgrp(0) != os.getpid()))"
    )
    trouble = _try(bench, [bench.python, "-I", "-S", "-c", script])
    return _finding(
        Fact.PSEUDO_TERMINAL,
        "openpty, TIOCSCTTY",
        trouble,
        "mount devpts: mount -t devpts devpts /dev/pts -o newinstance,ptmxmode=0666",
    )


def overlay(bench: Bench) -> Finding:
    """Mount an overlay in a mount namespace of its own."""
    user = bench.privilege is Privilege.ROOTLESS
    option = ",userxattr" if user else ""
    script = (
        'mount -t tmpfs tmpfs "$1" && mkdir "$1/l" "$1/u" "$1/w" "$1/m" && '
        f'mount -t overlay overlay -o "lowerdir=$1/l,upperdir=$1/u,workdir=$1/w{option}" "$1/m"'
    )
    words = [
        tool("unshare"),
        *(["--user", "--map-root-user"] if user else []),
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        str(bench.home),
    ]
    return _finding(
        Fact.OVERLAY, "mount -t overlay", _try(bench, words), "use a kernel >= 5.11 with overlayfs (modprobe overlay)"
    )


def time_namespace(bench: Bench) -> Finding:
    """Set the boot time of a time namespace forward, in a user namespace, since no worker may set clocks outside."""
    words = ["--user", "--map-root-user", "--time", "--boottime", "1000", "--fork"]
    remedy = f"use a kernel >= 5.6 built with CONFIG_TIME_NS, and util-linux >= 2.36; {USERNS_REMEDY}"
    trouble = _try(bench, [tool("unshare"), *words, "true"])
    return _finding(Fact.TIME_NAMESPACE, "unshare --user --time --boottime 1000", trouble, remedy)


def setuid(bench: Bench) -> Finding:
    """Become another user."""
    trouble = _try(
        bench, [bench.python, "-I", "-S", "-c", "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)"]
    )
    return _finding(Fact.SETUID, "setuid(65534)", trouble, "run as root: nox -s acceptance-root")


LIMITS = {
    "pids": ("pids.max", "pids.max", "1000"),
    "memory": ("memory.limit_in_bytes", "memory.max", "1073741824"),
    "cpu": ("cpu.cfs_quota_us", "cpu.max", "50000"),
    "devices": ("devices.deny", "", "c 300:7 rwm"),
}
"""Controller: its file in version 1, in version 2, and what is written to it."""
DELEGATE = "run as root, or delegate the controller (systemd: Delegate=yes)"


def limit_in(controller: str, fact: Fact) -> Callable[[Bench], Finding]:
    """Return a probe that makes a cgroup below the worker's own and sets a limit in it."""

    def probe(bench: Bench) -> Finding:
        trouble = _limit(controller, name=f"seatrial-probe-{bench.nonce}")
        return _finding(fact, f"mkdir in the {controller} cgroup, write {LIMITS[controller][0]}", trouble, DELEGATE)

    return probe


def _limit(controller: str, *, name: str) -> str:
    place = cgroups.controlled_by(controller)
    if place is None:
        return f"no cgroup hierarchy of this process has the {controller} controller"
    folder, unified = place
    child = folder / name  # of this probe alone: the pid is 1 in every worker, and runs may share a cgroup
    return _write_in_new(child, LIMITS[controller][unified], LIMITS[controller][2])


def _write_in_new(child: Path, knob: str, word: str) -> str:
    """Make a cgroup, write a word into a file of it and remove it; return what went wrong."""
    try:
        child.mkdir()
    except OSError as error:
        return f"mkdir {child}: {error.strerror}"
    try:
        (child / knob).write_text(word)
    except OSError as error:
        return f"write {knob}: {error.strerror}"
    finally:
        child.rmdir()
    return ""


def cgroup_freezer(bench: Bench) -> Finding:
    """Make a cgroup below the worker's own and freeze it, empty as it is."""
    found = cgroups.memberships()
    above, knob, word = found.get("freezer"), "freezer.state", "FROZEN"
    if above is None:  # every cgroup of version 2 has one
        above, knob, word = found.get(cgroups.UNIFIED), "cgroup.freeze", "1"
    trouble = "no cgroup hierarchy of this process has a freezer"
    if above is not None:
        trouble = _write_in_new(above / f"seatrial-probe-{bench.nonce}", knob, word)
    remedy = "run as root, or delegate the cgroup (systemd: Delegate=yes)"
    return _finding(Fact.CGROUP_FREEZER, f"mkdir in the own cgroup, write {knob}", trouble, remedy)


def cgroup_v2(bench: Bench) -> Finding:
    """Set a limit of each controller in a cgroup of version 2."""
    trouble = ""
    for controller in ("memory", "pids", "cpu"):
        place = cgroups.controlled_by(controller)
        old = place is not None and not place[1]
        words = f"the {controller} controller is in a hierarchy of version 1" if old else ""
        trouble = trouble or words or _limit(controller, name=f"seatrial-probe-{bench.nonce}")
    remedy = f"boot with systemd.unified_cgroup_hierarchy=1; {DELEGATE}"
    return _finding(Fact.CGROUP_V2, "mkdir in the unified cgroup, write memory.max, pids.max, cpu.max", trouble, remedy)


def cgroup_devices(bench: Bench) -> Finding:
    """Deny a device in a cgroup of version 1, or load a program as it would deny it in version 2."""
    if cgroups.controlled_by("devices") is not None or not cgroups.memberships().get(cgroups.UNIFIED):
        return limit_in("devices", Fact.CGROUP_DEVICES)(bench)
    trouble = _run(bench, kernel_scripts.DEVICE_PROGRAM)
    return _finding(Fact.CGROUP_DEVICES, "bpf(BPF_PROG_LOAD)", trouble, "run as root (CAP_BPF)")


def _run(bench: Bench, script: str, *, inside: Sequence[str] = ()) -> str:
    """Run a program that is given the home's path; return what went wrong."""
    return _try(bench, [*inside, bench.python, "-I", "-S", "-c", script, str(bench.home)])


def mount_attributes(bench: Bench) -> Finding:
    """Make a bind mount read-only with all below it."""
    user = ["--user", "--map-root-user"] if bench.privilege is Privilege.ROOTLESS else []
    trouble = _run(bench, kernel_scripts.MOUNT_ATTRIBUTES, inside=[tool("unshare"), *user, "--mount"])
    return _finding(Fact.MOUNT_ATTRIBUTES, "mount_setattr(AT_RECURSIVE)", trouble, "use a kernel >= 5.12")


def idmapped_mount(bench: Bench) -> Finding:
    """Map the owners of a mount of the home."""
    trouble = _run(bench, kernel_scripts.IDMAPPED_MOUNT)
    remedy = "run as root, with a kernel >= 5.12 and TMPDIR on ext4, xfs, btrfs or tmpfs (>= 6.3)"
    return _finding(Fact.IDMAPPED_MOUNT, "mount_setattr(MOUNT_ATTR_IDMAP)", trouble, remedy)


def seccomp(bench: Bench) -> Finding:
    """Offer the kernel a filter."""
    trouble = _run(bench, kernel_scripts.SECCOMP)
    return _finding(Fact.SECCOMP, "prctl(PR_SET_SECCOMP)", trouble, "use a kernel with CONFIG_SECCOMP_FILTER")


def docker_command(bench: Bench) -> Finding:
    """Run a container of the image of this run by the docker command line."""
    image, probe = bench.context.image, "docker run true"
    if not image:
        return _finding(
            Fact.DOCKER_COMMAND, probe, "no container image for this run", "start a Docker engine that answers"
        )
    trouble = _try(bench, [tool("docker"), "run", "--rm", *container_options(bench), image, "true"])
    remedy = "install the docker command, and let this user talk to the engine: sudo usermod -aG docker USER"
    return _finding(Fact.DOCKER_COMMAND, probe, trouble, remedy)


def docker_exec(bench: Bench) -> Finding:
    """Start a process in a running container; an engine that lacks capabilities of its own refuses that."""
    image, probe = bench.context.image, "docker exec true"
    if not image:
        return replace(docker_command(bench), fact=Fact.DOCKER_EXEC, probe=probe)
    docker, container = tool("docker"), f"seatrial-probe-{bench.nonce}"
    run = ["run", "--detach", "--rm", "--name", container, *container_options(bench), image, "sleep", "60"]
    trouble = _try(bench, [docker, *run]) or _try(bench, [docker, "exec", container, "true"])
    _try(bench, [docker, "rm", "--force", container])
    remedy = "run the Docker engine with all capabilities, on the machine itself"
    return _finding(Fact.DOCKER_EXEC, probe, trouble, remedy)


def container_options(bench: Bench) -> list[str]:
    """Return what every ``docker run`` of a case needs: the run's label, no network, the image's mounts."""
    context = bench.context
    said = {"run": context.run, "environment": context.environment, "launcher": context.launcher}
    labels = [word for name, value in said.items() for word in ("--label", f"seatrial.{name}={value}")]
    mounts = [word for path in bench.context.image_mounts for word in ("--volume", f"{path}:{path}:ro")]
    return ["--network", "none", *labels, *mounts]


def engine(bench: Bench) -> Finding:
    """Start an engine of kind pod without a handler, have it take images in, and end it."""
    probe, trouble, remedy = "start containerd, import images", "", ""
    try:
        engines.start(bench.context, python=bench.python).close()
    except InfrastructureError as error:
        trouble, remedy = ": ".join(filter(None, (error.what, error.why))), error.remedy
    except ImportError as error:
        trouble, remedy = str(error), "have the Python of the workers be the one that has the dependency group pod"
    return _finding(Fact.ENGINE, probe, trouble, remedy)


_ENTERS = """set -e
mount -t tmpfs seatrial /run
exec nsenter --mount=/proc/1/ns/mnt -- test "$1" -ef "/proc/self/fd/3"
"""
"""In a mount namespace as an engine has it: goes back to that of PID 1 and looks for a folder by its name."""


def first_mounts(bench: Bench) -> Finding:
    """Enter the mount namespace of PID 1 from one like an engine's, and find the worker's folder there by its path."""
    home = str(bench.home)
    inner = ["/bin/sh", "-c", f'exec 3<"$1"; {_ENTERS}', "sh", home]
    trouble = _try(bench, [tool("unshare"), "--mount", "--propagation", "private", "--", *inner])
    remedy = "run it as root on the machine itself, or in a container whose PID 1 shares the worker's mounts"
    return _finding(Fact.FIRST_MOUNTS, "nsenter --mount=/proc/1/ns/mnt", trouble, remedy)


PROBES: dict[Fact, Callable[[Bench], Finding]] = {
    Fact.PID_NAMESPACE: pid_namespace,
    Fact.USER_NAMESPACE: user_namespace,
    Fact.SUBORDINATE_IDS: subordinate_ids,
    Fact.CHILD_SUBREAPER: child_subreaper,
    Fact.PROC_CHILDREN: proc_children,
    Fact.PSEUDO_TERMINAL: pseudo_terminal,
    Fact.CGROUP_PIDS: limit_in("pids", Fact.CGROUP_PIDS),
    Fact.CGROUP_MEMORY: limit_in("memory", Fact.CGROUP_MEMORY),
    Fact.CGROUP_CPU: limit_in("cpu", Fact.CGROUP_CPU),
    Fact.CGROUP_DEVICES: cgroup_devices,
    Fact.CGROUP_V2: cgroup_v2,
    Fact.MOUNT_ATTRIBUTES: mount_attributes,
    Fact.IDMAPPED_MOUNT: idmapped_mount,
    Fact.SECCOMP: seccomp,
    Fact.CGROUP_FREEZER: cgroup_freezer,
    Fact.OVERLAY: overlay,
    Fact.TIME_NAMESPACE: time_namespace,
    Fact.SETUID: setuid,
    Fact.ENTER_NAMESPACE: enter_namespace,
    Fact.BASH: bash,
    Fact.TOOLCHAIN: toolchain,
    Fact.DOCKER_COMMAND: docker_command,
    Fact.DOCKER_EXEC: docker_exec,
    Fact.ENGINE: engine,
    Fact.FIRST_MOUNTS: first_mounts,
}
"""The facts of an environment, each with its probe."""

NATIVE_ONLY = frozenset({Fact.DOCKER_COMMAND, Fact.DOCKER_EXEC})
"""Facts that make no sense inside a container."""


OF_PODS = frozenset({Fact.ENGINE, Fact.FIRST_MOUNTS})
"""Facts that are asked for where an engine was given alone."""


def applicable(place: Place, *, pods: bool = False) -> tuple[Fact, ...]:
    """Return the facts to probe in an environment at this place, in the order of the table."""
    left_out = (NATIVE_ONLY if place is not Place.NATIVE else frozenset()) | (frozenset() if pods else OF_PODS)
    return tuple(fact for fact in PROBES if fact not in left_out)
