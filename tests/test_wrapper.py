"""The adapter of a wrapper of build scripts: calls, gates, what is left, what it says of itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import Kind
from suites.framework.bench import Bench
from suites.framework.buildscripts.inventory import Inventory
from suites.framework.buildscripts.workload import Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.calls import BuildscriptsCall, Call
from suites.framework.leaks import Leak
from suites.framework.model import Profile, Reason
from suites.framework.observation import Unmet
from suites.framework.process import exited, killed
from tests.contexts import bench, target
from tests.walled import walled

EACH = {"run": ("{root}", "{step}", "{arguments}")}
"""Conventions of a wrapper that is called for each step."""
RUN = 'exec bash -e "$1/scripts/$2.sh" "${@:3}"'
SAY = 'printf "<%s>" "$@"'

Make = Callable[..., Wrapper]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    """Return a bench whose folder stands below a short path; the test settles it, or nothing may be left."""
    found = bench(tmp_path)
    yield found
    if found.launches:
        assert () == found.settle()


def built(made: Bench, folder: Path, text: str, *, profile: Profile | None = None, **call: Any) -> Wrapper:
    """Return a wrapper with this text and these conventions."""
    program = folder / "p/wrapper.sh"
    program.parent.mkdir()
    program.write_text(f"#!/bin/bash\n{text}\n")
    program.chmod(0o755)
    conventions = Call(buildscripts=BuildscriptsCall(**{**EACH, **call}))
    changes: dict[str, Any] = {"profile": profile} if profile else {}
    return Wrapper(made, target("w", kind=Kind.BUILDSCRIPTS, argv=(str(program),), call=conventions, **changes))


@pytest.fixture
def make(made: Bench, tmp_path: Path) -> Make:
    """Return a maker of one wrapper."""
    return lambda text=RUN, **changes: built(made, tmp_path, text, **changes)


def settled(made: Bench) -> tuple[Leak, ...]:
    """Settle a bench once and for all."""
    left = made.settle()
    made.launches.clear()
    return left


def test_each_step_is_a_call_in_the_order_of_needs(make: Make) -> None:
    """A wrapper that only takes a folder and a name builds a whole plan, up to the step that fails."""
    wrapper = make()
    wrapper.write(Step(name="c", needs=("b",)), Step(name="b", body="mark ran\nexit 7", needs=("a",)), Step(name="a"))
    ended = wrapper.build()
    assert (exited(7), ["a", "b"]) == (ended.status, wrapper.ran())
    assert 2 == len(wrapper.builds[-1].children)


@pytest.mark.parametrize("asked", [False, True], ids=["at-its-end", "at-a-gate"])
def test_a_failure_that_the_wrapper_lays_to_a_race_of_its_own_is_observed_as_that(asked: bool, make: Make) -> None:
    """Wherever the test was; not what fails otherwise, and not what says so and succeeds."""
    wrapper = make('echo "missing: $1" >&2; exit "$1"', run=("{arguments}", "{root}", "{step}"), race="missing: [12]")
    wrapper.write(Step(name="a"))
    assert [exited(0), exited(3)] == [wrapper.build(arguments=(code,)).status for code in ("0", "3")]
    with pytest.raises(Unmet) as caught, wrapper.begin(arguments=("2",)) as build:
        build.gate("a") if asked else build.end()
    assert "a race of its own" == caught.value.actual


def test_the_words_of_a_call_are_the_profiles(make: Make) -> None:
    """Options and arguments stand where the profile wants them, as many as there are, and the root too."""
    wrapper = make(SAY, run=("go", "{options}", "--root={root}", "--", "{arguments}"), jobs=("-j", "{jobs}"))
    ended = wrapper.build(options=wrapper.option("jobs", jobs=4), arguments=("a b", ""))
    assert f"<go><-j><4><--root={wrapper.root}><--><a b><>" == ended.stdout.decode()
    assert f"<go><--root={wrapper.root}><-->" == wrapper.build().stdout.decode()


def test_a_root_that_is_none_is_given_as_it_is(make: Make) -> None:
    """Word and variable are what the test says, empty too; without one both are left out, and options always."""
    say = 'printf "<%s>" "$@" "${LFS-unset}"'
    wrapper = make(say, run=("go", "{options}", "{root}", "--", "{arguments}"), variables={"LFS": "{root}"})
    for root, said in (("/", "<go></><--></>"), ("", "<go><><--><>"), (None, "<go><--><unset>")):
        assert said == wrapper.misled(wrapper.call.run, root).stdout.decode()


def test_processes_of_a_step_are_met_at_their_gates_at_once(make: Make) -> None:
    """In whatever order they come; one that never does is told by its name."""
    wrapper = make(RUN + " && wait")
    wrapper.write(Step(name="a", body="mark one & mark two & mark three\nwait"))
    with wrapper.begin() as build:
        gates = build.gathered("a", "one", "two")
        assert [False, False] == [gate.recorder.ended for gate in gates.values()]
        for gate in gates.values():
            gate.open()
        assert exited(0) == build.end().status
    with pytest.raises(Unmet, match="at its gates four"), wrapper.begin() as build:
        build.gathered("a", "four")


def test_the_environment_is_explicit(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile's variables and the test's are added to the bench's; nothing comes from the harness."""
    monkeypatch.setenv("SECRET", "1")
    wrapper = make("env", run=("x",), variables={"LFS": "{root}"})
    lines = wrapper.build(environment={"CFLAGS": "-O3"}).stdout.decode().splitlines()
    assert {f"LFS={wrapper.root}", "CFLAGS=-O3"} <= set(lines)
    assert [] == [line for line in lines if line.startswith("SECRET")]


