"""What a runtime must refuse, and that a refusal changes nothing (runtime.md, "Errors" and "Operations").

A runtime that refuses everything refuses nothing: every case also sees a container run. Bundles that are refused
are in test_bad_bundles.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.framework.marks import case, offered, tier
from suites.framework.oci.container import NO_STATE, Container
from suites.framework.oci.result import Result
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.traces import NOTHING, Traces
from suites.framework.process import killed
from suites.framework.signals import FENCE, name

UNKNOWN = "st-nobody"
"""An id that no container has."""


# -- unknown and missing ids, unknown verbs


@case("B01")
def test_state_of_an_unknown_id_is_refused(runtime: Runtime) -> None:
    """State of an id that nobody has is an error, and prints nothing on stdout (runtime.md#runtimeState).

    Why: an engine that reads JSON there takes a container for alive that is not.
    By hand:
        $RUNTIME state nobody; echo $?
        # a message on stderr, not 0
    """
    result = runtime.run("state", UNKNOWN)
    assert "refused, nothing on stdout" == f"{result.outcome}, {'something' if result.stdout else 'nothing'} on stdout"
    runtime.container().running()


@case("B02")
@pytest.mark.parametrize("verb", ["create", "start", "state", "kill", "delete"])
def test_verb_without_an_id_is_refused(runtime: Runtime, verb: str) -> None:
    """Create, start, state, kill and delete without an id are errors (runtime.md#runtimeOperations).

    Why: a shell variable that is empty must not end or make some container.
    By hand:
        $RUNTIME create --bundle BUNDLE; echo $?    # not 0
        $RUNTIME start; $RUNTIME state; $RUNTIME kill; $RUNTIME delete
    """
    container = runtime.container()
    container.bundle.write(container.spec)
    words = runtime.call.bundle if verb == "create" else ()
    traces = Traces(runtime, container)
    result = runtime.run(verb, *words, values={"bundle": str(container.bundle.path)})
    assert f"refused, {NOTHING} left" == f"{result.outcome}, {traces.found()} left"
    container.running()


@case("B04")
def test_start_of_an_unknown_id_is_refused(runtime: Runtime) -> None:
    """Start of an id that nobody has is an error (runtime.md#runtimeStart).

    Why: who starts what was deleted meanwhile must learn of it.
    By hand:
        $RUNTIME start nobody; echo $?    # not 0
    """
    assert "refused" == runtime.run("start", UNKNOWN).outcome
    runtime.container().running()


@case("B07")
def test_kill_of_an_unknown_id_is_refused(runtime: Runtime) -> None:
    """Kill of an id that nobody has is an error (runtime.md#runtimeKill).

    Why: an engine believes a container dead whose name it spelt wrongly.
    By hand:
        $RUNTIME kill nobody KILL; echo $?    # not 0
    """
    words = runtime.call.kill
    assert "refused" == runtime.run("kill", *words, values={"id": UNKNOWN, "signal": "KILL"}).outcome
    runtime.container().running()


@case("B11")
def test_delete_of_an_unknown_id_is_refused(runtime: Runtime) -> None:
    """Delete of an id that nobody has is an error (runtime.md#runtimeDelete).

    Why: a clean-up with the wrong state root must not report that all is clean.
    By hand:
        $RUNTIME delete nobody; echo $?    # not 0
    """
    assert "refused" == runtime.run("delete", UNKNOWN).outcome
    runtime.container().running()


@case("B12")
@tier(2)
@offered("force")
def test_forced_delete_of_an_unknown_id_succeeds(runtime: Runtime) -> None:
    """Delete by force of an id that nobody has exits 0 (convention of runc and crun, after `rm -f`).

    Why: engines clean up with it after a crash, twice where they are not sure, and stop at an error.
    By hand:
        $RUNTIME delete --force nobody; echo $?    # 0
    """
    assert "done" == runtime.run("delete", *runtime.call.force, UNKNOWN).outcome
    runtime.container().running()


@case("B14")
def test_unknown_command_is_refused(runtime: Runtime) -> None:
    """A verb that no runtime has is an error (runtime.md#runtimeErrors).

    Why: a script for another version must stop there, not go on as if something had happened.
    By hand:
        $RUNTIME frobnicate ID; echo $?    # not 0
    """
    assert "refused" == runtime.run("frobnicate", UNKNOWN).outcome
    runtime.container().running()


# -- verbs that a state forbids


def _after(result: Result, container: Container) -> str:
    """Return how a verb ended, and the container's status then."""
    return f"{result.outcome}, {container.status()}"


def _stopped(runtime: Runtime) -> Container:
    """Return a container whose program has run and was killed."""
    container = runtime.container()
    container.running()
    container.stop()
    return container


@case("B03")
def test_create_of_an_id_in_use_is_refused(runtime: Runtime) -> None:
    """A second create of one id is an error, and the first container does not notice (runtime.md#runtimeCreate).

    Why: two containers of one name, and every later verb may meet the wrong one.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID; $RUNTIME state ID
        $RUNTIME create --bundle OTHER ID; echo $?    # not 0
        $RUNTIME state ID    # as before
    """
    first, second = runtime.container(), runtime.container()
    recorder = first.running()
    before, traces = first.state(), Traces(runtime, second)
    second.bundle.write(second.spec)
    result = _create_as(runtime, second, first.id)
    seen = "the state as before" if first.state() == before else "another state"
    assert f"refused, the state as before, {NOTHING} new" == f"{result.outcome}, {seen}, {traces.found()} new"
    recorder.state()
    first.kill("KILL").ok()
    assert killed(9) == first.ended()
    assert "stopped" == first.becomes("stopped")
    first.delete().ok()


def _create_as(runtime: Runtime, container: Container, identifier: str) -> Result:
    """Call create with a container's bundle and an id that is not its own, which nobody takes hold of."""
    values = {"bundle": str(container.bundle.path), "pid_file": str(container.pid_file)}
    return runtime.run("create", *runtime.call.bundle, *runtime.call.pid_file, identifier, values=values)


@case("B05")
def test_start_of_a_running_container_is_refused(runtime: Runtime) -> None:
    """A second start is an error, the container runs on, and nothing is executed twice (runtime.md#runtimeStart).

    Why: an engine that repeats a start after a time-out must not have two programs on one volume.
    By hand:
        $RUNTIME start ID; $RUNTIME start ID; echo $?    # not 0
        $RUNTIME state ID    # "running"
    """
    container = runtime.container()
    recorder = container.running()
    assert "refused, running" == _after(container.start(), container)
    assert "not executed" == container.executed()
    recorder.state()


@case("B06")
def test_start_of_a_stopped_container_is_refused(runtime: Runtime) -> None:
    """Start of a container that has stopped is an error (runtime.md#runtimeStart).

    Why: a container runs once; who wants it again creates it again, with what create checks.
    By hand:
        $RUNTIME kill ID KILL; $RUNTIME start ID; echo $?    # not 0
    """
    container = _stopped(runtime)
    assert "refused, stopped" == _after(container.start(), container)
    assert "not executed" == container.executed()


@case("B08")
def test_kill_of_a_stopped_container_is_refused(runtime: Runtime) -> None:
    """Kill of a container that has stopped is an error (runtime.md#runtimeKill).

    Why: its pid may be somebody else's by now.
    By hand:
        $RUNTIME kill ID KILL; $RUNTIME kill ID KILL; echo $?    # the second time not 0
    """
    container = _stopped(runtime)
    assert "refused, stopped" == _after(container.kill("KILL"), container)


@case("B09")
def test_delete_of_a_created_container_is_refused(runtime: Runtime) -> None:
    """Delete of a container that was created and never started is an error without effect (runtime.md#runtimeDelete).

    Why: "not stopped" is the whole condition; a clean-up between create and start destroys what is needed.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME delete ID; echo $?    # not 0
        $RUNTIME state ID    # "created"
    """
    container = runtime.container()
    container.create().ok()
    assert "refused, created" == _after(container.delete(), container)
    container.start().ok()
    container.recorder().ready()


@case("B10")
def test_delete_of_a_running_container_is_refused(runtime: Runtime) -> None:
    """Delete of a running container is an error, and it runs on (runtime.md#runtimeDelete).

    Why: the process would live on with nobody to know it.
    By hand:
        $RUNTIME start ID; $RUNTIME delete ID; echo $?    # not 0
        $RUNTIME state ID    # "running"
    """
    container = runtime.container()
    recorder = container.running()
    assert "refused, running" == _after(container.delete(), container)
    recorder.state()


@case("B13")
@offered("force")
def test_forced_delete_ends_a_running_container(runtime: Runtime) -> None:
    """Delete by force of a running container exits 0; process, id and state are gone (convention of runc and crun).

    Why: it is the last word of every engine, and what it leaves stays for ever.
    By hand:
        $RUNTIME start ID; $RUNTIME delete --force ID; echo $?    # 0
        $RUNTIME state ID    # an error
    """
    container = runtime.container()
    container.running()
    assert f"done, {NO_STATE}" == _after(container.delete(force=True), container)
    assert killed(9) == container.ended()
    assert [] == runtime.left()


@case("B16")
@pytest.mark.parametrize("signal", ["SIGNOSUCH", "TERMX", "999"])
def test_kill_with_an_invalid_signal_is_refused(runtime: Runtime, signal: str) -> None:
    """Kill with a signal that does not exist is an error, and nothing reaches the container (runtime.md#runtimeKill).

    Why: a name spelt wrongly must not become the default, which ends the program.
    By hand:
        $RUNTIME kill ID SIGNOSUCH; echo $?    # not 0
        $RUNTIME state ID    # "running"
    """
    container = runtime.container()
    recorder = container.running()
    seen = _after(container.kill(signal), container)
    container.kill(int(FENCE)).ok()
    received = ", ".join(map(name, recorder.signals_until(FENCE))) or NOTHING
    assert f"refused, running, {NOTHING} received" == f"{seen}, {received} received"


@case("B17")
def test_kill_stops_a_created_container(runtime: Runtime) -> None:
    """KILL sent to a created container stops it, and its program never runs (runtime.md#runtimeKill).

    Why: it is how an engine gives up between create and start.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME kill ID KILL; $RUNTIME state ID
        # "stopped"
    """
    container = runtime.container()
    container.create().ok()
    container.kill("KILL").ok()
    assert killed(9) == container.ended()
    assert "stopped" == container.becomes("stopped")
    assert "not executed" == container.executed()
    container.delete().ok()
    container.running()


# -- bad ids


def _bad_ids(runtime: Runtime) -> dict[str, str]:
    """Return ids that no container may have; none leads out of the test's own folder where a runtime follows it."""
    return {
        "parent": "..",
        "up": "../escaped",
        "slash": "a/b",
        "empty": "",
        "dot": ".",
        "absolute": f"{runtime.bench.home}/escaped",
        "newline": "a\nb",
        "control": "a\x01\x1b[31mb",
        "long": "a" * 1025,
    }


@case("B15")
@pytest.mark.parametrize("what", ["parent", "up", "slash", "empty", "dot", "absolute", "newline", "control", "long"])
def test_bad_id_is_refused(runtime: Runtime, what: str) -> None:
    """Ids that lead elsewhere, or that are no name, are errors, as in runc and crun (runtime.md#create, "not valid").

    Why: the id becomes a path; with `..` in it create writes, and delete removes, what is not the runtime's.
    By hand:
        $RUNTIME create --bundle BUNDLE ../escaped; echo $?    # not 0, and nothing made
        # and the same for .. and . and a/b and /abs, an empty one, and one with a line break
    """
    container, identifier = runtime.container(), _bad_ids(runtime)[what]
    container.bundle.write(container.spec)
    before, traces = _around(runtime), Traces(runtime, container)
    result = _create_as(runtime, container, identifier)
    beside = sorted(_around(runtime) - before)
    seen = f"{result.outcome}, {'something' if beside else NOTHING} beside the state root"
    if result.outcome == "done":
        runtime.run("delete", *runtime.call.force, identifier)
    assert f"refused, {NOTHING} beside the state root" == seen
    assert NOTHING == traces.found()
    runtime.container().running()


def _around(runtime: Runtime) -> set[str]:
    """Return what stands beside the folder of the containers' states, where `..` would lead, and beside all roots."""
    runtime.run("state", UNKNOWN)  # which may make the folders that every call makes
    file = Path(runtime.filled(runtime.call.state_file, id=UNKNOWN))
    states = next(folder for folder in file.parents if UNKNOWN not in str(folder))
    return {str(path) for folder in (states.parent, runtime.bench.home) for path in folder.iterdir()}
