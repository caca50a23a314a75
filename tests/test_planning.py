"""Planning: which targets and modes a test gets, what of it was asked for, and whose share it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import MODES, Kind, Mode, Place, Privilege
from suites.framework import marks, planning
from suites.framework.calls import BuildCall, Call, PodCall
from suites.framework.facts import Fact, Finding
from suites.framework.marks import case, controls, modes, offered, requires, tier, weight, within
from suites.framework.model import OwnSuite, OwnTests, Profile, Role, Selection
from suites.framework.planning import Node, Pairing
from tests.contexts import context, environment, target

CONTROL = target("control:none", role=Role.CONTROL)
STANDBY = target("tini", role=Role.STANDBY)
HERE = environment("root-native")


def ids(folder: Path, *marked: pytest.MarkDecorator, here: str = "root-native", **changes: Any) -> list[str]:
    """Return the ids of the pairings of a test with these marks."""
    made = context(folder, **{"targets": (target(), CONTROL)} | changes)
    found = planning.pairings([decorator.mark for decorator in marked], made, environment(here), Kind.INIT)
    return [pairing.id for pairing in found]


def node(*cases: str, mode: Mode = Mode.PLAIN, tier: int = 1, wanted_target: Any = None, repetition: int = 1) -> Node:
    pairing = Pairing(target=wanted_target or target(), mode=mode, repetition=repetition)
    return Node(cases=cases, requires=(), offers=(), tier=tier, weight=1, parameter="", pairing=pairing)


def wanted(candidate: Node, folder: Path, identifier: str = "x", **selection: Any) -> bool:
    return planning.wanted(candidate, context(folder, selection=Selection(**selection)), identifier)


def test_without_marks_every_target_has_both_modes(tmp_path: Path) -> None:
    """Plain and as PID 1, target by target."""
    expected = ["reference-plain", "reference-pid1", "control:none-plain", "control:none-pid1"]
    assert expected == ids(tmp_path)


@pytest.mark.parametrize(
    ("marked", "here", "expected"),
    [
        ((modes(Mode.PID1),), "root-native", ["reference-pid1", "control:none-pid1"]),
        ((modes(Mode.DOCKER),), "root-native", ["reference-docker", "control:none-docker"]),
        ((modes(Mode.DOCKER),), "root-container", []),
        ((modes(Mode.PLAIN, Mode.DOCKER),), "rootless-container", ["reference-plain", "control:none-plain"]),
        ((controls("none"), modes(Mode.PID1)), "root-native", ["control:none-pid1"]),
        ((controls("python"),), "root-native", []),
        ((controls("reference"),), "root-native", []),
        ((within(privilege=Privilege.ROOTLESS),), "root-native", []),
        ((within(place=Place.CONTAINER),), "root-native", []),
        (
            (within(privilege=Privilege.ROOT, place=Place.NATIVE), modes(Mode.PLAIN), controls("none")),
            "root-native",
            ["control:none-plain"],
        ),
    ],
)
def test_marks_limit_where_a_test_makes_sense(
    marked: tuple[pytest.MarkDecorator, ...], here: str, expected: list[str], tmp_path: Path
) -> None:
    """Modes, environments and controls are those that the marks name; docker only where the host is."""
    assert expected == ids(tmp_path, *marked, here=here)


def test_a_repetition_has_a_name_of_its_own(tmp_path: Path) -> None:
    """The first run of a node is called as ever, later ones count."""
    found = ids(tmp_path, modes(Mode.PLAIN), targets=(target(),), selection=Selection(repeat=3))
    assert ["reference-plain", "reference-plain-r2", "reference-plain-r3"] == found


def test_only_the_modes_of_the_context_are_planned(tmp_path: Path) -> None:
    """A machine may exclude a mode for all tests."""
    assert ["reference-plain"] == ids(tmp_path, targets=(target(),), modes=(Mode.PLAIN,))


@pytest.mark.parametrize(
    ("candidate", "selection", "identifier", "expected"),
    [
        (node("SG-01"), {}, "x", True),
        (node("SG-01"), {"cases": ("SG-01",)}, "x", True),
        (node("SG-01"), {"cases": ("init:SG-01",)}, "x", True),
        (node("SG-01"), {"cases": ("SG-02",)}, "x", False),
        (node("SG-01", "SG-02"), {"cases": ("SG-02",)}, "x", True),
        (node("SG-01", tier=4), {}, "x", False),
        (node("SG-01", tier=4), {"tier": 4}, "x", True),
        (node("SG-01"), {"nodes": ("x",)}, "x", True),
        (node("SG-01"), {"nodes": ("x",)}, "y", False),
        (node("SG-01", wanted_target=STANDBY), {"nodes": ("x",)}, "y", True),
        (node("SG-01", wanted_target=STANDBY), {"nodes": ("x",), "cases": ("SG-02",)}, "y", False),
        (replace(node(), pairing=None), {"cases": ("SG-01",)}, "x", True),
        (replace(node("SG-01"), pairing=None), {}, "x", False),
    ],
)
def test_the_selection_decides(
    candidate: Node, selection: dict[str, Any], identifier: str, expected: bool, tmp_path: Path
) -> None:
    """Cases, tier and exact nodes choose; a reference on standby follows the cases; a case needs a target."""
    assert expected == wanted(candidate, tmp_path, identifier, **selection)


def test_all_targets_of_a_case_share_a_key() -> None:
    """The key is that of the case: another target has the same, another mode or repetition has not."""
    first = node("SG-01").key
    assert first == node("SG-01", wanted_target=CONTROL).key
    others = [
        node("SG-02"),
        node("SG-01", mode=Mode.PID1),
        node("SG-01", repetition=2),
        replace(node("SG-01"), parameter="HUP"),
    ]
    assert first not in [other.key for other in others]
    assert (("a",), "", "", 1) == replace(node("a"), pairing=None).key


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 40])
def test_shares_are_disjoint_and_complete(parts: int) -> None:
    """Every group belongs to exactly one part, and no part number is out of range."""
    weights = {f"case-{number}": number % 5 + 1 for number in range(30)}
    shares = planning.share(weights, parts)
    assert weights.keys() == shares.keys()
    assert set(shares.values()) <= set(range(parts))


def test_shares_are_the_same_everywhere() -> None:
    """The order in which groups were found does not matter."""
    weights = {f"case-{number}": number % 3 + 1 for number in range(20)}
    assert planning.share(weights, 4) == planning.share(dict(reversed(weights.items())), 4)


def test_shares_are_balanced() -> None:
    """No part has more than the lightest one and the heaviest group together."""
    weights = {f"case-{number}": number % 7 + 1 for number in range(50)}
    shares = planning.share(weights, 4)
    loads = [sum(weights[group] for group, part in shares.items() if part == number) for number in range(4)]
    assert max(loads) - min(loads) <= max(weights.values())


def test_few_parts_have_an_engine() -> None:
    """Groups that need one share those parts, evenly; what is left for these parts is less, and nothing is lost."""
    weights = {f"pod-{number}": 4 for number in range(9)} | {f"case-{number}": 1 for number in range(60)}
    places = planning.with_engines(8, 2)
    assert (0, 1, 8, 9) == places
    shares = planning.share(weights, 16, few={name: places for name in weights if name.startswith("pod")})
    assert set(places) == {part for name, part in shares.items() if name.startswith("pod")}
    assert weights.keys() == shares.keys()
    loads = [sum(weights[group] for group, part in shares.items() if part == number) for number in range(16)]
    assert (60, 5, 12) == (sum(loads) - 36, min(loads), max(loads))


@pytest.mark.parametrize(("workers", "engines"), [(1, 1), (2, 1), (7, 1), (8, 2), (32, 8)])
def test_each_shard_has_an_engine(workers: int, engines: int) -> None:
    """At least one worker of a shard gets pods, and no more than have a processor."""
    assert engines == len(planning.with_engines(workers, 1))


def test_pods_weigh_more() -> None:
    """A pod takes several times what a case of another kind does; what its own mark says counts besides."""
    light, heavy = planned(mode=Mode.CRI, kind=Kind.POD), replace(planned(mode=Mode.CRI, kind=Kind.POD), weight=3)
    assert [4, 12, 1] == [planning.weighed(one) for one in (light, heavy, planned(mode=Mode.CLI, kind=Kind.OCI))]


def test_pods_have_a_tier_of_their_own(tmp_path: Path) -> None:
    """What is chosen of other kinds does not choose pods."""
    found = {}
    for kind in (Kind.POD, Kind.OCI):
        third = replace(planned(mode=MODES[kind][0], kind=kind), tier=3)
        found[kind] = planning.wanted(third, context(tmp_path, selection=Selection(pod_tier=2)), "x")
    assert {Kind.POD: False, Kind.OCI: True} == found


def test_the_first_absent_fact_is_told() -> None:
    """In the order asked; one that nobody probed counts as missing, one that holds does not."""
    holds = Finding(fact=Fact.SETUID, present=True, probe="setuid")
    lacks = Finding(fact=Fact.OVERLAY, present=False, probe="mount", detail="no", remedy="modprobe")
    assert planning.absence([Fact.SETUID], [holds]) is None
    assert planning.absence([], []) is None
    absent = planning.absence([Fact.SETUID, Fact.OVERLAY, Fact.PID_NAMESPACE], [holds, lacks])
    assert absent is not None
    assert (Fact.OVERLAY, "mount: no", "modprobe") == (absent.fact, absent.reason, absent.remedy)
    unknown = planning.absence([Fact.PID_NAMESPACE], [holds])
    assert unknown is not None
    assert "not probed" in unknown.reason


class FakeItem:
    """What pytest knows of a collected test, as far as planning asks."""

    def __init__(
        self, *marked: pytest.MarkDecorator, pairing: Pairing | None, name: str, fixtures: tuple[str, ...]
    ) -> None:
        """Remember everything."""
        self._marks, self.fixturenames = [decorator.mark for decorator in marked], fixtures
        if name:
            self.callspec = type("CallSpec", (), {"params": {"init": pairing} if pairing else {"n": 1}, "id": name})()

    def iter_markers(self) -> list[pytest.Mark]:
        """Return the marks."""
        return self._marks


def planned(
    *marked: pytest.MarkDecorator,
    mode: Mode | None = None,
    suffix: str = "",
    here: str = "root-native",
    fixtures: tuple[str, ...] = (),
    kind: Kind = Kind.INIT,
) -> Node:
    pairing = Pairing(target=target(kind=kind), mode=mode) if mode else None
    name = f"{pairing.id}{suffix}" if pairing else suffix
    item: Any = FakeItem(*marked, pairing=pairing, name=name, fixtures=fixtures)
    return planning.node(item, environment(here))


def test_a_node_says_what_its_marks_say() -> None:
    """Cases once each, words that must be offered, the highest tier, and the parameter without the target."""
    found = planned(
        case("SG-01", "SG-02"), case("SG-01"), offered("group"), tier(2), tier(4), mode=Mode.PLAIN, suffix="-HUP"
    )
    assert (("SG-01", "SG-02"), ("group",), 4, "HUP") == (found.cases, found.offers, found.tier, found.parameter)


@pytest.mark.parametrize(
    ("mode", "here", "fixtures", "implied"),
    [
        (Mode.PLAIN, "root-native", (), {Fact.PROC_CHILDREN}),
        (Mode.PID1, "root-native", (), {Fact.PROC_CHILDREN, Fact.PID_NAMESPACE}),
        (Mode.PID1, "rootless-native", (), {Fact.PROC_CHILDREN, Fact.PID_NAMESPACE, Fact.USER_NAMESPACE}),
        (Mode.PLAIN, "root-native", ("terminal",), {Fact.PROC_CHILDREN, Fact.PSEUDO_TERMINAL}),
        (None, "root-native", ("terminal",), set()),
    ],
)
def test_a_mode_and_a_fixture_need_facts(
    mode: Mode | None, here: str, fixtures: tuple[str, ...], implied: set[Fact]
) -> None:
    """What the mode is made of is required without a mark."""
    assert implied | {Fact.OVERLAY} == set(
        planned(requires(Fact.OVERLAY), mode=mode, here=here, fixtures=fixtures).requires
    )


def test_the_docker_mode_needs_its_command() -> None:
    """Cases under the docker command need the command."""
    assert Fact.DOCKER_COMMAND in planned(mode=Mode.DOCKER).requires


@pytest.mark.parametrize(
    ("kind", "here", "implied"),
    [
        (Kind.OCI, "root-native", {Fact.PID_NAMESPACE, Fact.ROOTFS, Fact.STATIC_PAYLOAD}),
        (Kind.OCI, "rootless-native", {Fact.PID_NAMESPACE, Fact.USER_NAMESPACE, Fact.ROOTFS, Fact.STATIC_PAYLOAD}),
        (Kind.BUILDSCRIPTS, "root-native", {Fact.BASH}),
        (Kind.BUILDSCRIPTS, "rootless-native", {Fact.BASH}),
        (Kind.POD, "root-native", {Fact.ROOTFS, Fact.CONTAINERD, Fact.ENGINE}),
        (
            Kind.POD,
            "rootless-container",
            {Fact.ROOTFS, Fact.CONTAINERD, Fact.USER_NAMESPACE, Fact.SUBORDINATE_IDS, Fact.ENGINE},
        ),
    ],
)
def test_a_kind_needs_facts(kind: Kind, here: str, implied: set[Fact]) -> None:
    """In the same mode a runtime needs what containers are made of, a build wrapper its scripts' shell."""
    assert implied | {Fact.PROC_CHILDREN} == set(planned(mode=Mode.CLI, here=here, kind=kind).requires)