def test_a_script_waits_at_its_gate(make: Make) -> None:
    """It is met there with what it was given, and goes on with the status that the gate is opened with."""
    wrapper = make()
    wrapper.write(Step(name="a", body='export MINE=1\nmark first\nmark second "$@" || exit 7'))
    with wrapper.begin(arguments=("x y", "")) as build:
        gate = build.gate("a", "second")
        assert (b"x y", b"") == gate.words
        assert b"MINE=1" in gate.state.environment
        assert build.child.status is None
        gate.open(1)
        assert exited(7) == build.end().status
    assert ["first", "second"] == wrapper.labels("a")


def test_a_gate_that_is_never_reached_says_how_the_wrapper_stands(make: Make) -> None:
    """It ended; or it was still running at the deadline, which is a timeout."""
    wrapper = make(RUN + " </dev/null")
    wrapper.write(Step(name="a", body="exit 3"))
    with pytest.raises(Unmet, match="the wrapper ended: exit 3"), wrapper.begin() as build:
        build.gate("a")
    wrapper.seconds = 0.1
    wrapper.write(Step(name="a", body="read -r line <$0.fifo"))
    os.mkfifo(f"{wrapper.place.script('a')}.fifo")
    with pytest.raises(Unmet) as caught, wrapper.begin() as build:
        build.gate("a")
    assert ("it did not come", Reason.TIMEOUT) == (caught.value.actual, caught.value.reason)


@walled()
def test_a_wrapper_that_does_not_end_is_a_timeout_and_is_ended(tmp_path: Path) -> None:
    """Nothing of it is left, and what is killed with it is no leak."""
    made = bench(tmp_path)
    wrapper = built(made, tmp_path, "sleep 600 & sleep 600")
    wrapper.write(Step(name="a"))
    wrapper.seconds = 0.1
    with pytest.raises(Unmet, match="still running at the deadline"):
        wrapper.build()
    assert wrapper.cut_short
    assert () == made.settle()


@walled()
def test_an_orphan_is_met_after_its_wrapper_was_killed(tmp_path: Path) -> None:
    """The script lives on behind a wrapper that was killed, and is met at its next gate."""
    made = bench(tmp_path)
    wrapper = built(made, tmp_path, 'bash -e "$1/scripts/$2.sh"')
    wrapper.write(Step(name="a", body="mark before\nmark after"))
    with wrapper.begin() as build:
        gate = build.gate("a", "before")
        assert killed(9) == build.kill()
        gate.open()
        after = wrapper.meet("a", "after")
        after.open()
        assert after.recorder.left(wrapper.seconds)
    assert ["before", "after"] == wrapper.labels("a")
    assert () == made.settle()


