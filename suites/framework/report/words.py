"""The words, symbols and limits of the page: how a verdict, a text and a number are shown (layer 2; pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

from markupsafe import Markup, escape

from suites.framework.errors import ExitCode
from suites.framework.results.escaping import one_line, visible
from suites.framework.results.result import SEVERITY, Result, Verdict

GOOD, BAD, UNSURE, QUIET = "good", "bad", "unsure", "quiet"
"""Tones: names of CSS classes, which only repeat what a word says."""
SYMBOLS = {
    Verdict.PASSED: "✓",
    Verdict.FAILED: "✗",
    Verdict.ERRORED: "✗",
    Verdict.XPASSED: "✗",
    Verdict.INCONCLUSIVE: "?",
    Verdict.XFAILED: "≈",
    Verdict.SKIPPED: "○",
}
WORDS = {verdict: verdict.value for verdict in Verdict} | {
    Verdict.XPASSED: "passed unexpectedly",
    Verdict.XFAILED: "failed as expected",
}
TONES = {
    Verdict.PASSED: GOOD,
    Verdict.FAILED: BAD,
    Verdict.ERRORED: BAD,
    Verdict.XPASSED: BAD,
    Verdict.INCONCLUSIVE: UNSURE,
    Verdict.XFAILED: QUIET,
    Verdict.SKIPPED: QUIET,
}
EXITS = {
    ExitCode.GREEN: ("PASSED", "✓", GOOD),
    ExitCode.FAILED: ("FAILED", "✗", BAD),
    ExitCode.GATE: ("GATE RED", "✗", BAD),
    ExitCode.INFRASTRUCTURE: ("BROKEN INFRASTRUCTURE", "✗", BAD),
    ExitCode.USAGE: ("WRONG USAGE", "✗", BAD),
    ExitCode.CANNOT_RUN: ("SKIPPED", "○", UNSURE),
    ExitCode.INTERRUPTED: ("INTERRUPTED", "✗", BAD),
}
"""Word, symbol and tone of an exit code."""


def shown(value: object) -> object:
    """Return text with every character that acts written out; markup and numbers as they are."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def clipped(text: str, most: int) -> str:
    """Return at most `most` characters of a text, and how many were left out."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most} characters more)"


def line(text: str, most: int = 300) -> str:
    """Return a text on one line, clipped."""
    return clipped(one_line(text[: most * 4]), most)


def marked(text: str) -> Markup:
    """Return a text as it stands in the page."""
    return escape(visible(text))


def verdict_word(result: Result) -> str:
    """Return the verdict as a heading says it."""
    if result.null_passed:
        return "passed by a null target"
    return WORDS[result.verdict] + (f" (flaky: {', '.join(result.attempts)})" if result.flaky else "")


def verdict_tone(result: Result) -> str:
    """Return the tone of a verdict; what a null target passed is bad."""
    return BAD if result.null_passed else TONES[result.verdict]


def tallied(results: Iterable[Result]) -> str:
    """Return ``1 failed, 3 passed``: the worst first."""
    found = Counter(result.verdict for result in results)
    return ", ".join(f"{found[verdict]} {WORDS[verdict]}" for verdict in SEVERITY if found[verdict])


def worst(results: Iterable[Result]) -> Result:
    """Return the result that decides how a cell looks."""
    return min(results, key=lambda result: (not result.red, SEVERITY.index(result.verdict)))


def symbol(result: Result) -> str:
    """Return the symbol of a verdict."""
    return "✗" if result.null_passed else SYMBOLS[result.verdict]


def seconds(value: float) -> str:
    """Return a duration with three significant digits and its unit."""
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s" if value < 100 else f"{value:.0f} s"


def size(value: float) -> str:
    """Return a number of bytes in MiB."""
    return f"{value / 1024**2:.1f} MiB"


def moment(t: float) -> str:
    """Return a time in Unix seconds as UTC; a foreign clock may have said anything."""
    try:
        return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{t} s"
