"""Failure, environment and resources."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGUSR1

from suites.catalog import Mode, Privilege
from suites.framework import process, usage
from suites.framework.bench import Bench
from suites.framework.marks import case, modes, tier, weight, within
from suites.framework.process import exited
from suites.framework.signals import names
from suites.framework.targets.contained import ContainedInit
from suites.framework.targets.init import Init
from suites.framework.waiting import Deadline, Waiter

SETTLING_S = 0.1
IDLE_S = 50.0
"""A minute, but for what the harness itself needs of the time that a case is given."""
EARLY_STOPS = 20
EARLY_STOPS_S = 35.0
"""A slow engine is given fewer, rather than the time of the cases after it."""
TEARDOWN_S = 0.3
TRACER = """\
import ctypes, os, sys
PTRACE_SEIZE = 0x4206
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
done = libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) == 0
os.write(1, b"traced" if done else os.strerror(ctypes.get_errno()).encode())
sys.stdin.read()
"""


@case("FA-01")
def test_shortage_of_descriptors_is_no_hang(init: Init) -> None:
    """With room for one more descriptor the init works, or fails promptly and says why (EMFILE, open(2)).

    Why: limits of a unit file are met for the first time in production.
    By hand:
        (ulimit -n 4; exec $INIT sh -c 'exit 7')
        echo $?    # 7, or another code but 0 and a message
        # (a hang is the failure)
    """
    with init.start(init.once(7)) as run:
        run.child.next("once")
        assert exited(7) == run.ended()
    with init.start(init.once(7), limits={"nofile": 4}) as run:
        status = run.ended()
        run.note("with_4_descriptors", str(status))
        said = "a message" if run.output("stderr").strip() else "silence on stderr"
        failed = f"{'success' if status == exited(0) else 'a failure'} and {said}"
        if status == exited(7):
            run.child.next("once")
        else:
            assert "a failure and a message" == failed


@case("FA-02")
@tier(4)
def test_idle_init_with_few_descriptors_stays(init: Init) -> None:
    """With a small limit on descriptors and nothing to do for a minute, init and child are still there, and work.

    Why: an init that opens something or begins a thread every few seconds and never ends it dies in the night.
    By hand:
        (ulimit -n 16; exec $INIT sleep 70) & sleep 60; jobs
        # Running
        # (anything else is the failure)
    """
    with init.start(limits={"nofile": 16}) as run:
        run.child.ready()
        run.stays(SETTLING_S)
        before = usage.of(run.pid).threads
        assert "running" == ("running" if run.stays(IDLE_S) else "ended while idle")
        assert "as many threads" == ("as many threads" if usage.of(run.pid).threads == before else "other threads")
        run.child.state()
        run.child.tell("exit 7")
        assert exited(7) == run.ended()


@case("FA-03")
@weight(40)
@modes(Mode.DOCKER)
def test_init_needs_no_privilege_in_a_container(contained: ContainedInit) -> None:
    """With a read-only root, no capability, no new privileges and as user 1000 the init works (docker run).

    Why: it is what hardened clusters demand of every container.
    By hand:
        hardened='--read-only --cap-drop ALL --security-opt no-new-privileges --user 1000:1000'
        docker run --rm $hardened IMAGE $INIT sh -c 'exit 7'
        echo $?    # 7
    """
    hardened = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=1000:1000")
    with contained.run(options=hardened) as container:
        assert 1000 == container.child.ready().uid
        container.child.tell("exit 7")
        assert "exit 7" == container.ended()


@case("FA-04")
@weight(60)
@modes(Mode.DOCKER)
def test_init_works_in_a_foreign_pid_namespace(contained: ContainedInit) -> None:
    """In a container that shares the PID namespace of another the init is not PID 1, and works (docker run --pid).

    Why: sidecars and debuggers share it, and `--pid=host` is the same with the machine's.
    By hand:
        docker run -d --name t IMAGE $INIT sleep 60
        docker run --rm --pid container:t IMAGE $INIT sh -c 'exit 7'
        echo $?; docker rm -f t    # 7
    """
    with contained.run() as other:
        other.child.ready()
        with contained.run(options=("--pid", f"container:{other.name}")) as container:
            state = container.child.ready()
            assert "a process below the init" == ("a process below the init" if state.ppid else "the init itself")
            container.child.tell("exit 7")
            assert "exit 7" == container.ended()


@case("FA-05")
@modes(Mode.DOCKER)
@tier(4)
def test_container_that_is_stopped_at_once_stops(contained: ContainedInit) -> None:
    """`docker stop` right after the start, twenty times, always ends with 143 or, where TERM came too early, with 137.

    Why: a deployment that is rolled back at once must not leave a container that hangs or looks finished.
    By hand:
        for i in $(seq 20); do docker run -d --name t IMAGE $INIT sleep 60 && docker stop --time 1 t
        docker wait t; docker rm t; done
        # 143 or 137
    """
    with contained.run() as container:
        container.child.ready()
        container.child.ask("default")
        code, _ = container.stop(seconds=2)
        assert "exit 143" == code
    seen: Counter[str] = Counter()
    deadline = Deadline(EARLY_STOPS_S)
    while seen.total() < EARLY_STOPS and not deadline.passed:
        with contained.run(command=("sleep", "60")) as container:
            code, _ = container.stop(seconds=1)
            seen[code] += 1
            assert "exit 143 or exit 137" == (code if code not in ("exit 143", "exit 137") else "exit 143 or exit 137")
    contained.bench.note("stopped", dict(seen))


@case("FA-06")
def test_init_runs_under_an_init(init: Init) -> None:
    """An init that is the child of an init passes code and signals on (an image with one, and `docker run --init`).

    Why: it is a common accident, and must be a harmless one.
    By hand:
        $INIT $INIT sh -c 'exit 7'
        echo $?    # 7
        # (a signal to the outer one reaches the shell)
    """
    inner = init.command(init.recorder_words())
    with init.start(inner) as run:
        run.child.ready()
        assert "USR1" == names(run.heard(SIGUSR1))
        run.child.tell("exit 7")
        assert exited(7) == run.ended()


@case("FA-07")
@modes(Mode.PID1)
@within(privilege=Privilege.ROOTLESS)
def test_init_runs_as_mapped_root(init: Init) -> None:
    """As PID 1 of an ordinary user's namespaces, root only by mapping, the init works (user_namespaces(7)).

    Why: rootless podman starts it in exactly this way.
    By hand:
        unshare --user --map-root-user --pid --fork --mount-proc $INIT sh -c 'id -u; exit 7'
        # 0
        echo $?    # 7
    """
    with init.start() as run:
        state = run.child.ready()
        assert 0 == state.uid
        run.child.tell("exit 7")
        assert exited(7) == run.ended()


@case("FA-08")
@modes(Mode.PLAIN)
def test_init_runs_as_an_ordinary_process(init: Init) -> None:
    """An init that is not PID 1 still runs its command and passes its code on (`docker run --pid=host`, a debugger).

    Why: refusing to start, or never ending, breaks every use outside a container.
    By hand:
        $INIT sh -c 'exit 7'
        echo $?    # 7
        # (echo $$ is not 1)
    """
    with init.start() as run:
        state = run.child.ready()
        assert "a process below the init" == ("the init itself" if state.pid == run.pid else "a process below the init")
        run.child.tell("exit 7")
        assert exited(7) == run.ended()


@case("FA-09")
@modes(Mode.PID1)
@within(privilege=Privilege.ROOT)
def test_traced_process_and_the_end_of_pid_1_are_told(init: Init, bench: Bench) -> None:
    """PID 1 ends with its child's code when one below it is traced from outside (ptrace(2)). Whether at once: recorded.

    Why: the kernel waits with the end of PID 1 until all others are reaped, so a forgotten strace holds a container.
    By hand:
        unshare --pid --fork --mount-proc $INIT sh -c 'setsid sleep 77 & sleep 5; exit 7' & sleep 1
        strace -p $(pgrep -f 'sleep 77') & wait %1; echo $?
        # 7 after five seconds
    """
    with init.start() as run:
        run.child.ready()
        traced, _ = run.child.fork("session")
        with _tracer(traced.pid, bench):
            run.child.tell("exit 7")
            run.note("held_by_the_tracer", run.stays(TEARDOWN_S))
        assert exited(7) == run.ended()


@contextmanager
def _tracer(pid: int, bench: Bench) -> Iterator[None]:
    """Trace a process, by a program that does not reap it; what it held is let go of when this ends."""
    (stdin, ours), (said, stdout), null = os.pipe(), os.pipe(), os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    words = [bench.python, "-I", "-S", "-c", TRACER, str(pid)]
    try:
        tracer = process.spawn(words, environment=bench.environment, fds={0: stdin, 1: stdout, 2: null})
    finally:
        for fd in (stdin, stdout, null):
            os.close(fd)
    try:
        ready = Waiter().wait((said,), Deadline(bench.context.limits.deadline_s))
        assert b"traced" == (os.read(said, 4096) if ready else b"nothing came")
        yield
    finally:
        tracer.kill()
        os.close(said)
        os.close(ours)
