"""A wrapper killed at every place of a build, and what the next run makes of it."""

from __future__ import annotations

import os
from signal import SIGKILL

import pytest

from suites.framework.buildscripts.gate import Gate
from suites.framework.buildscripts.package import PHASES, Shelf
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.facts import Fact
from suites.framework.manifest import Manifest, difference, manifest
from suites.framework.marks import case, offered, requires, weight
from suites.framework.process import exited, killed
from suites.framework.waiting import Deadline

Goldens = dict[str, Manifest]


@pytest.fixture(scope="module")
def goldens() -> Goldens:
    """Return target: what its undisturbed build made, for all places in which it is killed."""
    return {}


@case("W20")
@offered("lock", "resume")
@requires(Fact.SOURCES, Fact.TOOLCHAIN)
@weight(40)
@pytest.mark.parametrize("label", ["before", "after"])
@pytest.mark.parametrize("step", PHASES)
def test_build_goes_on_where_its_wrapper_was_killed(wrapper: Wrapper, goldens: Goldens, step: str, label: str) -> None:
    """Killed before or behind the work of any step, a build goes on at that step and makes the same (make(1)).

    Why: the machine that compiles at night is switched off in the morning; and a second build into the first one's
    orphan mixes the files of both.
    By hand:
        $WRAPPER run $ROOT & kill -9 $!    # in the middle of each step: unpack configure build check install
        $WRAPPER run $ROOT; echo $?    # 75 while the step's script lives on
        $WRAPPER run $ROOT; echo $?    # later: 0, from that step on; $ROOT/out as without the kill
    """
    shelf = Shelf.of(wrapper)
    golden = goldens.get(wrapper.target.name) or _golden(wrapper, shelf)
    goldens[wrapper.target.name] = golden
    wrapper.write(*shelf.steps("ed"))
    seen = len(wrapper.ran())
    with wrapper.begin(options=shelf.options) as build:
        gate = build.gate(step, label)
        assert killed(SIGKILL) == build.kill()
        assert exited(wrapper.call.locked) == wrapper.build(options=shelf.options).status
        assert _until(step, label) == _passed(wrapper, seen)
        _end(wrapper, gate)
    seen = len(wrapper.ran())
    assert exited(0) == wrapper.build(options=shelf.options).status
    assert _from(step) == _passed(wrapper, seen)
    assert [wrapper.told("done")] * len(PHASES) == [wrapper.standing(phase) for phase in PHASES]
    assert () == difference(golden, manifest(wrapper.artefacts))


def _golden(wrapper: Wrapper, shelf: Shelf) -> Manifest:
    place = wrapper.beside("golden")
    wrapper.write(*shelf.steps("ed"), at=place)
    assert exited(0) == wrapper.build(options=shelf.options, at=place).status
    return manifest(place.artefacts)


def _end(wrapper: Wrapper, gate: Gate) -> None:
    """Let a script whose wrapper is gone come to its end."""
    script = os.pidfd_open(gate.state.ppid)
    wrapper.bench.own(lambda: os.close(script))
    gate.open()
    if gate.label == "before":
        wrapper.meet(gate.step, "after").open()
    assert (script,) == wrapper.waiter.wait((script,), Deadline(wrapper.seconds))


def _passed(wrapper: Wrapper, seen: int) -> list[tuple[str, str]]:
    return [(gate.step, gate.label) for gate in wrapper.gatehouse.seen[seen:]]


EVERYWHERE = [(phase, label) for phase in PHASES for label in ("before", "after")]
"""The gates of an undisturbed build."""


def _until(step: str, label: str) -> list[tuple[str, str]]:
    return EVERYWHERE[: EVERYWHERE.index((step, label)) + 1]


def _from(step: str) -> list[tuple[str, str]]:
    return EVERYWHERE[EVERYWHERE.index((step, "before")) :]
