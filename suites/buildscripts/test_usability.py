"""Calling a wrapper: help, wrong calls, where there is nothing yet, odd names and places, and too little privilege."""

from __future__ import annotations

import shutil

import pytest

from suites.framework import probes
from suites.framework.buildscripts.enclosure import denying
from suites.framework.buildscripts.inventory import Inventory
from suites.framework.buildscripts.workload import Place, Step, filled
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires
from suites.framework.process import Status, exited

OPERATIONS = ("unshare", "mount")
NAMES = ("ü ö*" * 25, "日本 'n\"" * 15 + "$x;")
"""Two folders, one in the other: together above 200 characters, each below the 255 bytes of a name (limits.h)."""


@case("W47")
@requires(Fact.SECCOMP)
@pytest.mark.parametrize("what", [pytest.param(name, marks=offered(name)) for name in ("chroot", "isolated")])
def test_missing_privilege_precludes_what_needs_it(wrapper: Wrapper, what: str) -> None:
    """Where no namespace can be made, what needs one is precluded and the operation named (sysexits.h, 69; unshare(2)).

    Why: in a container with the usual filter a chroot phase fails like a broken package, or is left out and green.
    By hand:
        docker run --rm -v $ROOT:$ROOT -v $WRAPPER:/w IMAGE /w run --chroot $ROOT; echo $?    # names unshare; 69
        docker run --rm -v $ROOT:$ROOT -v $WRAPPER:/w IMAGE /w run $ROOT; echo $?    # 0
        # and the same with --no-network
    """
    wrapper.through = denying(wrapper.bench)
    wrapper.write(Step(name="a"))
    before = Inventory.take(wrapper.root)
    ended = wrapper.build(options=wrapper.option(what))
    said = ended.stderr.decode(errors="replace")
    named = "named" if any(word in said for word in OPERATIONS) else "not named on stderr"
    assert (exited(wrapper.call.precluded), "named", []) == (ended.status, named, wrapper.ran())
    assert [] == before.changes(Inventory.take(wrapper.root))
    assert wrapper.told("pending") == wrapper.standing("a")
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()


@case("W48")
@offered("help")
def test_help_works_anywhere(wrapper: Wrapper) -> None:
    """Help goes to standard output with exit code 0, needs no folder and no HOME, and writes nothing (GNU, 4.8.2).

    Why: whoever asks for help is the one who has not set anything up yet.
    By hand:
        cd / && env -u HOME $WRAPPER --help; echo $?    # how to call it; 0
    """
    _built(wrapper)
    _tells(wrapper, wrapper.call.help)


@case("W48")
@offered("version")
def test_version_works_anywhere(wrapper: Wrapper) -> None:
    """The version goes to standard output with exit code 0, needs no folder, and writes nothing (GNU, 4.8.1).

    Why: the first line of every bug report.
    By hand:
        cd / && env -u HOME $WRAPPER --version; echo $?    # a version; 0
    """
    _built(wrapper)
    said = _tells(wrapper, wrapper.target.profile.version)
    assert "a number" == ("a number" if any(map(str.isdigit, said)) else f"no number in {said.strip()}")


def _built(wrapper: Wrapper) -> None:
    wrapper.write(Step(name="a"))
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()


def _tells(wrapper: Wrapper, words: tuple[str, ...]) -> str:
    """Return what a question prints in a place where nothing is, having seen that it changes nothing."""
    bare = wrapper.beside("bare")
    wrapper.through = [probes.tool("env"), "--chdir=/", "--unset=HOME"]
    wrapper.called(*words, at=bare)  # installs its copy, where the profile wants one
    before = Inventory.take(bare.root)
    ended = wrapper.called(*words, at=bare)
    said = {"output": ended.stdout.strip(), "errors": ended.stderr.strip()}
    assert (exited(0), ["output"]) == (ended.status, [name for name, text in said.items() if text])
    assert [] == before.changes(Inventory.take(bare.root))
    return ended.stdout.decode(errors="replace")


@case("W48")
def test_unknown_option_is_refused_before_anything_starts(wrapper: Wrapper) -> None:
    """An option that it does not know is a wrong call: named, and nothing runs or is written (sysexits.h, 64).

    Why: `--dryrun` for `--dry-run`, and the build begins.
    By hand:
        $WRAPPER run --no-such-option $ROOT; echo $?    # names it; 64; ls -a $ROOT as before
    """
    wrapper.write(Step(name="a"))
    wrapper.called("--no-such-option")  # installs its copy, where the profile wants one
    before = Inventory.take(wrapper.root)
    status, said = _with_option(wrapper, "--no-such-option")
    named = "named" if "no-such-option" in said else "not named on stderr"
    assert (exited(wrapper.call.usage), "named", []) == (status, named, wrapper.ran())
    assert [] == before.changes(Inventory.take(wrapper.root))
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()


def _with_option(wrapper: Wrapper, option: str) -> tuple[Status, str]:
    """Call it with an option, in front of everything where the profile has no place for one."""
    if "{options}" in wrapper.call.run:
        ended = wrapper.build(options=(option,))
    else:
        ended = wrapper.called(option, *_run_words(wrapper, "a"))
    return ended.status, ended.stderr.decode(errors="replace")


def _run_words(wrapper: Wrapper, step: str) -> list[str]:
    words = (word for word in wrapper.call.run if word not in ("{options}", "{arguments}"))
    return [filled(word, root=str(wrapper.root), step=step) for word in words]


