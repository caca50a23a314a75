"""The table of privileges: one row a case and target, one cell an environment, with the runtime's own words."""

from __future__ import annotations

from typing import Any

from suites.framework.model import Outcome, Role
from suites.framework.report.privileges import privileges
from suites.framework.results.result import Result
from tests.fake_result import result


def asked(case: str, environment: str, *, said: str = "", **changes: Any) -> Result:
    """Return a result of this case; P02 is refused."""
    outcome = Outcome.FAILED if case == "P02" else Outcome.PASSED
    measured = (("message", said),) if said else ()
    return result(
        case, environment=environment, title=f"What {case} asks.", outcome=outcome, measured=measured, **changes
    )


def test_rows_are_cases_and_cells_environments() -> None:
    """Every environment has a column; where a case was not asked, the cell says so; words are shown as they came."""
    found = privileges([asked("P01", "root-native"), asked("P02", "rootless-native", said="operation not permitted")])
    assert found is not None
    assert ("root-native", "rootless-native") == found.environments
    assert ["P01", "P02"] == [row.case for row in found.rows]
    assert ["✓ passed", "not asked"] == [word for _, word, _ in found.rows[0].cells]
    assert ["not asked", "✗ failed"] == [word for _, word, _ in found.rows[1].cells]
    assert "operation not permitted" == found.rows[1].cells[1][2]


def test_other_kinds_cases_and_controls_are_left_out() -> None:
    """There is no table without a runtime that was asked; what must fail has no privileges to show."""
    others = [asked("A01", "root-native"), asked("P01", "root-native", kind="init")]
    assert privileges([*others, asked("P01", "root-native", role=Role.CONTROL)]) is None
