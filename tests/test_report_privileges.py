"""The table of privileges: one row a case and target, one cell an environment, with the runtime's own words."""

from __future__ import annotations

from suites.framework.model import Outcome, Role
from suites.framework.report.privileges import privileges
from suites.framework.results.result import Result, Subject


def result(case: str, environment: str, *, kind: str = "oci", said: str = "", role: Role = Role.TARGET) -> Result:
    """Return a result of this case for a target called box."""
    return Result(
        environment=environment,
        phase="test",
        worker="test.1",
        node=f"{case}[box]",
        cases=(case,),
        target="box",
        subject=Subject(name="box", kind=kind, role=role),
        kind=kind,
        title=f"What {case} asks.",
        outcome=Outcome.FAILED if case == "P02" else Outcome.PASSED,
        measured=(("message", said),) if said else (),
    )


def test_rows_are_cases_and_cells_environments() -> None:
    """Every environment has a column; where a case was not asked, the cell says so; words are shown as they came."""
    found = privileges([result("P01", "root-native"), result("P02", "rootless-native", said="operation not permitted")])
    assert found is not None
    assert ("root-native", "rootless-native") == found.environments
    assert ["P01", "P02"] == [row.case for row in found.rows]
    assert ["✓ passed", "not asked"] == [word for _, word, _ in found.rows[0].cells]
    assert ["not asked", "✗ failed"] == [word for _, word, _ in found.rows[1].cells]
    assert "operation not permitted" == found.rows[1].cells[1][2]


def test_other_kinds_cases_and_controls_are_left_out() -> None:
    """There is no table without a runtime that was asked; what must fail has no privileges to show."""
    others = [result("A01", "root-native"), result("P01", "root-native", kind="init")]
    assert privileges([*others, result("P01", "root-native", role=Role.CONTROL)]) is None
