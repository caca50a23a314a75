"""Processes: spawned with exactly what was given, held by pidfd, reaped with their exact status."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suites.framework import proc
from suites.framework.identity import keep_to_ourselves
from suites.framework.process import Child, Status, exited, killed, output_of, spawn
from suites.framework.waiting import Capture, Deadline, Waiter

SECONDS = 10.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
OF_THE_C_LIBRARY = 3 << 31
"""Signals 32 and 33, which glibc's posix_spawn(3) always leaves ignored and no program can use."""
DESCRIPTORS = """
import json, os, sys
paths = {n: f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")}
found = {n: os.readlink(path) for n, path in paths.items() if os.path.lexists(path)}
os.write(int(sys.argv[1]), json.dumps(found).encode())
"""


@pytest.fixture
def null() -> Iterator[int]:
    """Yield a descriptor of /dev/null."""
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def open_fds() -> list[str]:
    return os.listdir("/proc/self/fd")


def said(argv: list[str], out: int, fds: dict[int, int] | None = None) -> str:
    """Return what a program writes to descriptor `out` before it ends."""
    reading, writing = os.pipe()
    waiter = Waiter()
    capture = waiter.add(Capture(reading, title="out", limit=65536))
    child = spawn(argv, environment=ENVIRONMENT, fds={out: writing, **(fds or {})})
    os.close(writing)
    assert exited(0) == child.wait(Deadline(SECONDS), waiter)
    waiter.finish()
    return capture.data.decode()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (exited(0), "exit 0"),
        (exited(143), "exit 143"),
        (killed(signal.SIGTERM), "killed by TERM"),
        (killed(36), "killed by RTMIN+2"),
    ],
)
def test_a_status_reads_as_what_happened(status: Status, words: str) -> None:
    """Exit 143 and death by TERM are different results, and read so."""
    assert (words, words) == (str(status), repr(status))


def test_exit_143_is_not_death_by_term() -> None:
    """A code and a signal are never equal, whatever a shell makes of them."""
    assert exited(128 + signal.SIGTERM) != killed(signal.SIGTERM)


def test_a_wait_status_is_taken_apart() -> None:
    """The integer of wait(2) gives the code, or the signal also where a core was dumped."""
    assert (exited(7), killed(11), killed(11)) == (Status.of(7 << 8), Status.of(11), Status.of(11 | 0x80))


def test_a_program_gets_exactly_the_descriptors_it_was_given(null: int) -> None:
    """Those named are there, 0, 1 and 2 are closed when they are not, and a worker's own are not inherited."""
    keep_to_ourselves()
    found = json.loads(said([sys.executable, "-I", "-S", "-c", DESCRIPTORS, "5"], 5, {7: null}))
    assert {"5", "7"} == found.keys()
    assert os.devnull == found["7"]


def test_descriptors_can_change_places() -> None:
    """A layout in which two numbers are swapped overwrites neither."""
    first, second = os.memfd_create("first"), os.memfd_create("second")
    found = json.loads(said([sys.executable, "-I", "-S", "-c", DESCRIPTORS, "1"], 1, {first: second, second: first}))
    assert ["second", "first"] == [found[str(fd)].split(":")[1].split(" ")[0] for fd in (first, second)]
    os.close(first)
    os.close(second)


def test_the_next_free_numbers_can_be_laid_out_too() -> None:
    """Numbers that are free here, and would be taken by copies made for the layout, arrive as they were meant."""
    first, second = os.memfd_create("first"), os.memfd_create("second")
    free = os.dup(second)
    os.close(free)
    layout = {free + number: first if number < 5 else second for number in reversed(range(10))}
    found = json.loads(said([sys.executable, "-I", "-S", "-c", DESCRIPTORS, "1"], 1, layout))
    names = [found[str(free + number)].split(":")[1].split(" ")[0] for number in range(10)]
    assert ["first"] * 5 + ["second"] * 5 == names
    os.close(first)
    os.close(second)


