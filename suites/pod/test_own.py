"""The tests that a runtime brings along, where it was built from its checkout (13 of the plan)."""

from __future__ import annotations

from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires, tier
from suites.framework.model import PACKAGE_TESTS
from suites.framework.pod.pods import Pods


@tier(2)
@case("H5")
@offered("own-tests")
@requires(Fact.OWN_TESTS)
def test_own_tests_of_the_runtime_pass(pods: Pods) -> None:
    """The runtime's own tests of I/O and exec passed where it was built, and what was built runs (13 of the plan).

    Why: they were left out of its CI, and a regression there was first seen on a cluster.
    By hand:
        # in its checkout
        cargo test --test integration_io --test integration_exec
    """
    told = pods.target.own_tests
    assert told is not None
    for suite in told.suites:
        numbers = {"passed": suite.passed, "failed": suite.failed, "skipped": suite.skipped}
        pods.note(PACKAGE_TESTS, {"package": suite.name, **numbers})
    pod = pods.run(pods.shell("echo here"))
    assert (b"here\n", b"") == pod.main.outputs()
    assert [] == [f"{suite.name}: {name}" for suite in told.suites for name in suite.failures]
    assert 0 == sum(suite.failed for suite in told.suites)
    assert [] == [suite.name for suite in told.suites if suite.passed == 0]
