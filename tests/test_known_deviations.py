"""Expected failures in the reports: one entry for each reason of a target's profile."""

from __future__ import annotations

from suites.framework.model import Outcome, Role
from suites.framework.results.known import known
from suites.framework.results.result import Result, Subject


def result(
    case: str,
    *,
    target: str = "box",
    parameter: str = "",
    environment: str = "root-native",
    outcome: Outcome = Outcome.XFAILED,
    role: Role = Role.TARGET,
    message: str = "a reason",
    actual: str = "refused",
) -> Result:
    """Return a result of a case, an expected failure unless said otherwise."""
    return Result(
        environment=environment,
        phase="test",
        worker="test.1",
        node=f"{case}[{target}{parameter}]",
        cases=(case,),
        target=target,
        subject=Subject(name=target, kind="oci", role=role),
        kind="oci",
        parameter=parameter,
        outcome=outcome,
        message=message,
        actual=actual,
    )


def test_results_with_one_reason_are_one_entry() -> None:
    """Cases, what was seen and environments are gathered, each once, in the order in which they came."""
    entry, other = known(
        [
            result("I08", actual="kill: refused"),
            result("I02", parameter="usr1"),
            result("I02", parameter="usr1", environment="root-container"),
            result("A12", message="another reason"),
        ]
    )
    assert ("box", "a reason", ("I08", "I02 usr1")) == (entry.target, entry.reason, entry.cases)
    assert ("kill: refused", "refused") == entry.seen
    assert ("root-container", "root-native") == entry.environments
    assert ("another reason", ("A12",)) == (other.reason, other.cases)


def test_targets_stay_apart_and_controls_out() -> None:
    """The same reason of two targets is two entries; a control's declared failure and a real one are none."""
    found = known(
        [
            result("A01", target="runc"),
            result("A01", target="box"),
            result("A01", target="control:true", role=Role.CONTROL),
            result("A02", target="box", outcome=Outcome.FAILED),
        ]
    )
    assert ["box", "runc"] == [entry.target for entry in found]
    assert [("A01",), ("A01",)] == [entry.cases for entry in found]
