"""The way of a container from create to delete (runtime.md, "Lifecycle")."""

from __future__ import annotations

import shlex

import pytest

from suites.framework.marks import case, tier
from suites.framework.oci import state
from suites.framework.oci.container import NO_STATE, Container
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.spec import Hook
from suites.framework.process import exited, killed

HOOK_S = 5
"""How long a hook may take that asks the runtime something."""


@case("A01")
def test_create_does_not_execute_the_program(runtime: Runtime) -> None:
    """After create the container is created and its program has not run (runtime.md#runtimeCreate).

    Why: an orchestrator sets up networks and volumes between create and start, and counts on the quiet.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME state ID
        # "created", and nothing of the program yet
        $RUNTIME start ID
    """
    container = runtime.container()
    container.create().ok()
    assert "created" == container.status()
    assert "not executed" == container.executed()
    container.start().ok()
    container.recorder().ready()


@case("A02")
def test_start_executes_the_program(runtime: Runtime) -> None:
    """After start the program runs and the container is running (runtime.md#runtimeStart).

    Why: a start that returns without having started is the worst lie of a runtime.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID
        $RUNTIME state ID
    """
    container = runtime.container()
    recorder = container.running()
    assert "running" == container.status()
    assert container.init is not None
    assert container.init.pid == recorder.pid


@case("A03")
def test_program_that_exits_leaves_a_stopped_container(runtime: Runtime) -> None:
    """A program that exits by itself leaves its container stopped (runtime.md#runtimeState).

    Why: who polls state must see the end, or waits for ever.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID
        $RUNTIME state ID
    """
    container = runtime.container()
    container.running().tell("exit 7")
    assert exited(7) == container.ended()
    assert "stopped" == container.becomes("stopped")


@case("A04")
def test_deleted_container_is_gone(runtime: Runtime) -> None:
    """Delete of a stopped container succeeds, and state knows it no longer (runtime.md#runtimeDelete).

    Why: an id that lingers blocks the next container of that name.
    By hand:
        $RUNTIME delete ID; $RUNTIME state ID
    """
    container = runtime.container()
    _run_to_the_end(container)
    container.delete().ok()
    assert NO_STATE == container.status()
    assert [] == runtime.left()


@case("A05")
def test_id_is_free_again_after_delete(runtime: Runtime) -> None:
    """After delete the same id serves the next container (runtime.md#runtimeDelete, "its ID MAY be used").

    Why: an engine that restarts a container keeps its name.
    By hand:
        $RUNTIME kill ID KILL; $RUNTIME delete ID
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID; $RUNTIME state ID
        # "running"
    """
    container = runtime.container()
    container.running()
    container.stop()
    container.delete().ok()
    container.running()
    assert "running" == container.status()


@case("A06")
def test_config_changed_after_create_has_no_effect(runtime: Runtime) -> None:
    """What is written into config.json after create changes nothing (runtime.md#runtimeCreate, "will not have").

    Why: what was checked at create must be what runs, or whoever can write to the bundle chooses the program.
    By hand:
        $RUNTIME create --bundle BUNDLE ID
        sed -i s,/bin/old,/bin/new, BUNDLE/config.json
        $RUNTIME start ID    # executes /bin/old
    """
    container = runtime.container()
    program = container.spec["process"]
    program["env"].append("ORIGIN=create")
    container.create().ok()
    program["env"][-1], program["cwd"] = "ORIGIN=later", "/bin"
    program["args"] = container.bundle.recorder("later")
    container.bundle.write(container.spec)
    container.start().ok()
    seen = container.recorder().ready()
    origin = next((word for word in seen.environment if word.startswith(b"ORIGIN=")), b"no ORIGIN").decode()
    arguments = "arguments later" if b"later" in seen.argv else "arguments as created"
    assert "ORIGIN=create, /, arguments as created" == f"{origin}, {seen.directory.decode()}, {arguments}"


@case("A07")
def test_config_removed_after_create_is_not_missed(runtime: Runtime) -> None:
    """With config.json gone after create, state, start, kill and delete work (runtime.md#runtimeCreate).

    Why: engines remove a bundle early, and a container that nobody can stop then is worse than none.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; rm BUNDLE/config.json
        $RUNTIME state ID; $RUNTIME start ID; $RUNTIME kill ID KILL; $RUNTIME delete ID
    """
    container = runtime.container()
    container.create().ok()
    (container.bundle.path / "config.json").unlink()
    assert "created" == container.status()
    container.start().ok()
    container.recorder().ready()
    assert "running" == container.status()
    _kill_and_delete(container)
    assert [] == runtime.left()


@case("A08")
@tier(2)
def test_bundle_defaults_to_the_working_directory(runtime: Runtime) -> None:
    """Create without a bundle takes the directory that it is called in (runtime-tools' command line, ``--bundle``).

    Why: it is how everybody types it, and some engines too.
    By hand:
        cd BUNDLE; $RUNTIME create ID; $RUNTIME state ID
        # "bundle" is BUNDLE
    """
    container = runtime.container()
    _create_from(container, str(container.bundle.path), bundle="")
    assert "the bundle's absolute path" == _bundle_of(container)
    container.start().ok()
    container.recorder().ready()


