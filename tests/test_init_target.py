"""A container init as the suites drive it: a real reference init in both modes, and what is seen of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import Mode, Privilege
from suites.framework import proc
from suites.framework.bench import Bench
from suites.framework.calls import Call, InitCall
from suites.framework.errors import InfrastructureError
from suites.framework.model import Profile, Reason
from suites.framework.observation import Unmet
from suites.framework.process import exited, killed
from suites.framework.signals import names
from suites.framework.targets.init import Init
from suites.framework.targets.run import Run
from suites.framework.terminal import Terminal
from suites.framework.waiting import Deadline
from tests.contexts import bench, target
from tests.walled import behind, walled

OF_THE_C_LIBRARY = {32, 33}
"""Signals that glibc's posix_spawn(3) leaves ignored and that no program can use."""
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


@contextmanager
def started(folder: Path, mode: Mode = Mode.PLAIN, *, made: Bench | None = None, **changes: Any) -> Iterator[Run]:
    """Start the reference init, or a target with these changes, and settle afterwards."""
    made = made or bench(folder)
    starting = changes.pop("start", {})
    with Init(made, target(**changes), mode).start(**starting) as run:
        yield run
    assert () == made.settle()


def fails(folder: Path, mode: Mode = Mode.PLAIN, **changes: Any) -> Unmet:
    """Return why no child became ready under a target."""
    made = bench(folder)
    try:
        with started(folder, mode, made=made, **changes) as run:
            run.child.ready()
    except Unmet as unmet:
        made.settle()
        return unmet
    raise AssertionError("it was ready")


MODES = [Mode.PLAIN, Mode.PID1]


@pytest.mark.parametrize("mode", MODES)
def test_a_signal_is_forwarded_and_the_code_returned(mode: Mode, tmp_path: Path) -> None:
    """What the child heard is told, and the init's status is exact, plain and as PID 1."""
    behind(__name__, "forward", (mode, tmp_path), {}, before=(), user=False)


def forward(mode: Mode, folder: Path) -> None:
    """Send signals and the fence, then end."""
    made = bench(folder)
    with started(folder, mode, made=made) as run:
        state = run.child.ready()
        assert ("the init", "another process") == (run.who(state.ppid), run.who(state.pid))
        assert "USR1 HUP" == names(sorted(run.heard(signal.SIGHUP, signal.SIGUSR1), reverse=True))
        assert run.stays(0.01)
        assert 1 == len(run.survivors())
        run.child.tell("exit 7")
        assert exited(7) == run.ended()
        assert () == run.watch()
        run.note("what", 1)
    assert (True, [("what", 1)]) == (made.proven, made.notes)
    seconds, cpu_s, _ = made.cost
    assert seconds > 0
    assert cpu_s > 0


@walled()
def test_the_child_gets_what_the_test_gives(tmp_path: Path) -> None:
    """Words, directory, variables, ignored signals and descriptors arrive as they were given."""
    fd = os.open(tmp_path / "given", os.O_CREAT | os.O_RDWR)
    made = bench(tmp_path)
    init = Init(made, target(environment={"TARGET": "1"}), Mode.PID1)
    with init.start(
        init.recorder_words("a b", ""), fds={5: fd}, ignore=[signal.SIGHUP], environment={b"MINE": b"\xff"}
    ) as run:
        state = run.child.ready()
        assert (b"a b", b"") == state.argv[-2:]
        assert os.fsencode(made.home) == state.directory
        assert {b"MINE=\xff", b"TARGET=1"} <= set(state.environment)
        assert {signal.SIGHUP} == state.ignored - OF_THE_C_LIBRARY
        assert state.fds == run.given
        assert str(tmp_path / "given") == run.given[5]
    os.close(fd)


@walled()
def test_output_is_captured_and_shown(tmp_path: Path) -> None:
    """What init and child write is at hand while they run, and its tail is evidence."""
    made = bench(tmp_path)
    with started(tmp_path, made=made) as run:
        run.child.ready()
        run.child.ask(f"write 1 {b'out'.hex()}")
        run.child.ask(f"write 2 {b'err'.hex()}")
        assert (b"out", b"err") == (run.output("stdout"), run.output("stderr"))
        shown = {evidence.title: evidence.text for evidence in run.evidence()}
        assert ("out", "err") == (shown["stdout"], shown["stderr"])
        assert f"{run.pid} parent 1 state" in shown["init"]
        assert "ready" in shown["records"]
    assert "killed by KILL" == next(evidence.text for evidence in run.evidence())


@walled()
def test_an_orphan_is_watched_to_its_end(tmp_path: Path) -> None:
    """An adopted process is told from one whose zombie stays, and from one that lives."""
    with started(tmp_path, Mode.PID1) as run:
        run.child.ready()
        orphan, _ = run.child.fork("orphan", "session")
        assert "the init" == run.who(orphan.reparented())
        assert "still alive" == run.end_of(orphan, seconds=0.01)
        assert "S" == run.state_of(orphan, "S")
        run.signal(orphan, signal.SIGKILL)
        assert "reaped" == run.end_of(orphan)
        assert "" == run.state_of(orphan, "")
        run.child.ask("child 0")
        assert "Z" == run.state_of_pid(proc.children(run.child.pid)[0], "Z")


