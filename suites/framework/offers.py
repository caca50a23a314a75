"""What a target offers of its kind, in the words of its adapter (layer 1)."""

from __future__ import annotations

from typing import assert_never

from suites.catalog import Kind
from suites.framework import judgement
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.calls import PODS, PodCall
from suites.framework.oci.runtime import Runtime
from suites.framework.planning import Node, Pairing
from suites.framework.targets.init import Init


def unoffered(node: Node) -> str:
    """Return the words of a case that the target's profile does not offer in this mode."""
    assert node.pairing is not None
    control = node.pairing.target.profile.control
    if control is not None and judgement.must_fail(control, node.pairing.mode, ()):
        return ""  # a null target is given every case
    offers = offered(node.pairing)
    return ", ".join(word for word in node.offers if word not in offers)


def offered(pairing: Pairing) -> frozenset[str]:
    """Return what a target's profile offers in a mode."""
    match pairing.target.kind:
        case Kind.INIT:
            return Init.offers(pairing.target, pairing.mode)
        case Kind.OCI:
            return Runtime.offers(pairing.target)
        case Kind.BUILDSCRIPTS:
            return Wrapper.offers(pairing.target)
        case Kind.POD:
            own = ("own-tests",) if pairing.target.profile.build.tests else ()
            return _of_pods(pairing.target.call.pod).union(own)
        case _ as never:
            assert_never(never)


def _of_pods(call: PodCall) -> frozenset[str]:
    """Return what every pod-level runtime has but what this one lacks, and what this one has beyond that."""
    own = {
        "annotations": call.annotations,
        "groups": call.group,
        "filters": call.filters,
        "same-build": call.same_build,
    }
    return frozenset(PODS).difference(call.lacks) | {word for word, value in own.items() if value}
