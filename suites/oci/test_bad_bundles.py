"""Bundles from which no container can be made, and that nothing is left of the attempt (runtime.md, "Errors")."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from suites.framework.marks import case, tier
from suites.framework.oci import config
from suites.framework.oci.container import Container
from suites.framework.oci.result import Result
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.traces import NOTHING, Traces

FAR_VERSION = "99.0.0"


def _refused_without_a_trace(
    runtime: Runtime,
    container: Container,
    create: Callable[[], Result],
    *,
    undone: Callable[[Container], str] | None = None,
) -> None:
    """See a create refused (one that may succeed: `undone`) and nothing left; then the same id serves a container."""
    traces, outcome = Traces(runtime, container), create().outcome
    if outcome == "done" and undone is not None:
        outcome = undone(container)
    assert f"refused, {NOTHING} left" == ("done" if outcome == "done" else f"{outcome}, {traces.found()} left")
    container.running()


def _create_of(container: Container, broken: object) -> Result:
    """Call create with this for config.json."""
    container.bundle.write_text(json.dumps(broken))
    return container.create(write=False)


def _by_start(container: Container, broken: object) -> str:
    """Return how create ended or, where it succeeded, start."""
    outcome = _create_of(container, broken).outcome
    return f"{container.start().outcome} at start" if outcome == "done" else outcome


@case("B18")
def test_missing_bundle_is_refused(runtime: Runtime) -> None:
    """Create with a bundle that is not there is an error, and the id stays free (runtime.md#runtimeErrors).

    Why: a half-made container under that id would block the next attempt.
    By hand:
        $RUNTIME create --bundle /nonexistent ID; echo $?    # not 0
        $RUNTIME state ID    # an error
    """
    container = runtime.container()
    missing = str(container.bundle.path / "missing")
    _refused_without_a_trace(
        runtime, container, lambda: container.created(container.begin_create(bundle=missing, write=False))
    )


@case("B19")
def test_bundle_without_config_is_refused(runtime: Runtime) -> None:
    """Create from a bundle without config.json is an error, and the id stays free (runtime.md#runtimeErrors).

    Why: a half-made container under that id would block the next attempt.
    By hand:
        rm BUNDLE/config.json; $RUNTIME create --bundle BUNDLE ID; echo $?    # not 0
        $RUNTIME state ID    # an error
    """
    container = runtime.container()
    _refused_without_a_trace(runtime, container, lambda: container.create(write=False))


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "array": b"[]",
    "empty-object": b"{}",
    "binary": bytes(range(256)),
    "deep": b"[" * 100_000,
}


@case("B20")
@pytest.mark.parametrize("what", ["truncated", *MALFORMED])
def test_malformed_config_is_refused(runtime: Runtime, what: str) -> None:
    """Create from a config.json that is none is an orderly error, and the id stays free (runtime.md#runtimeErrors).

    Why: a disk that was full leaves such a file; a crash in the parser says nothing, and is a way in.
    By hand:
        echo null > BUNDLE/config.json; $RUNTIME create --bundle BUNDLE ID; echo $?    # a message, not 0
        $RUNTIME state ID    # an error
    """
    container = runtime.container()
    whole = json.dumps(container.spec).encode()
    (container.bundle.path / "config.json").write_bytes(MALFORMED.get(what, whole[: len(whole) // 2]))
    _refused_without_a_trace(runtime, container, lambda: container.create(write=False))


@case("B21")
@tier(3)
def test_config_of_a_far_version_is_recorded(runtime: Runtime) -> None:
    """Whether a configuration of version 99.0.0 is accepted is recorded (config.md#configSpecificationVersion).

    Why: nothing says that it must be refused; who writes configurations wants to know what happens.
    By hand:
        # "ociVersion": "99.0.0"
        $RUNTIME create --bundle BUNDLE ID; echo $?
    """
    container = runtime.container()
    container.spec["ociVersion"] = FAR_VERSION
    outcome = container.create().outcome
    assert "done or refused" == ("done or refused" if outcome in ("done", "refused") else outcome)
    runtime.bench.note("oci_version_99", outcome)
    runtime.container().running()


@case("B23")
@pytest.mark.parametrize("what", ["no-root", "no-rootfs"])
def test_missing_root_is_refused(runtime: Runtime, what: str) -> None:
    """Create without ``root``, or with a root.path that is not there, is an error (config.md#configRoot).

    Why: the alternative is a container in the host's own root.
    By hand:
        mv BUNDLE/rootfs BUNDLE/elsewhere; $RUNTIME create --bundle BUNDLE ID; echo $?    # not 0
        # and the same without "root" in config.json
    """
    container = runtime.container()
    broken: dict[str, Any] = {**container.spec, "root": {"path": "missing"}}
    if what == "no-root":
        del broken["root"]
    _refused_without_a_trace(runtime, container, lambda: _create_of(container, broken))


@case("B24")
@tier(3)
@pytest.mark.parametrize("what", ["empty", "absent"])
def test_process_without_arguments_is_refused(runtime: Runtime, what: str) -> None:
    """Without an entry in process.args, create or at the latest start is an error (config.md#configProcess, "args").

    Why: there is no program; a success leaves a container that runs nothing, or reads what lies behind the list.
    By hand:
        # "args": []
        $RUNTIME create --bundle BUNDLE ID && $RUNTIME start ID; echo $?    # not 0
    """
    container = runtime.container()
    process: dict[str, Any] = {**container.spec["process"], "args": []}
    if what == "absent":
        del process["args"]
    outcome = _by_start(container, {**container.spec, "process": process})
    assert "refused" == outcome.removesuffix(" at start")
    runtime.container().running()


@case("B25")
@pytest.mark.parametrize("what", ["path", "name", "not-executable"])
def test_program_that_cannot_be_executed_is_refused_by_start(runtime: Runtime, what: str) -> None:
    """A program that is not there, or not executable, is an error of start at the latest (config.md#configProcess).

    Why: the most common mistake in a container's configuration; told later, it looks like a program that ended.
    By hand:
        # "args": ["/nonexistent"]
        $RUNTIME create --bundle BUNDLE ID && $RUNTIME start ID; echo $?    # not 0
    """
    container = runtime.container()
    container.bundle.inside("/not-executable").write_text("no program\n")
    program = {"path": "/nonexistent", "name": "nosuchprogram", "not-executable": "/not-executable"}[what]
    process = {**container.spec["process"], "args": [program]}
    outcome = _by_start(container, {**container.spec, "process": process})
    assert "refused" == outcome.removesuffix(" at start")
    runtime.container().running()


@case("B26")
@pytest.mark.parametrize("what", ["namespace", "propagation", "string-for-a-list", "list-for-a-string"])
def test_value_that_makes_no_sense_is_refused(runtime: Runtime, what: str) -> None:
    """A namespace of no known type, or a value of the wrong type, is an error of create (runtime.md#runtimeCreate).

    Why: what is skipped silently was meant to keep somebody in.
    By hand:
        # "namespaces": [{"type": "nosuch"}, ...]; "rootfsPropagation": "sideways"; "args": "sh"; "cwd": ["/"]
        $RUNTIME create --bundle BUNDLE ID; echo $?    # not 0
    """
    container = runtime.container()
    _refused_without_a_trace(runtime, container, lambda: _create_of(container, _senseless(container, what)))


def _senseless(container: Container, what: str) -> dict[str, Any]:
    """Return the container's configuration with one value that cannot be meant."""
    process, linux = container.spec["process"], container.spec["linux"]
    changes: dict[str, dict[str, Any]] = {
        "namespace": {"linux": {**linux, "namespaces": [*linux["namespaces"], {"type": "nosuch"}]}},
        "propagation": {"linux": {**linux, "rootfsPropagation": "sideways"}},
        "string-for-a-list": {"process": {**process, "args": "sh"}},
        "list-for-a-string": {"process": {**process, "cwd": ["/"]}},
    }
    return {**container.spec, **changes[what]}


@case("B27")
@pytest.mark.parametrize("what", ["mount", "program"])
def test_failed_create_leaves_nothing(runtime: Runtime, what: str) -> None:
    """A create that fails late leaves no id, process, state file, mount or cgroup (runtime.md#runtimeErrors).

    Why: "as if the operation were never attempted"; what is left makes the next attempt fail for another reason.
    A missing program may be for start to notice (B25): where create succeeds, delete leaves nothing.
    By hand:
        # a bind mount whose source is missing; "args": ["/nonexistent"]
        $RUNTIME create --bundle BUNDLE ID; echo $?    # not 0
        $RUNTIME state ID; ls ROOT    # an error, and nothing
    """
    container = runtime.container()
    spec: dict[str, Any] = dict(container.spec)
    if what == "mount":
        spec["mounts"] = [*spec["mounts"], config.bind("/nonexistent/source", "/mnt")]
    else:
        spec["process"] = {**spec["process"], "args": ["/nonexistent"]}
    _refused_without_a_trace(
        runtime, container, lambda: _create_of(container, spec), undone=_given_up if what == "program" else None
    )


def _given_up(container: Container) -> str:
    """End a container that was created and not started, and delete it; return ``refused`` as if it had never been."""
    container.stop()
    container.delete().ok()
    return "refused"