@walled()
def test_what_a_wrapper_leaves_running_is_its_leak(tmp_path: Path) -> None:
    """A process that outlives the wrapper by itself is told by its name."""
    made = bench(tmp_path)
    wrapper = built(made, tmp_path, "sleep 600 >/dev/null 2>&1 &")
    wrapper.write(Step(name="a"))
    assert exited(0) == wrapper.build().status
    assert ["process sleep"] == [str(leak) for leak in made.settle()]


def test_only_a_gate_with_our_nonce_is_a_record(make: Make) -> None:
    """Nobody has come: not proven; nor by a stranger at the socket."""
    wrapper = make("exit 0")
    wrapper.write(Step(name="a"))
    assert exited(0) == wrapper.build().status
    assert not wrapper.proven
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger, wrapper.begin() as build:
        stranger.connect(str(wrapper.gatehouse.path))
        stranger.send(b'{"record":"ready","nonce":"another"}')
        stranger.shutdown(socket.SHUT_WR)
        build.end()
    assert (False, []) == (wrapper.proven, wrapper.ran())


def test_a_record_of_a_script_is_a_proof(make: Make, made: Bench) -> None:
    """One gate that was reached is enough."""
    wrapper = make()
    wrapper.write(Step(name="a"))
    wrapper.build()
    assert wrapper.proven
    assert made.proven


def test_how_a_step_stands_is_said_in_our_words(make: Make) -> None:
    """By the wrapper's own command, whose words are translated; what it does not mention is unknown."""
    wrapper = make("echo a ok; echo b broken since yesterday; echo c", state=("s",), states={"ok": "done"})
    assert {"a": "done", "b": "broken"} == wrapper.states()
    assert ("done", "broken", "unknown") == tuple(map(wrapper.standing, "abc"))
    assert "exit" == wrapper.told("exit")


def test_a_stamp_tells_only_what_is_done(make: Make) -> None:
    """The file is there or not; without stamp and state nothing is told."""
    wrapper = make(stamp="{root}/{step}.ok")
    (wrapper.root / "a.ok").touch()
    assert ("done", "pending") == (wrapper.standing("a"), wrapper.standing("b"))
    assert ("done", "pending") == (wrapper.told("done"), wrapper.told("exit"))


def test_a_stamp_with_words_tells_what_they_stand_for(make: Make) -> None:
    """Its first word is one of the profile's; whatever failure we ask for, it has one word for all."""
    words = {"COMPLETED": "done", "FAILED": "failed"}
    wrapper = make(stamp="{root}/{step}.state", states=words, files={"{root}/a.state": "COMPLETED\n"})
    wrapper.write()
    (wrapper.root / "b.state").write_text("FAILED\n")
    (wrapper.root / "c.state").touch()
    assert ("done", "failed", "unknown", "pending") == tuple(map(wrapper.standing, "abcd"))
    assert ("done", "pending") == (wrapper.told("done"), wrapper.told("pending"))
    assert "failed" == wrapper.told("exit") == wrapper.told("disk-full")


def test_a_wrapper_that_tells_nothing_is_asked_nothing(make: Make) -> None:
    """Any state is as good as another."""
    wrapper = make()
    assert wrapper.told("done") == wrapper.told("exit") == wrapper.standing("a") == "not told"


def test_logs_are_found_by_step_the_oldest_first(make: Make) -> None:
    """Also where the root's path has characters of a pattern in it."""
    wrapper = make(log="{root}/{step}.*.log")
    other = wrapper.beside("[x]")
    for name in ("a.2.log", "a.1.log", "b.1.log"):
        (other.root / name).touch()
    assert [other.root / "a.1.log", other.root / "a.2.log"] == wrapper.logs("a", at=other)
    assert [] == wrapper.logs("a")


