"""What `state` prints (runtime.md, "State"; schema/state-schema.json)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from suites.framework.marks import case, offered, tier
from suites.framework.oci import state
from suites.framework.oci.container import Container
from suites.framework.oci.runtime import Runtime
from suites.framework.recorder import Recorder

QUERIES = 50
ANNOTATIONS = {"org.seatrial.purpose": "a trial, with = and äöü", "org.seatrial.empty": ""}


@case("C01")
def test_state_follows_the_schema(runtime: Runtime) -> None:
    """Created, running and stopped, the state has its required fields, and all of the right type (state-schema.json).

    Why: engines decode it into a structure and refuse the whole for one wrong type.
    By hand:
        $RUNTIME state ID | python3 -m json.tool
        # ociVersion, id, status, bundle are strings, pid is a number
    """
    container = runtime.container()
    container.spec["annotations"] = dict(ANNOTATIONS)
    container.create().ok()
    assert [] == _faults(container, "created")
    container.start().ok()
    container.recorder().ready()
    assert [] == _faults(container, "running")
    container.stop()
    assert [] == _faults(container, "stopped")


def _faults(container: Container, status: str) -> list[str]:
    """Return what is wrong with the state of a container that must be in this one."""
    found = container.state()
    faults = state.faults(found, identifier=container.id, bundle=str(container.bundle.path))
    wrong = [] if found.get("status") == status else [f"not {status}"]
    return [f"{status}: {fault}" for fault in (*faults, *wrong)]


@case("C02")
def test_pid_is_the_containers_process(runtime: Runtime) -> None:
    """The state's pid is, as seen from the host, process 1 of the new pid namespace (runtime.md#runtimeState, "pid").

    Why: an engine sets up the network of that process, kills it, and waits for it.
    By hand:
        PID=$($RUNTIME state ID | jq .pid)
        ls -l /proc/$PID/ns/pid /proc/self/ns/pid; grep NSpid /proc/$PID/status
        # another namespace, and number 1 in it
    """
    container, other = runtime.container(), runtime.container()
    other.running()
    container.create().ok()
    created = state.pid(container.state())
    container.start().ok()
    recorder = container.recorder()
    seen = recorder.ready()
    assert "number 1 of a new pid namespace" == f"number {seen.pid} of {_namespace(seen.pid_namespace)}"
    assert "the program's" == _whose(created, recorder, other)
    assert "the program's" == _whose(state.pid(container.state()), recorder, other)


def _namespace(name: str) -> str:
    """Return whether the pid namespace of a container is one of its own."""
    return "the caller's pid namespace" if name == str(Path("/proc/self/ns/pid").readlink()) else "a new pid namespace"


def _whose(pid: int, recorder: Recorder, other: Container) -> str:
    """Return in words whose pid this is."""
    assert other.init is not None
    known = {recorder.pid: "the program's", other.init.pid: "another container's", os.getpid(): "the caller's"}
    return known.get(pid, "some other process's")


@case("C03")
@offered("pid-file")
def test_pid_file_holds_the_same_number(runtime: Runtime) -> None:
    """After create the pid file holds the state's pid, in digits and nothing else (runtime-tools' command line).

    Why: containerd's shim reads that file, not the state, to know whom to wait for.
    By hand:
        $RUNTIME create --bundle BUNDLE --pid-file /tmp/pid ID
        cat /tmp/pid; $RUNTIME state ID | jq .pid
    """
    container = runtime.container()
    container.create().ok()
    written = container.pid_file.read_text()
    same = "the state's pid" if written == str(state.pid(container.state())) else "something else"
    assert "the state's pid" == same
    container.start().ok()
    recorder = container.recorder()
    recorder.ready()
    assert "the program's pid" == ("the program's pid" if written == str(recorder.pid) else "something else")


@case("C04")
def test_annotations_pass_through(runtime: Runtime) -> None:
    """The configuration's annotations stand in the state, unchanged (runtime.md#runtimeState, "annotations").

    Why: engines find their containers again by them.
    By hand:
        # "annotations": {"org.example.key": "a value", "org.example.empty": ""}
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME state ID | jq .annotations
    """
    container = runtime.container()
    container.spec["annotations"] = dict(ANNOTATIONS)
    container.running()
    found = container.state().get("annotations")
    seen = found if isinstance(found, dict) else {}
    assert ANNOTATIONS == {key: seen.get(key, "(missing)") for key in ANNOTATIONS}


@case("C05")
def test_state_prints_one_document_and_nothing_else(runtime: Runtime) -> None:
    """In each state, stdout is exactly one JSON document and stderr is empty (runtime.md#runtimeState).

    Why: a warning in front of the brace breaks every parser behind it.
    By hand:
        $RUNTIME state ID 2>/tmp/noise | python3 -m json.tool; cat /tmp/noise
        # JSON, and nothing
    """
    container = runtime.container()
    container.create().ok()
    seen = [_printed(container)]
    container.start().ok()
    container.recorder().ready()
    seen.append(_printed(container))
    container.stop()
    seen.append(_printed(container))
    assert ["one document, no noise"] * 3 == seen


def _printed(container: Container) -> str:
    """Return in words what `state` printed on its two streams."""
    result = container.query().ok()
    try:
        json.loads(result.stdout)
        document = "one document"
    except (ValueError, RecursionError):
        document = "more or less than one document"
    return f"{document}, {'noise on stderr' if result.stderr else 'no noise'}"


@case("C06")
def test_stopped_container_has_no_pid(runtime: Runtime) -> None:
    """A stopped container's pid is absent or 0 (runtime.md#runtimeState: required for created and running alone).

    Why: the number may belong to somebody else by now, and engines send signals to what they find there.
    By hand:
        $RUNTIME kill ID KILL; $RUNTIME state ID
        # "stopped", without a pid or with 0
    """
    container = runtime.container()
    container.running()
    container.stop()
    pid: Any = container.state().get("pid", 0)
    assert "absent or 0" == ("absent or 0" if pid == 0 and pid is not False else "another pid")


@case("C07")
@tier(3)
def test_annotations_that_are_absent_are_no_null(runtime: Runtime) -> None:
    """Without annotations the state has none or an empty table, never null (runtime.md#runtimeState, "annotations").

    Why: readers that look into the table fall over the one container that has no annotations.
    By hand:
        $RUNTIME state ID | grep annotations
        # nothing, or {}; not null
    """
    container = runtime.container()
    container.running()
    found = container.state().get("annotations", {})
    what = state.kind(found) if not isinstance(found, dict) else "a table with entries"
    assert "absent or empty" == ("absent or empty" if found == {} else what)


@case("C08")
@tier(3)
def test_state_is_the_same_for_many_at_once(runtime: Runtime) -> None:
    """Fifty queries at once all succeed and print the same (runtime.md#runtimeState).

    Why: a monitor, an engine and an administrator ask at the same time, and none may see a half-written file.
    By hand:
        for i in $(seq 50); do $RUNTIME state ID >/tmp/s.$i & done; wait
        md5sum /tmp/s.* | cut -c1-32 | sort -u    # one line
    """
    container = runtime.container()
    recorder = container.running()
    expected = container.query().ok().stdout
    calls = [runtime.begin("state", container.id) for _ in range(QUERIES)]
    results = [runtime.end(call, within=runtime.deadline_s * 4) for call in calls]
    for call in calls:
        call.close()
    answers = {f"{each.outcome}, {'the same' if each.stdout == expected else 'another'}" for each in results}
    assert ["done, the same"] == sorted(answers)
    recorder.state()
