"""What becomes of pods when the engine or a shim breaks down."""

from __future__ import annotations

from suites.framework.marks import case, tier, weight
from suites.framework.pod.driver import State
from suites.framework.pod.pods import LONG_S, Pods


@tier(3)
@weight(4)
@case("G5")
def test_pod_outlives_its_engine(pods: Pods) -> None:
    """A pod runs on when the engine is killed, and the next engine knows it: exec, its end, its code (cri-api).

    Why: an engine is updated on nodes that work.
    By hand:
        kubectl run g5 --image=busybox --restart=Never -- sh -c 'trap "exit 5" TERM; while :; do sleep 1; done'
        killall -KILL containerd; systemctl start containerd   # on the node
        kubectl exec g5 -- true; kubectl delete pod g5
    """
    pod = pods.run(pods.shell("trap 'kill $!; exit 5' TERM; sleep 1000 & echo ready; wait"))
    pod.main.says("ready")
    pods.engine.crash()
    assert State.RUNNING == pod.main.status().state
    said = pod.main.shell("exit 7")
    assert (7, b"") == (said.code, said.stdout)
    pod.main.stop(grace=LONG_S)
    assert 5 == pod.main.ended().code
    pod.delete()
    assert (0, []) == (pods.living(at_most=0), pods.left())


@tier(3)
@weight(4)
@case("G6")
def test_killed_shim_is_noticed(pods: Pods) -> None:
    """When the shim of a pod is killed its container is no longer running, and all of it can be removed (cri-api).

    Why: the OOM killer takes shims too, and a pod that stays Running for ever is never replaced.
    By hand:
        kubectl run g6 --image=busybox --restart=Never -- sleep 1000
        pkill -KILL --full 'containerd-shim.*POD-ID'   # on the node
        kubectl get pod g6; kubectl delete pod g6; pgrep --full 'sleep 1000'   # nothing
    """
    pod = pods.run(pods.shell("echo ready; exec sleep 1000"))
    pod.main.says("ready")
    assert b"ready\n" == pod.main.output()
    pods.kill(pods.shim())
    status = pod.main.ended()
    pods.note("state", status.state)
    assert 0 != status.code
    pod.delete()
    assert (0, []) == (pods.living(at_most=0), pods.left())
