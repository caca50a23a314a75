"""Who may do what: the privilege model, as the report shows it in a table."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from suites.catalog import Privilege
from suites.framework.facts import Fact
from suites.framework.marks import case, requires, tier, within
from suites.framework.oci import config
from suites.framework.oci.container import NO_STATE, Container
from suites.framework.oci.runtime import Runtime
from suites.framework.process import killed


def _lives(container: Container) -> None:
    """See a container through all five verbs, its program in the middle."""
    container.running()
    assert "running" == container.status()
    container.kill("KILL").ok()
    assert killed(9) == container.ended()
    assert "stopped" == container.becomes("stopped")
    container.delete().ok()
    assert NO_STATE == container.status()


@case("P01")
@within(privilege=Privilege.ROOT)
def test_root_needs_no_user_namespace(runtime: Runtime) -> None:
    """Root runs a container without a user namespace through all five verbs (runtime.md#lifecycle).

    Why: the plain way, on which everything else stands.
    By hand:
        sudo $RUNTIME create --bundle BUNDLE ID; sudo $RUNTIME start ID; sudo $RUNTIME kill ID KILL
        sudo $RUNTIME delete ID
    """
    container = runtime.container()
    assert [] == [entry for entry in container.spec["linux"]["namespaces"] if entry["type"] == "user"]
    _lives(container)


@case("P02")
@within(privilege=Privilege.ROOTLESS)
def test_without_a_user_namespace_a_user_is_refused(runtime: Runtime) -> None:
    """An ordinary user who asks for no user namespace is refused by create, with words (user_namespaces(7)).

    Why: only a user namespace gives him the capabilities that mounts take; without it a half-made container is left.
    By hand:
        $RUNTIME create --bundle BUNDLE_WITHOUT_USER_NAMESPACE ID; echo $?
        $RUNTIME state ID
    """
    bare = runtime.container()
    linux = bare.spec["linux"]
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "user"]
    del linux["uidMappings"], linux["gidMappings"]
    result = bare.create()
    said = [line for line in (result.stderr + result.stdout).decode(errors="replace").splitlines() if line.strip()]
    runtime.bench.note("message", said[-1][:200] if said else "")
    assert "refused" == result.outcome
    assert "words" == ("words" if said else "no word")
    assert NO_STATE == bare.status()
    assert [] == runtime.left()
    _lives(runtime.container())


@case("P03")
@within(privilege=Privilege.ROOTLESS)
def test_user_runs_a_container_in_a_user_namespace(runtime: Runtime) -> None:
    """An ordinary user runs a container with his own id mapped to 0, through all five verbs (user_namespaces(7)).

    Why: this is what rootless means; it takes neither a setuid helper nor a cgroup.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID; $RUNTIME kill ID KILL; $RUNTIME delete ID
    """
    container = runtime.container()
    assert ["user"] == [entry["type"] for entry in container.spec["linux"]["namespaces"][:1]]
    _lives(container)


@case("P04")
@tier(2)
@requires(Fact.SUBORDINATE_IDS)
@within(privilege=Privilege.ROOTLESS)
def test_user_maps_his_subordinate_ids(runtime: Runtime, subordinate_ids: Callable[[], tuple[int, int]]) -> None:
    """With subordinate ids an ordinary user's container has more than one user (subuid(5), newuidmap(1)).

    Why: images hold files of many users; with one id alone chown(2) fails and every daemon stays root.
    By hand:
        $RUNTIME create --bundle BUNDLE_WITH_65536_IDS ID; $RUNTIME start ID
        # id 1 inside is the first of /etc/subuid outside
    """
    first_uid, first_gid = subordinate_ids()
    container = runtime.container()
    linux, uid_gid = container.spec["linux"], runtime.rootless
    assert uid_gid is not None
    linux["uidMappings"] = [config.alone(uid_gid[0]), config.alone(first_uid, inside=1)]
    linux["gidMappings"] = [config.alone(uid_gid[1]), config.alone(first_gid, inside=1)]
    recorder = container.running()
    assert [f"0 {uid_gid[0]} 1", f"1 {first_uid} 1"] == [
        " ".join(line.split()) for line in recorder.sh("cat /proc/self/uid_map").ok.splitlines()
    ]


@pytest.mark.parametrize("asked", ["a-device", "another-network"])
@case("P05")
@tier(2)
@within(privilege=Privilege.ROOTLESS)
def test_what_only_root_may_is_refused_with_words(runtime: Runtime, asked: str) -> None:
    """What takes privilege over the machine is refused to an ordinary user by create, with words. (runtime.md#errors).

    Why: a container that silently lacks its device or is in another network than asked for fails in production.
    By hand:
        $RUNTIME create --bundle BUNDLE_THAT_ASKS ID; echo $?
        $RUNTIME state ID
    """
    container = runtime.container()
    if asked == "a-device":
        device = {"type": "b", "path": "/dev/seatrial", "major": 7, "minor": 0, "fileMode": 0o666, "uid": 0, "gid": 0}
        container.spec["linux"]["devices"] = [device]
    else:
        container.spec["linux"]["namespaces"].append({"type": "network", "path": "/proc/1/ns/net"})
    result = container.create()
    said = [line for line in (result.stderr + result.stdout).decode(errors="replace").splitlines() if line.strip()]
    runtime.bench.note("message", said[-1][:200] if said else "")
    assert "refused, with words" == f"{result.outcome}, with {'words' if said else 'no word'}"
    assert NO_STATE == container.status()
    _lives(runtime.container())
