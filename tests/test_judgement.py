"""Judgement: each way a node can end, and the verdict on it."""

from __future__ import annotations

import _pytest.outcomes
import pytest

from suites.catalog import Kind
from suites.framework import judgement
from suites.framework.facts import Fact, Missing
from suites.framework.judgement import Sight, Verdict, decided, is_null, judge, leaked, must_fail, sight
from suites.framework.leaks import Leak, Owner
from suites.framework.model import Control, Deviation, Outcome, Reason
from suites.framework.observation import Lacking, NotOffered, Unmet

MISSING = Missing(fact=Fact.OVERLAY, reason="mount: no such device", remedy="modprobe overlay")
KNOWN = Deviation(case=("SG-01",), observed="exit 1", reason="fixed in 2.0")
RACING = Deviation(case=("SG-01",), observed="exit 3", or_observed=("exit 1", "as the case asks"), reason="a race")
CONTROL = Control(reason="it never forwards", plain=("SG-01",), pid1=("*",))
FAILED = Sight(message="expected exit 0, but exit 1", expected="exit 0", actual="exit 1", reason="crash")
OTHER = Sight(message="expected exit 0, but exit 2", expected="exit 0", actual="exit 2")
OURS = Sight(message="KeyError: 'x'", blame=False)


@pytest.mark.parametrize(
    ("error", "compared", "seen"),
    [
        (
            Unmet("the end", "nothing", reason=Reason.TIMEOUT),
            None,
            Sight(message="expected the end, but nothing", expected="the end", actual="nothing", reason="timeout"),
        ),
        (Unmet("a", "b"), (1, 2), Sight(message="expected a, but b", expected="a", actual="b")),
        (Unmet("a", "b", words="w x"), None, Sight(message="expected a, but b: w x", expected="a", actual="b")),
        (AssertionError("assert 1 == 2\n more"), (1, 2), Sight(message="expected 1, but 2", expected="1", actual="2")),
        (AssertionError("assert 'a' == 'b'"), ("a", "b"), Sight(message="expected a, but b", expected="a", actual="b")),
        (AssertionError("first\nsecond"), None, Sight(message="first", actual="first")),
        (AssertionError(), None, Sight(message="assertion failed", actual="assertion failed")),
        (_pytest.outcomes.Failed("no way"), None, Sight(message="no way", actual="no way")),
        (OSError(2, "gone"), (1, 2), Sight(message="FileNotFoundError: [Errno 2] gone", blame=False)),
        (KeyError("x"), None, OURS),
    ],
)
def test_an_exception_says_what_was_seen(
    error: BaseException, compared: tuple[object, object] | None, seen: Sight
) -> None:
    """An unmet expectation and a failed assertion blame the target, every other exception the harness."""
    assert seen == sight(error, compared=compared)


@pytest.mark.parametrize(
    ("error", "promises", "verdict"),
    [
        (NotOffered("no group"), (), Verdict(outcome=Outcome.SKIPPED, reason="not-offered", message="no group")),
        (_pytest.outcomes.Skipped("because"), (), Verdict(outcome=Outcome.SKIPPED, message="because")),
        (
            Lacking(MISSING),
            (Fact.SETUID,),
            Verdict(
                outcome=Outcome.SKIPPED, reason="missing:overlay", message="mount: no such device; modprobe overlay"
            ),
        ),
        (
            Lacking(MISSING),
            (Fact.OVERLAY,),
            Verdict(
                outcome=Outcome.FAILED,
                reason="missing:overlay",
                message="overlay was promised and is missing: mount: no such device; modprobe overlay",
                expected="overlay as promised",
                actual="mount: no such device",
            ),
        ),
        (AssertionError("x"), (Fact.OVERLAY,), None),
        (Unmet("a", "b"), (), None),
    ],
)
def test_some_exceptions_are_verdicts(
    error: BaseException, promises: tuple[Fact, ...], verdict: Verdict | None
) -> None:
    """A skip has the reason that explains it, or none; what was promised and is missing is a failure."""
    assert verdict == decided(error, promises=promises)


def leak(owner: Owner, what: str) -> Leak:
    return Leak(owner=owner, kind="processes", what=what)


