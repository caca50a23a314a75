"""What is measured is on disk at once, for whole trees of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.framework.model import Sample, Total
from suites.framework.results.metrics import read
from suites.framework.sampler import MetricsFile, Sampler, use

TREE = "import subprocess, sys; print('up', flush=True); sys.stdin.read()"
"""A process that lives until its input ends."""


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[bytes]]:
    """Start a shell with one child, both of which live until their input ends."""
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {TREE!r}])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.communicate()


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        """Start at some time."""
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_tree_is_one_sum(tree: subprocess.Popen[bytes]) -> None:
    """Processes below are counted, with their memory and time."""
    found = use(tree.pid)
    assert found is not None
    assert 2 == found.processes
    assert found.rss_bytes > 8 << 20
    assert found.cpu_s > 0


def test_one_look_serves_all_steps(tmp_path: Path) -> None:
    """However many are measured, /proc is read once; who is below whom is told by the parents, even in a circle."""
    looks = []

    def scan() -> dict[int, tuple[int, int, int]]:
        looks.append(1)
        return {2: (1, 100, 1), 3: (2, 200, 2), 4: (3, 0, 4), 7: (1, 1, 1), 8: (9, 5, 0), 9: (8, 5, 0)}

    with MetricsFile(tmp_path / "test.jsonl") as file:
        sampler = Sampler(file, scan=scan)
        for step, pid in (("a", 2), ("b", 3), ("gone", 5), ("circle", 8)):
            sampler.watch(step, pid)
        sampler.tick()
    found = [(sample.step, sample.processes) for sample in read(tmp_path).samples]
    assert ([1], [("a", 3), ("b", 2), ("circle", 2)]) == (looks, found)


def test_what_is_gone_uses_nothing() -> None:
    """A process that has ended and was reaped is no error."""
    done = subprocess.Popen(["true"])
    done.wait()
    assert use(done.pid) is None


def test_samples_are_due_every_half_second(tmp_path: Path) -> None:
    """Calls in between cost nothing and write nothing; each line names the step and the slow case."""
    clock = Clock()
    with MetricsFile(tmp_path / "test.jsonl") as file:
        sampler = Sampler(file, clock=clock, now=lambda: 1000.0)
        sampler.watch("test.1", os.getpid(), node=lambda: "slow")
        for clock.now in (100.0, 100.2, 100.4, 100.5, 100.9, 101.1):
            sampler.tick()
        sampler.forget("test.1")
        clock.now = 110.0
        sampler.tick()
    found = read(tmp_path).samples
    assert [1000.0, 1000.5, 1001.1] == pytest.approx([sample.t for sample in found])
    assert {("test.1", "slow")} == {(sample.step, sample.node) for sample in found}


def test_a_step_ends_with_its_total(tmp_path: Path) -> None:
    """After that it is measured no more."""
    clock = Clock()
    with MetricsFile(tmp_path / "build.jsonl") as file:
        sampler = Sampler(file, clock=clock, now=lambda: 1000.0)
        sampler.watch("a", os.getpid())
        sampler.end("a", wall_s=2.0, cpu_s=1.5, rss_bytes=7)
        sampler.tick()
    expected = Total(t=1000.0, step="a", wall_s=2.0, cpu_s=1.5, rss_bytes=7, source="wait4")
    assert ((), (expected,)) == (read(tmp_path).samples, read(tmp_path).totals)


def test_a_line_is_on_disk_when_it_was_measured(tmp_path: Path) -> None:
    """Nothing is held back in the process: what is killed right after has written it."""
    script = (
        "import os, sys; from pathlib import Path; from suites.framework.sampler import *;"
        "s = Sampler(MetricsFile(Path(sys.argv[1]))); s.watch('a', os.getpid()); s.tick(); os.kill(os.getpid(), 9)"
    )
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x.jsonl")], env={**os.environ, "PYTHONPATH": root}
    )
    assert -9 == done.returncode
    (line,) = (tmp_path / "x.jsonl").read_text().splitlines()
    assert "a" == json.loads(line)["step"]


def test_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    """A line that cannot be written is lost."""
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    with MetricsFile(tmp_path / "full.jsonl") as file:
        file.write(Sample(t=0.0, step="a", cpu_s=0.0, rss_bytes=0, processes=1))
        file.close()
