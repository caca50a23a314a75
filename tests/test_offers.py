"""What a target offers, asked of the adapter of its kind; a null target is given every case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suites.catalog import Kind, Mode
from suites.framework.calls import PODS, BuildCall, BuildscriptsCall, Call, InitCall, OciCall, PodCall
from suites.framework.model import Control, Profile
from suites.framework.offers import offered, unoffered
from suites.framework.planning import Node, Pairing
from tests.contexts import target

CALL = Call(
    init=InitCall(help=("-h",)),
    oci=OciCall(verbs=("pause",)),
    buildscripts=BuildscriptsCall(offers=("resume",)),
    pod=PodCall(annotations=("mine/*",)),
)


def node(kind: Kind, *words: str, control: Control | None = None) -> Node:
    """Return a case that asks for these words, of a target of this kind."""
    wanted = replace(target(kind=kind, call=CALL), profile=Profile(name="t", control=control))
    mode = Mode.PLAIN if kind is Kind.INIT else Mode.CLI
    return Node(
        cases=("X",),
        requires=(),
        offers=words,
        tier=1,
        weight=1,
        parameter="",
        pairing=Pairing(target=wanted, mode=mode),
    )


@pytest.mark.parametrize(
    ("kind", "word"),
    [(Kind.INIT, "help"), (Kind.OCI, "pause"), (Kind.BUILDSCRIPTS, "resume"), (Kind.POD, "annotations")],
)
def test_each_kind_is_asked_in_its_own_words(kind: Kind, word: str) -> None:
    """A word of another kind is not offered, though the profile has it there."""
    pairing = node(kind).pairing
    assert pairing is not None
    assert {word} == {"help", "pause", "resume", "annotations"} & offered(pairing)
    assert "" == unoffered(node(kind, word))
    assert "nothing-like-it" == unoffered(node(kind, word, "nothing-like-it"))


def test_a_pod_runtime_has_what_its_profile_does_not_deny() -> None:
    """What it lacks by design is not offered; what only some have is offered where the profile names it."""
    mine = PodCall(lacks=("volumes",), group="mine/group", filters=("/etc/shadow",), same_build=("other",))
    pairing = Pairing(target=target(kind=Kind.POD, call=Call(pod=mine)), mode=Mode.CRI)
    assert set(PODS) - {"volumes"} | {"groups", "filters", "same-build"} == offered(pairing)
    tests = Profile(name="t", build=BuildCall(tests=("make", "check")))
    assert "own-tests" in offered(Pairing(target=target(kind=Kind.POD, profile=tests), mode=Mode.CRI))


def test_a_null_target_is_given_every_case() -> None:
    """Whatever it lacks, it must fail: a skip would prove nothing."""
    null = Control(reason="r", cli=("*",))
    assert "" == unoffered(node(Kind.BUILDSCRIPTS, "nothing-like-it", control=null))
    assert "nothing-like-it" == unoffered(node(Kind.BUILDSCRIPTS, "nothing-like-it", control=Control(reason="r")))
