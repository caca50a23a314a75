"""Shims that run a pod's programs on the node itself, in a file system that pods share (reaper; root only)."""

from __future__ import annotations

import shlex
from pathlib import Path

from suites.catalog import Privilege
from suites.framework.marks import case, offered, tier, within
from suites.framework.observation import Unmet
from suites.framework.pod.driver import Program
from suites.framework.pod.pods import Pods

SWITCH = "REAPER_ANNOTATIONS_ENABLED"
FILTERS = "REAPER_FILTER_PATHS"
"""Variables by which the node's administrator decides (reaper, docs/CONFIGURATION.md)."""
STALE = "0.0.1 (0000000 2020-01-01)"
"""A version that nothing has that can be built now."""


@tier(3)
@within(privilege=Privilege.ROOT)
@case("H1")
@offered("groups")
def test_pods_share_their_files_with_their_group_alone(pods: Pods) -> None:
    """Pods of a namespace share /tmp; those of another one, or of another group in it, do not (OVERLAY_DESIGN.md).

    Why: what everybody shares protects no node, and what nobody shares is not what was asked for.
    By hand:
        kubectl run a --image=busybox --restart=Never -- sh -c 'echo here >/tmp/h1; sleep 1000'
        kubectl run b --image=busybox --restart=Never -- cat /tmp/h1; kubectl logs b   # here
        kubectl run c --image=busybox --restart=Never --annotations=reaper.runtime/overlay-name=mine -- cat /tmp/h1
        kubectl logs c   # no such file; nor in another namespace, nor on the node
    """
    group = {pods.target.call.pod.group: "mine"}
    for word, asked in (("ours", {}), ("mine", group)):
        program = pods.shell(f"echo {word} >{_shared(pods)}; echo ready; exec sleep 1000")
        pod = pods.run(program, annotations=asked)
        pod.main.says("ready")
    found = {
        "the namespace": pods.run(_looking(pods)),
        "the group": pods.run(_looking(pods), annotations=group),
        "another namespace": pods.run(_looking(pods), apart="other"),
        "the group's name in another namespace": pods.run(_looking(pods), annotations=group, apart="other"),
    }
    seen = {where: pod.main.outputs()[0].decode().strip() for where, pod in found.items()}
    assert dict(zip(found, ("ours", "mine", "none", "none"), strict=True)) == seen
    assert not Path(_shared(pods)).exists()


def _shared(pods: Pods) -> str:
    """Return the path of a file that pods may share."""
    return f"/tmp/shared-{pods.bench.nonce}"  # noqa: S108 -- in a pod


def _looking(pods: Pods, *, then: str = "") -> Program:
    """Return a program that says what is in that file."""
    return pods.shell(f"cat {_shared(pods)} 2>/dev/null || echo none{then}")


@tier(3)
@within(privilege=Privilege.ROOT)
@case("H2")
@offered("groups")
def test_annotations_are_taken_as_far_as_the_node_allows(pods: Pods) -> None:
    """An annotation that makes no sense is ignored, an unknown one is dropped, and the node can switch them off.

    Why: what a pod's author writes must neither break its start nor reach beyond what the administrator allows.
    By hand:
        # pods with the annotation reaper.runtime/overlay-name: 'Not a name!', or reaper.runtime/filter-enabled: 'false'
        # run as without; so do all with REAPER_ANNOTATIONS_ENABLED=false in /etc/reaper/reaper.conf
    """
    key = pods.target.call.pod.group
    pod = pods.run(pods.shell(f"echo ours >{_shared(pods)}; echo ready; exec sleep 1000"))
    pod.main.says("ready")
    unknown = f"{key.partition('/')[0]}/filter-enabled"
    asked = {"without sense": {key: "Not_a name!/.."}, "unknown": {unknown: pods.bench.nonce}, "valid": {key: "mine"}}
    looking = _looking(pods, then="; echo seen; exec sleep 1000")
    found = {what: pods.run(looking, annotations=annotations) for what, annotations in asked.items()}
    with pods.shims_with(**{SWITCH: "false"}):
        found["valid, but switched off"] = pods.run(looking, annotations=asked["valid"])
    for each in found.values():
        each.main.says("seen")
    seen = {what: pod.main.output().decode().split()[0] for what, pod in found.items()}
    assert dict(zip(found, ("ours", "ours", "none", "ours"), strict=True)) == seen
    kept = {what: _kept(pods, found[what].name) for what in ("unknown", "valid")}
    assert (False, True) == (pods.bench.nonce in kept["unknown"], '"mine"' in kept["valid"])


