"""The crew: workers are watched, stopped and accounted for, whatever becomes of them."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from suites.framework import crew as crew_module
from suites.framework import events
from suites.framework.crew import Crew
from suites.framework.environments.driver import Ending, WorkerEnd
from suites.framework.events import EventLog
from suites.framework.model import Ended, Note, Outcome, Started
from suites.framework.progress import Progress, Tail
from tests.fake_run import planned

EXIT = WorkerEnd(how=Ending.EXIT, code=0, detail="exit status 0")
KILLED = WorkerEnd(how=Ending.KILLED, code=9, detail="killed by the launcher")


class Clock:
    """Time that jumps a second at each look."""

    def __init__(self) -> None:
        """Start at 0."""
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time, one second later than before."""
        self.now += 1
        return self.now


@dataclass
class FakeWorker:
    """A worker that is over when it is told to, and remembers what it was told."""

    obeys: bool = True
    how: WorkerEnd = EXIT
    told: list[str] = field(default_factory=list)
    over: int = field(default_factory=lambda: os.eventfd(0, os.EFD_NONBLOCK))

    looks: int = 0
    """How often it is looked at after a kill before it is over."""

    def fileno(self) -> int:
        """Return what becomes readable at the end."""
        if "kill" in self.told and self.looks >= 0:
            self.looks -= 1
            if self.looks < 0:
                self.finish()
        return self.over

    def finish(self) -> None:
        """Be over."""
        os.eventfd_write(self.over, 1)

    def stop(self) -> None:
        """End, if it is one that obeys."""
        self.told.append("stop")
        if self.obeys:
            self.finish()

    def kill(self) -> None:
        """End in any case."""
        self.told.append("kill")
        self.how = KILLED

    def end(self) -> WorkerEnd:
        """Return how it ended."""
        return self.how


@dataclass
class Scene:
    """A crew with fake workers and real event files."""

    folder: Path
    hands: Crew
    logs: list[EventLog] = field(default_factory=list)

    def add(self, worker: FakeWorker, *written: Any) -> FakeWorker:
        """Add a worker that has written these events."""
        name = f"test.{len(self.hands.members) + 1}"
        log = EventLog(self.folder / f"{name}.jsonl")
        for event in written:
            log.write(event)
        log.close()
        self.hands.add(name, worker, self.folder / f"{name}.log")
        return worker

    def ends(self) -> list[dict[str, Any]]:
        """Return what the launcher noted about the end of each worker."""
        notes = [record.event for record in events.read(self.folder / "test.launcher.jsonl").records]
        return [note.value for note in notes if isinstance(note, Note)]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    """Return a maker of crews that look without waiting."""
    monkeypatch.setattr(crew_module, "TICK_S", 0)
    made: list[EventLog] = []

    def make(**changes: Any) -> Scene:
        made.append(EventLog(tmp_path / "test.launcher.jsonl"))
        progress = Progress(stream=io.StringIO(), tty=False)
        plain: dict[str, Any] = {"node_s": 5.0, "clock": Clock()}
        return Scene(tmp_path, Crew(events=made[0], tail=Tail(tmp_path), progress=progress, **plain | changes))

    yield make
    for log in made:
        log.close()


def failed(node: str = "a") -> Ended:
    return Ended(node=node, outcome=Outcome.FAILED, expected="x", actual="y")


def test_workers_that_end_are_accounted_for(scene: Callable[..., Scene]) -> None:
    """Each has one note; a pytest that did its work is quoted by its status alone, whatever its log says."""
    here = scene()
    codes = (0, 1, 5)
    for code in codes:
        worker = here.add(FakeWorker(how=WorkerEnd(how=Ending.EXIT, code=code, detail=f"exit status {code}")))
        (here.folder / f"test.{len(here.hands.members)}.log").write_text("chatter")
        worker.finish()
    here.hands.wait()
    assert [(f"test.{n}", "exit", code, f"exit status {code}") for n, code in enumerate(codes, 1)] == [
        (end["worker"], end["how"], end["code"], end["detail"]) for end in here.ends()
    ]


@pytest.mark.parametrize(
    "end",
    [
        WorkerEnd(how=Ending.EXIT, code=3, detail="exit status 3"),
        WorkerEnd(how=Ending.SIGNAL, code=11, detail="killed by SIGSEGV"),
        WorkerEnd(how=Ending.OOM, code=137, detail="out of memory"),
        WorkerEnd(how=Ending.NOT_STARTED, code=126, detail="no"),
    ],
)
def test_the_last_words_of_a_broken_worker_are_kept(end: WorkerEnd, scene: Callable[..., Scene]) -> None:
    """An end that is none of pytest's own comes with the tail of the log."""
    here = scene()
    here.add(FakeWorker(how=end)).finish()
    (here.folder / "test.1.log").write_text("ImportError: no")
    here.hands.wait()
    (note,) = here.ends()
    assert (end.how.value, end.code, f"{end.detail}\nImportError: no") == (note["how"], note["code"], note["detail"])


