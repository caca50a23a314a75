"""What the tiers of kind pod took with each handler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suites.framework.results import handlers
from tests.fake_run import FakeRun, failed, passed


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    """Return a run directory."""
    made = FakeRun(tmp_path)
    made.target("runc", role="reference", kind="pod")
    made.target("control:true", role="control", kind="pod")
    return made


def case(fake: FakeRun, node: str, wall_s: float, target_s: float, **plan: Any) -> None:
    """Write a case of a handler that passed."""
    given = {"target": "runc", "kind": "pod", "mode": "cri"} | plan
    fake.case(node, replace(passed(node), wall_s=wall_s, target_s=target_s), **given)


def test_tiers_hold_those_below_them(fake: FakeRun) -> None:
    """Each tier that ran is told with its cases and those of less, beside its budget; controls are no handlers."""
    case(fake, "a", 2.0, 1.9)
    case(fake, "b", 3.0, 2.9, tier=2)
    case(fake, "c", 5.0, 4.8, tier=3)
    case(fake, "d", 500.0, 1.0, target="control:true")
    case(fake, "e", 500.0, 1.0, kind="oci")
    fake.finish()
    assert (
        "runc in root-native: smoke 2.0 s for 1 (of 8 s), plan 5.0 s for 2 (of 30 s), full 10.0 s for 3 (of 90 s), "
        "the harness adds 4.2% (of 10%)",
    ) == handlers.lines(fake.view())


def test_a_tier_without_cases_is_not_told(fake: FakeRun) -> None:
    """Who ran the first tier reads of that one alone."""
    case(fake, "a", 1.05, 1.0)
    fake.finish()
    assert ("runc in root-native: smoke 1.1 s for 1 (of 8 s), the harness adds 5.0% (of 10%)",) == handlers.lines(
        fake.view()
    )


def test_what_is_over_its_budget_says_so(fake: FakeRun) -> None:
    """The seconds and the harness's part, each by itself."""
    case(fake, "a", 9.0, 5.0)
    fake.finish()
    assert (
        "runc in root-native: smoke 9.0 s for 1 (over its 8 s), the harness adds 80.0% (over its 10%)",
    ) == handlers.lines(fake.view())


def test_repetitions_count_once(fake: FakeRun) -> None:
    """Of the same case the median counts; another parameter is another case."""
    for node, wall_s in (("t[runc-cri-3]", 1.0), ("t[runc-cri-r2-3]", 9.0), ("t[runc-cri-r3-3]", 2.0)):
        case(fake, node, wall_s, wall_s, parameter="3")
    case(fake, "t[runc-cri-10]", 4.0, 4.0, parameter="10")
    fake.finish()
    assert "smoke 6.0 s for 2 (of 8 s), the harness adds 0.0% (of 10%)" in handlers.lines(fake.view())[0]


def test_a_failure_is_no_measure_of_the_harness(fake: FakeRun) -> None:
    """Who waits for a deadline is slow, and nobody's overhead; where nothing passed there is no word of it."""
    fake.case("a", replace(failed("a", wall_s=20.0), target_s=1.0), target="runc", kind="pod", mode="cri")
    fake.finish()
    assert ("runc in root-native: smoke 20.0 s for 1 (over its 8 s)",) == handlers.lines(fake.view())
