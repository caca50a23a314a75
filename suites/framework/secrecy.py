"""Keeping the values of ``--target-env`` out of what is reported (layer 1: standard library only).

A target may print what it was given, a token for instance, and reports are passed around.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from suites.framework.model import Ended, Evidence, Note, Target

LEAST = 8
"""Shorter values are no secrets (RUST_LOG=debug), and hiding them would spoil texts that have the same word."""
SHOWN = ("LD_LIBRARY_PATH",)
"""Variables that are paths of ours."""


class Secrets:
    """Values and what is shown instead of them."""

    def __init__(self, targets: Iterable[Target]) -> None:
        """Collect the values that the targets of a worker are given."""
        given = {value: name for target in targets for name, value in target.environment.items() if name not in SHOWN}
        # the longest first: one value may contain another
        self._names = {value: given[value] for value in sorted(given, key=len, reverse=True) if len(value) >= LEAST}

    def hidden(self, event: Ended | Note) -> Ended | Note:
        """Return an event in which each value is replaced by its name, as in ``${TOKEN}``."""
        if not self._names:
            return event
        if isinstance(event, Note):
            return replace(event, value=self._anywhere(event.value))
        return replace(
            event,
            message=self._text(event.message),
            expected=self._text(event.expected),
            actual=self._text(event.actual),
            evidence=tuple(Evidence(title=piece.title, text=self._text(piece.text)) for piece in event.evidence),
        )

    def _anywhere(self, value: Any) -> Any:
        match value:
            case str():
                return self._text(value)
            case dict():
                return {self._text(str(key)): self._anywhere(item) for key, item in value.items()}
            case list() | tuple():
                return [self._anywhere(item) for item in value]
            case _:
                return value

    def _text(self, text: str) -> str:
        for value, name in self._names.items():
            text = text.replace(value, f"${{{name}}}")
        return text
