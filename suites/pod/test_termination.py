"""How containers and pods are ended (cri-api, StopContainer; termination of pods)."""

from __future__ import annotations

from suites.framework.marks import case, tier
from suites.framework.pod.driver import Image
from suites.framework.pod.pods import LIVENESS_S, LONG_S, Pods

EARLY_S = 0.1
"""How much before the end of the grace a KILL may come: clocks of seconds."""


@case("E1")
def test_term_is_delivered_and_obeyed(pods: Pods) -> None:
    """TERM reaches the program, whose handler runs, and its exit 0 is the container's (termination of pods).

    Why: a database that is killed where it could have closed its files starts with a repair.
    By hand:
        kubectl run e1 --image=busybox --restart=Never -- sh -c 'trap "echo trapped; exit 0" TERM; sleep 1000 & wait'
        kubectl delete pod e1 --grace-period=60 & kubectl logs --follow e1   # trapped, at once
    """
    pod = pods.run(pods.shell("trap 'echo trapped; kill $!; exit 0' TERM; sleep 1000 & echo ready; wait"))
    pod.main.says("ready")
    seconds = pod.main.stop(grace=LONG_S)
    pods.note("stop_s", seconds)
    status = pod.main.ended()
    assert (0, b"ready\ntrapped\n") == (status.code, pod.main.settled("stdout"))
    assert "in time" == ("in time" if seconds < LIVENESS_S else "late")


@tier(2)
@case("E2")
def test_program_that_ignores_term_is_killed_after_the_grace(pods: Pods) -> None:
    """A program that ignores TERM is killed when the grace is over, not before, and its code is 137 (StopContainer).

    Why: a kill that comes early loses data, one that never comes holds a whole node's drain.
    By hand:
        kubectl run e2 --image=busybox --restart=Never -- sh -c 'trap "" TERM; while :; do sleep 1; done'
        time kubectl delete pod e2 --grace-period=2
    """
    grace = 2
    pod = pods.run(pods.shell("trap '' TERM; echo ready; while :; do sleep 1; done"))
    pod.main.says("ready")
    seconds = pod.main.stop(grace=grace)
    pods.note("over_grace_s", seconds - grace)
    assert 137 == pod.main.ended().code
    assert b"ready\n" == pod.main.settled("stdout")
    assert "after the grace" == ("after the grace" if seconds >= grace - EARLY_S else "before its end")
    assert "in time" == ("in time" if seconds < grace + LIVENESS_S else "late")


@tier(2)
@case("E3")
def test_background_children_are_gone_with_the_pod(pods: Pods) -> None:
    """No process that a program has left in the background lives on when its pod is deleted (termination of pods).

    Why: what survives a pod holds its ports, its files and its memory, and nobody knows whose it is.
    By hand:
        kubectl run e3 --image=busybox --restart=Never -- sh -c 'sleep 1234 & sleep 1234 & wait'
        kubectl delete pod e3 --grace-period=1; pgrep --full 'sleep 1234'   # on the node: nothing
    """
    pod = pods.run(pods.shell("sleep 1000 & sleep 1000 & echo ready; wait"))
    pod.main.says("ready")
    assert 3 == pods.living(at_least=3)
    pod.delete()
    assert (0, []) == (pods.living(), pods.left())


@tier(2)
@case("E4")
def test_daemons_are_gone_with_the_container(pods: Pods) -> None:
    """A grandchild in a session of its own that ignores TERM is gone when stop returns (StopContainer).

    Why: it is what daemons do, and a runtime that counts on process groups or parents misses them.
    By hand:
        kubectl run e4 --image=busybox --restart=Never -- sh -c '(setsid sh -c "trap : TERM; sleep 1234" &); sleep 1000'
        kubectl delete pod e4 --grace-period=1; pgrep --full 'sleep 1234'   # on the node: nothing
    """
    daemon = "trap '' TERM HUP; echo ready; sleep 1000 & sleep 1000; sleep 1000"
    pod = pods.run(pods.shell(f'(setsid sh -c "{daemon}" &); trap "" TERM; sleep 1000'))
    pod.main.says("ready")
    assert "several" == ("several" if pods.living(at_least=3) >= 3 else "too few to tell")
    seconds = pod.main.stop(grace=1)
    pods.note("over_grace_s", seconds - 1)
    assert 137 == pod.main.ended().code
    assert b"ready\n" == pod.main.settled("stdout")
    assert 0 == pods.living()
    assert "in time" == ("in time" if seconds < 1 + LIVENESS_S else "late")