def test_what_is_left_behind_blames_its_owner() -> None:
    """Nothing is nothing; a target's leak is its failure; one of the harness's own comes first."""
    theirs, ours = leak(Owner.TARGET, "sleep"), leak(Owner.HARNESS, "ours")
    assert leaked([]) is None
    one, both = leaked([theirs]), leaked([theirs, ours])
    assert one is not None
    assert both is not None
    assert (True, "leak", "process sleep", "nothing left behind") == (one.blame, one.reason, one.actual, one.expected)
    assert "left behind by the target: process sleep" == one.message
    assert (False, "process ours") == (both.blame, both.actual)


@pytest.mark.parametrize(
    ("control", "mode", "cases", "declared"),
    [
        (None, "plain", ("SG-01",), False),
        (CONTROL, "plain", ("SG-01",), True),
        (CONTROL, "plain", ("SG-02",), False),
        (CONTROL, "plain", ("SG-02", "SG-01"), True),
        (CONTROL, "plain", (), False),
        (CONTROL, "pid1", (), True),
        (CONTROL, "docker", ("SG-01",), False),
        (CONTROL, "", ("SG-01",), False),
    ],
)
def test_a_control_must_fail_what_it_declares(
    control: Control | None, mode: str, cases: tuple[str, ...], declared: bool
) -> None:
    """Its list counts per mode, and a star stands for every case."""
    assert declared == must_fail(control, mode, cases)


def test_a_null_target_must_fail_everything_of_its_kind() -> None:
    """A star in every mode of the kind, of which runtimes have another than inits; no control is none."""
    runtime, init = Control(reason="r", cli=("*",)), Control(reason="r", plain=("*",), pid1=("*",))
    assert (False, True) == (is_null(runtime, Kind.INIT), is_null(runtime, Kind.OCI))
    assert (True, False) == (is_null(init, Kind.INIT), is_null(init, Kind.OCI))
    assert not is_null(Control(reason="r", plain=("*",), pid1=("SG-01",)), Kind.INIT)
    assert not is_null(None, Kind.OCI)


@pytest.mark.parametrize(
    ("seen", "deviation", "control", "declared", "outcome", "message"),
    [
        (None, None, None, False, Outcome.PASSED, ""),
        (None, None, CONTROL, False, Outcome.PASSED, ""),
        (None, None, CONTROL, True, Outcome.XPASSED, "a control passed a case that it must fail"),
        (None, KNOWN, None, False, Outcome.XPASSED, "a known deviation went away: fixed in 2.0"),
        (FAILED, None, None, False, Outcome.FAILED, FAILED.message),
        (FAILED, KNOWN, None, False, Outcome.XFAILED, "fixed in 2.0"),
        (FAILED, RACING, None, False, Outcome.XFAILED, "a race"),
        (None, RACING, None, False, Outcome.PASSED, ""),
        (
            OTHER,
            RACING,
            None,
            False,
            Outcome.FAILED,
            f"{OTHER.message} (the profile knows another deviation of this case: exit 3 or exit 1 or as the case asks)",
        ),
        (FAILED, None, CONTROL, True, Outcome.XFAILED, "it never forwards"),
        (FAILED, None, CONTROL, False, Outcome.FAILED, FAILED.message),
        (OTHER, None, CONTROL, True, Outcome.XFAILED, "it never forwards"),
        (
            OTHER,
            KNOWN,
            None,
            False,
            Outcome.FAILED,
            f"{OTHER.message} (the profile knows another deviation of this case: exit 1)",
        ),
        (OURS, None, None, False, Outcome.ERRORED, OURS.message),
        (OURS, KNOWN, None, False, Outcome.ERRORED, OURS.message),
        (OURS, None, CONTROL, True, Outcome.ERRORED, OURS.message),
    ],
)
def test_every_end_has_its_verdict(
    seen: Sight | None,
    deviation: Deviation | None,
    control: Control | None,
    declared: bool,
    outcome: Outcome,
    message: str,
) -> None:
    """Expected failures must come and must match; the harness's own failure excuses and blames nobody."""
    verdict = judge(seen, deviation=deviation, control=control, declared=declared)
    assert (outcome, message) == (verdict.outcome, verdict.message)
    if seen is not None:
        assert (seen.expected, seen.actual, seen.reason) == (verdict.expected, verdict.actual, verdict.reason)


def test_values_are_shown_bare_or_by_their_repr() -> None:
    """A string is shown as it is, everything else as Python writes it."""
    assert ("exit 0", "(1, 'a')") == (judgement.text("exit 0"), judgement.text((1, "a")))
