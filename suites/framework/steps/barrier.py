"""What stands in front of a step's command: its tie to the launcher, its limits and its wall, as words (layer 2)."""

from __future__ import annotations

import os
import resource
import sys
from functools import cache
from pathlib import Path

from suites.framework import cleanup
from suites.framework.environments import wall
from suites.framework.environments.probe import wall_finding
from suites.framework.environments.run_cgroup import RunCgroup
from suites.framework.facts import Fact
from suites.framework.steps.step import Step

_WARDEN = Path(__file__).with_name("warden.py")


def words(step: Step, *, cgroup: RunCgroup | None, report: int, walled: bool) -> list[str]:
    """Return the whole command line: tied to this process, limited, behind the wall, as the step's user.

    `report` is the descriptor that the warden writes to.
    """
    front = wall.front(
        launcher=os.getpid(),
        processes=None if walled and os.geteuid() != 0 else _processes(step, cgroup),
        cgroups=cgroup.procs if cgroup else (),
    )
    files = [wall.tool("prlimit"), f"--nofile={_within(resource.RLIMIT_NOFILE, step.limits.open_files)}", "--"]
    warden = [sys.executable, "-I", "-S", str(_WARDEN), str(report), _user(step), *step.argv]
    return [*front, *files, *(_wall(step) if walled else []), *warden]


@cache
def walled(uid: int) -> bool:  # noqa: ARG001 - tests become somebody else
    """Return whether this machine gives this user a wall of namespaces."""
    with cleanup.scratch("probe") as folder:
        return wall_finding(None, folder=folder).present


def limited(cgroup: RunCgroup | None, fact: Fact) -> bool:
    """Return whether the cgroup has the limit whose controller this fact names."""
    return cgroup is not None and any(found.fact is fact and found.present for found in cgroup.findings)


def _wall(step: Step) -> list[str]:
    if os.geteuid() == 0:
        return wall.root_wall(user=None)
    return wall.user_wall(processes=_within(resource.RLIMIT_NPROC, step.limits.processes))


def _processes(step: Step, cgroup: RunCgroup | None) -> int | None:
    """Return the RLIMIT_NPROC, which counts all tasks of a user and none of root's; None where it is not needed."""
    uid = step.user.uid if step.user and os.geteuid() == 0 else os.geteuid()
    if uid == 0 or limited(cgroup, Fact.CGROUP_PIDS):
        return None
    return _within(resource.RLIMIT_NPROC, wall.tasks_of(uid) + step.limits.processes)


def _within(kind: int, wanted: int) -> int:
    """Return what can be set: only a process with CAP_SYS_RESOURCE raises its hard limit (setrlimit(2))."""
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _user(step: Step) -> str:
    if step.user is None or os.geteuid() != 0:
        return ""
    return f"{step.user.name}:{step.user.uid}:{step.user.gid}"
