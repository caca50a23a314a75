"""A command run with limits: how it ended is told exactly, and nothing of it is left."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from suites.framework import cgroups, events, proc
from suites.framework.cleanup import await_death
from suites.framework.environments.run_cgroup import remove_cgroup
from suites.framework.environments.user import User
from suites.framework.events import EventLog
from suites.framework.hooks import NO_HOOKS, Hooks
from suites.framework.hookspecs import HookStep, hookimpl
from suites.framework.model import Ended, Outcome, Reason
from suites.framework.sampler import MetricsFile
from suites.framework.steps import barrier, runner
from suites.framework.steps.runner import Runner
from suites.framework.steps.step import Step, StepEnd, StepLimits

ROOT = Path(__file__).parents[1]
PATH = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root")
NOBODY = User(name="nobody", uid=65534, gid=65534, home="/nonexistent")


class Bench:
    """Runs steps in a folder and reads what they left in it."""

    def __init__(self, folder: Path, hooks: Hooks = NO_HOOKS) -> None:
        """Take an empty folder."""
        self.folder, self.hooks = folder, hooks

    def run(
        self, script: str | list[str], *, user: User | None = None, cwd: Path | None = None, **limits: Any
    ) -> StepEnd:
        """Run a shell script, or words, as a step."""
        step = Step(
            name="build::x::step",
            title="A step.",
            target="x",
            argv=["/bin/sh", "-c", script] if isinstance(script, str) else script,
            cwd=cwd or self.folder,
            environment=PATH,
            user=user,
            limits=StepLimits(**limits),
            output=self.folder / "answer" if (self.folder / "answer").exists() else None,
        )
        with EventLog(self.folder / "events.jsonl") as log, MetricsFile(self.folder / "metrics.jsonl") as metrics:
            return Runner(events=log, run=self.folder, metrics=metrics, hooks=self.hooks).execute(
                step, self.folder / "step.log"
            )

    @property
    def ended(self) -> Ended:
        """Return the verdict in the events."""
        (found,) = [
            record.event
            for record in events.read(self.folder / "events.jsonl").records
            if isinstance(record.event, Ended)
        ]
        return found

    @property
    def log(self) -> str:
        """Return the log."""
        return (self.folder / "step.log").read_text()


Left = Callable[[], set[int]]


@pytest.fixture
def left() -> Left:
    """Return a function that tells which children this process has more than now."""
    before = set(proc.children(os.getpid()))
    return lambda: set(proc.children(os.getpid())) - before


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Return a bench of its own folder."""
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("script", "reason", "code", "outcome"),
    [
        ("echo out; echo err >&2", None, 0, Outcome.PASSED),
        ("exit 3", Reason.EXIT, 3, Outcome.FAILED),
        ("exit 143", Reason.EXIT, 143, Outcome.FAILED),
        ("kill -TERM $$", Reason.SIGNAL, signal.SIGTERM, Outcome.FAILED),
        ("kill -KILL $$", Reason.SIGNAL, signal.SIGKILL, Outcome.FAILED),
        ("echo 'cc: No space left on device'; exit 1", Reason.DISK_FULL, 1, Outcome.ERRORED),
    ],
)
def test_how_it_ended_is_told_exactly(
    bench: Bench, script: str, reason: Reason | None, code: int, outcome: Outcome
) -> None:
    """An exit status above 128 is no signal; the verdict in the events says the same."""
    end = bench.run(script)
    assert (reason, code) == (end.reason, end.code), end
    assert (outcome, reason or "") == (bench.ended.outcome, bench.ended.reason)


def test_both_streams_are_in_the_log_or_stdout_in_a_file(bench: Bench) -> None:
    """What a tool answers can be had apart from what it says."""
    bench.run("echo out; echo err >&2")
    assert "out\nerr\n" == bench.log
    (bench.folder / "step.log").unlink()
    (bench.folder / "events.jsonl").unlink()
    (bench.folder / "answer").touch()
    bench.run("echo out; echo err >&2")
    assert ("err\n", "out\n") == (bench.log, (bench.folder / "answer").read_text())


