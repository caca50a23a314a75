"""Verbs beyond the specification's five, as runc and crun have them; each where a runtime offers it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import Privilege
from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires, tier, weight, within
from suites.framework.observation import Unmet
from suites.framework.oci import cgroup
from suites.framework.oci.container import NO_STATE, SILENCE_S, Container
from suites.framework.oci.result import Call
from suites.framework.oci.runtime import Runtime
from suites.framework.process import exited
from suites.framework.recorder import Recorder, State
from suites.framework.waiting import Deadline

CODE = 7
NAMESPACES = ("ipc", "mnt", "net", "pid", "user", "uts")
REQUIRED = ("ociVersion", "root.path", "process.args", "process.cwd", "linux.namespaces")
"""What a configuration that runs has (config.md)."""
FEATURES = ("ociVersionMin", "ociVersionMax")
"""What features.md requires."""
STATS = ("memory.usage.usage", "pids.current")
"""What `runc events --stats` tells of a container in cgroups of its own (runc, types/events.go)."""


@pytest.fixture
def container(runtime: Runtime) -> Container:
    """Return a container that is not created yet."""
    return runtime.container()


# ---- exec


@case("J01")
@tier(2)
@offered("exec")
def test_exec_runs_a_process_in_the_container(runtime: Runtime, container: Container) -> None:
    """Exec runs a process in all of the container's namespaces, and exits with its code (runc-exec(8)).

    Why: health checks and people's shells come in this way; a code that is lost is a check that never fails.
    By hand:
        $RUNTIME exec ID /bin/sh -c 'readlink /proc/self/ns/*; exit 7'; echo $?
        # what the container's program has, and 7
    """
    init = container.running()
    call, beside, _ = _execute(runtime, container)
    differing = [kind for kind in NAMESPACES if _namespace(init, kind) != _namespace(beside, kind)]
    beside.tell(f"exit {CODE}")
    assert exited(CODE) == runtime.end(call).status
    assert [] == differing
    assert "running" == container.status()


@pytest.mark.parametrize("option", ["cwd", "env", "pid-file", "detach"])
@case("J10")
@tier(3)
@offered("exec")
def test_option_of_exec_is_heeded(runtime: Runtime, container: Container, option: str) -> None:
    """The working directory, a variable, the pid file and detaching are as exec's options say (runc-exec(8)).

    Why: engines pass all of them, and find the process later by the pid file.
    By hand:
        $RUNTIME exec --cwd /tmp --env A=1=2 --pid-file /tmp/pid ID /bin/sh -c 'pwd; env'; cat /tmp/pid
        $RUNTIME exec --detach ID /bin/sleep 60; echo $?    # at once
    """
    container.running()
    place = container.bundle.path / "exec.pid"
    words = {
        "cwd": ["--cwd", "/tmp"],  # noqa: S108 -- in the container
        "env": ["--env", "SEATRIAL_A=1=2"],
        "pid-file": ["--pid-file", str(place)],
        "detach": ["--detach"],
    }[option]
    call, beside, seen = _execute(runtime, container, *words)
    match option:
        case "cwd":
            assert "/tmp" == seen.directory.decode()  # noqa: S108
        case "env":
            assert "SEATRIAL_A=1=2" == _variable(seen, "SEATRIAL_A")
        case "pid-file":
            beside.tell("exit 0")
            runtime.end(call).ok()
            assert "its pid" == _pid_in(place, beside.pid)
        case _:
            runtime.end(call).ok()
            assert "the process lives" == ("the process ended" if beside.left(SILENCE_S) else "the process lives")


@case("J10")
@tier(3)
@offered("exec")
@within(privilege=Privilege.ROOT)
def test_exec_as_another_user(runtime: Runtime, container: Container) -> None:
    """Exec runs the process as the user and group that its option names (runc-exec(8), ``--user``).

    Why: a shell for debugging that is root where the service is not makes files that the service cannot read.
    By hand:
        $RUNTIME exec --user 1234:2345 ID id -u
    """
    container.running()
    _, beside, _ = _execute(runtime, container, "--user", "1234:2345")
    assert "1234:2345" == beside.sh('echo "$(id -u):$(id -g)"').ok


@case("J11")
@tier(3)
@offered("exec")
def test_exec_into_a_stopped_container_is_refused(container: Container) -> None:
    """Exec into a container that has ended is refused, and nothing is executed (runc-exec(8)).

    Why: its namespaces are gone; what would run then, runs on the machine.
    By hand:
        $RUNTIME kill ID KILL; $RUNTIME exec ID /bin/true; echo $?
        # not 0
    """
    container.running()
    container.kill("KILL").ok()
    container.ended()
    outcome = container.verb("exec", *container.bundle.once(0)).outcome
    assert "refused, not executed, stopped" == f"{outcome}, {container.executed()}, {container.becomes('stopped')}"


# ---- freezing


@case("J02")
@tier(2)
@offered("pause", "resume")
@requires(Fact.CGROUP_FREEZER)
@within(privilege=Privilege.ROOT)
def test_paused_container_does_nothing_until_resumed(runtime: Runtime, container: Container) -> None:
    """Pause freezes the program and the state is ``paused``; resume lets it go on (runc-pause(8), cgroups(7)).

    Why: engines pause a container to copy its files; what still writes then spoils the copy.
    By hand:
        $RUNTIME pause ID; $RUNTIME state ID; ps -o stat= -p PID
        $RUNTIME resume ID; $RUNTIME state ID
    """
    recorder = container.running()
    container.verb("pause").ok()
    paused = container.status()
    recorder.tell("state")
    heard = runtime.waiter.wait((recorder.channel.fileno(),), Deadline(SILENCE_S))
    resumed = container.verb("resume").outcome
    seen = f"{paused}, {'it answers' if heard else 'silent'}, resume {resumed}, {container.status()}"
    assert "paused, silent, resume done, running" == seen
    recorder.next("state", what="an answer after resume")


# ---- looking


@case("J03")
@tier(3)
@offered("ps")
@requires(Fact.CGROUP_PIDS)
@within(privilege=Privilege.ROOT)
def test_ps_lists_the_processes(runtime: Runtime, container: Container) -> None:
    """Ps lists the container's processes by their pids out here, no other among them (runc-ps(8)).

    Why: it is what an engine's `top` shows.
    By hand:
        $RUNTIME ps --format json ID
    """
    recorder = container.running()
    child, _ = recorder.fork()
    said = runtime.run("ps", "--format", "json", container.id).ok().stdout
    titles = {recorder.pid: "the program", child.pid: "its child"}
    assert "its child, the program" == ", ".join(sorted(titles.get(pid, "another") for pid in _numbers(said)))


@case("J04")
@tier(3)
@offered("list")
def test_list_shows_the_container(runtime: Runtime, container: Container) -> None:
    """List has one row of each container, with its pid and status, and none of one that is deleted (runc-list(8)).

    Why: it is how one finds what an engine has forgotten.
    By hand:
        $RUNTIME list
    """
    recorder = container.running()
    other = runtime.container()
    other.create().ok()
    shown = [_row(runtime, each) for each in (container, other)]
    other.delete(force=True)
    shown.append(_row(runtime, other))
    assert ["running with its pid", "created with its pid", "no row"] == shown
    assert recorder.pid > 0


@case("J05")
@tier(3)
@offered("spec")
def test_spec_writes_a_configuration(runtime: Runtime, container: Container) -> None:
    """Spec writes a config.json that has what every configuration must have (runc-spec(8); config.md).

    Why: it is where everybody begins who writes a bundle by hand.
    By hand:
        cd EMPTY; $RUNTIME spec; cat config.json
    """
    container.running()
    folder = container.bundle.path / "written"
    folder.mkdir()
    runtime.run("spec", "--bundle", str(folder)).ok()
    assert "nothing is missing" == _missing(_document(_read(folder / "config.json")), REQUIRED)


@case("J06")
@tier(3)
@offered("features")
def test_features_are_one_json_object(runtime: Runtime, container: Container) -> None:
    """Features prints a JSON object with the versions that the runtime understands (features.md).

    Why: engines decide by it what they may ask for.
    By hand:
        $RUNTIME features
    """
    container.running()
    assert "nothing is missing" == _missing(_document(runtime.run("features").ok().stdout), FEATURES)


@case("J08")
@tier(3)
def test_version_is_printed(runtime: Runtime, container: Container) -> None:
    """``--version`` prints a version (convention of runc and crun).

    Why: the first question of every bug report.
    By hand:
        $RUNTIME --version
    """
    container.running()
    said = runtime.run("", "--version").ok().stdout.decode(errors="replace")
    assert "a version" == ("a version" if re.search(r"\b\d+\.\d+", said) else "no version")


@case("J12")
@tier(3)
@offered("events")
@requires(Fact.CGROUP_PIDS, Fact.CGROUP_MEMORY)
@within(privilege=Privilege.ROOT)
def test_events_tell_the_statistics(runtime: Runtime, container: Container) -> None:
    """Events with ``--stats`` prints one JSON object with the container's memory and processes (runc-events(8)).

    Why: monitoring reads it; a zero in it is an alarm that never comes.
    By hand:
        $RUNTIME events --stats ID
    """
    recorder = container.running()
    recorder.fork()
    told = _document(runtime.run("events", "--stats", container.id).ok().stdout)
    assert (
        "stats of this container"
        == f"{told.get('type')} of {'this' if told.get('id') == container.id else 'no'} container"
    )
    data = told.get("data")
    assert "nothing is missing" == _missing(data, STATS)
    assert "2 processes, some memory" == (
        f"{_at(data, 'pids.current')} processes, {'some' if _at(data, 'memory.usage.usage') > 0 else 'no'} memory"
    )


# ---- run and update


@case("J07")
@weight(4)
@tier(2)
@offered("run")
def test_run_exits_as_its_program_does(runtime: Runtime, container: Container) -> None:
    """Run waits for the program, exits with its code, and the container is gone then (runc-run(8)).

    Why: it is create, start, waiting and delete in one, and scripts look at nothing but this code.
    By hand:
        $RUNTIME run --bundle BUNDLE ID; echo $?; $RUNTIME state ID
        # the program's code, and no such container
    """
    container.bundle.write(container.spec)
    call = runtime.begin("run", *runtime.call.bundle, container.id, values={"bundle": str(container.bundle.path)})
    container.creation = call
    recorder = container.recorder()
    recorder.ready()
    status = container.becomes("running")  # the program may be faster than the runtime that notes it
    recorder.tell(f"exit {CODE}")
    ended = runtime.end(call).status
    assert f"running, exit {CODE}, {NO_STATE}" == f"{status}, {ended}, {container.status()}"


@case("J09")
@tier(3)
@offered("update")
@requires(Fact.CGROUP_PIDS)
@within(privilege=Privilege.ROOT)
def test_update_changes_a_limit(runtime: Runtime, container: Container) -> None:
    """Update changes the limit on processes of a running container (runc-update(8); cgroups, pids).

    Why: limits are raised in production without a restart.
    By hand:
        $RUNTIME update --pids-limit 77 ID; cat CGROUP/pids.max
    """
    container.spec["linux"]["resources"] = {"pids": {"limit": 99}}
    container.running()
    before = _pids_limit(container)
    runtime.run("update", "--pids-limit", "77", container.id).ok()
    assert "99, then 77" == f"{before}, then {_pids_limit(container)}"


# ---- reading


def _execute(runtime: Runtime, container: Container, *options: str) -> tuple[Call, Recorder, State]:
    """Execute a recording process in a container; return the call, which may go on, and the process, ready."""
    call = runtime.begin("exec", *options, container.id, *container.bundle.recorder("beside"))
    recorder = container.recorder()
    return call, recorder, recorder.ready()


def _namespace(recorder: Recorder, kind: str) -> str:
    return recorder.sh(f"readlink /proc/self/ns/{kind}").ok


def _variable(seen: State, name: str) -> str:
    return next((word.decode() for word in seen.environment if word.startswith(f"{name}=".encode())), "not set")


def _pid_in(place: Path, pid: int) -> str:
    try:
        return "its pid" if int(place.read_text()) == pid else "another pid"
    except (OSError, ValueError):
        return "no pid"


def _numbers(text: bytes) -> list[int]:
    """Return a JSON list of numbers; Unmet where it is anything else."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(pid, int) for pid in found):
        raise Unmet("ps prints a JSON list of pids", "it printed something else")
    return found


