"""How a pod ends: phases, exit codes, reasons (cri-api, ContainerStatus; pod lifecycle of Kubernetes)."""

from __future__ import annotations

import pytest

from suites.framework.marks import case
from suites.framework.pod.driver import Program
from suites.framework.pod.pods import LONG_S, Pods

CODES_OF_A_FAILED_START = (1, 126, 127, 128)
"""What engines and shells give a program that cannot be executed."""


@case("A1")
def test_exit_code_is_kept(pods: Pods) -> None:
    """A program that exits with 42 makes its pod Failed, with that code and reason Error (cri-api, ContainerStatus).

    Why: a job whose failure is told as success is never run again.
    By hand:
        kubectl run a1 --image=busybox --restart=Never -- sh -c 'exit 42'
        kubectl get pod a1 -o jsonpath='{.status.phase} {.status.containerStatuses[0].state.terminated}'
    """
    pod = pods.run(pods.shell("echo here; exit 42"))
    status = pod.main.ended()
    assert b"here\n" == pod.main.settled("stdout")
    assert ("Failed", 42, "Error") == (pod.phase(), status.code, status.reason)


@pytest.mark.tier(3)
@case("A2")
@pytest.mark.parametrize(
    ("code", "phase", "reason"), [(0, "Succeeded", "Completed"), (255, "Failed", "Error")], ids=["0", "255"]
)
def test_least_and_greatest_exit_code(pods: Pods, code: int, phase: str, reason: str) -> None:
    """Exit 0 is Succeeded with reason Completed, and 255 is not cut (cri-api, ContainerStatus).

    Why: everything that waits for a job decides by these two.
    By hand:
        kubectl run a2 --image=busybox --restart=Never -- sh -c 'exit 0'
        kubectl get pod a2 -o jsonpath='{.status.phase} {.status.containerStatuses[0].state.terminated.reason}'
    """
    pod = pods.run(pods.shell(f"exit {code}"))
    status = pod.main.ended()
    assert b"" == pod.main.settled("stdout")
    assert (phase, code, reason) == (pod.phase(), status.code, status.reason)


@case("A3")
def test_missing_program_fails_the_pod(pods: Pods) -> None:
    """A program that is not there makes its pod Failed, and what is said names it (cri-api, StartContainer).

    Why: a typing error in a command must be read in the pod's status, not guessed.
    By hand:
        kubectl run a3 --image=busybox --restart=Never --command -- /nowhere/program
        kubectl describe pod a3   # a message with /nowhere/program, a code that is not 0
    """
    missing = "/nowhere/program"
    pod = pods.run(pods.shell("exit 0", name="beside"), Program(name="missing", command=(missing,)))
    beside, status = pod["beside"].ended(), pod["missing"].ended()
    assert (b"", 0) == (pod["beside"].settled("stdout"), beside.code)
    assert "Failed" == pod.phase()
    assert status.code in (*CODES_OF_A_FAILED_START, *([None] if status.refusal else []))
    assert "named" == ("named" if missing in f"{status.refusal} {status.message}" else "not named")


@pytest.mark.tier(3)
@case("A8")
def test_each_container_keeps_its_code(pods: Pods) -> None:
    """Of two containers that end with 0 and 5 each keeps its own, and the pod is Failed (pod lifecycle).

    Why: who looks for the culprit in a pod must not find its neighbour.
    By hand:
        # a pod with restartPolicy Never and two containers, `exit 0` and `exit 5`
        kubectl get pod a8 -o jsonpath='{.status.containerStatuses[*].state.terminated.exitCode}'
    """
    pod = pods.run(pods.shell("exit 0", name="zero"), pods.shell("exit 5", name="five"))
    codes = {name: pod[name].ended().code for name in ("zero", "five")}
    assert (b"", b"") == (pod["zero"].settled("stdout"), pod["five"].settled("stdout"))
    assert ("Failed", {"zero": 0, "five": 5}) == (pod.phase(), codes)


