"""The order of steps, and what a wrapper knows of them the next time: plans, dry runs, damaged state, failures."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from suites.catalog import Privilege
from suites.framework.buildscripts.build import Ended
from suites.framework.buildscripts.enclosure import Enclosure
from suites.framework.buildscripts.inventory import Inventory
from suites.framework.buildscripts.workload import Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires, within
from suites.framework.process import exited

ACCIDENTS = (b"Traceback (", b"panicked at", b"unbound variable", b"syntax error", b"Segmentation", b"null byte")
"""Words of programs that met what they had not thought of."""


@case("W16")
@offered("needs")
def test_unknown_need_ends_the_build_before_it_begins(wrapper: Wrapper) -> None:
    r"""A need that is no script is a bad plan: who needs whom is said, and nothing is started (sysexits.h, 65).

    Why: a dependency that was misspelt is ignored, and the build fails three hours later for want of it.
    By hand:
        printf '#!/bin/bash\n# needs: phantom\n' >$ROOT/scripts/needy.sh
        $WRAPPER run $ROOT; echo $?    # names needy and phantom; 65; nothing was built
    """
    wrapper.write(Step(name="alone"), Step(name="needy", needs=("alone", "phantom")))
    _is_a_bad_plan(wrapper, "needy", "phantom")
    wrapper.write(Step(name="phantom"))
    _is_built(wrapper, "alone", "needy", "phantom")


@case("W16")
@offered("needs")
@pytest.mark.parametrize("length", [1, 2, 3])
def test_cycle_ends_the_build_before_it_begins(wrapper: Wrapper, length: int) -> None:
    r"""Steps that need each other in a circle are a bad plan: all are named, and nothing is started (tsort(1p)).

    Why: a cycle that is cut somewhere silently gives another order on the next machine.
    By hand:
        printf '#!/bin/bash\n# needs: ring2\n' >$ROOT/scripts/ring1.sh
        printf '#!/bin/bash\n# needs: ring1\n' >$ROOT/scripts/ring2.sh
        $WRAPPER run $ROOT; echo $?    # names ring1 and ring2; 65; nothing was built
    """
    ring = [f"ring{number}" for number in range(1, length + 1)]
    wrapper.write(Step(name="alone"), Step(name="beyond", needs=(ring[0],)))
    wrapper.write(*(Step(name=name, needs=(need,)) for name, need in zip(ring, [*ring[1:], ring[0]], strict=True)))
    _is_a_bad_plan(wrapper, *ring)
    wrapper.write(Step(name=ring[-1]))
    _is_built(wrapper, "alone", "beyond", *ring)


def _is_a_bad_plan(wrapper: Wrapper, *names: str) -> None:
    """Show that a build is refused before anything is written, and that it names these steps."""
    before = Inventory.take(wrapper.root)
    ended = wrapper.build()
    assert exited(wrapper.call.plan_error) == ended.status
    assert list(names) == [name for name in names if name.encode() in ended.stderr]
    assert [] == before.changes(Inventory.take(wrapper.root))
    assert [] == wrapper.ran()


def _is_built(wrapper: Wrapper, *names: str) -> None:
    assert exited(0) == wrapper.build().status
    assert sorted(names) == sorted(wrapper.ran())


@case("W17")
@offered("dry-run", "needs")
def test_dry_run_tells_the_plan_and_leaves_no_trace(wrapper: Wrapper) -> None:
    r"""A dry run prints the steps in the order of their needs, and writes nothing: no lock, no log (make(1), -n).

    Why: a look at the plan that touches a stamp makes the next real build skip something.
    By hand:
        find $ROOT -printf '%p %T+\n' | sort >before
        $WRAPPER run --dry-run $ROOT; echo $?    # a, c, b: 0
        find $ROOT -printf '%p %T+\n' | sort | diff before -    # nothing
    """
    wrapper.write(Step(name="a"), Step(name="b", needs=("a", "c")), Step(name="c", needs=("a",)))
    before = Inventory.take(wrapper.root)
    ended = wrapper.build(options=wrapper.option("dry_run"))
    assert [] == before.changes(Inventory.take(wrapper.root))
    assert exited(0) == ended.status
    assert [] == wrapper.ran()
    assert exited(0) == wrapper.build().status
    assert ["a", "c", "b"] == wrapper.ran()
    assert wrapper.ran() == _names(ended, "a", "b", "c")


def _names(ended: Ended, *names: str) -> list[str]:
    """Return those words of what was printed that are names of steps."""
    return [word for word in ended.stdout.decode(errors="backslashreplace").split() if word in names]


@case("W21")
@offered("resume", "root")
@requires(Fact.USER_NAMESPACE)
def test_step_whose_stamp_did_not_fit_on_the_disk_is_not_done(wrapper: Wrapper) -> None:
    r"""A disk that is full when a step's end is to be written down: a failed build, and no step is done (write(2)).

    Why: `echo done >stamp` on a full disk leaves an empty stamp, and its status is looked at by nobody.
    By hand:
        mount -t tmpfs -o size=256k none $ROOT    # and scripts in it
        printf '#!/bin/bash\ncat /dev/zero >$LFS/fill || true\n' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; echo $?    # not 0
        rm $ROOT/fill; $WRAPPER run $ROOT    # builds a again
    """
    fill = "mark begun || cat /dev/zero >{artefacts}/fill 2>/dev/null || true\nmark ended"
    wrapper.write(Step(name="a", body=fill), Step(name="b", needs=("a",)))
    enclosure = Enclosure(wrapper.bench)
    enclosure.mount(wrapper.root, size="256k")
    shutil.copytree(wrapper.root, enclosure.inside(wrapper.root), dirs_exist_ok=True)
    wrapper.behind(enclosure)
    with wrapper.begin() as build:
        build.gate("a", "begun").open(1)
        full = enclosure.inside(wrapper.artefacts / "fill")
        build.gate("a", "ended").open()
        assert "a failure" == ("success" if build.end().status == exited(0) else "a failure")
    assert "not done" == _done(wrapper, "a")
    full.unlink()
    assert exited(0) == wrapper.build().status
    assert ["a", "a", "a", "a", "b"] == wrapper.ran()
    assert "done" == _done(wrapper, "a")


def _done(wrapper: Wrapper, step: str) -> str:
    """Return whether the wrapper says that a step is done."""
    return "done" if wrapper.standing(step) == wrapper.told("done") else "not done"


@case("W21")
@offered("resume", "state", "state-file")
def test_torn_stamp_is_no_stamp(wrapper: Wrapper) -> None:
    """What a wrapper wrote down of a step that is done does not count where its end is missing (rename(2)).

    Why: the machine went down while `stamp` was written; afterwards it says `done` of a step that no longer is.
    By hand:
        $WRAPPER run $ROOT; truncate -s 4 $ROOT/.build/a    # of a wrapper that keeps its state there
        $WRAPPER state $ROOT    # a is not done
        $WRAPPER run $ROOT    # builds a again
    """
    wrapper.write(Step(name="a"))
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()
    file = wrapper.place.path(wrapper.call.state_file, step="a")
    content = file.read_bytes()
    assert "done" == _done(wrapper, "a")
    for length in sorted({0, 1, *_ends_of_words(content), len(content) // 2, len(content) - 1}):
        file.write_bytes(content[:length])
        assert f"{length} of {len(content)} bytes: not done" == (
            f"{length} of {len(content)} bytes: {_done(wrapper, 'a')}"
        )
    assert exited(0) == wrapper.build().status
    assert ["a", "a"] == wrapper.ran()


def _ends_of_words(content: bytes) -> list[int]:
    """Return the ends of words in it, where what is torn looks whole."""
    return [found.end() for found in re.finditer(rb"\w+", content) if found.end() < len(content)]


def _newer(content: bytes) -> bytes:
    """Return a state as a later version of its format may look."""
    try:
        known = json.loads(content)
    except ValueError:
        known = {"state": "done"}
    fields = known if isinstance(known, dict) else {"state": known}
    return json.dumps({**fields, "schema": 99, "version": 99}).encode() + b"\n"


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _holding(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def written(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return written


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": _holding(lambda content: content[:0]),
    "nul-bytes": _holding(lambda content: bytes(len(content))),
    "truncated": _holding(lambda content: content[: len(content) // 2]),
    "truncated-json": _holding(lambda content: _newer(content)[:-3]),
    "newer-schema": _holding(_newer),
    "not-text": _holding(lambda content: content[:-1] + b"\xff\xfe\n\x80"),
    "directory": _folder,
}
"""What may have become of a file that says how a step stands."""


@case("W23")
@offered("resume", "state-file")
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_state_is_rebuilt_or_refused(wrapper: Wrapper, damage: str) -> None:
    """State that makes no sense is built again, or refused by its name, as documented; it is never `done` (fsck(8)).

    Why: a power cut leaves files of NUL bytes, and a wrapper that reads them as `done` skips what it never built.
    By hand:
        $WRAPPER run $ROOT; : >$ROOT/.build/a    # of a wrapper that keeps its state there
        $WRAPPER run $ROOT; echo $?    # builds a again, or names the file; no traceback
        # and the same for NUL bytes, half of it, {"schema": 99}, a folder
    """
    _survives(wrapper, damage, DAMAGES[damage])


@case("W23")
@offered("resume", "state-file")
@within(privilege=Privilege.ROOTLESS)  # root reads it all the same
def test_state_that_cannot_be_read_is_rebuilt_or_refused(wrapper: Wrapper) -> None:
    """State that may not be read is built again, or refused by its name, as documented; it is never `done` (access(2)).

    Why: once run with sudo, and from then on the wrapper's own files are somebody else's.
    By hand:
        $WRAPPER run $ROOT; chmod 0 $ROOT/.build/a    # of a wrapper that keeps its state there
        $WRAPPER run $ROOT; echo $?    # builds a again, or names the file; no traceback
    """
    _survives(wrapper, "unreadable", lambda path: path.chmod(0))


def _survives(wrapper: Wrapper, damage: str, change: Callable[[Path], None]) -> None:
    """Damage the state of a step that is done; show that it is not taken for done, and that the root can be mended."""
    wrapper.write(Step(name="a"), Step(name="b", needs=("a",)))
    assert exited(0) == wrapper.build().status
    assert exited(0) == wrapper.build().status
    assert ["a", "b"] == wrapper.ran()
    file = wrapper.place.path(wrapper.call.state_file, step="a")
    change(file)
    assert "not done" == _done(wrapper, "a")
    ended = wrapper.build()
    assert wrapper.call.damaged.get(damage, "rebuilt") == _outcome(wrapper, ended, file)
    assert [] == [word for word in ACCIDENTS if word in ended.stdout + ended.stderr]
    file.rmdir() if file.is_dir() else file.unlink()
    assert exited(0) == wrapper.build().status
    assert wrapper.told("done") == wrapper.standing("a")


def _outcome(wrapper: Wrapper, ended: Ended, file: Path) -> str:
    """Return what became of a step whose state was damaged: ``rebuilt``, ``refused`` or neither."""
    again = "rebuilt" if wrapper.ran()[2:3] == ["a"] else "not rebuilt"
    if ended.status == exited(0):
        return again
    named = "its file named" if str(file).encode() in ended.stderr else "its file not named"
    said = f"{ended.status}, {again}, {named}"
    return "refused" if said == f"{exited(wrapper.call.infrastructure)}, not rebuilt, its file named" else said


@case("W24")
@offered("resume", "log", "needs")
def test_build_goes_on_where_it_failed(wrapper: Wrapper) -> None:
    """After a script was mended, the build goes on with it, and the log of what failed is still there (make(1)).

    Why: the log of the first attempt is what the report of the bug needs, and the second attempt overwrites it.
    By hand:
        $WRAPPER run $ROOT    # a succeeds, b fails: exit 7
        vi $ROOT/scripts/b.sh; $WRAPPER run $ROOT    # starts b and c, not a
        ls $ROOT/.build/b.*.log    # two of them
    """
    wrapper.write(
        Step(name="a"),
        Step(name="b", needs=("a",), body="mark failing\necho first attempt\nexit 7"),
        Step(name="c", needs=("b",)),
    )
    assert exited(7) == wrapper.build().status
    assert ["a", "b"] == wrapper.ran()
    assert wrapper.told("exit") == wrapper.standing("b")
    (first,) = wrapper.logs("b")
    assert b"first attempt\n" == first.read_bytes()
    wrapper.write(Step(name="b", needs=("a",), body="mark mended\necho second attempt"))
    assert exited(0) == wrapper.build().status
    assert ["a", "b", "b", "c"] == wrapper.ran()
    assert ["failing", "mended"] == wrapper.labels("b")
    assert [b"first attempt\n", b"second attempt\n"] == [log.read_bytes() for log in wrapper.logs("b")]
