"""The marks that tie a test to its case and say where it makes sense (layer 1).

They are data: the plugin, `cases` and the launcher read them, nothing here decides anything.
"""

from __future__ import annotations

import pytest
from _pytest.mark import MarkDecorator

from suites.catalog import Mode, Place, Privilege
from suites.framework.facts import Fact

MARKS = {
    "case(*ids)": "the rows of the case list that this test (or parameter) answers",
    "modes(*modes)": "the modes in which it makes sense; without it those of its kind",
    "within(privilege=..., place=...)": "the environments in which it makes sense; without it all",
    "requires(*facts)": "what the environment must have; missing: skipped, or failed when promised",
    "offered(*words)": "what the target's profile must offer; otherwise the case is not offered",
    "controls(*names)": "planned for these controls only",
    "tier(number)": "1 to 4; without it 1",
    "weight(number)": "about how many times as long as most it takes; without it 1",
}
"""Every mark with its meaning, for ``pytest --markers``."""


def case(*ids: str) -> MarkDecorator:
    """Tie a test or parameter to case ids."""
    return pytest.mark.case(*ids)


def modes(*wanted: Mode) -> MarkDecorator:
    """Limit a test to these modes."""
    return pytest.mark.modes(*wanted)


def within(*, privilege: Privilege | None = None, place: Place | None = None) -> MarkDecorator:
    """Limit a test to environments of this privilege or place."""
    return pytest.mark.within(privilege=privilege, place=place)


def requires(*facts: Fact) -> MarkDecorator:
    """Skip a test with the reason and remedy where a fact is missing."""
    return pytest.mark.requires(*facts)


def offered(*words: str) -> MarkDecorator:
    """Report a test as not offered where the profile lacks one of the words that the adapter offers (`Init.offers`)."""
    return pytest.mark.offered(*words)


def controls(*names: str) -> MarkDecorator:
    """Plan a test for these controls only (``none``, ``python``)."""
    return pytest.mark.controls(*names)


def tier(number: int) -> MarkDecorator:
    """Put a test into a tier other than the first."""
    return pytest.mark.tier(number)


def weight(number: int) -> MarkDecorator:
    """Have a test count as so many when tests are spread over workers and shards."""
    return pytest.mark.weight(number)