def test_a_node_that_takes_too_long_ends_its_worker_alone(scene: Callable[..., Scene]) -> None:
    """It is killed once, called a timeout, and the node is named; the others go on."""
    here = scene(node_s=5.0)
    stuck = here.add(FakeWorker(looks=20), planned("stuck"), Started(node="stuck"))
    here.hands.clock = clock = Clock()
    here.hands.members[0].since = 0.0
    other = FakeWorker()
    clock.now = -100.0
    here.add(other)
    other.finish()
    here.hands.wait()
    assert (["kill"], []) == (stuck.told, other.told)
    notes = {note["worker"]: note for note in here.ends()}
    assert ("timeout", "stuck") == (notes["test.1"]["how"], notes["test.1"]["node"])
    assert "exit" == notes["test.2"]["how"]


def test_a_heavy_node_may_take_longer(scene: Callable[..., Scene]) -> None:
    """The limit of a node grows with its weight, from a certain one on."""
    here = scene(node_s=1.0)
    heavy = dataclasses.replace(planned("heavy"), weight=50)
    stuck = here.add(FakeWorker(looks=40), heavy, Started(node="heavy"))
    here.hands.wait()
    assert ["kill"] == stuck.told
    assert 5.0 < here.hands.clock() < 15.0


def test_a_worker_that_never_writes_has_more_time(scene: Callable[..., Scene]) -> None:
    """Before its first node a worker has the time of a start, then it is killed without a node's name."""
    here = scene(node_s=1.0)
    silent = here.add(FakeWorker())
    here.hands.wait()
    assert ["kill"] == silent.told
    assert crew_module.START_S < here.hands.clock() < crew_module.START_S + 10
    assert [("timeout", "")] == [(note["how"], note["node"]) for note in here.ends()]


def test_what_workers_write_is_followed_to_the_last_line(scene: Callable[..., Scene]) -> None:
    """All their records are kept, and progress knows the nodes."""
    here = scene()
    here.add(FakeWorker(), planned("a"), Started(node="a"), failed()).finish()
    here.hands.wait()
    assert [Ended] == [type(record.event) for record in here.hands.records if isinstance(record.event, Ended)]
    assert (1, 1, 1) == (here.hands.progress.total, here.hands.progress.done, here.hands.progress.failures)


@pytest.mark.parametrize(("exitfirst", "told"), [(True, "stop"), (False, "kill")])
def test_exitfirst_stops_the_others(exitfirst: bool, told: str, scene: Callable[..., Scene]) -> None:
    """The first failure of one worker stops all; without the option nobody is stopped."""
    here = scene(exitfirst=exitfirst)
    here.add(FakeWorker(), planned("a"), Started(node="a"), failed()).finish()
    other = here.add(FakeWorker())
    here.hands.wait()
    assert told == other.told[0]


def test_exitfirst_passes_over_what_is_no_failure(scene: Callable[..., Scene]) -> None:
    """An expected failure stops nobody."""
    here = scene(exitfirst=True)
    here.add(FakeWorker(), planned("a"), Ended(node="a", outcome=Outcome.XFAILED)).finish()
    other = here.add(FakeWorker(obeys=False))
    here.hands.wait()
    assert "stop" not in other.told


def interrupt(here: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait, and be interrupted at the first tick of progress."""
    looks = iter([KeyboardInterrupt()])

    def tick() -> None:
        for error in looks:
            raise error

    monkeypatch.setattr(Progress, "tick", lambda _: tick())
    with pytest.raises(KeyboardInterrupt):
        here.hands.wait()


def test_an_interruption_stops_everybody_in_order(scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is asked once, ends by itself, and is called interrupted."""
    here = scene()
    workers = [here.add(FakeWorker()) for _ in range(2)]
    interrupt(here, monkeypatch)
    assert [["stop"], ["stop"]] == [worker.told for worker in workers]
    assert ["interrupted", "interrupted"] == [note["how"] for note in here.ends()]


def test_a_worker_that_does_not_stop_is_killed(scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not obey within its time is killed; its end still counts as an interruption."""
    here = scene(node_s=1000.0)
    deaf = here.add(FakeWorker(obeys=False))
    interrupt(here, monkeypatch)
    assert ("stop", "kill") == (deaf.told[0], deaf.told[-1])
    assert ["interrupted"] == [note["how"] for note in here.ends()]


def test_a_crash_during_an_interruption_stays_a_crash(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Death by a signal that was not ours is not called an interruption."""
    here = scene()
    here.add(FakeWorker(how=WorkerEnd(how=Ending.SIGNAL, code=11, detail="killed by SIGSEGV")))
    interrupt(here, monkeypatch)
    assert ["signal"] == [note["how"] for note in here.ends()]


def test_the_number_of_workers_fits_the_machine() -> None:
    """Cases wait more than they compute, so there are more workers than processors, and at least two."""
    assert crew_module.default_workers(10_000) >= max(2, len(os.sched_getaffinity(0)))
    assert (1, 1, 2) == tuple(map(crew_module.default_workers, (0, 1, 24)))
    assert len(os.sched_getaffinity(0)) == crew_module.default_workers(10_000, pods=True)
