"""The keeper: cleans after a launcher that was killed, and only then; and the removal functions it shares."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from suites.framework import keeper as keeper_module
from suites.framework.cleanup import (
    RUN_LABEL,
    SCRATCH_MARKER,
    await_death,
    kill_process,
    make_scratch,
    mounts_below,
    remove_scratch,
    start_time,
)
from suites.framework.environments.engine import EngineError, connect
from suites.framework.environments.image import host_image
from suites.framework.keeper import Keeper, clean, read_journal
from suites.framework.results.rundir import RunDirectory

ROOT = Path(__file__).parents[1]
START_S = 30.0
SLEEPER = "import signal; print('ready', flush=True); signal.pause()"

LAUNCHER = """
import json, os, signal, subprocess, sys
from pathlib import Path
from suites.catalog import Privilege
from suites.framework.cleanup import make_scratch
from suites.framework.environments.run_cgroup import RunCgroup
from suites.framework.keeper import Keeper
from suites.framework.model import Limits
folder, run, with_docker = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == 'docker'
keeper = Keeper.start(folder / 'journal')
keeper.record(scratch=folder / 'scratch')
(make_scratch(folder / 'scratch') / 'deep').mkdir()
cgroup = RunCgroup.create(run, Limits())
for path in cgroup.paths:
    keeper.record(cgroup=path)
inside = ['/bin/sh', '-c', 'for f; do echo $$ >"$f"; done; exec sleep 1000', 'sh']
quiet = {'stdout': subprocess.DEVNULL, 'start_new_session': True}
children = [subprocess.Popen(['sleep', '1000'], **quiet), subprocess.Popen([*inside, *cgroup.procs], **quiet)]
keeper.record_process(children[0].pid)
containers = []
if with_docker:
    from suites.framework.environments.container import ContainerDriver
    from suites.framework.environments.engine import connect
    from suites.framework.environments.image import host_image
    keeper.record(containers=run)
    with connect() as engine:
        driver = ContainerDriver(Privilege.ROOT, engine=engine, image=host_image(engine), run=run, limits=Limits())
        for name in ('w1', 'w2'):
            containers.append(driver.start(['sleep', '1000'], name=name, env={}, log=folder / name).container)
print(json.dumps({'keeper': keeper.pid, 'children': [child.pid for child in children],
    'cgroups': [str(path) for path in cgroup.paths], 'containers': containers}), flush=True)
if len(sys.argv) > 4:
    keeper.finish()
    for child in children:
        child.kill()
        child.wait()
    cgroup.remove()
else:
    signal.pause()