@walled()
def test_the_foreground_of_a_terminal_is_named(tmp_path: Path) -> None:
    """The child's group is in the foreground under the reference init, and nothing was written."""
    with Terminal() as terminal, started(tmp_path, Mode.PID1, start={"terminal": terminal}) as run:
        run.child.ready()
        assert "the child" == run.foreground(terminal)
        assert () == run.waiter.wait((terminal.master,), Deadline(0))


@walled()
def test_an_init_that_does_not_end_is_a_timeout(tmp_path: Path) -> None:
    """Past the deadline it is still running, and that is what is said."""
    made = bench(tmp_path)
    with Init(made, target(), Mode.PLAIN).start() as run:
        run.child.ready()
        assert ("the init is running", None) == run.fate()
        run.init.seconds = 0.01
        with pytest.raises(Unmet) as caught:
            run.ended()
        made.record_failure()
    assert ("the init ended", Reason.TIMEOUT) == (caught.value.expected, caught.value.reason)
    assert ["init", "records", "processes"] == [evidence.title for evidence in made.failure_evidence]
    assert () == made.settle()


@walled()
def test_a_crash_is_told_from_an_end_and_from_a_signal_of_ours(tmp_path: Path) -> None:
    """SEGV that nobody sent is a crash; one that the test sent is not; a code never is."""
    crashed = fails(tmp_path, argv=("{python}", "-I", "-S", "-c", CRASH), call=Call())
    assert ("the recording process ended; the init crashed: killed by SEGV", Reason.CRASH) == (
        crashed.actual,
        crashed.reason,
    )
    ended = fails(tmp_path, argv=("/bin/false",))
    assert ("the recording process ended; the init ended: exit 1", None) == (ended.actual, ended.reason)
    with started(tmp_path, argv=("/bin/sh", "-c", "exec sleep 60")) as run:
        run.send(signal.SIGSEGV)
        assert killed(signal.SIGSEGV) == run.ended()
        assert ("the init ended: killed by SEGV", None) == run.fate()


@walled()
def test_a_target_that_is_not_executed_is_unmet(tmp_path: Path) -> None:
    """No such program and no permission are the target's fault, in its own words."""
    assert "No such file or directory" == fails(tmp_path, argv=("/nowhere/init",)).actual
    assert "Permission denied" == fails(tmp_path, Mode.PID1, argv=(os.devnull,)).actual


@walled(before=("setpriv", "--bounding-set=-sys_admin", "--"))
def test_a_namespace_that_cannot_be_made_is_ours(tmp_path: Path) -> None:
    """Where the harness cannot make PID 1, the target is not blamed, and nothing was started."""
    made = bench(tmp_path)
    with pytest.raises(InfrastructureError, match="the target was not launched: unshare: Operation not permitted"):
        Init(made, target(), Mode.PID1).start()
    (run,) = made.launches
    assert isinstance(run, Run)
    assert (("the init was not started", None), (0.0, 0.0, 0)) == (run.fate(), run.cost)
    assert "not started" == run.evidence()[0].text
    assert () == made.settle()


@walled(user=True)
def test_a_user_has_pid_1_in_namespaces_of_its_own(tmp_path: Path) -> None:
    """Rootless, the init is mapped root of a user namespace."""
    made = bench(tmp_path, privilege=Privilege.ROOTLESS)
    with started(tmp_path, Mode.PID1, made=made) as run:
        assert 0 == run.child.ready().uid
        run.child.tell("exit 0")
        assert exited(0) == run.ended()


@walled()
def test_the_fastest_child_is_proof_enough(tmp_path: Path) -> None:
    """A child that only records that it ran, many times."""
    made = bench(tmp_path)
    init = Init(made, target(), Mode.PLAIN)
    for code in (0, 3):
        with init.start(init.once(code)) as run:
            assert exited(code) == run.ended()
            assert "once" == run.child.next("once").kind
    assert made.proven
    assert () == made.settle()


@walled()
def test_descriptors_and_limits_are_taken_away(tmp_path: Path) -> None:
    """What is left out is closed, what is limited is limited, and another program may become the init."""
    reads = ("sh", "-c", 'exec 5</dev/null; ulimit -n 40; ulimit -v; exec "$@"', "sh")
    start: dict[str, Any] = {"without": (0, 2), "limits": {"nofile": 50, "as": 1 << 32}, "through": reads}
    with started(tmp_path, start=start) as run:
        assert [1, 5, 7] == sorted(run.child.ready().fds)
        assert [1, 7] == sorted(run.given)
        assert b"%d" % (1 << 22) == run.output("stdout").strip()
        text = Path(f"/proc/{run.pid}/limits").read_text()
        assert ["40", "40"] == text.partition("Max open files")[2].split()[:2]


