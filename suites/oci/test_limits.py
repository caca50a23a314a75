"""What the container's process may do, and how it is limited and scheduled (config.md, "Linux Process")."""

from __future__ import annotations

import os
import re
from pathlib import Path

from suites.catalog import Privilege
from suites.framework import probes, process
from suites.framework.bench import Bench
from suites.framework.marks import case, offered, tier, within
from suites.framework.oci import inside
from suites.framework.oci.container import Container
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.spec import Capabilities

NUMBERS = {0: "CHOWN", 1: "DAC_OVERRIDE", 5: "KILL", 6: "SETGID", 7: "SETUID"}
"""Of <linux/capability.h>: those that every environment has."""
SETS = ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")
"""In /proc/PID/status: bounding, permitted, effective, inheritable, ambient."""
DISTINCT: Capabilities = {
    "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID"],
    "permitted": ["CAP_CHOWN", "CAP_KILL"],
    "effective": ["CAP_CHOWN", "CAP_KILL"],
    "inheritable": ["CAP_KILL"],
    "ambient": ["CAP_KILL"],
}
"""As different as they can be and still survive an exec by root with no_new_privs, which makes effective permitted."""
NOFILE, DATA = (101, 207), (5 << 30, 6 << 30)
"""Soft and hard, below what a machine gives, since to raise a limit takes CAP_SYS_RESOURCE; the second has 64 bits."""
ADJUSTMENT = 777
"""Of the OOM score: to raise it takes no privilege (proc_pid_oom_score_adj(5))."""
LINUX32 = 0x0008
"""PER_LINUX32 (personality(2))."""
NICE = 7
IONICE_S = 10.0


@case("D10")
def test_capabilities_match_the_configuration(runtime: Runtime) -> None:
    """Each of root's five capability sets is the configured one (config.md#linux-process, capabilities).

    Why: one capability too many in the bounding set is all that a setuid program needs.
    By hand:
        # config.json: "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"], ...}
        grep ^Cap /proc/PID/status    # capsh --decode=... names them
    """
    container = runtime.container()
    container.spec["process"]["capabilities"] = DISTINCT
    wanted = ("CHOWN KILL SETUID", "CHOWN KILL", "CHOWN KILL", "KILL", "KILL")
    assert dict(zip(SETS, wanted, strict=True)) == _capabilities(container)


@case("D10")
@within(privilege=Privilege.ROOT)
def test_ordinary_user_has_the_ambient_capabilities(runtime: Runtime) -> None:
    """A program of another user has the ambient set and no more (config.md#linux-process; capabilities(7)).

    Why: a change of user clears what is not kept: in the wrong order they are all lost, or all kept.
    By hand:
        # config.json: "user": {"uid": 1234, ...}, "capabilities": {..., "ambient": ["CAP_KILL"]}
        grep ^Cap /proc/PID/status
    """
    container = runtime.container()
    container.spec["process"]["user"] = {"uid": 1234, "gid": 2345}
    container.spec["process"]["capabilities"] = DISTINCT
    wanted = ("CHOWN KILL SETUID", "KILL", "KILL", "KILL", "KILL")
    assert dict(zip(SETS, wanted, strict=True)) == _capabilities(container)


@case("D11")
@tier(2)
def test_empty_sets_are_no_capabilities(runtime: Runtime) -> None:
    """Five empty sets leave root without any capability (config.md#linux-process, capabilities).

    Why: an empty list that is taken for "not set" gives all of them.
    By hand:
        # config.json: "capabilities": {"bounding": [], "effective": [], ...}
        grep ^Cap /proc/PID/status    # 0000000000000000
    """
    container = runtime.container()
    container.spec["process"]["capabilities"] = {
        "bounding": [],
        "permitted": [],
        "effective": [],
        "inheritable": [],
        "ambient": [],
    }
    assert dict.fromkeys(SETS, "") == _capabilities(container)


def _capabilities(container: Container) -> dict[str, str]:
    """Start it; return the names in each set, all that the caller may have in one word: machines differ in that."""
    status = inside.status(container.running())
    callers = re.search(r"CapBnd:\t(\w+)", Path("/proc/self/status").read_text())
    return {
        name: "those of the caller"
        if callers and status[name] == callers[1]
        else " ".join(_names(int(status[name], 16)))
        for name in SETS
    }


def _names(mask: int) -> list[str]:
    return [NUMBERS.get(number, str(number)) for number in range(mask.bit_length()) if mask >> number & 1]


@case("D12")
def test_no_new_privileges_are_gained(runtime: Runtime) -> None:
    """With noNewPrivileges no exec gives more than the process has (config.md#linux-process; prctl(2)).

    Why: a setuid program in the image must give nothing.
    By hand:
        # config.json: "noNewPrivileges": true
        grep ^NoNewPrivs: /proc/PID/status    # 1
    """
    container = runtime.container()
    container.spec["process"]["noNewPrivileges"] = True
    assert "1" == inside.status(container.running())["NoNewPrivs"]


