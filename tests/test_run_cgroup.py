"""The cgroup of a run: made, entered before the first fork, and removed with everything in it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.catalog import Privilege
from suites.framework import proc
from suites.framework.cleanup import await_death
from suites.framework.environments.driver import Ending
from suites.framework.environments.native import NativeDriver, NativeWorker
from suites.framework.environments.run_cgroup import RunCgroup, remove_cgroup
from suites.framework.facts import Fact
from suites.framework.model import Limits
from suites.framework.waiting import Deadline, ticks

SLEEPER = "import signal; print('ready', flush=True); signal.pause()"


@pytest.fixture
def cgroup() -> Iterator[RunCgroup]:
    """Make the cgroup of a run, if this machine has cgroups for us."""
    cgroup = RunCgroup.create("test", Limits(processes=32, memory_bytes=128 * 1024**2))
    if not all(finding.present for finding in cgroup.findings):
        pytest.skip("; ".join(finding.detail for finding in cgroup.findings if not finding.present))
    yield cgroup
    cgroup.remove()


def test_a_worker_stands_in_the_cgroup_with_all_its_children(cgroup: RunCgroup, tmp_path: Path) -> None:
    """Before its first line a worker is inside, and the limits hold there."""
    driver = NativeDriver(Privilege.ROOT, limits=Limits(), cgroups=lambda _: cgroup.procs)
    code = """
import os
print(open('/proc/self/cgroup').read())
made = 0
try:
    while made < 100:
        if os.fork() == 0:
            os.read(0, 1)
            os._exit(0)
        made += 1
except OSError as error:
    print(made, error.strerror)
"""
    worker = driver.start([sys.executable, "-I", "-c", code], name="w1", env={}, log=tmp_path / "log")
    assert select.select([worker], [], [], 10)[0]
    assert worker.end().code == 0
    words = (tmp_path / "log").read_text()
    assert words.count(cgroup.paths[0].name) == len(cgroup.paths)
    assert words.splitlines()[-1].endswith("Resource temporarily unavailable")
    assert cgroup.remove() == ""


def test_memory_is_limited(cgroup: RunCgroup, tmp_path: Path) -> None:
    """A worker that takes more than the run may have is killed, not the machine's other programs, and that is told."""
    driver = NativeDriver(
        Privilege.ROOT, limits=Limits(), cgroups=lambda _: cgroup.procs, memory_kills=cgroup.memory_kills
    )
    worker = driver.start([sys.executable, "-I", "-c", "x = b'x' * (1 << 30)"], name="w1", env={}, log=tmp_path / "log")
    assert cgroup.memory_kills() == 0
    assert select.select([worker], [], [], 10)[0]
    end = worker.end()
    assert cgroup.memory_kills() == 1
    assert (end.how, end.code) == (Ending.OOM, signal.SIGKILL)
    code = SLEEPER
    killed = driver.start([sys.executable, "-I", "-c", code], name="w2", env={}, log=tmp_path / "other")
    assert isinstance(killed, NativeWorker)
    for _ in ticks(Deadline(10), every=0.01):
        if (tmp_path / "other").read_text():
            break
    (inner,) = proc.children(killed.pid)
    os.kill(inner, signal.SIGKILL)
    assert select.select([killed], [], [], 10)[0]
    assert (killed.end().how, cgroup.memory_kills()) == (Ending.SIGNAL, 1)


def test_a_cgroup_that_cannot_be_entered_starts_nothing(tmp_path: Path) -> None:
    """A worker outside of the run's limits is worse than none."""
    driver = NativeDriver(
        Privilege.ROOT, limits=Limits(), cgroups=lambda _: (str(tmp_path / "absent" / "cgroup.procs"),)
    )
    worker = driver.start(["/bin/true"], name="w1", env={}, log=tmp_path / "log")
    assert select.select([worker], [], [], 10)[0]
    assert worker.end().how is Ending.NOT_STARTED


def test_removal_kills_what_is_inside_at_any_depth(cgroup: RunCgroup) -> None:
    """Processes below are dead and the folders gone when remove returns."""
    deep = [path / "a" / "b" for path in cgroup.paths]
    for path in deep:
        path.mkdir(parents=True)
    words = ["/bin/sh", "-c", 'for f; do echo $$ >"$f"; done; exec "$0" -c "$CODE"', sys.executable]
    with subprocess.Popen(
        [*words, *(str(path / "cgroup.procs") for path in deep)],
        stdout=subprocess.PIPE,
        env={**os.environ, "CODE": SLEEPER},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        held = os.pidfd_open(process.pid)
        said = cgroup.remove()
        left = await_death([held], deadline_s=0.001)
        process.kill()
        os.close(held)
    assert said == ""
    assert not left
    assert process.returncode == -signal.SIGKILL
    assert not any(path.exists() for path in cgroup.paths)
    assert cgroup.remove() == ""


def test_only_a_runs_cgroup_is_removed(tmp_path: Path) -> None:
    """A path that does not look like ours is left alone."""
    (tmp_path / "machine").mkdir()
    assert "is not removed" in remove_cgroup(tmp_path / "machine")
    assert (tmp_path / "machine").is_dir()


def test_removal_gives_up_at_its_deadline(tmp_path: Path) -> None:
    """A folder that cannot be removed is reported, not waited for."""
    folder = tmp_path / "seatrial-stuck"
    folder.mkdir()
    (folder / "file").touch()
    assert remove_cgroup(folder, deadline_s=0.05) == f"{folder} is not removed within 0.05 s"


def test_without_root_there_is_none_and_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user has no cgroup of the run, with the reason in both findings."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    cgroup = RunCgroup.create("test", Limits())
    assert not cgroup.paths
    assert not cgroup.procs
    assert [(finding.fact, finding.present, finding.detail) for finding in cgroup.findings] == [
        (Fact.CGROUP_PIDS, False, "needs root"),
        (Fact.CGROUP_MEMORY, False, "needs root"),
    ]
    assert cgroup.remove() == ""


def unified(tmp_path: Path, *, passed_on: str) -> Path:
    """Make a look-alike of cgroup v2 in plain files: the session's cgroup below a slice that passes controllers on."""
    session = tmp_path / "user.slice" / "session.scope"
    session.mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (tmp_path / "user.slice" / "cgroup.subtree_control").write_text(passed_on)
    (session / "cgroup.subtree_control").write_text("")
    (tmp_path / "mountinfo").write_text(f"31 23 0:28 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    (tmp_path / "cgroup").write_text("0::/user.slice/session.scope\n")
    return tmp_path


def test_under_v2_the_cgroup_stands_where_controllers_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest ancestor that passes both controllers on is the place; workers stand in a leaf of their own."""
    proc = unified(tmp_path, passed_on="memory pids\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    cgroup = RunCgroup.create("r", Limits(processes=5, memory_bytes=7), proc=proc)
    (folder,) = cgroup.paths
    assert folder == tmp_path / "user.slice" / f"seatrial-r-{os.getpid()}"
    assert cgroup.procs == (str(folder / "workers" / "cgroup.procs"),)
    assert ((folder / "pids.max").read_text(), (folder / "memory.max").read_text()) == ("5", "7")


def test_under_v2_nothing_of_the_machine_is_reconfigured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that nobody passes on is missing, with the line that would change it."""
    proc = unified(tmp_path, passed_on="cpu\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    cgroup = RunCgroup.create("r", Limits(), proc=proc)
    assert cgroup.paths == ()
    assert "passes pids on" in cgroup.findings[0].detail
    assert "echo +pids" in cgroup.findings[0].remedy