def test_a_program_starts_with_a_clean_slate() -> None:
    """Whatever this process blocks and ignores, a program starts with no signal blocked and none ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, 40})
    try:
        text = said(["/bin/grep", "^Sig", "/proc/self/status"], 1)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGHUP, before)
    sets = dict(line.split(":\t") for line in text.splitlines())
    assert [0, 0] == [int(sets[name], 16) & ~OF_THE_C_LIBRARY for name in ("SigBlk", "SigIgn")]


def test_a_program_leads_a_session_with_the_environment_it_was_given() -> None:
    """It has a session of its own, and not one variable more."""
    code = "import json, os; os.write(1, json.dumps([os.getsid(0) == os.getpid(), sorted(os.environ)]).encode())"
    leads, names = json.loads(said([sys.executable, "-I", "-S", "-c", code], 1))
    assert (True, ["PATH"]) == (leads, [name for name in names if name != "LC_CTYPE"])


@pytest.mark.parametrize(
    "start",
    [
        lambda words, null: spawn(words, environment={}, fds={0: null}),
        lambda words, _: output_of(words, environment={}, seconds=SECONDS),
    ],
    ids=["spawn", "output_of"],
)
def test_a_program_that_cannot_be_executed_leaves_no_descriptor(
    start: Callable[[list[str], int], object], null: int
) -> None:
    """A missing program is an OSError, and everything opened for it is closed."""
    before = open_fds()
    with pytest.raises(FileNotFoundError):
        start(["/nowhere/program"], null)
    assert before == open_fds()


def test_memory_is_the_childs_own_or_unknown(null: int) -> None:
    """What a child has beside us is its own; that of a small one cannot be told from ours, with which it began."""
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    large = [sys.executable, "-c", f"b'1' * {ours + (16 << 20)}"]
    found = [spawn(words, environment=ENVIRONMENT, fds={0: null}) for words in (["/bin/true"], large)]
    assert exited(0) == found[0].wait(Deadline(SECONDS), Waiter()) == found[1].wait(Deadline(SECONDS), Waiter())
    assert found[0].rss_bytes == 0
    assert found[1].rss_bytes > ours


def test_wait_past_its_deadline_says_nothing_and_kill_says_how(null: int) -> None:
    """A running process has no status; once killed it has, its pidfd is closed, and its costs are known."""
    child = spawn(["/bin/sleep", "60"], environment=ENVIRONMENT, fds={0: null})
    assert child.wait(Deadline(0.01), Waiter()) is None
    assert child.alive_s > 0
    assert killed(signal.SIGKILL) == child.kill() == child.kill()
    assert child.pidfd == -1
    assert child.alive_s == child.ended - child.started


def test_a_signal_to_what_has_ended_is_dropped(null: int) -> None:
    """Sending to a zombie and to a reaped process does nothing; neither reaches a new owner of the number."""
    child = spawn(["/bin/true"], environment=ENVIRONMENT, fds={0: null})
    assert select.select([child.pidfd], [], [], SECONDS)[0]
    child.send(signal.SIGKILL)
    assert exited(0) == child.wait(Deadline(SECONDS), Waiter())
    child.send(signal.SIGKILL)


def test_a_signal_to_what_somebody_else_reaped_is_dropped(null: int) -> None:
    """A pidfd whose process is gone takes a signal without a word."""
    child = spawn(["/bin/true"], environment=ENVIRONMENT, fds={0: null})
    os.waitpid(child.pid, 0)
    child.send(signal.SIGKILL)
    os.close(child.pidfd)


def test_adopt_takes_hold_of_a_child() -> None:
    """A child that was forked elsewhere is waited for with its exact status."""
    pid = os.fork()
    if pid == 0:
        os._exit(9)
    assert exited(9) == Child.adopt(pid).wait(Deadline(SECONDS), Waiter())


def test_output_of_returns_status_and_words_of_both_streams() -> None:
    """Standard output and error come together, without the last line's end; input is empty."""
    status, words = output_of(["/bin/sh", "-c", "cat; echo out; echo err >&2; exit 3"], environment={}, seconds=SECONDS)
    assert (exited(3), "out\nerr") == (status, words)


def test_output_of_ends_what_takes_too_long() -> None:
    """Past the deadline there is no status, but what was said until then, and the program is gone."""
    status, words = output_of(["/bin/sh", "-c", "echo $$; exec sleep 60"], environment=ENVIRONMENT, seconds=0.3)
    assert status is None
    assert "" == proc.state(int(words))


def test_children_of_all_threads_are_found(tmp_path: Path) -> None:
    """One thread that ends while the list is read does not hide the children of the others."""
    for task, text in {"10": "11 12 ", "20": None, "30": "31 "}.items():
        folder = tmp_path / "10/task" / task
        folder.mkdir(parents=True)
        if text is not None:
            (folder / "children").write_text(text)
    assert (11, 12, 31) == proc.children(10, proc=tmp_path)


def test_descendants_come_parents_first(null: int) -> None:
    """A grandchild stands behind its parent; a process that is gone has none."""
    reading, writing = os.pipe()
    shell = spawn(["/bin/sh", "-c", "sleep 60 & echo $!; wait"], environment=ENVIRONMENT, fds={0: null, 1: writing})
    os.close(writing)
    assert select.select([reading], [], [], SECONDS)[0]
    grandchild = int(os.read(reading, 100))
    os.close(reading)
    found = proc.descendants(os.getpid())
    assert found.index(shell.pid) < found.index(grandchild)
    assert f"{grandchild} parent {shell.pid} state" in proc.describe(grandchild)
    os.kill(grandchild, signal.SIGKILL)
    shell.kill()
    assert () == proc.descendants(shell.pid)


def test_state_and_description_follow_a_process_to_its_end(null: int) -> None:
    """Sleeping, then a zombie without a command line, then gone."""
    child = spawn(["/bin/sleep", "60"], environment=ENVIRONMENT, fds={0: null})
    assert proc.describe(child.pid).startswith(f"{child.pid} parent {os.getpid()} state ")
    child.send(signal.SIGKILL)
    assert select.select([child.pidfd], [], [], SECONDS)[0]
    assert ("Z", f"{child.pid} parent {os.getpid()} state Z [sleep]") == (
        proc.state(child.pid),
        proc.describe(child.pid),
    )
    child.kill()
    assert ("", f"{child.pid} gone") == (proc.state(child.pid), proc.describe(child.pid))
