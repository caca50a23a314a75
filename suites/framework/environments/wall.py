"""The wall around a worker, as command lines (layer 2, standard library only, nothing is executed here).

A target under test may signal every process it sees, reboot, or rename the machine. So a worker lives in mount, UTS,
IPC and PID namespaces of its own, whose death is tied to the launcher's by two PR_SET_PDEATHSIG: launcher to
``unshare``, ``unshare`` to the worker, which is PID 1 and takes every descendant along (pid_namespaces(7)).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from suites.framework.environments.user import User

FORBIDDEN = ("sys_boot", "sys_time", "sys_module", "sys_rawio")
"""Capabilities that no case needs and with which a target could harm the machine (capabilities(7))."""
BOUNDING = "--bounding-set=" + ",".join(f"-{name}" for name in FORBIDDEN)
"""Naming one that the machine lacks already is no error (tried)."""
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

FRONT = """[ "$PPID" = "$1" ] || exit 125
shift
while [ "$1" != -- ]; do echo $$ >"$1" || exit 125; shift; done
shift
exec "$@"
"""
"""Runs with the death signal set. A launcher that died before that was set is no longer the parent. Then it enters
the cgroups named up to ``--``: before the first fork, so that no process is ever outside."""

HYBRID = """words=
if [ -e /sys/fs/cgroup/unified/cgroup.controllers ]; then read -r words </sys/fs/cgroup/unified/cgroup.controllers; fi
if [ -n "$words" ] && mount --rbind /sys/fs/cgroup /tmp; then
mount -t tmpfs -o mode=755,nosuid,nodev,noexec cgroup /sys/fs/cgroup
for path in /tmp/*; do
    name=${path##*/}
    if [ -L "$path" ]; then ln -s "$(readlink "$path")" "/sys/fs/cgroup/$name"
    elif [ "$name" != unified ]; then mkdir "/sys/fs/cgroup/$name" && mount --rbind "$path" "/sys/fs/cgroup/$name"; fi
done
umount -l /tmp
fi
exec "$@"
"""
"""Where a controller is left on the version 2 side of a hybrid machine, crun refuses to work; so a worker sees the
version 1 hierarchies alone. In its own mount namespace; taking `unified` off the machine's tmpfs would hide nothing
from a runtime, which makes folders below the mount point then."""

NAMESPACES = ("--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")


def tool(name: str) -> str:
    """Return where a program of util-linux is; its bare name if nowhere, so that executing it says so."""
    return shutil.which(name, path=SEARCH) or name


def front(*, launcher: int, processes: int | None, cgroups: Sequence[str]) -> list[str]:
    """Return the words that tie a process to its launcher, limit it, and put it into cgroups.

    `processes` is RLIMIT_NPROC, which counts every task of the user on the machine and does nothing for root.
    `cgroups` are paths of ``cgroup.procs`` files.
    """
    limits = ["--core=0", *([] if processes is None else [f"--nproc={processes}"])]
    return [
        *(tool("setpriv"), "--pdeathsig", "KILL", "--"),
        *(tool("prlimit"), *limits, "--"),
        *("/bin/sh", "-c", FRONT, "seatrial", str(launcher), *cgroups, "--"),
    ]


def root_wall(*, user: User | None) -> list[str]:
    """Return the words with which root puts a worker behind the wall, as `user` where one is given.

    A change of credentials clears the death signal (prctl(2)), hence the last option of setpriv. Between the two the
    lifeline alone would notice a dead parent.
    """
    become = [] if user is None else ["--reuid", str(user.uid), "--regid", str(user.gid), "--init-groups"]
    return [
        *(tool("unshare"), *NAMESPACES, "--propagation", "private", "--"),
        *("/bin/sh", "-c", HYBRID, "seatrial"),
        *(tool("setpriv"), BOUNDING, *become, "--pdeathsig", "KILL", "--"),
    ]


def user_wall(*, processes: int | None) -> list[str]:
    """Return the words with which an ordinary user puts a worker behind the wall, in a user namespace of his own.

    `processes` is RLIMIT_NPROC inside: it counts the tasks of that namespace alone, so that a worker which uses up
    its share leaves the others theirs (since Linux 5.14).
    """
    limit = [] if processes is None else [tool("prlimit"), f"--nproc={processes}", "--"]
    return [tool("unshare"), "--user", "--map-current-user", *NAMESPACES, "--", *limit]


def container_wall() -> list[str]:
    """Return the words that take the forbidden capabilities from a privileged container."""
    return ["setpriv", BOUNDING, "--"]


def tasks_of(uid: int) -> int:
    """Return how many tasks `uid` has on this machine, as RLIMIT_NPROC counts them (about 1 ms per 100 processes)."""
    total = 0
    with os.scandir("/proc") as entries:
        for entry in entries:
            total += _threads(entry.path, uid) if entry.name.isdigit() else 0
    return total


def _threads(folder: str, uid: int) -> int:
    try:
        return len(os.listdir(f"{folder}/task")) if Path(folder).stat().st_uid == uid else 0
    except OSError:
        return 0
