"""Results as the reports get them."""

from __future__ import annotations

from typing import Any

from suites.framework.model import Outcome, Role
from suites.framework.results.result import Result, Subject


def result(
    case: str, *, target: str = "box", kind: str = "oci", role: Role = Role.TARGET, parameter: str = "", **changes: Any
) -> Result:
    """Return a result of this case on root-native, passed unless `changes` say otherwise."""
    fields: dict[str, Any] = {"environment": "root-native", "outcome": Outcome.PASSED, **changes}
    return Result(
        phase="test",
        worker="test.1",
        node=f"{case}[{target}{parameter}]",
        cases=(case,),
        target=target,
        subject=Subject(name=target, kind=kind, role=role),
        kind=kind,
        parameter=parameter,
        **fields,
    )