@walled()
def test_a_process_enters_from_outside(tmp_path: Path) -> None:
    """What enters the namespace of PID 1 records there, and its parent is not inside."""
    with started(tmp_path, Mode.PID1) as run:
        inside = run.child.ready()
        entered, state = run.enter()
        assert (0, inside.pid_namespace) == (state.ppid, state.pid_namespace)
        orphan, _ = entered.fork("orphan")
        assert "the init" == run.who(orphan.reparented())
        assert {"ready", "reparented"} <= {record.kind for record in run.child.history() if record["pid"] != 2}


@walled()
def test_what_a_terminal_shows_is_waited_for_piece_by_piece(tmp_path: Path) -> None:
    """Each piece is found once, in order, and one that does not come is a timeout."""
    with Terminal() as terminal, started(tmp_path, start={"terminal": terminal}) as run:
        run.child.ready()
        for text in ("one two", "three two"):
            run.child.ask(f"write 1 {text.encode().hex()}")
        assert ("one two", "three two") == (run.printed("two"), run.printed("two"))
        run.init.seconds = 0.01
        with pytest.raises(Unmet, match="'two' on the terminal"):
            run.printed("two")


@walled()
def test_a_terminal_that_hangs_up_reaches_the_child(tmp_path: Path) -> None:
    """Nothing of ours holds the terminal any more, so the kernel signals who is in its foreground."""
    with Terminal() as terminal, started(tmp_path, start={"terminal": terminal}) as run:
        run.child.ready()
        assert "the child" == run.foreground(terminal)
        run.hang_up(terminal)
        assert signal.SIGHUP == run.child.next_signal()["number"]
        with pytest.raises(Unmet, match="did not appear"):
            run.printed("anything")


@walled()
def test_an_embedded_target_is_the_yardstick(tmp_path: Path) -> None:
    """The reference, and no init at all, start beside any target, in the same mode."""
    made = bench(tmp_path)
    for mode in MODES:
        init = Init(made, target(argv=("/bin/false",)), mode)
        for name, below in {"reference": True, "control-none": False}.items():
            with init.yardstick(name).start() as run:
                assert below == (run.child.ready().pid != run.pid_inside)
    assert () == made.settle()


def test_a_limit_of_the_profile_is_a_budget(tmp_path: Path) -> None:
    """What the profile does not limit has no budget."""
    made = bench(tmp_path)
    init = Init(made, target(profile=Profile(name="mine", limits={"rss_bytes": 4096})), Mode.PLAIN)
    assert (4096, None) == (init.budget("rss_bytes"), init.budget("wakeups_per_s"))
    made.settle()


def test_calling_options_stand_where_the_profile_says(tmp_path: Path) -> None:
    """Adopting options in mode plain only, the test's own, then the separator and the command."""
    made = bench(tmp_path)
    rewrite, remap = ("-r", "{from}:{to}"), ("-e", "{code}")
    init = InitCall(separator="--", subreaper=("-s",), graceful=("-T", "{seconds}s"), rewrite=rewrite, remap=remap)
    call = Call(init=init)
    plain, pid1 = (Init(made, target(argv=("tini",), call=call), mode) for mode in MODES)
    assert ["tini", "-s", "-v", "--", "a", b"b"] == plain.command(["a", b"b"], options=["-v"])
    assert ["tini", "--", "a"] == plain.command(["a"], adopting=False) == pid1.command(["a"])
    assert ("-T", "1.5s") == plain.graceful(1.5)
    assert ("-r", "15:0", "-e", "143") == (*plain.rewrite(15, 0), *plain.remap(143))
    made.settle()


def test_an_init_is_called_with_exactly_the_words(tmp_path: Path) -> None:
    """Nothing of the profile is put between; the streams are captured apart."""
    made = bench(tmp_path)
    call = Call(init=InitCall(separator="--", subreaper=("-s",)))
    with Init(made, target(argv=("echo",), call=call), Mode.PLAIN).called("-x", "y") as run:
        assert exited(0) == run.ended()
        assert (b"-x y\n", b"") == (run.output("stdout"), run.output("stderr"))
    made.settle()


OPTIONS = ("rewrite", "remap", "help")


@pytest.mark.parametrize(
    ("call", "mode", "words"),
    [
        (InitCall(), Mode.PLAIN, {"child", "adopts"}),
        (InitCall(delivery="group", graceful=("-T",)), Mode.PLAIN, {"group", "graceful", "adopts"}),
        (InitCall(rewrite=("-r",), remap=("-e",), help=("-h",)), Mode.PID1, {"child", "adopts", *OPTIONS}),
        (InitCall(adopts=False), Mode.PLAIN, {"child"}),
        (InitCall(adopts=False), Mode.PID1, {"child", "adopts"}),
    ],
)
def test_what_a_profile_offers(call: InitCall, mode: Mode, words: set[str]) -> None:
    """Delivery, escalation and adoption; PID 1 always adopts."""
    assert words == Init.offers(target(call=Call(init=call)), mode)