@pytest.mark.tier(3)
@case("A9")
def test_times_of_a_short_program(pods: Pods) -> None:
    """A program that ends at once is seen as exited; one that ran was started before it finished (ContainerStatus).

    Why: a container that ended before anybody looked must not stay Running for ever. An engine writes down the start
    when the runtime's own call has returned, which may be after the end: so the order is asked of a program that ran.
    By hand:
        kubectl run a9 --image=busybox --restart=Never -- true
        kubectl get pod a9 -o jsonpath='{.status.containerStatuses[0].state.terminated}'   # startedAt <= finishedAt
    """
    pod = pods.run(pods.shell(":"), pods.shell("trap 'exit 0' TERM; echo ready; sleep 1000 & wait", name="ran"))
    short = pod.main.ended()
    assert b"" == pod.main.settled("stdout")
    assert "both set" == ("both set" if min(short.started_at, short.finished_at) > 0 else "not both set")
    pod["ran"].says("ready")
    pod["ran"].stop(grace=LONG_S)
    ran = pod["ran"].ended()
    assert "in order" == ("in order" if 0 < ran.started_at <= ran.finished_at else "not in order, or not set")


@pytest.mark.tier(3)
@case("A4")
@pytest.mark.parametrize("what", ["not-executable", "directory"])
def test_what_cannot_be_executed_fails_the_pod(pods: Pods, what: str) -> None:
    """A file without permission to execute, or a directory, makes the pod Failed, and nobody hangs (execve(2)).

    Why: a start that waits for what never comes holds the node's slot.
    By hand:
        kubectl run a4 --image=busybox --restart=Never --command -- /etc/passwd   # or /etc
        kubectl get pod a4 -o jsonpath='{.status.phase}'
    """
    path = {"not-executable": "/etc/passwd", "directory": "/etc"}[what]
    pod = pods.run(pods.shell("test -e /etc/passwd", name="beside"), Program(name="wrong", command=(path,)))
    beside, status = pod["beside"].ended(), pod["wrong"].ended()
    assert (b"", 0) == (pod["beside"].settled("stdout"), beside.code)
    assert "Failed" == pod.phase()
    assert status.code in (*CODES_OF_A_FAILED_START, *([None] if status.refusal else []))


@pytest.mark.tier(3)
@case("A6")
def test_program_killed_from_the_node_is_137(pods: Pods) -> None:
    """A program that somebody on the node kills by KILL ends with 137 and makes its pod Failed (signal(7)).

    Why: the kernel's OOM killer looks just like this, and must not look like success.
    By hand:
        kubectl run a6 --image=busybox --restart=Never -- sleep 1000
        kill -9 $(pgrep --full 'sleep 1000')   # on the node
        kubectl get pod a6 -o jsonpath='{.status.containerStatuses[0].state.terminated.exitCode}'
    """
    pod = pods.run(pods.shell("echo ready; exec sleep 1000"))
    pod.main.says("ready")
    pods.kill(pods.first())
    status = pod.main.ended()
    assert b"ready\n" == pod.main.settled("stdout")
    assert ("Failed", 137, "Error") == (pod.phase(), status.code, status.reason)


@pytest.mark.tier(3)
@case("A5")
def test_missing_directory_is_made_or_fails_the_pod(pods: Pods) -> None:
    """A working directory that is not there is made, or the pod is Failed; it never stays Running (ContainerConfig).

    Why: a program that began elsewhere would write its files elsewhere.
    By hand:
        # a pod with workingDir: /nowhere/at-all and the command pwd
        kubectl get pod a5; kubectl logs a5
    """
    pod = pods.run(pods.shell(":", name="beside"), pods.shell("pwd", directory="/nowhere/at-all"))
    assert (0, b"") == (pod["beside"].ended().code, pod["beside"].settled("stdout"))
    status = pod.main.ended()
    pods.note("made", status.code == 0)
    if status.code == 0:
        assert b"/nowhere/at-all\n" == pod.main.settled("stdout")
    assert ("Succeeded" if status.code == 0 else "Failed") == pod.phase()
