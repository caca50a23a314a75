"""Folders of the node in a container (cri-api, Mount; volumes of Kubernetes)."""

from __future__ import annotations

from suites.framework.marks import case, offered, tier
from suites.framework.pod.driver import Volume
from suites.framework.pod.pods import Pods


@case("F1")
@offered("volumes")
def test_read_only_volume_refuses_writes(pods: Pods) -> None:
    """A volume that is mounted read-only can be read and not written, and the node's folder stays (cri-api, Mount).

    Why: a secret or a configuration that a container can change is changed for every other one.
    By hand:
        # a pod with two hostPath volumes, the one at /ro with readOnly: true, the one at /rw without
        kubectl exec f1 -- sh -c 'cat /ro/marker; echo no >/ro/new; echo yes >/rw/new'
        ls /path/of/ro /path/of/rw   # on the node
    """
    kept, open_one = pods.volume("ro", "/ro", read_only=True), pods.volume("rw", "/rw")
    script = """
        cat /ro/marker; echo
        (echo no >/ro/new) 2>&1; (echo no >/ro/marker) 2>&1; rm /ro/marker 2>&1
        echo yes >/rw/new && echo written
    """
    pod = pods.run(pods.shell(script, volumes=(kept, open_one)))
    said = pod.main.outputs()[0].decode().splitlines()
    assert pods.bench.nonce == said[0]
    assert ["Read-only file system"] * 3 + ["written"] == [line.rpartition(": ")[2] for line in said[1:]]
    assert {"marker": pods.bench.nonce.encode()} == _files(kept)
    assert {"marker": pods.bench.nonce.encode(), "new": b"yes\n"} == _files(open_one)


def _files(volume: Volume) -> dict[str, bytes]:
    """Return the content of each file of a volume as the node has it."""
    return {path.name: path.read_bytes() for path in volume.source.iterdir()}


@tier(3)
@case("F2")
@offered("volumes")
def test_what_is_written_to_a_volume_is_on_the_node(pods: Pods) -> None:
    """What a program writes to a volume is in the node's folder, byte for byte (cri-api, Mount).

    Why: it is what volumes are for.
    By hand:
        # a pod with a hostPath volume at /rw
        kubectl exec f2 -- sh -c 'echo yes >/rw/new'; cat /path/of/rw/new   # on the node
    """
    volume = pods.volume("rw", "/rw")
    pod = pods.run(pods.shell(r"cat /rw/marker; printf 'a\000b\377' >/rw/new", volumes=(volume,)))
    assert (pods.bench.nonce.encode(), b"") == pod.main.outputs()
    assert {"marker": pods.bench.nonce.encode(), "new": b"a\x00b\xff"} == _files(volume)


@tier(3)
@case("F4")
@offered("volumes")
def test_pods_keep_their_own_volumes(pods: Pods) -> None:
    """Two pods that live at the same time with volumes at the same path see each its own (cri-api, Mount).

    Why: a runtime that shares a tree between pods gives one tenant the data of another.
    By hand:
        # two pods, each with a hostPath volume of its own at /data, each with a file `who` in it
        kubectl exec one -- cat /data/who; kubectl exec two -- cat /data/who
    """
    made = {}
    for name in ("one", "two"):
        volume = pods.volume(name, "/data")
        (volume.source / "who").write_text(f"{name}\n")
        made[name] = pods.run(pods.shell("echo ready; exec sleep 1000", volumes=(volume,)))
    for pod in made.values():
        pod.main.says("ready")
    said = {name: pod.main.shell("cat /data/who; ls /data").stdout.decode().split() for name, pod in made.items()}
    assert {name: [name, "marker", "who"] for name in made} == said


@tier(3)
@case("F8")
@offered("pid-namespace")
def test_only_its_own_processes_are_seen(pods: Pods) -> None:
    """A program sees its own processes and none of the node's (pid_namespaces(7)).

    Why: who sees all processes reads their command lines, and the passwords in them.
    By hand:
        kubectl run f8 --image=busybox --restart=Never -- ps
        kubectl logs f8
    """
    pod = pods.run(pods.shell("echo $$; ls /proc | grep -c '^[0-9]'"))
    own, seen = pod.main.outputs()[0].decode().split()
    assert "1" == own
    assert "few" == ("few" if int(seen) < 10 else "many")


@tier(3)
@case("F3")
@offered("volumes")
def test_volumes_below_each_other_and_of_a_file(pods: Pods) -> None:
    """A file can be mounted, and a volume below another one, whatever the order they are given in (cri-api, Mount).

    Why: configurations are single files, and often stand within a volume.
    By hand:
        # a pod with hostPath volumes at /outer/inner, /outer and /outer/inner/file (type: File)
        kubectl exec f3 -- find /outer -type f
    """
    outer, inner = pods.volume("outer", "/outer"), pods.volume("inner", "/outer/below")
    (outer.source / "who").write_text("outer\n")
    (inner.source / "who").write_text("inner\n")
    (outer.source / "below").mkdir()
    single = Volume(source=inner.source / "who", path="/etc/single", read_only=True)
    script = "cat /outer/who /outer/below/who /etc/single; (echo x >/etc/single) 2>/dev/null || echo kept"
    pod = pods.run(pods.shell(script, volumes=(inner, single, outer)))
    assert (b"outer\ninner\ninner\nkept\n", b"") == pod.main.outputs()


@tier(3)
@case("F6")
@offered("volumes")
def test_volume_that_was_made_again_is_the_new_one(pods: Pods) -> None:
    """A volume that was removed with its pod and made again at the same path is the new one (stale mounts).

    Why: a runtime that keeps mounts shows the next pod the data of the last.
    By hand:
        # twice: mkdir and fill /path/of/data, a pod with it, delete the pod, remove the folder
        kubectl exec f6 -- ls /data
    """
    said = []
    for name in ("first", "second"):
        volume = pods.volume("data", "/data")
        (volume.source / name).write_text("x")
        pod = pods.run(pods.shell("ls /data", volumes=(volume,)))
        said.append(pod.main.outputs()[0].decode().split())
        pod.delete()
        for path in volume.source.iterdir():
            path.unlink()
        volume.source.rmdir()
        volume.source.mkdir()
        (volume.source / "marker").write_text(pods.bench.nonce)
    assert [["first", "marker"], ["marker", "second"]] == said


@tier(3)
@case("F7")
def test_what_is_written_beside_volumes_stays_in_the_container(pods: Pods) -> None:
    """What a program writes to /tmp and /run is not on the node (mount_namespaces(7)).

    Why: names in these folders mean something to the node's own programs.
    By hand:
        kubectl run f7 --image=busybox --restart=Never -- sh -c 'mkdir -p /run; touch /tmp/mine /run/mine; sleep 1000'
        ls /tmp/mine /run/mine   # on the node: nothing
    """
    name = f"written-{pods.bench.nonce}"
    script = f"mkdir -p /run /tmp; touch /tmp/{name} /run/{name}; ls /tmp /run | grep -c {name}; echo ready"
    pod = pods.run(pods.shell(f"{script}; exec sleep 1000"))
    pod.main.says("ready")
    assert b"2\nready\n" == pod.main.output()
    assert [] == [shown for shown, folder in pods.driver.node("tmp", "run").items() if (folder / name).exists()]