@case("W48")
def test_root_with_nothing_but_scripts_is_built(wrapper: Wrapper) -> None:
    """Folders that are not there yet are made, or named in a refusal with a documented code (mkdir(1), -p).

    Why: the first call is the one that everybody makes, and nobody tests.
    By hand:
        rm -r $ROOT/out $ROOT/.build
        $WRAPPER run $ROOT; echo $?    # 0
    """
    wrapper.write(Step(name="a", body="mark ran\nmkdir -p {artefacts}"))
    folders = [wrapper.place.path(folder) for folder in wrapper.call.folders if "{step}" not in folder]
    for folder in sorted((*folders, wrapper.artefacts), reverse=True):
        if folder.is_dir() and folder not in wrapper.place.script("a").parents:
            shutil.rmtree(folder)
    ended = wrapper.build()
    call = wrapper.call
    codes = {exited(call.usage), exited(call.precluded), exited(call.infrastructure)}
    named = any(str(folder).encode() in ended.stderr for folder in folders)
    refused = ended.status in codes and named and not wrapper.ran()
    built = (exited(0), ["a"]) == (ended.status, wrapper.ran())
    assert "built, or refused" == ("built, or refused" if built or refused else f"{ended.status}, {wrapper.ran()}")
    wrapper.write(Step(name="a", body="mark ran\nmkdir -p {artefacts}"))
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()


@case("W48")
@offered("root")
def test_root_that_is_not_there_is_refused(wrapper: Wrapper) -> None:
    """A root folder that does not exist is a wrong call: it is named, and not made (sysexits.h, 64).

    Why: a slip of the pen builds a second system beside the first one.
    By hand:
        $WRAPPER run /nowhere/at/all; echo $?    # names it; 64
    """
    _built(wrapper)
    absent = Place(root=wrapper.root / "nowhere", call=wrapper.call)
    ended = wrapper.build(at=absent)
    named = "named" if str(absent.root).encode() in ended.stderr else "not named on stderr"
    assert (exited(wrapper.call.usage), "named") == (ended.status, named)
    assert "absent" == ("there" if absent.root.exists() else "absent")


@case("W48")
def test_name_that_leads_out_of_the_scripts_is_refused(wrapper: Wrapper) -> None:
    """A name of a step with `..` in it is no name: nothing outside of the scripts runs (CWE-22; path_resolution(7)).

    Why: `build ../../tmp/x`, as root.
    By hand:
        # in $ROOT/scripts/a.sh: # needs: ../../beside/scripts/evil
        $WRAPPER run $ROOT; echo $?    # 64 or 65, and evil has not run
    """
    beside = wrapper.beside("beside")
    wrapper.write(Step(name="evil", body="mark outside"), at=beside)
    name = f"{_up(wrapper)}/{beside.script('evil').relative_to(beside.root.parent)}"
    suffix = wrapper.place.script("x").name.partition("x")[2]
    name = name.removesuffix(suffix)
    wrapper.write(Step(name="a", needs=(name,)))
    ended = wrapper.called(*_run_words(wrapper, name)) if wrapper.stepwise else wrapper.build()
    code = "refused" if ended.status in (exited(wrapper.call.usage), exited(wrapper.call.plan_error)) else "not refused"
    assert ("refused", []) == (code, wrapper.ran())
    wrapper.write(Step(name="a"))
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()


def _up(wrapper: Wrapper) -> str:
    """Return the way from the folder of scripts to that of all roots."""
    return "/".join([".."] * len(wrapper.place.script("x").parent.relative_to(wrapper.root.parent).parts))


@case("W48")
def test_long_path_with_odd_characters_is_a_root(wrapper: Wrapper) -> None:
    """A root whose path has above 200 characters, blanks, quotes and stars among them, is built (path_resolution(7)).

    Why: one pair of quotes is missing in the wrapper. A name is of any bytes but NUL and "/".
    By hand:
        ROOT="/tmp/$(printf 'ü ö*%.0s' {1..25})/日本 'n;"; mkdir -p "$ROOT"    # with scripts/a.sh in it
        $WRAPPER run "$ROOT"; echo $?    # 0
        $WRAPPER run "$ROOT"; echo $?    # 0, and nothing starts
    """
    outer = wrapper.beside(NAMES[0])
    place = Place(root=outer.root / NAMES[1], call=wrapper.call)
    assert "long" == ("long" if len(str(place.root)) > 200 else "short")
    wrapper.write(Step(name="a", body="mark ran\necho made >{artefacts}/a"), at=place)
    assert exited(0) == wrapper.build(at=place).status
    assert (["a"], wrapper.told("done")) == (wrapper.ran(), wrapper.standing("a", at=place))
    assert "made\n" == (place.artefacts / "a").read_text()
    if "resume" in Wrapper.offers(wrapper.target):
        assert exited(0) == wrapper.build(at=place).status
        assert ["a"] == wrapper.ran()


@case("W48")
@offered("root")
def test_root_by_a_symbolic_link_is_no_second_root(wrapper: Wrapper) -> None:
    """A root that is reached by a symbolic link is refused, or the same root with one state (path_resolution(7)).

    Why: /mnt/lfs is a link to a disk, and one call by each name makes two locks and builds everything twice.
    By hand:
        ln -s $ROOT /tmp/link
        $WRAPPER run /tmp/link; echo $?    # 64
        # or 0, and then: $WRAPPER run $ROOT    # starts nothing
    """
    wrapper.write(Step(name="a"))
    link = Place(root=wrapper.root.with_name("link"), call=wrapper.call)
    link.root.symlink_to(wrapper.root.name)
    wrapper.bench.own(link.root.unlink)
    wrapper.write(Step(name="a"), at=link)
    before = Inventory.take(wrapper.root)
    ended = wrapper.build(at=link)
    refused = ended.status == exited(wrapper.call.usage) and not wrapper.ran()
    if refused:
        assert [] == before.changes(Inventory.take(wrapper.root))
    else:
        assert (exited(0), ["a"]) == (ended.status, wrapper.ran())
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()
