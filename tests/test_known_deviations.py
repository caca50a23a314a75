"""Expected failures in the reports: one entry for each reason of a target's profile."""

from __future__ import annotations

from typing import Any

from suites.framework.model import Outcome, Role
from suites.framework.results.known import known
from suites.framework.results.result import Result
from tests.fake_result import result


def expected(case: str, **changes: Any) -> Result:
    """Return an expected failure of this case, unless said otherwise."""
    return result(case, **{"outcome": Outcome.XFAILED, "message": "a reason", "actual": "refused"} | changes)


def test_results_with_one_reason_are_one_entry() -> None:
    """Cases, what was seen and environments are gathered, each once, in the order in which they came."""
    entry, other = known(
        [
            expected("I08", actual="kill: refused"),
            expected("I02", parameter="usr1"),
            expected("I02", parameter="usr1", environment="root-container"),
            expected("A12", message="another reason"),
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
            expected("A01", target="runc"),
            expected("A01", target="box"),
            expected("A01", target="control:true", role=Role.CONTROL),
            expected("A02", target="box", outcome=Outcome.FAILED),
        ]
    )
    assert ["box", "runc"] == [entry.target for entry in found]
    assert [("A01",), ("A01",)] == [entry.cases for entry in found]