@tier(3)
@case("E5")
def test_children_are_gone_when_the_program_exits(pods: Pods) -> None:
    """Children of a program that exits by itself do not outlive its container (pid_namespaces(7)).

    Why: a job that is done must not go on in the background, unseen by everything that counts.
    By hand:
        kubectl run e5 --image=busybox --restart=Never -- sh -c '(setsid sleep 1234 &); exit 3'
        pgrep --full 'sleep 1234'   # on the node: nothing
    """
    pod = pods.run(pods.shell("(setsid sleep 1000 >/dev/null 2>&1 &); exit 3"))
    assert 3 == pod.main.ended().code
    assert b"" == pod.main.settled("stdout")
    pod.delete()
    assert (0, []) == (pods.living(), pods.left())


@tier(3)
@case("E8", "E9")
def test_stopping_a_pod_ends_what_runs_in_it(pods: Pods) -> None:
    """A pod that is stopped ends its programs, soon, and can then be removed (cri-api, StopPodSandbox).

    Why: a node's shutdown stops pods, not containers, and waits for it.
    By hand:
        kubectl run e8 --image=busybox --restart=Never -- sh -c 'trap "" TERM; while :; do sleep 1; done'
        time crictl stopp $(crictl pods --name e8 --quiet)   # on the node
    """
    pod = pods.run(pods.shell("echo ready; while :; do sleep 1; done"), pods.shell("exit 3", name="ended"))
    pod.main.says("ready")
    assert 3 == pod["ended"].ended().code
    seconds = pod.halt()
    pods.note("stop_s", seconds)
    assert (137, 3) == (pod.main.ended().code, pod["ended"].ended().code)
    assert 0 == pods.living(at_most=0)
    assert "in time" == ("in time" if seconds < LIVENESS_S else "late")
    pod.delete()
    assert [] == pods.left()


@tier(3)
@case("E6")
def test_stopping_twice_is_no_error(pods: Pods) -> None:
    """A container that was stopped can be stopped again, and keeps its code (cri-api, StopContainer).

    Why: who was interrupted in stopping something has to begin again.
    By hand:
        # crictl stop ID; crictl stop ID; crictl inspect ID
    """
    pod = pods.run(pods.shell("trap 'kill $!; exit 6' TERM; sleep 1000 & echo ready; wait"))
    pod.main.says("ready")
    for _ in range(2):
        pod.main.stop(grace=LONG_S)
    assert (6, b"ready\n") == (pod.main.ended().code, pod.main.settled("stdout"))


@tier(3)
@case("E7")
def test_signal_of_the_image_asks_for_the_end(pods: Pods) -> None:
    """A container of an image with a stop signal of its own is asked to end by that one (image-spec, StopSignal).

    Why: some servers take TERM for a quick end and another signal for an orderly one.
    By hand:
        # an image with STOPSIGNAL SIGUSR1
        kubectl run e7 --image=IMAGE --restart=Never -- sh -c 'trap "exit 3" USR1; sleep 1000 & wait'
        kubectl delete pod e7 --wait=false; kubectl get pod e7 --watch   # exit code 3
    """
    script = "trap 'kill $!; exit 3' USR1; trap 'kill $!; exit 4' TERM; sleep 1000 & echo ready; wait"
    pod = pods.run(pods.shell(script, image=Image.USR1))
    pod.main.says("ready")
    pod.main.stop(grace=LONG_S)
    assert (3, b"ready\n") == (pod.main.ended().code, pod.main.settled("stdout"))