def _row(runtime: Runtime, container: Container) -> str:
    """Return in words what list says of a container."""
    lines = runtime.run("list").ok().stdout.decode(errors="replace").splitlines()
    rows = [line.split() for line in lines if line.split()[:1] == [container.id]]
    if len(rows) != 1 or container.init is None:
        return "several rows" if rows else "no row"
    words = [word.lower() for word in rows[0]]  # youki begins them with a capital: it is a table for people
    status = next((word for word in words if word in ("created", "running", "stopped")), "of no status")
    return f"{status} {'with its pid' if str(container.init.pid) in rows[0] else 'without its pid'}"


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _document(text: bytes) -> dict[str, Any]:
    """Return a JSON object; Unmet where it is anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unmet("one JSON object", "it printed something else")
    return found


def _at(document: Any, path: str) -> Any:
    """Return what is at a path of keys, None where there is nothing."""
    for key in path.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _missing(document: Any, paths: tuple[str, ...]) -> str:
    """Return in words which of these have no value."""
    missing = [path for path in paths if _at(document, path) in (None, "", [], {})]
    return f"without {' '.join(missing)}" if missing else "nothing is missing"


def _pids_limit(container: Container) -> str:
    folder = cgroup.folder(container.cgroup, "pids")
    return (folder / "pids.max").read_text().strip() if folder else "no cgroup"
