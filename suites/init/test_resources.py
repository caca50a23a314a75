"""Resources: what an idle init uses, and how much time it takes beside another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from signal import SIGTERM

from suites.catalog import Privilege
from suites.framework import usage
from suites.framework.marks import case, weight, within
from suites.framework.process import exited
from suites.framework.targets.init import Init

SETTLING_S = 0.1
IDLE_S = 1.0
ROUNDS = 10
"""Of each of the two in turn: enough for the size of a difference. Session performance has the tight figure."""


def _judged(init: Init, name: str, value: float) -> str:
    """Return how a value stands to the limit that the target's profile declares for it, if it does."""
    budget = init.budget(name)
    return f"above {name} = {budget:g}" if budget is not None and value > budget else "within the limits"


@case("RS-01", "RS-02")
@weight(12)
def test_idle_init_sleeps(init: Init) -> None:
    """With nothing to do the init sleeps: its wake-ups and CPU time are recorded, its threads and descriptors constant.

    Why: a poll every 100 ms in each of a thousand containers is a core and a battery; a descriptor a second is a crash.
    By hand:
        $INIT sleep 60 </dev/null & grep ctxt /proc/$!/status; cat /proc/$!/schedstat; ls /proc/$!/fd /proc/$!/task
        sleep 3; grep ctxt /proc/$!/status; cat /proc/$!/schedstat; ls /proc/$!/fd /proc/$!/task; kill $!
        # the same twice
    """
    with init.start() as run:
        run.child.ready()
        run.stays(SETTLING_S)
        before, began = usage.of(run.pid), time.monotonic()
        run.stays(IDLE_S)
        after, seconds = usage.of(run.pid), time.monotonic() - began
        values = {
            "wakeups_per_s": (after.switches - before.switches) / seconds,
            "idle_cpu_ratio": (after.cpu_s - before.cpu_s) / seconds,
        }
        for name, value in values.items():
            run.note(name, round(value, 6))
            assert "within the limits" == _judged(init, name, value)
        held = {"threads": (before.threads, after.threads), "descriptors": (before.descriptors, after.descriptors)}
        assert "constant" == (" and ".join(name for name, (old, new) in held.items() if old != new) or "constant")


@case("RS-03")
def test_memory_of_the_init_is_told(init: Init) -> None:
    """The resident memory of an idle init is recorded, and not above what its profile allows (proc_pid_statm(5)).

    Why: it is there once for every container.
    By hand:
        $INIT sleep 60 </dev/null & sleep 1
        grep VmRSS /proc/$!/status
        kill $!
    """
    with init.start() as run:
        run.child.ready()
        run.stays(SETTLING_S)
        value = usage.of(run.pid).rss_bytes
        run.note("rss_bytes", value)
        assert "within the limits" == _judged(init, "rss_bytes", value)


@case("RS-04")
@weight(15)
def test_time_from_term_to_the_end_is_told(init: Init) -> None:
    """How long TERM to the end takes, as a ratio to the reference init in the same minute (median and p90). Recorded.

    Why: ten thousand containers are stopped one after the other, and a poll instead of a wait shows here.
    By hand:
        $INIT sleep 60 </dev/null & sleep 1
        time sh -c "kill $!; while kill -0 $!; do :; done" 2>/dev/null
        # about a millisecond
    """
    _note_ratio(init, "stopping", *_interleaved(_stopped, init, init.yardstick("reference")))


def _stopped(init: Init) -> float:
    """Return the seconds from TERM to the end of an init whose child has the default disposition."""
    with init.start() as run:
        run.child.ready()
        run.child.ask("default")
        sent_at = time.monotonic()
        run.send(SIGTERM)
        run.ended()
        return time.monotonic() - sent_at


def _interleaved(measure: Callable[[Init], float], one: Init, other: Init) -> tuple[list[float], list[float]]:
    """Return what was measured of each, in turn and each first in every other round: both meet the same machine."""
    measured: dict[Init, list[float]] = {one: [], other: []}
    for number in range(ROUNDS):
        for init in (one, other)[:: 1 if number % 2 else -1]:
            measured[init].append(measure(init))
    return measured[one], measured[other]


def _note_ratio(init: Init, name: str, ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Note the ratio of the medians, that of the ninth deciles, and our median."""
    for quantile, index in {"p50": 4, "p90": 8}.items():
        deciles = [statistics.quantiles(values, n=10, method="inclusive")[index] for values in (ours, theirs)]
        init.bench.note(f"{name}_{quantile}_ratio", round(deciles[0] / deciles[1], 3))
    init.bench.note(f"{name}_s", round(statistics.median(ours), 6))


@case("RS-05")
@within(privilege=Privilege.ROOTLESS)
def test_fatal_error_of_the_init_leaves_a_line(init: Init) -> None:
    """An init that cannot start its child at all (fork(2), EAGAIN) ends with an exit code but 0 and a line on stderr.

    Why: a container that is gone without a word is debugged by guessing.
    By hand:
        prlimit --nproc=0 $INIT true; echo $?    # as an ordinary user: the limit does not hold for root
        # not 0, and a message
        $INIT true; echo $?    # 0
    """
    with init.start(init.once(7)) as run:
        run.child.next("once")
        assert exited(7) == run.ended()
    with init.start(init.once(7), limits={"nproc": 0}) as run:
        status = run.ended()
        run.note("without_a_child", str(status))
        failed = {exited(0): "success", exited(7): "the child was started"}.get(status, "a failure")
        assert ("a failure", "a line") == (failed, "a line" if run.output("stderr").strip() else "silence on stderr")


@case("RS-06")
@weight(7)
def test_time_of_a_start_is_told(init: Init) -> None:
    """How long a command takes from start to end below the init, as a ratio to the same without one. Recorded.

    Why: it is added to every start of every container, and to every step of a build.
    By hand:
        time $INIT true
        time env true
    """
    ours, theirs = _interleaved(_started, init, init.yardstick("control-none"))
    _note_ratio(init, "starting", ours, theirs)
    extra = statistics.median(one - other for one, other in zip(ours, theirs, strict=True))
    init.bench.note("starting_extra_s", round(extra, 6))


def _started(init: Init) -> float:
    """Return the seconds from before the start of the fastest child to the init's end."""
    began = time.monotonic()
    with init.start(init.once(7)) as run:
        run.child.next("once")
        assert exited(7) == run.ended()
        return time.monotonic() - began