"""


def docker_here() -> bool:
    """Make the host image, so that its import does not count as start-up; say whether there is an engine."""
    try:
        with connect() as engine:
            host_image(engine)
    except EngineError:
        return False
    return True


def launch(folder: Path, run: str, *more: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(folder), run, *more], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


@pytest.mark.parametrize("docker", [False, True], ids=["without-docker", "with-docker"])
def test_everything_is_gone_after_a_launcher_was_killed(docker: bool, tmp_path: Path) -> None:
    """Processes, containers, cgroups and folders are removed after kill -9 of the launcher."""
    if docker and not docker_here():
        pytest.skip("no Docker engine")
    run = f"keeper-{os.getpid()}"
    process, made = launch(tmp_path, run, "docker" if docker else "")
    held = [os.pidfd_open(pid) for pid in (made["keeper"], *made["children"][: 2 if made["cgroups"] else 1])]
    assert (tmp_path / "scratch").is_dir()
    assert len(made["containers"]) == (2 if docker else 0)
    process.kill()
    process.communicate()
    left = await_death(held, deadline_s=START_S)
    for fd in left:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    for fd in held:
        os.close(fd)
    assert not left
    assert not (tmp_path / "scratch").exists()
    assert not any(Path(path).exists() for path in made["cgroups"])
    assert sorted(path.name for path in tmp_path.iterdir()) == (["w1", "w2"] if docker else [])
    if docker:
        with connect() as engine:
            assert engine.list_labelled({RUN_LABEL: run}) == []


def test_an_ordinary_end_is_not_cleaned_by_the_keeper(tmp_path: Path) -> None:
    """A keeper that was dismissed ends without touching anything, and takes the journal along."""
    process, made = launch(tmp_path, "keeper-done", "", "finish")
    process.communicate()
    assert process.returncode == 0
    assert not Path(f"/proc/{made['keeper']}").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]


def test_a_keeper_ignores_what_ends_the_launcher(tmp_path: Path) -> None:
    """It leads a session of its own and outlives INT, TERM and HUP."""
    keeper = Keeper.start(tmp_path / "journal")
    end = time.monotonic() + START_S
    wanted = sum(1 << (number - 1) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    while wanted & ~ignored(keeper.pid):
        assert time.monotonic() < end, "the keeper does not ignore signals"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(keeper.pid, number)
    assert os.getsid(keeper.pid) == keeper.pid
    held = os.pidfd_open(keeper.pid)
    assert await_death([held], deadline_s=0.1) == [held]
    keeper.finish()
    assert await_death([held], deadline_s=0.001) == []
    os.close(held)
    keeper.finish()


def ignored(pid: int) -> int:
    match = re.search(r"SigIgn:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
    return int(match[1], 16) if match else 0


def test_a_torn_line_does_not_lose_the_others(tmp_path: Path) -> None:
    """What stands in the journal before the launcher's last breath is read."""
    journal = tmp_path / "journal"
    journal.write_bytes(b'{"scratch": "/a"}\n[]\n{"cgroup": "/b"}\n{"scra')
    assert read_journal(journal) == [{"scratch": "/a"}, {"cgroup": "/b"}]


def test_cleaning_keeps_its_order_and_survives_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes go before folders whatever the journal's order, and a failure does not stop the rest."""
    done: list[str] = []

    def act(kind: str) -> Any:
        def action(_entry: dict[str, Any]) -> str:
            done.append(kind)
            if kind == "cgroup":
                raise RuntimeError("broken")
            return ""

        return action

    monkeypatch.setattr(keeper_module, "ACTIONS", {kind: act(kind) for kind in keeper_module.ACTIONS})
    problems = list(clean([{kind: 1} for kind in ("derive", "scratch", "cgroup", "containers", "process")]))
    assert done[:3] == ["process", "containers", "cgroup"]
    assert sorted(done[3:]) == ["derive", "scratch"]
    assert len(problems) == 1
    assert "broken" in problems[0]


@pytest.mark.parametrize(("environment", "place"), [("root-container", 0), ("root-native", 2)])
def test_only_containers_with_workers_go_first(monkeypatch: pytest.MonkeyPatch, environment: str, place: int) -> None:
    """Workers must be gone before their folders are; natively a slow engine holds nothing up."""
    done: list[str] = []
    scratch = threading.Event()

    def act(kind: str, _entry: dict[str, Any]) -> str:
        if kind == "containers" and environment.endswith("native"):
            assert scratch.wait(START_S)
        done.append(kind)
        if kind == "scratch":
            scratch.set()
        return ""

    for kind in ("scratch", "containers", "cgroup"):
        monkeypatch.setitem(keeper_module.ACTIONS, kind, partial(act, kind))
    assert [] == list(clean([{"scratch": 1}, {"containers": "r", "environment": environment}, {"cgroup": 1}]))
    assert place == done.index("containers")


def test_an_unfinished_run_gets_its_report(tmp_path: Path) -> None:
    """What can be derived is; that nothing can be is no problem of the keeper."""
    run = RunDirectory.create(tmp_path / "runs")
    assert list(clean([{"derive": str(run.path)}, {"derive": str(tmp_path)}])) == []
    assert (run.path / "results" / "junit.xml").is_file()