def test_a_failure_shows_the_end_of_its_log(bench: Bench) -> None:
    """Step, status, the last 40 lines and where the rest is."""
    end = bench.run("seq 100; exit 2")
    assert [str(number) for number in range(61, 101)] == end.tail.splitlines()
    assert f"exit status 2; the log is {bench.folder / 'step.log'}" == bench.ended.message
    assert (end.tail,) == tuple(piece.text for piece in bench.ended.evidence)


def test_nothing_waits_for_input(bench: Bench) -> None:
    """Standard input is empty."""
    assert bench.run("cat; read x || echo none").ok
    assert "none\n" == bench.log


@pytest.mark.parametrize(
    ("script", "limits", "reason"),
    [
        ("trap '' TERM INT; while :; do echo x; done", {"time_s": 0.3}, Reason.TIMEOUT),
        ("exec sleep 1000", {"silence_s": 0.3}, Reason.SILENCE),
        ("setsid sh -c 'trap \"\" TERM; sleep 1000' & sleep 1000", {"silence_s": 0.3}, Reason.SILENCE),
    ],
)
def test_a_limit_ends_everything(bench: Bench, left: Left, script: str, limits: dict[str, Any], reason: Reason) -> None:
    """A deaf or silent step, and what it put into other sessions, is gone when its limit is reached."""
    began = time.monotonic()
    end = bench.run(script, **limits)
    assert (reason, signal.SIGKILL) == (end.reason, end.code)
    assert time.monotonic() - began < 10
    assert set() == left()


def test_the_log_has_what_the_command_wrote(bench: Bench) -> None:
    """Up to the limit that ends it, and nothing of those who end it."""
    bench.run("echo started; exec sleep 1000", silence_s=0.3)
    assert "started\n" == bench.log


def test_a_command_gets_the_ordinary_signals(bench: Bench) -> None:
    """None is ignored or blocked: a pipe whose reader went away ends its writer in silence (signal(7))."""
    bench.run("grep -E 'SigBlk|SigIgn' /proc/self/status; yes | head -n 1")
    masks = [int(line.split()[1], 16) for line in bench.log.splitlines()[:2]]
    assert [0, 0] == [mask & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGINT - 1) for mask in masks]
    assert ["y"] == bench.log.splitlines()[2:]


DAEMON = "exec 9>alive; setsid sh -c 'trap \"\" TERM; echo up >&9; exec sleep 1000' & sleep 1000"
"""Leaves its session, is deaf, and holds the writing end of `Alive`."""


class Alive:
    """A named pipe that tells whether anybody lives who inherited its other end, wherever he was adopted."""

    def __init__(self, folder: Path) -> None:
        """Make it in the step's folder."""
        os.mkfifo(folder / "alive")
        self.fd = os.open(folder / "alive", os.O_RDONLY | os.O_NONBLOCK)

    def await_one(self) -> None:
        """Return when somebody has said that he is up."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        assert poll.poll(20_000), "nobody came up"

    @property
    def nobody(self) -> bool:
        """Return whether somebody was there and all have ended."""
        assert os.read(self.fd, 64) == b"up\n"
        try:
            return os.read(self.fd, 64) == b""
        except BlockingIOError:
            return False


@pytest.fixture
def alive(tmp_path: Path) -> Iterator[Alive]:
    """Return a pipe in the bench's folder."""
    pipe = Alive(tmp_path)
    yield pipe
    os.close(pipe.fd)