@case("D13")
@tier(3)
def test_new_privileges_can_be_gained_where_not_forbidden(runtime: Runtime) -> None:
    """Without noNewPrivileges an exec may give more than the process has (config.md#linux-process; prctl(2)).

    Why: sudo and ping of an image work only so.
    By hand:
        # config.json: "noNewPrivileges": false
        grep ^NoNewPrivs: /proc/PID/status    # 0
    """
    container = runtime.container()
    container.spec["process"]["noNewPrivileges"] = False
    assert "0" == inside.status(container.running())["NoNewPrivs"]


@case("D14")
def test_limits_are_those_of_the_configuration(runtime: Runtime) -> None:
    """Soft and hard limits are process.rlimits, of 64 bits too (config.md#posix-process, rlimits; setrlimit(2)).

    Why: swapped or cut limits show as "too many open files" under load, weeks later.
    By hand:
        # config.json: "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 101, "hard": 207}]
        grep 'open files' /proc/PID/limits
    """
    container = runtime.container()
    container.spec["process"]["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": NOFILE[0], "hard": NOFILE[1]},
        {"type": "RLIMIT_DATA", "soft": DATA[0], "hard": DATA[1]},
    ]
    table = container.running().sh("cat /proc/self/limits").ok
    limits = {line[:26].strip(): tuple(line[26:].split()[:2]) for line in table.splitlines()}
    wanted = [tuple(map(str, pair)) for pair in (NOFILE, DATA)]
    assert wanted == [limits["Max open files"], limits["Max data size"]]


@case("D15")
@tier(2)
def test_unknown_limit_is_refused(runtime: Runtime) -> None:
    """A limit that the kernel does not know is an error, of start at the latest (config.md#posix-process, rlimits).

    Why: a limit that is silently left out is no limit. Create may leave `process` to start (runtime.md#create).
    By hand:
        # config.json: "rlimits": [{"type": "RLIMIT_SEATRIAL", "soft": 1, "hard": 1}]
        $RUNTIME create --bundle BUNDLE ID && $RUNTIME start ID; echo $?    # not 0
    """
    container = runtime.container()
    container.spec["process"]["rlimits"] = [{"type": "RLIMIT_SEATRIAL", "soft": 1, "hard": 1}]
    outcome = container.create().outcome
    assert "refused" == (container.start().outcome if outcome == "done" else outcome)
    known = runtime.container()
    known.spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": NOFILE[0], "hard": NOFILE[1]}]
    known.running()


@case("D16")
@tier(2)
def test_oom_score_adjustment_is_that_of_the_configuration(runtime: Runtime) -> None:
    """The adjustment of the OOM score is process.oomScoreAdj (config.md#linux-process, oomScoreAdj).

    Why: it decides who dies first when memory runs out.
    By hand:
        # config.json: "oomScoreAdj": 777
        cat /proc/PID/oom_score_adj
    """
    own = int(Path("/proc/self/oom_score_adj").read_text())
    wanted = ADJUSTMENT if own < ADJUSTMENT else 1000
    container = runtime.container()
    container.spec["process"]["oomScoreAdj"] = wanted
    assert str(wanted) == container.running().sh("cat /proc/$PPID/oom_score_adj").ok


@case("D31")
@tier(3)
@offered("personality")
def test_execution_domain_is_that_of_the_configuration(runtime: Runtime) -> None:
    """The execution domain is linux.personality's (config-linux.md#personality; personality(2)).

    Why: builds for 32 bits in a container ask uname(2) which machine it is.
    By hand:
        # config.json: "linux": {"personality": {"domain": "LINUX32"}}
        cat /proc/PID/personality    # 00000008
    """
    container = runtime.container()
    container.spec["linux"]["personality"] = {"domain": "LINUX32"}
    assert f"{LINUX32:08x}" == container.running().sh("cat /proc/self/personality").ok


@case("D32")
@tier(3)
@offered("scheduler")
def test_scheduling_policy_is_that_of_the_configuration(runtime: Runtime) -> None:
    """Policy and nice value are process.scheduler's (config.md#linux-process, scheduler; sched(7)).

    Why: batch work that runs like interactive work slows down everybody else.
    By hand:
        # config.json: "scheduler": {"policy": "SCHED_BATCH", "nice": 7}
        chrt --pid PID; ps -o ni= PID
    """
    container = runtime.container()
    container.spec["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": NICE}
    pid = container.running().pid
    policy = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_BATCH: "SCHED_BATCH"}.get(os.sched_getscheduler(pid), "another")
    assert ("SCHED_BATCH", NICE) == (policy, os.getpriority(os.PRIO_PROCESS, pid))


@case("D33")
@tier(3)
@offered("io-priority")
def test_io_priority_is_that_of_the_configuration(runtime: Runtime) -> None:
    """Class and level of the I/O priority are process.ioPriority's (config.md#linux-process; ioprio_set(2)).

    Why: a backup that does not come last starves the database beside it.
    By hand:
        # config.json: "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}
        ionice --pid PID    # best-effort: prio 6
    """
    container = runtime.container()
    container.spec["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    assert "best-effort: prio 6" == _io_priority(runtime.bench, container.running().pid)


def _io_priority(bench: Bench, pid: int) -> str:
    """Return what ionice(1) says of a process; glibc has no function for it."""
    words = [probes.tool("ionice"), "--pid", str(pid)]
    return process.output_of(words, environment=bench.environment, seconds=IONICE_S)[1]