def test_a_shim_may_need_more_of_the_environment() -> None:
    """What a word asks with this target is required where a case has the word, and nowhere else."""
    call = Call(pod=PodCall(needs=("volumes=first-mounts",)))
    pairing = Pairing(target=target(kind=Kind.POD, call=call), mode=Mode.CRI)
    for words, more in ((("volumes",), {Fact.FIRST_MOUNTS}), (("capabilities",), set()), ((), set())):
        item: Any = FakeItem(offered(*words), pairing=pairing, name=pairing.id, fixtures=())
        found = set(planning.node(item, HERE).requires)
        assert more == found - {Fact.PROC_CHILDREN, Fact.ROOTFS, Fact.CONTAINERD, Fact.ENGINE}


@pytest.mark.parametrize(
    ("own", "trouble"),
    [
        (None, "it was not built from its checkout"),
        (OwnTests(trouble="error: no crates"), "error: no crates"),
        (OwnTests(suites=(OwnSuite(name="io", passed=1, failed=1, skipped=0),)), ""),
    ],
)
def test_own_tests_are_there_where_they_were_run(own: OwnTests | None, trouble: str) -> None:
    """Whether they passed is for the case to say; a target whose profile names none has nothing to be found out."""
    profile = Profile(name="mine", build=BuildCall(tests=("cargo", "test")))
    (found,) = planning.of_target(Pairing(target=target(profile=profile, own_tests=own), mode=Mode.CRI))
    assert (Fact.OWN_TESTS, not trouble, trouble) == (found.fact, found.present, found.detail)
    assert () == planning.of_target(Pairing(target=target(own_tests=own), mode=Mode.CRI))
    assert () == planning.of_target(None)


def test_a_test_without_target_keeps_its_own_parameter() -> None:
    """A parametrised test of the framework's is named by its parameter."""
    assert ("overlay", None) == (planned(suffix="overlay").parameter, planned(suffix="overlay").pairing)


def test_every_mark_has_a_meaning() -> None:
    """Each maker of a mark is registered under its own name."""
    made = [case("a"), modes(Mode.PLAIN), within(), requires(), offered(), controls(), tier(1), weight(1)]
    assert {name.partition("(")[0] for name in marks.MARKS} == {decorator.mark.name for decorator in made}


@pytest.mark.parametrize(
    ("only", "cases", "tried"),
    [
        ((), ("EX-01",), True),
        (("EX-01",), ("EX-01", "EX-02"), True),
        (("init:EX-01",), ("EX-01",), True),
        (("EX-03",), ("EX-01",), False),
        (("EX-03",), (), True),
    ],
)
def test_target_that_has_cases_of_its_own_is_planned_for_these(
    only: tuple[str, ...], cases: tuple[str, ...], tried: bool
) -> None:
    """A mutant is not even collected for a test of other cases; a test whose cases stand at its parameters is."""
    assert tried == planning.concerned(replace(target("mutant:x"), only=only), cases)
