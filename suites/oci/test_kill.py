"""Signals to a container's program (runtime.md, "Kill")."""

from __future__ import annotations

from signal import SIGTERM

import pytest

from suites.catalog import Privilege
from suites.framework.marks import case, tier, within
from suites.framework.oci.container import Container
from suites.framework.oci.runtime import Runtime
from suites.framework.process import killed
from suites.framework.recorder import Recorder
from suites.framework.signals import CATCHABLE, FENCE, RTMAX, name, names

REAL_TIME = 35


@case("I01")
def test_signal_reaches_the_program(runtime: Runtime) -> None:
    """TERM reaches the program, and a container whose program handles it keeps running (runtime.md#runtimeKill).

    Why: a service finishes its requests between TERM and its end.
    By hand:
        # program: sh -c 'trap "echo got it" TERM; while :; do sleep 1; done'
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID
        $RUNTIME kill ID TERM; $RUNTIME state ID
        # "got it", and running
    """
    container = runtime.container()
    recorder = container.running()
    outcome = container.kill("TERM").outcome
    assert "done, TERM" == f"{outcome}, {name(recorder.next_signal()['number'])}"
    assert "running" == container.status()
    assert "the program lives" == ("the program lives" if container.lives() else "the program ended")


@pytest.mark.parametrize("signal", ["10", "USR1", "SIGUSR1", "usr1"])
@case("I02")
def test_signal_is_named_in_every_usual_way(runtime: Runtime, signal: str) -> None:
    """A signal is given by its number, its name or its name with SIG, and arrives once (runtime.md#runtimeKill).

    Why: one engine says 10, the next SIGUSR1. Lower case, as kill(1) has it, may be refused: then nothing arrives.
    By hand:
        $RUNTIME kill ID 10; $RUNTIME kill ID USR1; $RUNTIME kill ID SIGUSR1; $RUNTIME kill ID usr1
    """
    container = runtime.container()
    seen = _heard(container, container.running(), signal, fence=FENCE)
    if signal.islower():
        runtime.bench.note("lower_case", seen)
        assert "done, USR1, or refused, none" == _either(seen, "done, USR1", "refused, none")
    else:
        assert "done, USR1" == seen


@case("I03")
def test_kill_stops_the_container(runtime: Runtime) -> None:
    """After KILL the program is dead by it, and the container stopped (runtime.md#runtimeKill).

    Why: it is the last resort; a container that survives it blocks its id and its memory.
    By hand:
        $RUNTIME kill ID KILL; $RUNTIME state ID
        # "stopped"
    """
    container = runtime.container()
    container.running()
    result = container.kill("KILL").ok()
    assert killed(9) == container.ended()
    assert "stopped" == container.becomes("stopped")
    runtime.bench.note("kill_s", result.seconds)


@case("I04")
@tier(3)
def test_signal_is_term_where_none_is_given(runtime: Runtime) -> None:
    """Kill without a signal sends TERM (convention of runc and crun).

    Why: people type it so, and mean what kill(1) does.
    By hand:
        $RUNTIME kill ID
    """
    container = runtime.container()
    recorder = container.running()
    assert f"done, {name(SIGTERM)}" == _heard(container, recorder, "", fence=FENCE)


@pytest.mark.parametrize("signal", ["35", "RTMIN+1", "SIGRTMIN+1"])
@case("I05")
@tier(3)
def test_real_time_signal_arrives(runtime: Runtime, signal: str) -> None:
    """A real-time signal arrives where it is given by number (signal(7); runtime.md#runtimeKill).

    Why: systemd in a container is told to halt with RTMIN+3. By name it may be refused: then nothing arrives.
    By hand:
        $RUNTIME kill ID 35; $RUNTIME kill ID RTMIN+1
    """
    container = runtime.container()
    seen = _heard(container, container.running(), signal, fence=RTMAX)
    if signal.isdigit():
        assert f"done, {name(REAL_TIME)}" == seen
    else:
        runtime.bench.note("real_time_by_name", seen)
        assert "done, RTMIN+1, or refused, none" == _either(seen, "done, RTMIN+1", "refused, none")


@case("I08")
@tier(3)
def test_every_number_is_the_signal_of_the_kernel(runtime: Runtime) -> None:
    """Each of the standard signals arrives as the one whose number was given (signal(7); runtime.md#kill).

    Why: in a runtime's own table two rows are easily exchanged, and nobody who tries TERM and KILL will see it.
    By hand:
        # program: sh -c 'for n in $(seq 31); do trap "echo $n" $n; done; while :; do sleep 1; done'
        for n in $(seq 31); do $RUNTIME kill ID $n; done    # 9 and 19 last
    """
    container = runtime.container()
    recorder = container.running()
    wrong = []
    for number in sorted(CATCHABLE):
        container.kill(number).ok()
        if (came := recorder.next_signal()["number"]) != number:
            wrong.append(f"{name(number)} as {name(came)}")
    assert "each as itself" == (", ".join(wrong) or "each as itself")


@case("I07")
@tier(2)
@within(privilege=Privilege.ROOT)
def test_processes_end_without_a_pid_namespace_too(runtime: Runtime) -> None:
    """Without a pid namespace, KILL and delete end every process of the container (runtime.md#runtimeDelete).

    Why: the kernel ends a pid namespace with its init; here the runtime has to find the others itself, by cgroup.
    By hand:
        # config.json without the pid namespace; the program: sh -c 'sleep 1000 & sleep 1000'
        $RUNTIME kill ID KILL; $RUNTIME delete ID; pgrep -fx 'sleep 1000'
        # nothing
    """
    container = runtime.container()
    linux = container.spec["linux"]
    linux["namespaces"] = [entry for entry in linux["namespaces"] if entry["type"] != "pid"]
    recorder = container.running()
    child, _ = recorder.fork()
    session, _ = recorder.fork("session", "orphan")
    container.kill("KILL").ok()
    assert killed(9) == container.ended()
    container.becomes("stopped")
    outcome = container.delete().outcome
    left = [title for title, process in (("child", child), ("orphan", session)) if not process.left(runtime.seconds)]
    assert "delete done, nothing lives" == f"delete {outcome}, {' and '.join(left) or 'nothing'} lives"


def _heard(container: Container, recorder: Recorder, signal: str, *, fence: int) -> str:
    """Return how a kill with this signal ended, and what arrived before the signal `fence`, sent behind it.

    The fence has the higher number: of two pending signals the lower one is delivered first (signal(7)).
    """
    outcome = container.kill(signal).outcome
    if (fenced := container.kill(int(fence)).outcome) != "done":
        return f"{outcome}, then {fenced}; {container.fate()[0]}"
    return f"{outcome}, {names(recorder.signals_until(fence))}"


def _either(seen: str, *accepted: str) -> str:
    """Return all that is accepted, where `seen` is among it; otherwise what was seen."""
    return ", or ".join(accepted) if seen in accepted else seen
