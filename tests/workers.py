"""Real workers for the tests of the plugin: pytest with a context of its own, behind a wall.

PYTEST_DONT_REWRITE: imported by several test modules.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from suites.framework import codec, events
from suites.framework.model import Begun, Context, Ended, Event, Finished, Note, Planned, Started
from suites.framework.waiting import Deadline, ticks
from tests.contexts import ROOT, context
from tests.walled import _wall, refusal

SECONDS = 60.0
HEAD = """
import os, subprocess, pytest
from suites.catalog import Mode
from suites.framework.facts import Fact
from suites.framework.marks import *
from suites.framework.process import exited
from suites.framework.targets.init import Init

def run_it(init):
    with init.start() as run:
        run.child.ready()
        run.child.tell("exit 0")
        return str(run.ended())
"""
"""What every test module of a worker begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a worker wrote and how it ended."""

    code: int
    output: str
    events: tuple[Event, ...]

    @property
    def begun(self) -> Begun:
        """Return the first event."""
        assert isinstance(self.events[0], Begun), self.output
        return self.events[0]

    @property
    def planned(self) -> list[Planned]:
        """Return the announcements."""
        return [event for event in self.events if isinstance(event, Planned)]

    @property
    def started(self) -> list[str]:
        """Return the names of the nodes that were begun."""
        return [name(event.node) for event in self.events if isinstance(event, Started)]

    @property
    def ended(self) -> dict[str, Ended]:
        """Return the verdicts by the node's name."""
        return {name(event.node): event for event in self.events if isinstance(event, Ended)}

    @property
    def finished(self) -> dict[str, int] | None:
        """Return the last event's counts, None where there is none."""
        return next((event.counts for event in self.events if isinstance(event, Finished)), None)

    def notes(self, wanted: str) -> list[Any]:
        """Return the values that were noted under a name."""
        return [event.value for event in self.events if isinstance(event, Note) and event.name == wanted]


def name(node: str) -> str:
    """Return a node id without the file."""
    return node.partition("::")[2].removeprefix("test_")


@contextmanager
def worker(folder: Path, source: str, *words: str, **changes: Any) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start a worker on a test module; yield it and its event file."""
    if reason := refusal(user=False):
        pytest.skip(reason)
    made: Context = context(folder, **changes)
    (folder / "test_it.py").write_text(HEAD + source)
    (folder / "context.json").write_text(json.dumps(codec.encode(made)))
    pytest_words = ["-m", "pytest", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}", "-p", "no:cacheprovider"]
    words = (
        "-B",
        *pytest_words,
        "--capture=no",
        f"--context={folder / 'context.json'}",
        *words,
        str(folder / "test_it.py"),
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*_wall(user=False), sys.executable, *words],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
        )
    try:
        yield process, Path(made.paths.events)
    finally:
        assert process.stdin is not None
        process.kill()
        process.wait()
        process.stdin.close()


def work(folder: Path, source: str, *words: str, **changes: Any) -> Result:
    """Let a worker do its work to the end."""
    with worker(folder, source, *words, **changes) as (process, path):
        process.wait(SECONDS)
        return result(folder, process.returncode, path)


def result(folder: Path, code: int, path: Path) -> Result:
    """Return what a worker that has ended left."""
    found = tuple(record.event for record in events.read(path).records)
    return Result(code=code, output=(folder / "log").read_text(), events=found)


def until(path: Path, seen: Callable[[Event], bool]) -> None:
    """Wait until a worker has written such an event."""
    for _ in ticks(Deadline(SECONDS), every=0.02):
        if path.exists() and any(seen(record.event) for record in events.read(path).records):
            return
    raise AssertionError("it was not written")