def _kept(pods: Pods, pod: str) -> str:
    """Return what the target keeps of the annotations of a pod's containers."""
    folders = [Path(pods.target.call.pod.state.replace("{id}", name)) for name in pods.driver.identifiers(pod)]
    root = Path(f"/proc/{pods.engine.pid}/root")
    files = [root / folder.relative_to("/") / "state.json" for folder in folders]
    texts = [path.read_text().partition('"annotations"')[2] for path in files if path.exists()]
    return "".join(texts)


@tier(3)
@within(privilege=Privilege.ROOT)
@case("H3")
@offered("filters")
def test_secrets_of_the_node_are_hidden(pods: Pods) -> None:
    """No password hash of the node is seen, nor any other file or folder that is to be hidden (CONFIGURATION.md).

    Why: a pod that runs on the node itself would read what every login, key and secret of it depends on.
    By hand:
        kubectl run h3 --image=busybox --restart=Never -- cut -d: -f2 /etc/shadow; kubectl logs h3   # only !
        # and with REAPER_FILTER_PATHS=/path/of/file in /etc/reaper/reaper.conf: that file is empty
    """
    secret = pods.volume("own", "/own").source / "secret"
    secret.write_text(pods.bench.nonce)
    paths = [path for path in pods.target.call.pod.filters if Path(path).exists()]
    script = "\n".join([*map(_seen, paths), f"test -s {secret} && echo own secret seen || echo own secret hidden"])
    plain = pods.run(pods.shell(script))
    with pods.shims_with(**{FILTERS: str(secret)}):
        told = pods.run(pods.shell(script), apart="told")
    hidden = [f"{path} hidden" for path in paths]
    assert [*hidden, "own secret seen"] == plain.main.outputs()[0].decode().splitlines()
    assert [*hidden, "own secret hidden"] == told.main.outputs()[0].decode().splitlines()
    assert pods.bench.nonce == secret.read_text()


def _seen(path: str) -> str:
    """Return a script that says whether something of a path is seen, and never what it is."""
    if Path(path).name in ("shadow", "gshadow"):
        lines = len(Path(path).read_text().splitlines())
        trouble = f"""awk -F: '$2 != "!" {{ bad = 1 }} END {{ exit !(bad || NR != {lines}) }}' {path}"""
    else:
        trouble = f'test -n "$(ls -A {path})"' if Path(path).is_dir() else f"test -s {path}"
    return f"if {trouble}; then echo {path} seen; else echo {path} hidden; fi"


@tier(3)
@within(privilege=Privilege.ROOT)
@case("H4")
@offered("same-build")
def test_programs_of_two_builds_refuse_to_work_together(pods: Pods) -> None:
    """A shim whose runtime is of another build refuses every container, and names both versions (docs/RELEASING.md).

    Why: half an update that runs on somehow is the one that nobody can explain afterwards.
    By hand:
        # a reaper-runtime of another release beside the shim
        kubectl run h4 --image=busybox --restart=Never -- true; kubectl describe pod h4   # Version mismatch
    """
    call = pods.target.call.pod
    if not call.same_build:
        raise Unmet("a sibling that must be of the same build", "the profile names none")
    sibling = call.same_build[0]
    variable = next(word.partition("=")[0] for word in call.environment if word.endswith(f"/{sibling}"))
    with pods.shims_with(**{variable: str(_stale(pods, sibling))}):
        words = pods.refused(pods.shell("echo here"))
    own = pods.target.version
    assert "both versions named" == ("both versions named" if STALE in words and own in words else words[:200])
    assert [] == pods.left()
    pod = pods.run(pods.shell("echo here"))
    assert (b"here\n", b"") == pod.main.outputs()


def _stale(pods: Pods, sibling: str) -> Path:
    """Return a program in front of the target's sibling that says it is of another build."""
    program = pods.volume("own", "/own").source / sibling
    real = shlex.quote(str(Path(pods.target.argv[0]).with_name(sibling)))
    told = f'case $1 in --version) echo {shlex.quote(f"{sibling} {STALE}")};; *) exec {real} "$@";; esac'
    program.write_text(f"#!/bin/sh\n{told}\n")
    program.chmod(0o755)
    return program