@pytest.fixture(params=["wall", "no wall"])
def bare(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the cgroup away, whose removal kills everything too, and the wall the second time."""
    monkeypatch.setattr(runner._Attempt, "_cgroup", lambda *_: None)
    if request.param == "no wall":
        monkeypatch.setattr(barrier, "walled", lambda _: False)


@pytest.mark.usefixtures("bare")
def test_a_limit_ends_daemons_without_a_cgroup(bench: Bench, alive: Alive) -> None:
    """Whoever left the session and is deaf to TERM ends as well."""
    assert Reason.SILENCE is bench.run(DAEMON, silence_s=1.0).reason
    assert alive.nobody


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT raise: whoever was started in the background of a script ignores it (bash(1), SIGNALS)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("bare", "interruptible")
@pytest.mark.parametrize("delay_s", [0.0, 0.1])
def test_ctrl_c_ends_the_step(tmp_path: Path, alive: Alive, delay_s: float) -> None:
    """In a hook or later: nothing of the step lives, its node says interrupted, and the interruption goes on."""
    bench = Bench(tmp_path, Hooks([Interrupting(alive, delay_s)]))
    with pytest.raises(KeyboardInterrupt):
        bench.run(DAEMON)
    assert (Outcome.ERRORED, "interrupted") == (bench.ended.outcome, bench.ended.reason)
    assert alive.nobody


class Interrupting:
    """A plugin that interrupts the launcher when the step is up."""

    def __init__(self, alive: Alive, delay_s: float) -> None:
        """Take what tells that it is up, and how much later the interruption comes; 0 is within the hook."""
        self.alive, self.delay_s = alive, delay_s

    @hookimpl
    def seatrial_during(self) -> None:
        """Interrupt."""
        self.alive.await_one()
        if not self.delay_s:
            raise KeyboardInterrupt
        main = threading.get_ident()
        threading.Timer(self.delay_s, lambda: signal.pthread_kill(main, signal.SIGINT)).start()


def test_output_is_no_silence(bench: Bench) -> None:
    """The clock of silence starts again with every byte."""
    script = "import time\nfor _ in range(8): print('.', flush=True); time.sleep(0.1)"
    assert bench.run([sys.executable, "-c", script], silence_s=0.6).ok


@pytest.mark.parametrize("walled", [True, False])
def test_daemons_end_with_the_step(bench: Bench, left: Left, monkeypatch: pytest.MonkeyPatch, walled: bool) -> None:
    """What a build leaves in the background neither delays it nor survives it, with a wall and without."""
    if not walled:
        monkeypatch.setattr(barrier, "walled", lambda _: False)
    began = time.monotonic()
    assert bench.run("setsid sh -c 'sleep 1000 & sleep 1000' >&2 & exit 0").ok
    assert time.monotonic() - began < 10
    assert set() == left()


def test_what_cannot_be_started_says_why(bench: Bench) -> None:
    """A program or folder that is not there is an error of ours or the user's, no failure of the target."""
    for number, (words, cwd, said) in enumerate(
        (
            (["no-such-program"], None, "no-such-program is not on PATH"),
            (["/nonexistent/program"], None, "/nonexistent/program cannot be executed"),
            (["true"], bench.folder / "gone", f"its folder {bench.folder / 'gone'} does not exist"),
        )
    ):
        (bench.folder / str(number)).mkdir()
        one = Bench(bench.folder / str(number))
        end = one.run(words, cwd=cwd)
        assert (Reason.NOT_STARTED, said) == (end.reason, end.detail)
        assert Outcome.ERRORED is one.ended.outcome


def test_a_damaged_program_is_not_started(bench: Bench) -> None:
    """What the kernel refuses to execute is told with its reason."""
    (bench.folder / "damaged").write_bytes(b"\x7fELF")
    (bench.folder / "damaged").chmod(0o755)
    end = bench.run([str(bench.folder / "damaged")])
    assert Reason.NOT_STARTED is end.reason
    assert "Exec format error" in end.detail


def test_a_program_is_found_from_its_folder(bench: Bench) -> None:
    """``./build.sh`` is meant where the step runs, not where the launcher does."""
    (bench.folder / "below").mkdir()
    (bench.folder / "below" / "build.sh").write_text("#!/bin/sh\necho built\n")
    (bench.folder / "below" / "build.sh").chmod(0o755)
    assert bench.run(["./build.sh"], cwd=bench.folder / "below").ok
    assert "built\n" == bench.log


@AS_ROOT
def test_a_program_that_the_user_may_not_execute_is_not_started(bench: Bench) -> None:
    """Execution itself happens without root's rights."""
    (bench.folder / "program").write_text("#!/bin/sh\n")
    (bench.folder / "program").chmod(0o700)
    end = bench.run([str(bench.folder / "program")], user=NOBODY)
    assert Reason.NOT_STARTED is end.reason, end
    assert "Permission denied" in end.detail


def test_a_wall_that_fails_is_no_failure_of_the_target(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends before the command was executed makes the step errored."""
    monkeypatch.setattr(barrier, "walled", lambda _: True)
    monkeypatch.setattr(barrier, "_wall", lambda _: ["/bin/false"])
    end = bench.run("exit 0")
    assert (Reason.NOT_STARTED, Outcome.ERRORED) == (end.reason, bench.ended.outcome), end


def test_a_low_hard_limit_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not raise it builds with what there is."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    assert bench.run("ulimit -n").ok
    assert "64\n" == bench.log


@pytest.mark.parametrize("walled", [True, False])
def test_memory_is_limited_without_a_cgroup(
    bench: Bench, left: Left, monkeypatch: pytest.MonkeyPatch, walled: bool
) -> None:
    """By measuring all processes of the step together."""
    monkeypatch.setattr(runner._Attempt, "_cgroup", lambda *_: None)
    if not walled:
        monkeypatch.setattr(barrier, "walled", lambda _: False)
    eater = f"{sys.executable} -c 'import time; kept = bytearray(60 << 20); time.sleep(1000)'"
    end = bench.run(f"{eater} & {eater} & wait", memory_bytes=100 << 20, time_s=30)
    assert (Reason.OOM, Outcome.FAILED) == (end.reason, bench.ended.outcome), end
    assert set() == left()


@pytest.mark.parametrize("walled", [True, False])
def test_processes_are_limited_without_a_cgroup(bench: Bench, monkeypatch: pytest.MonkeyPatch, walled: bool) -> None:
    """Those of an ordinary user, with a wall and without."""
    monkeypatch.setattr(runner._Attempt, "_cgroup", lambda *_: None)
    if not walled:
        monkeypatch.setattr(barrier, "walled", lambda _: False)
    end = bench.run("for i in $(seq 60); do sleep 1000 & done", user=NOBODY, processes=20, time_s=30)
    assert "fork" in end.tail.lower(), end


@AS_ROOT
def test_another_user_builds(bench: Bench) -> None:
    """Root gives its rights away, groups included; the limit of open files is set."""
    bench.folder.chmod(0o777)
    for folder in bench.folder.parents[:3]:
        if folder.stat().st_uid == 0 and folder != Path("/tmp"):
            folder.chmod(0o755)
    groups = os.getgroups()
    os.setgroups([*groups, 4])
    try:
        end = bench.run("id -u; id -G; ulimit -n", user=NOBODY, open_files=77)
    finally:
        os.setgroups(groups)
    assert (True, ["65534", "65534", "77"]) == (end.ok, bench.log.split()), end


@AS_ROOT
def test_memory_and_processes_are_limited(bench: Bench) -> None:
    """The kernel ends what needs too much, and that is told from another death; forks fail beyond the limit."""
    end = bench.run([sys.executable, "-c", "bytearray(200 << 20)"], memory_bytes=64 << 20)
    assert Reason.OOM is end.reason, end
    (bench.folder / "events.jsonl").unlink()
    end = bench.run("for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done", processes=6)
    assert "fork" in end.tail.lower()


@AS_ROOT
def test_a_full_disk_is_told(bench: Bench) -> None:
    """On a file system without room the step is errored: nobody knows what it would have done."""
    small = bench.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=True)
    try:
        end = bench.run("cat /dev/zero >file", cwd=small)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert Reason.DISK_FULL is end.reason, end


def test_a_flood_is_drained_and_capped(bench: Bench) -> None:
    """A step that writes more than the log may hold is neither stopped nor believed."""
    end = bench.run("head -c 120000000 /dev/zero; echo the end")
    assert end.ok
    assert (bench.folder / "step.log").stat().st_size < 53_000_000
    assert end.tail.endswith("the end")


def test_a_step_is_measured(bench: Bench) -> None:
    """Samples while it runs, and one total."""
    busy = "import time; end = time.time() + 1.2\nwhile time.time() < end or time.process_time() < 0.6: pass"
    bench.run([sys.executable, "-c", busy])
    lines = [json.loads(line) for line in (bench.folder / "metrics.jsonl").read_text().splitlines()]
    assert ["sample", "sample", "total"] == [line["metric"] for line in lines][-3:]
    assert 0.5 < lines[-1]["cpu_s"] <= lines[-1]["wall_s"]
    assert {"build::x::step"} == {line["step"] for line in lines}


class Recording:
    """A plugin that writes down its calls and raises where it is told to."""

    def __init__(self, raises: str = "") -> None:
        """Take the name of the hook that raises."""
        self.raises, self.calls = raises, list[str]()

    def note(self, name: str, word: str) -> None:
        """Write down one call."""
        self.calls.append(word)
        if name == self.raises:
            raise RuntimeError("on purpose")

    @hookimpl
    def seatrial_before(self, step: HookStep) -> None:
        """Note it."""
        self.note("before", f"before {step.kind} {step.name} {step.target}")

    @hookimpl
    def seatrial_during(self) -> None:
        """Note it."""
        self.note("during", "during")

    @hookimpl
    def seatrial_after(self, outcome: str) -> None:
        """Note it."""
        self.note("after", f"after {outcome}")


@pytest.mark.parametrize(
    ("raises", "calls"),
    [
        ("", ["before step build::x::step x", "during", "after failed"]),
        ("before", ["before step build::x::step x", "after errored"]),
        ("during", ["before step build::x::step x", "during", "after failed"]),
        ("after", ["before step build::x::step x", "during", "after failed"]),
    ],
)
def test_hooks_stand_around_a_step(tmp_path: Path, raises: str, calls: list[str]) -> None:
    """One that raises makes the step errored, whatever else came of it; before the start it is not executed."""
    plugin = Recording(raises)
    bench = Bench(tmp_path, Hooks([plugin]))
    end = bench.run("touch executed; exit 3")
    assert calls == plugin.calls
    assert (raises != "before") == (tmp_path / "executed").exists()
    assert (Reason.HOOK if raises else Reason.EXIT) == end.reason
    assert (Outcome.ERRORED if raises else Outcome.FAILED) == bench.ended.outcome
    assert ("on purpose" in bench.ended.message) == bool(raises)


KILLED = """
import sys
from pathlib import Path
from suites.framework.events import EventLog
from suites.framework.sampler import MetricsFile
from suites.framework.steps import barrier
from suites.framework.steps.runner import Runner
from suites.framework.steps.step import Step
folder = Path(sys.argv[1])
if sys.argv[2] == "False":
    barrier.walled = lambda _: False
step = Step(name="s", title="t", target="x", argv=["/bin/sh", "-c", "echo $PPID; setsid sleep 1000 & sleep 1000"],
            cwd=folder, environment={"PATH": "/usr/bin:/bin"})
with MetricsFile(folder / "metrics.jsonl") as metrics:
    Runner(events=EventLog(folder / "events.jsonl"), run=folder, metrics=metrics).execute(step, folder / "step.log")
"""


@pytest.mark.parametrize("walled", [True, False])
def test_a_killed_launcher_takes_the_step_along(bench: Bench, walled: bool) -> None:
    """The kernel ends what runs behind the wall, the warden what has none; what was measured is on disk."""
    if walled and not barrier.walled(os.geteuid()):
        pytest.skip("no wall here: user namespaces are missing")
    launcher = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(bench.folder), str(walled)], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    end = time.monotonic() + 20
    metrics = bench.folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 1) and time.monotonic() < end:
        os.sched_yield()
    below = [os.pidfd_open(pid) for pid in proc.descendants(launcher.pid)]
    assert len(below) >= 3
    launcher.kill()
    launcher.wait()
    assert [] == await_death(below, deadline_s=20)
    for pidfd in below:
        os.close(pidfd)
    for hierarchy in cgroups.hierarchies():  # the keeper of a real launcher does this
        assert "" == remove_cgroup(hierarchy.own / f"seatrial-step-x-{launcher.pid}")
    assert all(json.loads(line)["metric"] == "sample" for line in metrics.read_text().splitlines())