@case("A09")
def test_relative_bundle_is_absolute_in_the_state(runtime: Runtime) -> None:
    """A relative path given for the bundle is an absolute one in the state (runtime.md#runtimeState, "bundle").

    Why: who asks for the state stands in another directory than who created it.
    By hand:
        cd BUNDLE/..; $RUNTIME create --bundle "$(basename BUNDLE)" ID; $RUNTIME state ID
        # "bundle" begins with a slash
    """
    container = runtime.container()
    folder = container.bundle.path
    _create_from(container, str(folder.parent), bundle=folder.name)
    assert "the bundle's absolute path" == _bundle_of(container)
    container.start().ok()
    container.recorder().ready()


@case("A10")
def test_whole_cycle_succeeds_verb_by_verb(runtime: Runtime) -> None:
    """Create, start, state, kill and delete in a row all exit 0, and each brings the next state (runtime.md#lifecycle).

    Why: it is what engines do all day, and they stop at the first verb that exits with anything else.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID; $RUNTIME state ID
        $RUNTIME kill ID KILL; $RUNTIME delete ID
        # exit 0 five times
    """
    container = runtime.container()
    seen = [f"create {container.create().outcome}, {container.status()}"]
    seen.append(f"start {container.start().outcome}")
    container.recorder().ready()
    seen.append(f"state {container.query().outcome}, {container.status()}")
    seen.append(f"kill {container.kill('KILL').outcome}, {container.ended()}, {container.becomes('stopped')}")
    seen.append(f"delete {container.delete().outcome}, {container.status()}")
    assert [
        "create done, created",
        "start done",
        "state done, running",
        "kill done, killed by KILL, stopped",
        f"delete done, {NO_STATE}",
    ] == seen


@case("A11")
@tier(3)
def test_container_is_not_created_while_its_hooks_run(runtime: Runtime) -> None:
    """State asked from a createRuntime hook is ``creating``, or there is none yet (runtime.md#runtimeState).

    Why: who sees ``created`` too early starts a container whose network is not there.
    By hand:
        # hooks.createRuntime: [{"path": "/bin/sh", "args": ["sh", "-c", "$RUNTIME state ID >/tmp/seen; :"]}]
        $RUNTIME create --bundle BUNDLE ID; cat /tmp/seen
    """
    container = runtime.container()
    answer = container.bundle.path / "answer"
    ask = shlex.join(runtime.words("state", container.id))
    script = f'{ask} >"$0" 2>/dev/null || echo refused >"$0"'
    variables = [f"{name}={value}" for name, value in runtime.environment.items()]
    hook: Hook = {"path": "/bin/sh", "args": ["sh", "-c", script, str(answer)], "env": variables, "timeout": HOOK_S}
    container.spec["hooks"] = {"createRuntime": [hook]}
    container.create().ok()
    assert "creating or none" == (_told(answer.read_bytes()) if answer.is_file() else "the hook did not run")
    container.start().ok()
    container.recorder().ready()


@case("A12")
@tier(3)
@pytest.mark.parametrize("name", ["web-1.example_x+2", "a" * 56], ids=["punctuation", "long"])
def test_ids_of_letters_and_punctuation_are_accepted(runtime: Runtime, name: str) -> None:
    """Ids with dots, plus, underscore and hyphen, or of 56 characters, are as good as others (runtime.md#runtimeState).

    Why: engines build ids of names and of sha256 sums, and kubelet's are long.
    By hand:
        $RUNTIME create --bundle BUNDLE web-1.example_x+2; $RUNTIME start web-1.example_x+2
        $RUNTIME state web-1.example_x+2
    """
    container = runtime.container(name=name)
    container.running()
    assert name == container.state().get("id")
    _kill_and_delete(container)
    assert [] == runtime.left()


def _run_to_the_end(container: Container) -> None:
    """Create and start it; have its program exit, and see it stopped."""
    container.running().tell("exit 0")
    container.ended()
    assert "stopped" == container.becomes("stopped")


def _kill_and_delete(container: Container) -> None:
    """End a running container and delete it, each verb with success."""
    container.kill("KILL").ok()
    assert killed(9) == container.ended()
    assert "stopped" == container.becomes("stopped")
    container.delete().ok()
    assert NO_STATE == container.status()


def _create_from(container: Container, directory: str, *, bundle: str) -> None:
    """Call create in another working directory, with this for the bundle."""
    through = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', directory]
    container.created(container.begin_create(bundle=bundle, through=through)).ok()


def _bundle_of(container: Container) -> str:
    """Return in words which path the state names as the bundle."""
    found = str(container.state().get("bundle"))
    if found == str(container.bundle.path):
        return "the bundle's absolute path"
    return "another absolute path" if found.startswith("/") else "a relative path"


def _told(answer: bytes) -> str:
    """Return in words what `state` told a hook."""
    status = NO_STATE if answer == b"refused\n" else str(state.parsed(answer).get("status"))
    return "creating or none" if status in ("creating", NO_STATE) else status
