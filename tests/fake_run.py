"""Small run directories for the tests of what is derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from suites.framework.events import EventLog
from suites.framework.model import SCHEMA, Begun, Ended, Event, Finished, Note, Outcome, Planned, Started
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import View, load

START = 1_795_256_130.0
HOSTILE = "<b>|`x`|**y**|\x1b[31m\x00\udcff\u202e]]>&\"'\nnext"


@dataclass
class FakeRun:
    """A run directory and its event logs, on a clock that counts."""

    path: Path
    argv: Sequence[str] = ()
    run: RunDirectory = field(init=False)
    logs: dict[tuple[str, str, str], EventLog] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Make the directory."""
        self.run = RunDirectory.create(self.path, run="20261121T101530-3f9a", argv=self.argv, now=lambda: START)

    def __del__(self) -> None:
        """Close the logs: hundreds of such runs are made by one process."""
        for log in self.logs.values():
            log.close()

    def write(self, *events: Event, environment: str = "root-native", phase: str = "test", worker: str = "0") -> None:
        """Append events to the file of a worker; the first time it begins with `Begun`."""
        key = (environment, phase, worker)
        if key not in self.logs:
            ticks = count()
            log = EventLog(
                self.run.events(environment, phase, worker), now=lambda: START, clock=lambda: next(ticks) / 1000
            )
            self.logs[key] = log
            if worker != "launcher":
                log.write(begun(environment=environment, phase=phase, worker=worker))
        for event in events:
            self.logs[key].write(event)

    def case(self, node: str, ended: Ended | None = None, *, started: bool = True, **plan: Any) -> None:
        """Write a node from its announcement to its end; without `ended` it stays open."""
        where = {key: plan.pop(key) for key in ("environment", "phase", "worker") if key in plan}
        self.write(planned(node, **plan), **where)
        if started:
            self.write(Started(node=node), **where)
        if ended:
            self.write(ended, **where)

    def finish(self, **where: str) -> None:
        """Let a worker end by itself, with nothing left behind."""
        nothing = {"processes": 0, "mounts": 0, "containers": 0, "files": 0}
        self.write(Note(name="leaks", value=nothing), Finished(counts={}), **where)

    def launcher(self, name: str, value: dict[str, Any], environment: str = "root-native") -> None:
        """Write a note into the launcher's event file."""
        self.write(Note(name=name, value=value), environment=environment, worker="launcher")

    def target(self, name: str, role: str = "target", environment: str = "root-native", **more: Any) -> None:
        """Write the launcher's note about a target."""
        plain = {"kind": "init", "version": "0.19.0", "sha256": "ab" * 32, "path": "/x/tini"}
        self.launcher("target", {"name": name, "role": role} | plain | more, environment)

    def worker_ended(self, how: str, worker: str = "test.0", **more: Any) -> None:
        """Write the launcher's note about the end of a worker."""
        self.launcher("worker-ended", {"worker": worker, "how": how, "code": 0, "detail": "", "node": ""} | more)

    def view(self) -> View:
        """Read it all."""
        return load(self.run)


def begun(**changes: Any) -> Begun:
    """Return a worker's first event."""
    plain: dict[str, Any] = {
        "schema": SCHEMA,
        "run": "r",
        "environment": "root-native",
        "phase": "test",
        "worker": "0",
        "pid": 7,
        "uid": 0,
        "cap_eff": "0" * 16,
        "uid_map": "0 0 4294967295",
        "container": "",
        "versions": {"python": "3.11.7"},
    }
    return Begun(**plain | changes)


def planned(node: str, **changes: Any) -> Planned:
    """Return the announcement of a node of tini."""
    plain: dict[str, Any] = {
        "node": node,
        "cases": ("SG-01",),
        "target": "tini",
        "kind": "init",
        "mode": "pid1",
        "title": "TERM reaches the child",
        "file": "suites/init/test_signals.py",
        "line": 12,
    }
    return Planned(**plain | changes)


def passed(node: str) -> Ended:
    """Return the end of a node that passed."""
    return Ended(node=node, outcome=Outcome.PASSED, wall_s=0.005)


def failed(node: str, **changes: Any) -> Ended:
    """Return the end of a node that failed."""
    return Ended(node=node, **{"outcome": Outcome.FAILED, "expected": "exit 0", "actual": "killed by TERM"} | changes)


def skipped(node: str, reason: str, message: str = "") -> Ended:
    """Return the end of a node that was skipped."""
    return Ended(node=node, outcome=Outcome.SKIPPED, reason=reason, message=message)
