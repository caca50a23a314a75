"""What a case expected and what it saw instead (layer 1)."""

from __future__ import annotations

from suites.framework.facts import Missing
from suites.framework.model import Reason


class Unmet(AssertionError):
    """An expectation about the target that did not come true.

    `expected` and `actual` are short and the same in every run (no process ids, no times), because known
    deviations are compared with `actual` literally.
    """

    def __init__(self, expected: str, actual: str, *, reason: Reason | None = None, words: str = "") -> None:
        """Say what was expected and what was seen; `reason` tells a timeout or a crash apart.

        `words` is what was said about it, which a person reads and nobody compares.
        """
        self.expected, self.actual, self.reason = expected, actual, reason
        super().__init__(f"expected {expected}, but {actual}{words and f': {words}'}")


class Lacking(Exception):
    """A fact without which a test cannot run does not hold here: a skip, or a failure where it was promised."""

    def __init__(self, missing: Missing) -> None:
        """Carry the absence as a value."""
        self.missing = missing
        super().__init__(f"{missing.fact} is missing: {missing.reason}; {missing.remedy}")


class NotOffered(Exception):
    """The target's profile does not offer what a case is about."""
