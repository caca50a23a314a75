"""The fourteen points of the plan for pods, by their numbers."""

from __future__ import annotations

from typing import Any

from suites.framework.model import Outcome, Role
from suites.framework.results.plan import POINTS, plan
from suites.framework.results.result import Result
from tests.fake_result import result


def asked(case: str, target: str = "reaper", **changes: Any) -> Result:
    return result(case, target=target, kind="pod", **changes)


def test_the_plan_has_fourteen_points_in_order() -> None:
    """Each has a title of its own and cases of which none answers two points."""
    assert list(range(1, 15)) == [point.number for point in POINTS]
    cases = [case for point in POINTS for case in point.cases]
    assert (18, 14) == (len(set(cases)), len({point.title for point in POINTS}))
    assert len(cases) == len(set(cases))


def test_every_point_has_a_row_for_every_target() -> None:
    """What nobody asked is said so; point 13 is for who has tests of his own."""
    found = plan([asked("A1"), asked("D1", "runc", role=Role.REFERENCE), asked("H5", "reaper")])
    assert found is not None
    numbers = {name: [row.point.number for row in found.rows if row.target == name] for name in ("reaper", "runc")}
    assert [*range(1, 15)] == numbers["reaper"]
    assert [number for number in range(1, 15) if number != 13] == numbers["runc"]
    cells = {row.point.number: row.cells[0].decisive for row in found.rows if row.target == "reaper"}
    assert {1, 13} == {number for number, decisive in cells.items() if decisive is not None}


def test_the_worst_case_decides_and_the_others_are_named() -> None:
    """A point that two cases answer is not met by one of them."""
    found = plan([asked("E3"), asked("E4", outcome=Outcome.FAILED), asked("B2")])
    assert found is not None
    rows = {row.point.number: row.cells[0] for row in found.rows}
    assert rows[5].decisive is not None
    assert ("failed", "E4 failed") == (rows[5].decisive.verdict.value, rows[5].others)
    assert "B3 not asked" == rows[8].others


def test_each_environment_has_its_column() -> None:
    """A point that was asked in one alone says so in the other."""
    found = plan([asked("A1"), asked("A3", environment="rootless-native")])
    assert found is not None
    assert ("root-native", "rootless-native") == found.environments
    assert (True, False) == tuple(cell.decisive is not None for cell in found.rows[0].cells)


def test_without_pods_there_is_no_plan() -> None:
    """Cases of other kinds have the same ids; a control has no points to meet."""
    assert plan([result("A1", kind="oci"), asked("A1", role=Role.CONTROL)]) is None