@pytest.mark.parametrize(("signals", "wanted"), [("128+n", exited(139)), ("-n", exited(245)), ("n", killed(11))])
def test_death_of_a_script_shows_as_the_profile_says(make: Make, signals: str, wanted: object) -> None:
    """As a code in one of two ways, or as the signal itself."""
    assert wanted == make(signals=signals).ended_by(11)


def test_a_wrapper_that_must_stand_in_its_root_is_copied_there(make: Make) -> None:
    """With its neighbours, and it is the copy that is called."""
    wrapper = make('echo "${0%/*}"; ls "${0%/*}"', run=("x",), install="{root}/scripts/wrapper")
    folder = wrapper.root / "scripts/wrapper"
    assert f"{folder}\nwrapper.sh\n" == wrapper.build().stdout.decode()


def test_a_root_is_removed_whatever_its_permissions_are(make: Make, made: Bench, tmp_path: Path) -> None:
    """Folders that nobody may enter are no reason to leave them; what a link points to is left as it is."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o711)
    wrapper = make(f'mkdir -p "$1/shut/in"; ln -s {outside} "$1/link"; chmod 0 "$1/shut/in" "$1/shut"')
    wrapper.write(Step(name="a"))
    assert exited(0) == wrapper.build().status
    assert () == settled(made)
    assert not made.folder.exists()
    assert 0o711 == outside.stat().st_mode & 0o777


def test_what_is_offered_is_what_the_profile_says(make: Make) -> None:
    """Calls and options by name, with dashes, arguments where the run takes them, and its own words."""
    wrapper = make(dry_run=("-n",), plan=("p",), offers=("resume",), profile=Profile(name="w", version=("-V",)))
    assert {"arguments", "dry-run", "plan", "resume", "root", "version"} == Wrapper.offers(wrapper.target)


@pytest.mark.parametrize("what", ["root", "root/scripts", "root/out"])
def test_a_link_that_a_wrapper_left_is_not_written_through(make: Make, tmp_path: Path, what: str) -> None:
    """A folder that is somebody else's is left alone, and the test fails for what the wrapper did."""
    outside = tmp_path / "outside"
    outside.mkdir()
    wrapper = make(f'rm -rf "${{1%/*}}/{what}"; ln -s {outside} "${{1%/*}}/{what}"')
    wrapper.write(Step(name="a"))
    wrapper.build()
    with pytest.raises(Unmet, match="leads out of it"):
        wrapper.write(Step(name="b"))
    assert [] == os.listdir(outside)


def test_a_script_that_became_a_link_is_written_anew(make: Make, tmp_path: Path) -> None:
    """Where it leads nothing is written."""
    (outside := tmp_path / "outside").write_text("precious")
    wrapper = make(f'ln -sf {outside} "$1/scripts/a.sh"')
    wrapper.write(Step(name="a"))
    wrapper.build()
    wrapper.write(Step(name="a"))
    assert ("precious", False) == (outside.read_text(), wrapper.place.script("a").is_symlink())


def test_a_root_that_is_gone_is_what_the_wrapper_did(make: Make) -> None:
    """Looking at it fails the test, in words, and is no error of the harness."""
    wrapper = make('rm -rf "$1"')
    wrapper.write(Step(name="a"))
    wrapper.build()
    with pytest.raises(Unmet, match="no manifest of root"):
        Inventory.take(wrapper.root)


def test_of_a_huge_log_the_end_is_read(make: Make) -> None:
    """A log of a terabyte without a block on the disk does not fill the memory."""
    wrapper = make('truncate --size=1T "$1/a.1.log"; echo end >>"$1/a.1.log"', log="{root}/{step}.*.log")
    wrapper.write(Step(name="a"))
    wrapper.build()
    (log,) = (piece.text for piece in wrapper.evidence() if piece.title == "log of a")
    assert "end\n" == log.lstrip("\0")
    assert 4096 == len(log)
