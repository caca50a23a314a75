"""Many pods, short lives, and what is left of them."""

from __future__ import annotations

import pytest

from suites.framework.marks import case, tier, weight
from suites.framework.pod.driver import Program
from suites.framework.pod.pods import Pods


@case("G1")
@pytest.mark.parametrize("count", [3, pytest.param(10, marks=[tier(3), weight(20)])])
def test_pods_started_at_once_all_succeed(pods: Pods, count: int) -> None:
    """Pods that are begun at the same time all run to their end (concurrent RunPodSandbox).

    Why: a node that comes back starts everything at once, and a runtime that shares a name or a lock loses some.
    By hand:
        for i in 1 2 3; do kubectl run g1-$i --image=busybox --restart=Never -- sh -c 'echo done' & done; wait
        kubectl get pods   # three times Completed
    """
    made = pods.together(count, pods.shell("echo done"))
    ends = [(pod.main.ended().code, pod.main.settled("stdout"), pod.phase()) for pod in made]
    assert [(0, b"done\n", "Succeeded")] * count == ends
    for pod in made:
        pod.delete()


@tier(2)
@weight(40)
@case("G2")
def test_nothing_is_left_of_many_short_lives(pods: Pods) -> None:
    """Of 20 pods that are begun and deleted at once, half of them killed, nothing is left on the node (14 of the plan).

    Shims, bundles, mounts, cgroups, network namespaces, states of runtimes, records of the engine, descriptors of logs.

    Why: a node that leaks a little with each pod is full after a month, and then it is everybody's trouble.
    By hand:
        for i in $(seq 20); do kubectl run g2-$i --image=busybox --restart=Never -- sleep 1000; done
        kubectl delete pods --all --grace-period=0 --force
        pgrep --full containerd-shim; findmnt | grep g2; ls /run/containerd/runc/k8s.io   # on the node: nothing new
    """
    for number in range(10):
        first, second = pods.together(2, pods.shell("echo ready; sleep 1000"))
        first.main.says("ready")
        (first if number % 2 else second).main.stop(grace=0)
        first.delete()
        second.delete()
        assert [] == pods.left()


@tier(2)
@case("G3")
def test_no_zombie_and_no_orphan_is_left(pods: Pods) -> None:
    """Orphans and zombies of a program are gone when its pod is deleted (14 of the plan; wait(2)).

    Why: each of them holds a process id, of which a node has a limited number.
    By hand:
        kubectl run g3 --image=busybox --restart=Never -- sh -c '(sleep 0 & exec sleep 1000) & (sleep 1000 &); wait'
        kubectl delete pod g3 --grace-period=1; ps -e -o stat,comm | grep -e ^Z -e sleep   # on the node: nothing
    """
    script = "(sleep 0 & exec sleep 1000) & (setsid sleep 1000 &); echo ready; trap 'exit 0' TERM; wait"
    pod = pods.run(pods.shell(script))
    pod.main.says("ready")
    assert "several" == ("several" if pods.living(at_least=2) >= 2 else "too few to tell")
    pod.delete()
    assert (0, []) == (pods.living(), pods.left())


@tier(3)
@case("G4")
def test_failed_start_leaves_nothing(pods: Pods) -> None:
    """Of a pod whose program could not be started nothing is left when it is deleted (cri-api, RemovePodSandbox).

    Why: what is restarted over and over with a typing error fills the node otherwise.
    By hand:
        kubectl run g4 --image=busybox --restart=Never --command -- /nowhere/program; kubectl delete pod g4
        pgrep --full containerd-shim; findmnt; ls /run/containerd/runc/k8s.io   # on the node: nothing new
    """
    pod = pods.run(pods.shell(":", name="beside"), Program(name="missing", command=("/nowhere/program",)))
    assert 0 == pod["beside"].ended().code
    assert b"" == pod["beside"].settled("stdout")
    assert "not started" == ("not started" if pod["missing"].ended().code != 0 else "started")
    pod.delete()
    assert [] == pods.left()


@tier(3)
@case("G7")
def test_container_is_replaced_in_its_pod(pods: Pods) -> None:
    """The next attempt of a container runs in the pod of the first one (cri-api, ContainerMetadata.attempt).

    Why: that is what a restart is.
    By hand:
        # a pod with restartPolicy: OnFailure and the command `sh -c 'exit 1'`
        kubectl get pod g7 -o jsonpath='{.status.containerStatuses[0].restartCount}'   # grows
    """
    pod = pods.run(pods.shell("exit 7"))
    assert (7, b"") == (pod.main.ended().code, pod.main.settled("stdout"))
    pod.replaced(pods.shell("exit 8"), attempt=1)
    assert 8 == pod.main.ended().code
    pod.delete()
    assert [] == pods.left()
