"""Which known deviation applies to an observation, and deviations as TOML text (layer 1: pure, no files)."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable

from suites.framework.model import Deviation
from suites.framework.targets.profile import BARE, SCOPES

UNWRITTEN = "to be written"
"""The reason of a deviation that `report --write-profile` pinned and nobody has explained yet."""


def match(
    deviations: Iterable[Deviation],
    *,
    cases: Collection[str],
    environment: str,
    mode: str,
    parameter: str = "",
    version: str = "",
    variant: str = "",
    test: str = "",
) -> Deviation | None:
    """Return the deviation with the most scope keys that hold here, the first of equals, or None.

    ``cases`` are the ids of the test, ``KIND:ID`` included where a profile may write so; ``variant`` is empty for
    the bare target. The observation itself is for the caller to compare.
    """
    here = {"environment": environment, "mode": mode, "parameter": parameter, "variant": variant or BARE, "test": test}
    fitting = [
        deviation
        for deviation in deviations
        if not set(deviation.case).isdisjoint(cases)
        and all(not getattr(deviation, key) or value in getattr(deviation, key) for key, value in here.items())
        and _version_fits(deviation.version, version)
    ]
    return max(fitting, key=_specificity, default=None)


def dump(deviations: Iterable[Deviation]) -> str:
    """Return the ``[[deviation]]`` tables of a profile; a reason that is empty is written ``to be written``."""
    return "\n".join(_entry(deviation) for deviation in deviations)


def _specificity(deviation: Deviation) -> int:
    return sum(bool(getattr(deviation, key)) for key in SCOPES)


def _version_fits(prefixes: tuple[str, ...], version: str) -> bool:
    """Return whether one prefix begins the version line or its number; ``0.1`` does not begin ``0.19``."""
    number = re.search(r"\d+(\.\d+)+\S*", version)
    candidates = (version, number[0] if number else "")
    return not prefixes or any(_begins(prefix, text) for prefix in prefixes for text in candidates)


def _begins(prefix: str, text: str) -> bool:
    rest = text[len(prefix) :]
    return text.startswith(prefix) and not (prefix[-1:].isdigit() and rest[:1].isdigit())


def _entry(deviation: Deviation) -> str:
    pairs = {"observed": deviation.observed, "reason": deviation.reason or UNWRITTEN}
    if deviation.source:
        pairs["source"] = deviation.source
    lines = [f"{key} = {_quoted(text)}" for key, text in pairs.items()]
    if deviation.or_observed:
        lines.insert(1, f"or-observed = [{', '.join(map(_quoted, deviation.or_observed))}]")
    lines += [f"{key} = {_list(getattr(deviation, key))}" for key in SCOPES if getattr(deviation, key)]
    return "\n".join(["[[deviation]]", f"case = {_list(deviation.case)}", *lines, ""])


def _list(words: tuple[str, ...]) -> str:
    return _quoted(words[0]) if len(words) == 1 else f"[{', '.join(map(_quoted, words))}]"


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's, but TOML also refuses a bare DEL, and neither has lone surrogates (non-UTF-8 bytes).
    clean = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")
