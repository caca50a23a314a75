"""Real packages: built again after changes, in order, compared, and refused."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from suites.framework.buildscripts.account import Account
from suites.framework.buildscripts.inventory import Inventory
from suites.framework.buildscripts.package import PHASES, Shelf
from suites.framework.buildscripts.workload import Source, Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.facts import Fact
from suites.framework.manifest import difference, manifest
from suites.framework.marks import case, offered, requires, weight
from suites.framework.process import exited

pytestmark = [requires(Fact.SOURCES, Fact.TOOLCHAIN), weight(30)]


@case("W18")
@offered("resume")
def test_second_run_starts_nothing(wrapper: Wrapper) -> None:
    r"""A build that is done is not done again: no script starts, no file is touched (make(1)).

    Why: a wrapper that builds ed again builds the compiler again, and everything behind it, each time.
    By hand:
        $WRAPPER run $ROOT; find $ROOT/out -printf '%p %T@\n' >before
        time $WRAPPER run $ROOT    # well below a second
        find $ROOT/out -printf '%p %T@\n' | diff before -    # nothing
    """
    shelf = Shelf.of(wrapper)
    wrapper.write(shelf.step("ed"))
    assert exited(0) == wrapper.build(options=shelf.options).status
    assert ["before", "after"] == wrapper.labels("ed")
    before = [Inventory.take(folder) for folder in (wrapper.artefacts, wrapper.root / "work")]
    again = wrapper.build(options=shelf.options)
    assert exited(0) == again.status
    assert ["before", "after"] == wrapper.labels("ed")  # of the first run
    after = [Inventory.take(folder) for folder in (wrapper.artefacts, wrapper.root / "work")]
    assert [[], []] == [old.changes(new) for old, new in zip(before, after, strict=True)]
    wrapper.note("second_run_s", again.seconds)


@case("W19")
@offered("resume", "sources")
def test_what_changed_is_built_again_with_what_needs_it(wrapper: Wrapper) -> None:
    """A changed script or source has its step and those that need it built again, and no other (make(1)).

    Why: a new libc under programs that were built against the old one; or a night of compiling for a comment.
    By hand:
        $WRAPPER run $ROOT; echo '# changed' >>$ROOT/scripts/user.sh; $WRAPPER run $ROOT    # user
        echo '# changed' >>$ROOT/scripts/ed.sh; $WRAPPER run $ROOT    # ed, then user, which needs it
        zcat $ROOT/sources/ed*.gz | gzip -1 >new; mv new $ROOT/sources/ed*.gz    # and its SHA-256 in scripts/ed.sh
        $WRAPPER run $ROOT    # ed and user again; the step `other` ran once
    """
    shelf = Shelf.of(wrapper)
    package = shelf.step("ed")
    user = Step(name="user", body="mark ran\n{artefacts}/usr/bin/ed --version >{artefacts}/version", needs=("ed",))
    wrapper.write(package, user, Step(name="other"))
    assert {"ed", "user", "other"} == set(_built(wrapper, shelf))
    wrapper.write(replace(user, body=f"{user.body}\n# changed"))
    assert ["user"] == _built(wrapper, shelf)
    package = replace(package, body=f"{package.body}\n# changed")
    wrapper.write(package)
    assert ["ed", "user"] == _built(wrapper, shelf)
    wrapper.write(replace(package, sources=(_packed_anew(package.sources[0]),)))
    assert ["ed", "user"] == _built(wrapper, shelf)
    assert [] == _built(wrapper, shelf)


def _built(wrapper: Wrapper, shelf: Shelf) -> list[str]:
    """Return the steps that one more run starts, in order."""
    seen = len(wrapper.ran())
    assert exited(0) == wrapper.build(options=shelf.options).status
    return list(dict.fromkeys(wrapper.ran()[seen:]))


def _packed_anew(source: Source) -> Source:
    return replace(source, content=gzip.compress(gzip.decompress(source.content), compresslevel=1, mtime=0))


@case("W41")
def test_two_builds_make_the_same(wrapper: Wrapper) -> None:
    """Two builds of a package make the same, and a byte, a file or a mode that differs is told by its path (cmp(1)).

    Why: "the artefacts are fine" is worth what the comparison notices.
    By hand:
        $WRAPPER run $ONE; $WRAPPER run $OTHER; diff -r $ONE/out $OTHER/out    # nothing
        (cd $ONE/out && find . -type f -exec sha256sum {} + >../sums); cd $OTHER/out && sha256sum -c ../../one/sums
        printf x | dd of=usr/bin/ed bs=1 seek=9 conv=notrunc; sha256sum -c ../../one/sums    # usr/bin/ed: FAILED
    """
    shelf = Shelf.of(wrapper)
    other = wrapper.beside("other")
    for place in (wrapper.place, other):
        wrapper.write(shelf.step("ed"), at=place)
        assert exited(0) == wrapper.build(options=shelf.options, at=place).status
    golden = manifest(wrapper.artefacts)
    assert ["usr", "usr/bin", "usr/bin/ed", "usr/bin/red"] == [entry.path for entry in golden.entries]
    assert () == difference(golden, manifest(other.artefacts))
    for number, (change, told) in enumerate(CHANGES):
        copy = shutil.copytree(other.artefacts, other.root / f"changed-{number}")
        change(copy / "usr/bin")
        found = difference(golden, manifest(copy))
        assert [told] == [f"{each.path} {' '.join(each.what.split()[:2])}" for each in found]


def _flip(folder: Path) -> None:
    """Change one bit in the middle of a file; its size and times stay."""
    path = folder / "ed"
    state, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


CHANGES: tuple[tuple[Callable[[Path], object], str], ...] = (
    (_flip, "usr/bin/ed changed: sha256"),
    (lambda folder: (folder / "extra").touch(0o755), "usr/bin/extra added"),
    (lambda folder: (folder / "red").unlink(), "usr/bin/red removed"),
    (lambda folder: (folder / "red").chmod(0o644), "usr/bin/red changed: mode"),
)
"""What is done to the folder of programs, and how it is told."""


@case("W15")
@offered("plan")
def test_package_is_built_behind_what_it_needs(wrapper: Wrapper) -> None:
    """The plan has what is needed first: bc does not build without ed, and does behind it (bc, bc/fix-libmath_h).

    Why: in the order of the alphabet, or of the book's older edition, a build ends after an hour with a tool missing.
    By hand:
        $WRAPPER plan $ROOT    # ed, bc
        # on a machine without ed: bc alone ends with 2 and "ed: command not found", and with scripts/ed.sh builds
    """
    shelf = Shelf.of(wrapper)
    bc = shelf.step(
        "bc", first=f"mark before\n{WITHOUT_ED}", last="mark after $(echo 6 \\* 7 | {artefacts}/usr/bin/bc)"
    )
    wrapper.write(replace(bc, needs=()))
    alone = wrapper.build(options=shelf.options)
    assert (exited(2), ["before"]) == (alone.status, wrapper.labels("bc"))
    if wrapper.call.log:
        assert "ed is not found" == _about_ed(wrapper.logs("bc")[-1].read_text(errors="replace"))
    wrapper.write(shelf.step("ed"), bc)
    assert ("ed", "bc") == wrapper.plan()
    assert exited(0) == wrapper.build(options=shelf.options).status
    assert ["bc", "ed", "ed", "bc", "bc"] == wrapper.ran()
    assert (b"42",) == wrapper.gatehouse.seen[-1].words


WITHOUT_ED = """\
mkdir -p {root}/bin
ln -sf /usr/bin/* {root}/bin
rm -f {root}/bin/ed
PATH={artefacts}/usr/bin:{root}/bin"""
"""Leaves of the machine's programs all but ed."""


def _about_ed(log: str) -> str:
    """Return what shells say of a program that is not there, each in its way."""
    return "ed is not found" if re.search(r"\bed: (command )?not found", log) else f"nothing of ed: {log[-200:]}"


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


SPOILT: dict[str, Callable[[Path], object]] = {
    "tampered": _flipped,
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 1),
    "wrong-name": lambda path: path.rename(path.with_name(f"{path.name}.1")),
}
"""What is wrong with a source archive."""


@case("W44")
@offered("sources")
@pytest.mark.parametrize("what", SPOILT)
def test_source_that_is_another_is_refused(wrapper: Wrapper, what: str) -> None:
    """A source that is not what its script says is named, and nothing is unpacked (sha256sum(1)).

    Why: a download that broke off, or a mirror that was broken into, is found before it is executed.
    By hand:
        printf x | dd of=$ROOT/sources/ed_1.19.orig.tar.gz bs=1 seek=99 conv=notrunc
        $WRAPPER run $ROOT; echo $?    # names it; 69; no work/ed
        # and the same for one that is a byte short, or has another name
    """
    shelf = Shelf.of(wrapper)
    step = shelf.step("ed")
    wrapper.write(step)
    name = step.sources[0].name
    archive = wrapper.place.path(wrapper.call.sources) / name
    SPOILT[what](archive)
    ended = wrapper.build(options=shelf.options)
    assert (exited(wrapper.call.precluded), []) == (ended.status, wrapper.ran())
    assert name == (name if name.encode() in ended.stderr else "its name is not told")
    assert "absent" == ("there" if (wrapper.root / "work").exists() else "absent")
    archive.write_bytes(step.sources[0].content)
    assert exited(0) == wrapper.build(options=shelf.options).status
    assert ["before", "after"] == wrapper.labels("ed")


@case("W31")
@offered("log")
@weight(60)
@pytest.mark.parametrize("name", ["ed", "lzip", "bc", "zlib"])
def test_package_passes_its_own_tests(wrapper: Wrapper, name: str) -> None:
    """A package is built step by step, each with a log, and passes its own tests (GNU standards, 7.2.6, "check").

    Why: what compiles may still compute nonsense; and who plans a night of building wants to know what each step takes.
    What every step used, and how many tests there were, stands in the report.
    By hand:
        $WRAPPER run $ROOT    # unpack, configure, build, check, install
        grep 'tests completed successfully' $ROOT/.build/check.*.log; /usr/bin/time -v make    # for comparison
    """
    shelf = Shelf.of(wrapper)
    package = shelf.packages[name]
    wrapper.write(*map(shelf.step, package.needs), *shelf.steps(name, metered=True))
    account = Account(wrapper, package)
    with wrapper.begin(options=shelf.options) as build:
        ended = account.follow(build)
        account.keep_logs()
        assert "none failed" == account.tests().verdict(wanted=not package.tests.absent)
        assert dict.fromkeys(PHASES, 0) == {phase: used.code for phase, used in account.steps.items()}
        assert exited(0) == ended.status
    assert list(PHASES) == [phase for phase in account.steps if wrapper.logs(phase)]
    assert "made" == ("made" if (wrapper.artefacts / package.made).exists() else "absent")
