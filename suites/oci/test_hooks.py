"""Hooks: when they run, what they are told, and what comes of one that fails (config.md, "POSIX-platform Hooks")."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from suites.framework.marks import case, tier, weight
from suites.framework.observation import Unmet
from suites.framework.oci import state
from suites.framework.oci.container import NO_STATE, Container
from suites.framework.oci.hooks import CONTAINED, LOG, ORDER, PROGRAM, HookLog
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.traces import NOTHING, Traces
from suites.framework.waiting import Deadline

TIMEOUT_S = 1
"""The shortest timeout that a hook can have: config.md gives it in whole seconds."""
STATUSES = {
    "prestart": ("creating", "created"),
    "createRuntime": ("creating", "created"),
    "createContainer": ("creating", "created"),
    "startContainer": ("created",),
    "poststart": ("running",),
    "poststop": ("stopped",),
}
"""Kind: the status it may be told. runtime.md calls a container ``created`` "after step 2", and the first three are
steps 3 to 5 of a create that has not ended: both readings are allowed."""


@case("H01")
def test_hooks_run_once_and_in_order(runtime: Runtime) -> None:
    """Each of the six hooks runs once, at its step of the lifecycle (runtime.md#lifecycle; config.md#hooks).

    Why: networks are set up in one hook and taken down in another; twice or too late is an address that leaks.
    poststart is shown at the end of its verb: a runtime may not wait for the program (H05 sees to that).
    By hand:
        # hooks and program: {"path": "/bin/sh", "args": ["sh", "-c", "echo KIND >> BUNDLE/rootfs/log"]}
        $RUNTIME create --bundle BUNDLE ID; cat BUNDLE/rootfs/log
        $RUNTIME start ID; $RUNTIME kill ID KILL; $RUNTIME delete ID; cat BUNDLE/rootfs/log
    """
    container = runtime.container()
    log = _log(runtime, container)
    container.spec["hooks"] = log.every()
    container.spec["process"]["args"] = log.program(container.bundle.recorder())
    container.create().ok()
    created = log.names()
    container.start().ok()
    container.recorder().ready()
    started = log.names()[len(created) :]
    container.kill("KILL").ok()
    container.ended()
    container.delete().ok()
    deleted = log.names()[len(created) + len(started) :]
    started.sort(key="poststart".__eq__)
    assert _phases(list(ORDER[:3]), ["startContainer", PROGRAM, "poststart"], ["poststop"]) == _phases(
        created, started, deleted
    )


@pytest.mark.parametrize("kind", ORDER)
@case("H02")
@tier(2)
def test_hook_is_told_the_state(runtime: Runtime, kind: str) -> None:
    """A hook reads the container's state over stdin, with the right status and pid (config.md#hooks; runtime.md#state).

    Why: a hook that sets up a network enters the namespace of this pid; a wrong one is another container's.
    By hand:
        # hooks.KIND: [{"path": "/bin/sh", "args": ["sh", "-c", "cat > BUNDLE/rootfs/state"]}]
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID; $RUNTIME state ID; cat BUNDLE/rootfs/state
    """
    container = runtime.container()
    log = _log(runtime, container)
    container.spec["annotations"] = {"org.seatrial": "told"}
    container.spec["hooks"] = {kind: [log.hook(kind)]}
    container.running()
    assert container.init is not None
    pid = container.init.pid
    container.kill("KILL").ok()
    container.ended()
    container.delete().ok()
    assert [kind] == log.names()
    told = state.parsed(log.ran()[0].stdin.encode())
    wanted = {"poststop": 0, "createContainer": 1, "startContainer": 1}.get(kind, pid)
    assert "nothing is wrong" == _faults(told, container, kind=kind, pid=wanted)


@case("H03")
def test_failing_create_runtime_hook_fails_create(runtime: Runtime) -> None:
    """A createRuntime hook that fails makes create fail, and nothing of the container is left (runtime.md#lifecycle).

    Why: the network could not be set up; a container without it must not be started.
    By hand:
        # hooks.createRuntime: [{"path": "/bin/false"}]
        $RUNTIME create --bundle BUNDLE ID; echo $?; $RUNTIME state ID
        # not 0, and no such container
    """
    _create_fails_with(runtime, "createRuntime")


@case("H04")
def test_failing_create_container_hook_fails_create(runtime: Runtime) -> None:
    """A createContainer hook that fails makes create fail, and nothing of the container is left (runtime.md#lifecycle).

    Why: it runs in the container's namespaces, in a process of its own: its failure must come back from there.
    By hand:
        # hooks.createContainer: [{"path": "/bin/false"}]
        $RUNTIME create --bundle BUNDLE ID; echo $?; $RUNTIME state ID
        # not 0, and no such container
    """
    _create_fails_with(runtime, "createContainer")


@case("H05")
def test_failing_start_container_hook_fails_start(runtime: Runtime) -> None:
    """A startContainer hook that fails makes start fail; neither program nor poststart runs (runtime.md#lifecycle).

    Why: an engine that is told of success waits for a service that was never executed.
    By hand:
        # hooks.startContainer: [{"path": "/bin/false"}]
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID; echo $?; $RUNTIME state ID
        # not 0, and stopped or gone
    """
    container = runtime.container()
    log = _log(runtime, container)
    container.spec["hooks"] = {
        "startContainer": [log.hook("startContainer", then="exit 1")],
        "poststart": [log.hook("poststart")],
    }
    container.create().ok()
    outcome = container.start().outcome
    heard = runtime.waiter.wait((container.bundle.listener.fileno(), *container.watch()), Deadline(runtime.seconds))
    program = "executed" if container.bundle.listener.fileno() in heard else "not executed"
    if program == "not executed":
        container.ended()
    ran = [name for name in log.names() if name != "poststart"]
    post = "poststart ran" if "poststart" in log.names() else "no poststart"
    seen = f"{_phase(ran)}: start {outcome}, {_over(container)}, program {program}, {post}"
    assert "startContainer: start refused, over, program not executed, no poststart" == seen
    _runs_a_container(runtime)


@case("H06")
@tier(2)
def test_failing_prestart_hook_fails_create(runtime: Runtime) -> None:
    """A prestart hook that fails makes create fail, and nothing of the container is left (runtime.md#lifecycle).

    Why: deprecated, but it is the hook that most tools still write. Where config.md's summary still says "after the
    start operation is called", its text and runtime.md say create.
    By hand:
        # hooks.prestart: [{"path": "/bin/false"}]
        $RUNTIME create --bundle BUNDLE ID; echo $?; $RUNTIME state ID
        # not 0, and no such container
    """
    _create_fails_with(runtime, "prestart")


@case("H07")
@tier(2)
def test_failing_poststart_hook_is_recorded(runtime: Runtime) -> None:
    """A poststart hook that fails: start warns and goes on (1.2), or fails and stops it (1.3) (runtime.md#lifecycle).

    Why: the specification changed; what must not be is a failure with the container running, or success without.
    By hand:
        # hooks.poststart: [{"path": "/bin/false"}]
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID; echo $?; $RUNTIME state ID
    """
    container = runtime.container()
    log, traces = _log(runtime, container), Traces(runtime, container)
    container.spec["hooks"] = {"poststart": [log.hook("poststart", then="exit 1")]}
    if (outcome := container.create().outcome) != "done":
        seen = f"{_phase(log.names())}: create {outcome}, left: {traces.found()}"
    else:
        outcome = container.start().outcome
        running = container.status() == "running"
        seen = f"{_phase(log.names())}: start {outcome}, {'running' if running else _over(container)}"
    runtime.bench.note("poststart_failure", seen)
    warned, failed = "poststart: start done, running", "poststart: start refused, over"
    assert f"{warned}, or {failed}" == (f"{warned}, or {failed}" if seen in (warned, failed) else seen)
    _runs_a_container(runtime)


@case("H08")
@tier(2)
def test_failing_poststop_hook_does_not_stop_delete(runtime: Runtime) -> None:
    """A poststop hook that fails is warned of: those behind it run, and delete succeeds (runtime.md#lifecycle).

    Why: the container is gone already; an engine that is told of failure deletes it for ever.
    By hand:
        # hooks.poststop: [{"path": "/bin/false"}, {"path": "/bin/touch", "args": ["touch", "/tmp/second"]}]
        $RUNTIME delete ID; echo $?; ls /tmp/second
        # 0, and the file is there
    """
    container = runtime.container()
    log = _log(runtime, container)
    first, second = log.hook("poststop", title="the first", then="exit 1"), log.hook("poststop", title="the second")
    container.spec["hooks"] = {"poststop": [first, second]}
    container.running()
    container.kill("KILL").ok()
    container.ended()
    outcome = container.delete().outcome
    seen = f"{_phase(log.names())}: delete {outcome}, {container.status()}"
    assert f"the first, the second: delete done, {NO_STATE}" == seen


@case("H09")
@weight(5)
@tier(2)
def test_hook_that_exceeds_its_timeout_fails_create(runtime: Runtime) -> None:
    """A hook that is not done within its timeout is killed, and create fails (config.md#hooks, "timeout").

    Why: a hook that waits for a dead network service would hold up the engine for ever.
    By hand:
        # hooks.createRuntime: [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]
        $RUNTIME create --bundle BUNDLE ID; echo $?; $RUNTIME state ID; pgrep -x sleep
    """
    container = runtime.container()
    log, traces = _log(runtime, container), Traces(runtime, container)
    never = container.bundle.path / "never"
    os.mkfifo(never)
    container.spec["hooks"] = {
        "createRuntime": [log.hook("createRuntime", then=f"read word < {never}", timeout=TIMEOUT_S)]
    }
    result = container.create()
    patience = "after its timeout" if result.seconds >= TIMEOUT_S else "before its timeout"
    seen = f"{_phase(log.names())}: create {result.outcome} {patience}, left: {traces.found()}"
    assert f"createRuntime: create refused after its timeout, left: {NOTHING}" == seen
    _runs_a_container(runtime)


@case("H11")
@tier(3)
def test_environment_of_a_hook_without_one_is_recorded(runtime: Runtime) -> None:
    """A hook without ``env`` has the runtime's environment or none (config.md#hooks, "env"; the two are in use).

    Why: a hook that works by hand and fails under an engine lacks what the runtime did not pass on.
    By hand:
        # hooks.createRuntime: [{"path": "/bin/sh", "args": ["sh", "-c", "cat /proc/$$/environ >/tmp/seen"]}]
        MARK=1 $RUNTIME create --bundle BUNDLE ID; xargs -0 -n1 < /tmp/seen
    """
    container = runtime.container()
    place = container.bundle.path / "environ"
    hook = _log(runtime, container).hook("createRuntime", then=f"cat /proc/$$/environ > {place}")
    del hook["env"]
    container.spec["hooks"] = {"createRuntime": [hook]}
    container.create(environment={"SEATRIAL_MARK": "of the runtime"}).ok()
    container.start().ok()
    container.recorder().ready()
    ours = {**runtime.environment, "SEATRIAL_MARK": "of the runtime"}
    seen = _environment(place)
    runtime.bench.note("hook_environment", f"{len(seen)} variables, {len(seen.keys() - ours.keys())} not the caller's")
    assert "the runtime's or none" == (_missing(seen, ours) if seen else "the runtime's or none")


@case("H12")
@tier(2)
def test_hooks_of_a_kind_run_as_listed(runtime: Runtime) -> None:
    """Hooks of one kind run in the listed order, with exactly their args and env (config.md#hooks).

    Why: the second plugin of a chain builds on what the first has made, and reads its orders from both.
    By hand:
        # hooks.createRuntime: two of {"path": "/bin/sh", "args": ["zero", "-c", "...", "a b", ""], "env": ["A=1=2"]}
        $RUNTIME create --bundle BUNDLE ID
    """
    container = runtime.container()
    log, place = _log(runtime, container), container.bundle.path / "environ"
    hooks = [log.hook("createRuntime", title=title) for title in ("the first", "the second", "the third")]
    report = log.hook("createRuntime", title="the fourth", then=f"cat /proc/$$/environ > {place}")
    words = container.bundle.path / "words"
    report["args"] = ["zero", "-c", f'{report["args"][-1]}; printf "<%s>" "$@" > {words}', "one", "a b", "", "*"]
    report["env"] = ["PATH=/bin:/usr/bin", "A=1=2", "B="]
    container.spec["hooks"] = {"createRuntime": [*hooks, report]}
    container.running()
    assert "the first, the second, the third, the fourth" == _phase(log.names())
    assert "as listed" == _arguments(words.read_text(), "<a b><><*>")
    assert "as listed" == _beside({"PATH": "/bin:/usr/bin", "A": "1=2", "B": ""}, _environment(place))


@case("H13")
@tier(2)
def test_hooks_run_in_their_namespaces(runtime: Runtime) -> None:
    """The two hooks of the container run in its mount namespace, the others in the runtime's (config.md#summary).

    Why: a hook in the wrong one mounts onto the machine, or looks for its program in the image.
    By hand:
        # each hook: readlink /proc/self/ns/mnt >> BUNDLE/rootfs/log
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID; cat BUNDLE/rootfs/log; readlink /proc/self/ns/mnt
    """
    container = runtime.container()
    log = _log(runtime, container)
    container.spec["hooks"] = log.every()
    inside = container.running().sh("readlink /proc/self/ns/mnt").ok
    container.kill("KILL").ok()
    container.ended()
    container.delete().ok()
    titles = {str(Path("/proc/self/ns/mnt").readlink()): "runtime", inside: "container"}
    seen = {record.name: titles.get(record.mounts, "another") for record in log.ran()}
    wanted = {kind: "container" if kind in CONTAINED else "runtime" for kind in ORDER}
    assert _places(wanted) == _places(seen)


def _log(runtime: Runtime, container: Container) -> HookLog:
    """Return the log of a container's hooks."""
    return HookLog(container.bundle.inside(LOG), nonce=runtime.bench.nonce)


def _phase(names: list[str]) -> str:
    return ", ".join(names) or "nothing ran"


def _phases(*phases: list[str]) -> str:
    """Return what ran during create, start and delete."""
    return "; ".join(
        f"{verb}: {_phase(names)}" for verb, names in zip(("create", "start", "delete"), phases, strict=True)
    )


def _places(places: dict[str, str]) -> str:
    return ", ".join(f"{kind} {places.get(kind, 'did not run')}" for kind in ORDER)


def _over(container: Container) -> str:
    """Return ``over`` for a container that is stopped or gone; runtime.md destroys it after a failed hook."""
    status = container.status()
    return "over" if status in ("stopped", NO_STATE) else status


def _create_fails_with(runtime: Runtime, kind: str) -> None:
    """See create fail because of a failing hook of this kind, and leave nothing behind."""
    container = runtime.container()
    log, traces = _log(runtime, container), Traces(runtime, container)
    container.spec["hooks"] = {kind: [log.hook(kind, then="exit 1")]}
    outcome = container.create().outcome
    assert (
        f"{kind}: create refused, left: {NOTHING}" == f"{_phase(log.names())}: create {outcome}, left: {traces.found()}"
    )
    _runs_a_container(runtime)


def _runs_a_container(runtime: Runtime) -> None:
    """See the same runtime run a container whose hook of the same kind succeeds."""
    container = runtime.container()
    container.spec["hooks"] = _log(runtime, container).every()
    container.running()


def _faults(told: dict[str, Any], container: Container, *, kind: str, pid: int) -> str:
    """Return in words what is wrong with the state that a hook was told; `pid` is 0 where there is no process."""
    found = state.faults(told, identifier=container.id, bundle=str(container.bundle.path))
    if (status := told.get("status")) in state.STATUSES and status not in STATUSES[kind]:
        found.append(f"status {status}")
    if told.get("pid", 0) not in (0, pid):
        found.append("the pid of another process" if pid else "a pid")
    if told.get("annotations") != container.spec["annotations"]:
        found.append("other annotations")
    return ", ".join(found) or "nothing is wrong"


def _environment(place: Path) -> dict[str, str]:
    """Return the variables that a hook has copied from /proc/PID/environ (proc_pid_environ(5))."""
    if not place.is_file():
        raise Unmet("a hook that ran", "there is no sign of it")
    pairs = (word.partition("=") for word in place.read_text().split("\0") if word)
    return {name: value for name, _, value in pairs}


def _missing(seen: dict[str, str], ours: dict[str, str]) -> str:
    """Return in words which of the runtime's variables a hook lacks; it may have some of the runtime's making."""
    other = sorted(name for name, value in ours.items() if seen.get(name) != value)
    return f"without {' '.join(other)}" if other else "the runtime's or none"


def _arguments(seen: str, wanted: str) -> str:
    """Return in words which arguments a hook has got."""
    return "as listed" if seen == wanted else "as listed, and more" if seen.startswith(wanted) else "others"


def _beside(wanted: dict[str, str], seen: dict[str, str]) -> str:
    """Return in words which variables a hook has otherwise than it should."""
    differing = sorted(name for name in wanted.keys() | seen.keys() if wanted.get(name) != seen.get(name))
    return f"otherwise: {' '.join(differing)}" if differing else "as listed"
