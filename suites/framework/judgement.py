"""From what pytest saw of a node to its verdict, as pure functions (layer 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import _pytest.outcomes

from suites.catalog import MODES, Kind
from suites.framework.facts import Fact
from suites.framework.leaks import Leak, Owner
from suites.framework.model import MISSING, Control, Deviation, Outcome, Reason
from suites.framework.observation import Lacking, NotOffered, Unmet

EVERY = "*"
AS_ASKED = "as the case asks"
"""What is observed of a case that passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What went wrong in one phase of a node. `blame` is False where the harness or the test itself is at fault."""

    message: str
    expected: str = ""
    actual: str = ""
    reason: str = ""
    blame: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Outcome and reason with the words for it."""

    outcome: Outcome
    reason: str = ""
    message: str = ""
    expected: str = ""
    actual: str = ""


def text(value: object) -> str:
    """Return a compared value as a report shows it: strings bare, everything else by its repr."""
    return value if isinstance(value, str) else repr(value)


def sight(error: BaseException, *, compared: tuple[object, object] | None) -> Sight:
    """Return what an exception says; `compared` are expected and actual of an assertion that compared."""
    if isinstance(error, Unmet):
        return Sight(message=str(error), expected=error.expected, actual=error.actual, reason=error.reason or "")
    if isinstance(error, (AssertionError, _pytest.outcomes.Failed)):
        first = (str(error) or "assertion failed").splitlines()[0]
        if compared is None:
            return Sight(message=first, actual=first)
        expected, actual = map(text, compared)
        return Sight(message=f"expected {expected}, but {actual}", expected=expected, actual=actual)
    return Sight(message=f"{type(error).__name__}: {error}", blame=False)


def without(seen: Sight, nonce: str) -> Sight:
    """Return the sight with this test's nonce replaced: what is observed must read the same in every run."""
    return replace(
        seen,
        message=seen.message.replace(nonce, "NONCE"),
        expected=seen.expected.replace(nonce, "NONCE"),
        actual=seen.actual.replace(nonce, "NONCE"),
    )


def decided(error: BaseException, *, promises: Sequence[Fact]) -> Verdict | None:
    """Return the verdict that an exception already is: a skip, or a broken promise; None for everything else."""
    if isinstance(error, NotOffered):
        return Verdict(outcome=Outcome.SKIPPED, reason=Reason.NOT_OFFERED, message=str(error))
    if isinstance(error, _pytest.outcomes.Skipped):  # without a reason that the gate accepts, so it will be red
        return Verdict(outcome=Outcome.SKIPPED, message=str(error))
    if not isinstance(error, Lacking):
        return None
    missing, reason = error.missing, f"{MISSING}{error.missing.fact}"
    if missing.fact not in promises:
        return Verdict(outcome=Outcome.SKIPPED, reason=reason, message=f"{missing.reason}; {missing.remedy}")
    return Verdict(
        outcome=Outcome.FAILED,
        reason=reason,
        message=f"{missing.fact} was promised and is missing: {missing.reason}; {missing.remedy}",
        expected=f"{missing.fact} as promised",
        actual=missing.reason,
    )


def leaked(leaks: Sequence[Leak]) -> Sight | None:
    """Return what is wrong with leaving these behind; the harness's own come first, because they are our defect."""
    if not leaks:
        return None
    owner = Owner.HARNESS if any(leak.owner is Owner.HARNESS for leak in leaks) else Owner.TARGET
    words = ", ".join(str(leak) for leak in leaks if leak.owner is owner)
    return Sight(
        message=f"left behind by the {owner}: {words}",
        expected="nothing left behind",
        actual=words,
        reason=Reason.LEAK,
        blame=owner is Owner.TARGET,
    )


def must_fail(control: Control | None, mode: str, cases: Sequence[str]) -> bool:
    """Return whether a control has declared a failure of this case in this mode."""
    declared: tuple[str, ...] = getattr(control, mode, ()) if control else ()
    return EVERY in declared or any(case in declared for case in cases)


def is_null(control: Control | None, kind: Kind) -> bool:
    """Return whether a target does nothing of its kind: it must fail every case in every mode."""
    return all(must_fail(control, mode, ()) for mode in MODES[kind])


def concerning(deviation: Deviation, parameter: str) -> Deviation:
    """Return the deviation with ``{parameter}`` replaced in what it says is observed."""
    first, *others = (text.replace("{parameter}", parameter) for text in (deviation.observed, *deviation.or_observed))
    return replace(deviation, observed=first, or_observed=tuple(others))


def judge(seen: Sight | None, *, deviation: Deviation | None, control: Control | None, declared: bool) -> Verdict:
    """Return the verdict on a node that ran to its end.

    A deviation is expected only if the observation matches it literally; a control's declared failure whatever was
    observed. What is expected and does not come is an unexpected pass. The harness's own failure excuses nothing.
    """
    if seen is None:
        if control is not None and declared:
            return Verdict(
                outcome=Outcome.XPASSED, message="a control passed a case that it must fail", expected=control.reason
            )
        if deviation is not None and AS_ASKED not in deviation.or_observed:
            message = f"a known deviation went away: {deviation.reason}"
            return Verdict(outcome=Outcome.XPASSED, message=message, expected=deviation.observed, actual=AS_ASKED)
        return Verdict(outcome=Outcome.PASSED)
    if not seen.blame:
        return Verdict(
            outcome=Outcome.ERRORED,
            reason=seen.reason,
            message=seen.message,
            expected=seen.expected,
            actual=seen.actual,
        )
    if control is not None and declared:
        return _expected(seen, control.reason)
    if deviation is not None and seen.actual in (deviation.observed, *deviation.or_observed):
        return _expected(seen, deviation.reason)
    message = seen.message
    if deviation is not None:
        known = " or ".join((deviation.observed, *deviation.or_observed))
        message += f" (the profile knows another deviation of this case: {known})"
    return Verdict(
        outcome=Outcome.FAILED, reason=seen.reason, message=message, expected=seen.expected, actual=seen.actual
    )


def _expected(seen: Sight, why: str) -> Verdict:
    return Verdict(outcome=Outcome.XFAILED, reason=seen.reason, message=why, expected=seen.expected, actual=seen.actual)