# ---- removal ---------------------------------------------------------------------------------------------------------


def test_a_number_that_was_used_again_is_not_killed() -> None:
    """A process is killed only if it started when the journal says."""
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        start = start_time(process.pid)
        assert start is not None
        assert kill_process(process.pid, start + 1) == ""
        held = os.pidfd_open(process.pid)
        assert not select.select([held], [], [], 0.05)[0]
        os.close(held)
        assert kill_process(process.pid, start) == ""
    assert process.returncode == -signal.SIGKILL
    assert kill_process(process.pid, start) == ""


def test_a_marked_folder_is_removed_but_not_what_it_points_to(tmp_path: Path) -> None:
    """Symbolic links are removed as links."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    scratch = make_scratch(tmp_path / "scratch")
    (scratch / "link").symlink_to(outside)
    (scratch / "a" / "b").mkdir(parents=True)
    (scratch / "a" / "link").symlink_to(outside)
    assert remove_scratch(scratch) == ""
    assert not scratch.exists()
    assert (outside / "file").exists()
    assert remove_scratch(scratch) == ""


def test_what_is_not_ours_is_not_removed(tmp_path: Path) -> None:
    """A folder without the marker, a link to one with it, and a file stay."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "file").touch()
    assert f"holds no {SCRATCH_MARKER}" in remove_scratch(folder)
    link = tmp_path / "link"
    link.symlink_to(make_scratch(tmp_path / "scratch"))
    assert "is not a folder" in remove_scratch(link)
    assert "is not a folder" in remove_scratch(folder / "file")
    (folder / SCRATCH_MARKER).symlink_to("/etc/passwd")
    assert f"holds no {SCRATCH_MARKER}" in remove_scratch(folder)
    assert (folder / "file").exists()
    assert (tmp_path / "scratch").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_folder_below_which_something_is_mounted_is_not_removed(tmp_path: Path) -> None:
    """What a target mounted and left could be the machine's own files."""
    scratch = make_scratch(tmp_path / "a scratch")
    (scratch / "mnt").mkdir()
    (scratch / "kept").touch()
    code = (
        "import subprocess, sys; from pathlib import Path; from suites.framework.cleanup import remove_scratch;"
        "subprocess.run(['mount', '-t', 'tmpfs', 'x', sys.argv[1] + '/mnt'], check=True);"
        "print(remove_scratch(Path(sys.argv[1])))"
    )
    words = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", code, str(scratch)]
    said = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert said == f"{scratch} is not removed: mounted below it: {scratch}/mnt\n"
    assert (scratch / "kept").exists()


def test_a_mount_beside_is_not_a_mount_below(tmp_path: Path) -> None:
    """Names are compared whole, and the kernel's octal escapes are undone."""
    table = tmp_path / "mountinfo"
    rows = ("/x/ab", "/x/a\\040b/c", "/x/a\\040b")
    table.write_text("".join(f"1 2 0:1 / {row} rw - tmpfs x rw\n" for row in rows))
    assert mounts_below(Path("/x/a"), table=table) == []
    assert mounts_below(Path("/x/a b"), table=table) == ["/x/a b/c", "/x/a b"]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes an ordinary user")
def test_an_ordinary_user_removes_folders_that_a_target_closed() -> None:
    """Modes that a target changed do not keep a folder."""
    code = (
        "import os, sys; sys.path.insert(0, '.'); from pathlib import Path;"
        "from suites.framework.cleanup import make_scratch, remove_scratch;"
        "os.setgid(65534); os.setuid(65534); path = make_scratch(Path(f'/tmp/seatrial-test-{os.getpid()}'));"
        "(path / 'a' / 'b').mkdir(parents=True); (path / 'a' / 'b' / 'c').touch(); (path / 'a').chmod(0);"
        "print(repr(remove_scratch(path)), path.exists())"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert said == "'' False\n"
