"""What each artefact is in each environment, on a line for people (layer 2; pure)."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from suites.framework import codec
from suites.framework.manifest import Manifest, Type, difference
from suites.framework.results.artefacts import Artefact
from suites.framework.results.escaping import one_line

SHOWN = 12
"""Characters of a digest that tell two manifests apart for a reader."""
PATHS = 3
"""Of an environment that differs, which are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """One artefact in all environments that made it."""

    name: str
    made: tuple[Artefact, ...]
    """In a fixed order; what cannot be read is among them."""

    @property
    def apart(self) -> tuple[Artefact, ...]:
        """Return what is not as the first one is."""
        first, *others = self.made
        return tuple(each for each in others if differs(first, each))

    def where(self, artefact: Artefact) -> str:
        """Return where one of them was made: its environment, and of which run where that does not tell it apart."""
        alike = [each for each in self.made if each.environment == artefact.environment]
        return artefact.origin if len(alike) > 1 else artefact.environment

    def __str__(self) -> str:
        """Return how many files it has, where it is the same, and the digest of its manifest."""
        first, where = self.made[0], ", ".join(map(self.where, self.made))
        places = f"{len(self.made)} environment{'s' if len(self.made) > 1 else ''} ({where})"
        if self.apart or first.content is None:
            others = "; ".join(f"{self.where(each)}: {_how(first, each)}" for each in self.apart) or first.trouble
            return one_line(f"{self.name}: DIFFERS in {places}; {others}")
        files = sum(entry.type is not Type.FOLDER for entry in first.content.entries)
        how = "identical" if len(self.made) > 1 else "made"
        said = f"{files} file{'s' if files != 1 else ''}, {how} in {places}, manifest {digest(first.content)[:SHOWN]}"
        return one_line(f"{self.name}: {said}")


def _how(one: Artefact, other: Artefact) -> str:
    """Return the first paths that are not the same."""
    if not one.content or not other.content:
        return one.trouble or other.trouble
    found = difference(one.content, other.content)
    more = (f"and {len(found) - PATHS} more",) if len(found) > PATHS else ()
    return ", ".join((*map(str, found[:PATHS]), *more))


def differs(one: Artefact, other: Artefact) -> bool:
    """Return whether two are not the same; what could not be read is not."""
    return not one.content or not other.content or bool(difference(one.content, other.content))


def digest(content: Manifest) -> str:
    """Return the SHA-256 of a manifest: the same for the same folder, whoever looks at it."""
    return hashlib.sha256(json.dumps(codec.encode(content), sort_keys=True).encode("utf-8", "replace")).hexdigest()


def parities(artefacts: Iterable[Artefact]) -> tuple[Parity, ...]:
    """Return every artefact of a run by name, without the golden ones."""
    found: dict[str, list[Artefact]] = defaultdict(list)
    for artefact in artefacts:
        if not artefact.golden:
            found[artefact.name].append(artefact)
    return tuple(Parity(name=name, made=tuple(found[name])) for name in sorted(found))


def lines(artefacts: Sequence[Artefact]) -> tuple[str, ...]:
    """Return a line for each artefact of a run."""
    return tuple(f"artefact {each}" for each in parities(artefacts))
