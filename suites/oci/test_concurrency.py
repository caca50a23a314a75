"""Several calls at a time: of one id, of several containers, and one right after the other (runtime.md, "Operations").

How fast a call follows another one is up to the machine; so what must hold in every order is asserted, and the order
that was met is noted where it matters.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from suites.framework.marks import case, offered, tier, weight
from suites.framework.oci.container import NO_STATE, SILENCE_S, Container
from suites.framework.oci.result import Result
from suites.framework.oci.runtime import Runtime
from suites.framework.recorder import Recorder
from suites.framework.waiting import Deadline

CREATES = 8
STARTS = 4
LIFECYCLES = 20
KILLS = 5
ROUNDS = 25
ONE_WINS = "one wins, then created"
LEAST_S = 2.0
"""Least deadline of a start that loses, which may hang; otherwise it is 20 times what a start takes."""


@case("K08")
@weight(8)
def test_one_of_parallel_creates_wins(runtime: Runtime) -> None:
    """Of 8 parallel creates of one id exactly one succeeds, and the others change nothing (runtime.md#create).

    Why: an orchestrator that retries gets two containers of one name, and one of them is never stopped.
    By hand:
        for i in 1 2 3 4 5 6 7 8; do $RUNTIME create --bundle BUNDLE$i ID & done; wait
        $RUNTIME state ID   # one init, of the bundle that state names
    """
    assert ONE_WINS == contest(runtime, rivals(runtime))


@case("K14")
@tier(4)
def test_one_of_parallel_creates_wins_every_time(runtime: Runtime) -> None:
    """In 25 rounds of 8 parallel creates of one id exactly one succeeds each time (runtime.md#create).

    Why: a lock that is taken a moment too late loses one race in many.
    By hand: as K08, 25 times.
    """
    found = rivals(runtime)
    seen = Counter(contest(runtime, found) for _ in range(ROUNDS))
    runtime.bench.note("rounds", dict(seen))
    assert "in every round" == ("in every round" if set(seen) == {ONE_WINS} else "not in every round")


def rivals(runtime: Runtime) -> list[Container]:
    """Return containers of one id with a bundle each."""
    found = [runtime.container(name=f"st-{runtime.bench.nonce[:8]}-rival") for _ in range(CREATES)]
    for rival in found:
        rival.bundle.write(rival.spec)
    return found


def contest(runtime: Runtime, found: Sequence[Container]) -> str:
    """Let them be created at the same time; return the outcomes and what there is then, in words, and end it all."""
    before = {id(rival): contents(rival) for rival in found}
    calls = [rival.begin_create(write=False) for rival in found]
    results = [rival.created(call) for rival, call in zip(found, calls, strict=True)]
    winners = [rival for rival, result in zip(found, results, strict=True) if result.outcome == "done"]
    seen = f"{outcome_of(results)}, then {found[0].status()}"
    if seen == ONE_WINS:
        losers = [rival for rival in found if rival is not winners[0]]
        assert [before[id(loser)] for loser in losers] == [contents(loser) for loser in losers]
        check_alone(runtime, winners[0], losers)
    for rival in winners:
        rival.close()
    for call in calls:
        call.close()
    runtime.orphans.remove()
    return seen


def contents(container: Container) -> tuple[list[str], dict[str, str]]:
    """Return what stands in a bundle."""
    return sorted(os.listdir(container.folder)), container.bundle.names()


def check_alone(runtime: Runtime, winner: Container, losers: Sequence[Container]) -> None:
    """See that the id is the winner's container alone: no process of another one, and its program is executed."""
    assert [] == runtime.orphans.remain(runtime.seconds)
    assert str(winner.folder) == str(winner.state().get("bundle"))
    winner.start().ok()
    recorder = winner.recorder()
    recorder.ready()
    assert "not executed" == executed(runtime, losers)
    finish(winner, recorder)
    assert NO_STATE == winner.status()


def executed(runtime: Runtime, containers: Iterable[Container]) -> str:
    """Return ``executed`` where the program of any of these came to report, ``not executed`` after a silence."""
    listeners = [container.bundle.listener.fileno() for container in containers]
    return "executed" if runtime.waiter.wait(listeners, Deadline(SILENCE_S)) else "not executed"


def finish(container: Container, recorder: Recorder) -> None:
    """End a running container, and delete it."""
    container.stop()
    recorder.close()
    container.delete().ok()


def outcome_of(results: Sequence[Result]) -> str:
    """Return how many calls won, in words that are the same in every such race; more where one broke down."""
    outcomes = [result.outcome for result in results]
    if set(outcomes) - {"done", "refused"}:
        return in_words(results)
    return {0: "none wins", 1: "one wins"}.get(outcomes.count("done"), "several win")


def in_words(results: Iterable[Result]) -> str:
    """Return how many calls came to which outcome."""
    found = Counter(result.outcome for result in results)
    return ", ".join(f"{found[outcome]} {outcome}" for outcome in sorted(found))


@case("K09")
@weight(8)
def test_parallel_containers_do_not_meet(runtime: Runtime) -> None:
    """8 containers that are created, started, killed and deleted in parallel do not disturb each other (runtime.md).

    Why: a node starts dozens of containers at boot; shared temporary names and locks show only then.
    By hand:
        for i in 1 2 3 4 5 6 7 8; do $RUNTIME create --bundle BUNDLE$i ID$i & done; wait
        # then start, kill and delete in the same way
    """
    containers = [runtime.container() for _ in range(CREATES)]
    calls = [container.begin_create() for container in containers]
    results = [container.created(call) for container, call in zip(containers, calls, strict=True)]
    assert "create: 8 done" == f"create: {in_words(results)}"
    assert "start: 8 done" == all_at_once(runtime, "start", [[container.id] for container in containers])
    recorders = [container.recorder() for container in containers]
    for recorder in recorders:
        recorder.ready()
    inits = [container.init.pid for container in containers if container.init is not None]
    assert inits == [recorder.pid for recorder in recorders]
    killing = [[runtime.filled(word, id=each.id, signal="KILL") for word in runtime.call.kill] for each in containers]
    assert "kill: 8 done" == all_at_once(runtime, "kill", killing)
    assert ["killed by KILL"] * CREATES == [str(container.ended()) for container in containers]
    assert ["stopped"] * CREATES == [container.becomes("stopped") for container in containers]
    assert "delete: 8 done" == all_at_once(runtime, "delete", [[container.id] for container in containers])
    assert [NO_STATE] * CREATES == [container.status() for container in containers]


def all_at_once(runtime: Runtime, verb: str, arguments: Sequence[Sequence[str]]) -> str:
    """Call a verb with each of these words at the same time; return the outcomes in words."""
    calls = [runtime.begin(verb, *words) for words in arguments]
    results = [runtime.end(call) for call in calls]
    for call in calls:
        call.close()
    return f"{verb}: {in_words(results)}"


@case("K10")
@tier(2)
def test_one_of_parallel_starts_wins(runtime: Runtime) -> None:
    """Of 4 parallel starts exactly one succeeds, the others are refused, the program runs once (runtime.md#start).

    Why: "done" means that this call has started it; two that say so hide that one came too late.
    By hand:
        $RUNTIME create --bundle BUNDLE ID
        for i in 1 2 3 4; do timeout 5 $RUNTIME start ID; echo $? & done; wait
    """
    alone = runtime.container()
    alone.create().ok()
    usual = alone.start().ok().seconds
    recorder = alone.recorder()
    recorder.ready()
    finish(alone, recorder)
    container = runtime.container()
    container.create().ok()
    outcomes = started_by_many(runtime, container, within=max(LEAST_S, 20 * usual))
    container.recorder().ready()
    assert "not executed" == container.executed()
    assert "running" == container.status()
    others = sorted({outcome for outcome in outcomes if outcome != "done"})
    seen = f"{outcomes.count('done')} done, the others: {' or '.join(others) or 'none'}"
    assert "1 done, the others: refused" == seen


def started_by_many(runtime: Runtime, container: Container, *, within: float) -> list[str]:
    """Return what came of starts at the same time, all of which end `within` seconds or are killed."""
    calls = [runtime.begin("start", container.id) for _ in range(STARTS)]
    deadline = Deadline(within)
    results = [runtime.end(call, within=deadline.remaining, hangs=True) for call in calls]
    for call in calls:
        call.close()
    return [result.outcome for result in results]


@case("K11")
@weight(6)
def test_start_right_after_create(runtime: Runtime) -> None:
    """A start right after create starts the program, 20 times of 20 (runtime.md#start).

    Why: a create that returns before its init listens loses the start, or lets it hang, once in a while.
    By hand:
        for i in $(seq 20); do
            $RUNTIME create --bundle BUNDLE ID && $RUNTIME start ID; $RUNTIME delete --force ID
        done
    """
    container = runtime.container()
    container.spec["process"]["args"] = container.bundle.once(0)
    for _ in range(LIFECYCLES):
        container.cycle(force=bool(runtime.call.force), waits=False)


@case("K12")
@tier(3)
def test_delete_right_after_kill(runtime: Runtime) -> None:
    """A delete right after KILL succeeds or is refused, and one after the end succeeds (runtime.md#delete).

    Why: kill returns when the signal is sent; what cleans up behind it must not be left with half a container.
    By hand:
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID
        $RUNTIME kill ID KILL; $RUNTIME delete ID
        $RUNTIME delete ID   # where the first was refused
    """
    container, first = runtime.container(), Counter[str]()
    for _ in range(KILLS):
        recorder = container.running()
        container.kill("KILL").ok()
        outcome = container.delete().outcome
        first[outcome] += 1
        assert "killed by KILL" == str(container.ended())
        recorder.close()
        if outcome != "done":
            assert "refused" == outcome
            assert "stopped" == container.becomes("stopped")
            container.delete().ok()
        assert NO_STATE == container.status()
    runtime.bench.note("deletes_right_after_kill", dict(first))


@case("K12")
@tier(3)
@offered("force")
def test_forced_delete_right_after_kill(runtime: Runtime) -> None:
    """A forced delete right after KILL succeeds (runc and crun, delete --force).

    Why: it is what an orchestrator falls back to; a race with the dying init must not make it fail.
    By hand:
        $RUNTIME kill ID KILL; $RUNTIME delete --force ID
    """
    container = runtime.container()
    for _ in range(KILLS):
        recorder = container.running()
        container.kill("KILL").ok()
        container.delete(force=True).ok()
        assert "killed by KILL" == str(container.ended())
        recorder.close()
        assert NO_STATE == container.status()
