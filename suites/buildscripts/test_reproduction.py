"""The same package built elsewhere, at the same time, by another user: the same artefacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pytest

from suites.framework.buildscripts.gate import Gate
from suites.framework.buildscripts.package import NIGHTLY, Shelf
from suites.framework.buildscripts.workload import Place, Step, filled
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.facts import Fact
from suites.framework.manifest import Manifest, difference, manifest
from suites.framework.marks import case, offered, requires, tier, weight
from suites.framework.process import exited

pytestmark = [requires(Fact.SOURCES, Fact.TOOLCHAIN), weight(30)]

ELSEWHERE = {"LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8", "LANGUAGE": "tr", "TZ": "Asia/Kathmandu"}
"""Of a caller in whose language the capital of i is not I, and whose clock is a quarter of an hour off."""
SECRETIVE = ("/bin/sh", "-c", 'umask 077; exec "$0" "$@"')
"""Words in front of a caller that lets nobody else read what he writes."""
LARGER = ("hello", "gzip", "sed", "grep", "patch", "xz", "m4")
OVERNIGHT = [pytest.param(name, marks=[tier(NIGHTLY), weight(200)]) for name in LARGER]


def _made(
    wrapper: Wrapper,
    shelf: Shelf,
    step: Step,
    *,
    at: Place | None = None,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    through: Sequence[str] = (),
) -> Manifest:
    """Build the step of a package and return what it made."""
    place = at or wrapper.place
    wrapper.write(step, at=place)
    chosen = (*shelf.options, *options)
    with wrapper.begin(options=chosen, environment=environment, through=through, at=place) as build:
        assert exited(0) == build.end(within=shelf.patience(step.name)).status
    return manifest(place.artefacts)


@case("W10")
@offered("environment")
def test_package_is_built_with_the_declared_values(wrapper: Wrapper) -> None:
    r"""LFS, LFS_TGT, LC_ALL, TZ and umask are as declared for any caller, and the artefacts are the same (LFS, 4.4).

    Why: built by a caller with umask 077, the new system's programs are executable for root alone.
    By hand:
        $WRAPPER run $ROOT; (cd $ROOT/out && find . -type f -exec sha256sum {} + ; find . -printf '%m %p\n') >one
        umask 077; LANG=tr_TR.UTF-8 TZ=Asia/Kathmandu $WRAPPER run $OTHER    # the same for $OTHER/out
    """
    shelf = Shelf.of(wrapper)
    step = shelf.step("ed", first='mark before "$(umask)"')
    control = _made(wrapper, shelf, step, at=wrapper.beside("control"))
    assert () == difference(control, _made(wrapper, shelf, step, environment=ELSEWHERE, through=SECRETIVE))
    assert ["before", "after"] * 2 == wrapper.labels("ed")
    gate = wrapper.gatehouse.seen[2]
    assert (b"0022",) == gate.words
    assert _declared(wrapper) == {name: value for name, value in _values(gate).items() if name in _declared(wrapper)}


def _declared(wrapper: Wrapper) -> dict[str, str]:
    """Return the values that the profile declares for the scripts of this root."""
    wanted = ("LFS", "LFS_TGT", "LC_ALL", "LANG", "TZ")
    entries = (filled(entry, root=str(wrapper.root)).partition("=") for entry in wrapper.call.environment)
    return {name: value for name, _, value in entries if name in wanted}


def _values(gate: Gate) -> dict[str, str]:
    entries = (entry.decode(errors="backslashreplace").partition("=") for entry in gate.state.environment)
    return {name: value for name, _, value in entries}


@case("W28")
@offered("log")
def test_two_roots_are_built_at_the_same_time(wrapper: Wrapper) -> None:
    """Builds in different roots know nothing of each other: both make the same, each logs its own (make(1)).

    Why: a lock or a folder in /tmp with one name for all, and the second build waits, or reads the first one's files.
    By hand:
        $WRAPPER run $ONE & $WRAPPER run $OTHER; wait
        diff -r $ONE/out $OTHER/out    # nothing; and each log speaks of its own root
    """
    shelf = Shelf.of(wrapper)
    alone = _made(wrapper, shelf, shelf.step("ed"), at=wrapper.beside("alone"))
    one, other = wrapper.beside("one"), wrapper.beside("other")
    for place in (one, other):
        name = place.root.name
        step = shelf.step("ed", first=f"echo this is {name}\nmark {name}", last=f"echo this was {name}\nmark after")
        wrapper.write(step, at=place)
    with wrapper.begin(options=shelf.options, at=one) as first:
        held = first.gate("ed", "one")
        with wrapper.begin(options=shelf.options, at=other) as second:
            second.gate("ed", "other").open()  # the first one stands at its gate: neither waits for the other
            held.open()
            assert [exited(0), exited(0)] == [build.end().status for build in (second, first)]
    assert [(), ()] == [difference(alone, manifest(place.artefacts)) for place in (one, other)]
    assert [["this is one", "this was one"], ["this is other", "this was other"]] == [
        _said(wrapper, place) for place in (one, other)
    ]


def _said(wrapper: Wrapper, place: Place) -> list[str]:
    (log,) = wrapper.logs("ed", at=place)
    return [line for line in log.read_text(errors="replace").splitlines() if line.startswith("this ")]


COMPILER = r"""mark before
{
    echo '#!/bin/bash'
    declare -f mark
    echo 'mark begun; c++ "$@"; code=$?; mark over; exit $code'
} >{root}/compiler
chmod +x {root}/compiler"""
"""Makes a compiler that records when it begins and when it is over."""


@case("W30")
@offered("jobs")
@weight(60)
def test_no_more_compilers_than_jobs(wrapper: Wrapper) -> None:
    """As many compilers run at once as there are jobs, and what they make does not depend on it (make(1), -j).

    Why: -j without its number starts a compiler for every file, and the machine swaps for an hour.
    By hand:
        $WRAPPER run --jobs 3 $ROOT & watch 'pgrep -c cc1plus'    # never more than 3
        # and with --jobs 1 and 8: the same sums in $ROOT/out
    """
    shelf = Shelf.of(wrapper)
    step = shelf.step("lzip", first=COMPILER, make=("CXX={root}/compiler",))
    made = {}
    for jobs in (1, 3, 8):
        place = wrapper.beside(f"jobs-{jobs}")
        wrapper.write(step, at=place)
        options = (*shelf.options, *wrapper.option("jobs", jobs=jobs))
        with wrapper.begin(options=options, at=place) as build:
            for gate in [build.gate("lzip", "begun") for _ in range(jobs)]:  # so many do run at once
                gate.open()
            assert exited(0) == build.end().status
            assert jobs == _peak(build.gates)
        made[jobs] = manifest(place.artefacts)
    assert [(), ()] == [difference(made[1], made[jobs]) for jobs in (3, 8)]


def _peak(gates: Iterable[Gate]) -> int:
    """Return how many compilers ran at once, by what they said themselves."""
    running = peak = 0
    for gate in gates:
        running += {"begun": 1, "over": -1}.get(gate.label, 0)
        peak = max(peak, running)
    return peak


SENSITIVE = r"""{ date --date=@0 +%c; printf '%s\n' i I a_b aB ab | sort; } >{artefacts}/said
: >{artefacts}/empty
mark after"""
"""Makes files that depend on language, clock and umask, where a script has those of its caller."""


@case("W43")
@offered("jobs")
@weight(60)
@pytest.mark.parametrize("name", ["ed", "lzip"])
def test_package_is_the_same_wherever_it_is_built(wrapper: Wrapper, name: str) -> None:
    """Path, language, clock, umask and jobs leave no trace in what is made (reproducible-builds.org, "Definition").

    Why: an artefact that differs from machine to machine cannot be checked by anybody.
    By hand:
        $WRAPPER run $ROOT; (cd $ROOT/out && find . -type f -exec sha256sum {} +) >one
        umask 077; LC_ALL=tr_TR.UTF-8 TZ=Asia/Kathmandu $WRAPPER run --jobs 4 "$PWD/of my own, ü"    # the same sums
    """
    shelf = Shelf.of(wrapper)
    step = shelf.step(name, last=SENSITIVE)
    control = _made(wrapper, shelf, step)
    elsewhere = _made(
        wrapper,
        shelf,
        step,
        at=wrapper.beside("of my own, ü"),
        options=wrapper.option("jobs", jobs=4),
        environment=ELSEWHERE,
        through=SECRETIVE,
    )
    assert () == difference(control, elsewhere)


@case("W42")
@requires(Fact.USER_NAMESPACE)
@weight(60)
@pytest.mark.parametrize("name", ["ed", "lzip", "zlib", *OVERNIGHT])
def test_package_is_the_same_for_every_privilege(wrapper: Wrapper, name: str) -> None:
    """Root, an ordinary user and the root of a user namespace make the same; so do all environments (gate `artefacts`).

    Why: who builds without privileges what he installs as root wants to know that it is that.
    By hand:
        $WRAPPER run $ONE; unshare --user --map-root-user $WRAPPER run $OTHER
        unshare --user --map-user=1000 --map-group=1000 $WRAPPER run $THIRD
        # the sums of the files in out/ are the same in all, and in those of a container
    """
    shelf = Shelf.of(wrapper)
    step = replace(shelf.step(name, last=SENSITIVE), needs=())
    golden = _made(wrapper, shelf, step)
    assert "made" == ("made" if (wrapper.artefacts / shelf.packages[name].made).exists() else "absent")
    wrapper.bench.keep(f"{wrapper.target.name}.{name}", golden, wrapper.artefacts)
    for user, words in USERS.items():
        made = _made(wrapper, shelf, step, at=wrapper.beside(f"as-{user}"), through=(UNSHARE, "--user", *words))
        assert () == difference(golden, made)


UNSHARE = "/usr/bin/unshare"
USERS = {"root": ("--map-root-user",), "user": ("--map-user=1000", "--map-group=1000")}
"""Who builds, in a user namespace of his own (unshare(1))."""
