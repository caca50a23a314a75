"""The words of ``--target``: NAME, NAME+VARIANT, NAME=PATH, NAME=KIND:PATH (layer 1: standard library only).

A path that is a directory is a checkout, after which ``#`` may say which executable of its build is meant; one of
kind buildscripts is the target itself, and is not built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from suites.catalog import Kind
from suites.framework.errors import UsageError
from suites.framework.model import Profile
from suites.framework.targets.executable import inspect, require_readable
from suites.framework.targets.profile import suggestion

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_KIND = re.compile(r"([A-Za-z]+):(.*)", re.DOTALL)
_FORMS = "allowed are NAME, NAME+VARIANT, NAME=PATH, NAME=KIND:PATH and, for a checkout, NAME=DIR#EXECUTABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One target that the user asked for."""

    name: str
    variant: str | None = None
    """The one variant that was named, or None for all of them."""
    kind: Kind | None = None
    path: Path | None = None
    """Of a binary, or of a folder that is a wrapper, absolute; None for a target of the catalogue wherever it is found,
    and for a checkout."""
    checkout: Path | None = None
    """A directory that is built first, absolute."""
    executable: str = ""
    """What is meant of that build or folder, where the user said so."""


def parse(words: Iterable[str], *, base: Path, catalogue: Mapping[str, Profile]) -> tuple[Word, ...]:
    """Return the targets that ``words`` name, each once, in order; paths are relative to ``base``.

    Every word that names nothing we can start raises UsageError: an unknown name or variant, a path that is
    missing, not executable, a library, or built for another machine.
    """
    chosen = list(dict.fromkeys(_word(text, base, catalogue) for text in words))
    places: dict[str, Word] = {}
    for word in chosen:
        first = places.setdefault(word.name, word)
        if _place(first) != _place(word):
            raise UsageError(
                f"--target {word.name} is given twice",
                why=f"once as {_place(first)}, once as {_place(word)}",
                remedy="give each its own name",
            )
    return tuple(chosen)


def _word(text: str, base: Path, catalogue: Mapping[str, Profile]) -> Word:
    label, equals, place = text.partition("=")
    name, plus, variant = label.partition("+")
    _check_name(text, name, catalogue)
    profile = catalogue.get(name)
    if plus:
        _check_variant(text, variant, profile)
    kind, path = _destination(text, place, base) if equals else (None, None)
    if profile is None and path is None:
        raise UsageError(
            f"--target {text}: unknown target {name!r}{suggestion(name, catalogue)}",
            why=f"the catalogue has {', '.join(catalogue) or 'nothing'}",
            remedy=f"give its binary with --target {name}=PATH",
        )
    _check_kind(text, kind, profile)
    chosen = Word(name=name, variant=variant if plus else None, kind=kind, path=path)
    return chosen if path is None else _located(text, chosen, path, profile)


def split_executable(path: Path) -> tuple[Path, str]:
    """Return a path and what stands after ``#``, unless that belongs to the name of something that exists."""
    name, mark, executable = path.name.rpartition("#")
    return (path.parent / name, executable) if mark and name and not path.exists() else (path, "")


def _located(text: str, word: Word, path: Path, profile: Profile | None) -> Word:
    """Return the word with its path known to be a checkout or a program."""
    folder, executable = split_executable(path)
    if folder.is_dir() and _is_wrapper(word, profile):
        return replace(word, path=folder, executable=executable)
    if folder.is_dir() and (profile is None or not profile.command):
        return replace(word, path=None, checkout=folder, executable=executable)
    _check_path(text, path, profile)
    return word


def _is_wrapper(word: Word, profile: Profile | None) -> bool:
    """Return whether a folder is the target itself: a wrapper of build scripts is run as it stands."""
    return word.kind is Kind.BUILDSCRIPTS or (profile is not None and profile.kinds == (Kind.BUILDSCRIPTS,))


def _check_name(text: str, name: str, catalogue: Mapping[str, Profile]) -> None:
    if not name:
        raise UsageError(f"--target {text!r}: the name is empty", remedy=_FORMS)
    if name not in catalogue and not _NAME.fullmatch(name):
        raise UsageError(
            f"--target {text!r}: {name!r} is not a name{suggestion(name, catalogue)}",
            why="a name has only letters, digits, '.', '_' and '-'",
            remedy=_FORMS,
        )


def _check_variant(text: str, variant: str, profile: Profile | None) -> None:
    if not variant:
        raise UsageError(f"--target {text}: the variant after + is empty", remedy=_FORMS)
    if profile is not None and variant not in profile.variant:
        raise UsageError(
            f"--target {text}: {profile.name} has no variant {variant!r}{suggestion(variant, profile.variant)}",
            why=f"it has {', '.join(profile.variant) or 'none'}",
        )


def _destination(text: str, place: str, base: Path) -> tuple[Kind | None, Path]:
    kind, place = _split_kind(text, place, base)
    if not place:
        raise UsageError(f"--target {text}: the path is empty", remedy=_FORMS)
    path = Path(place)
    return kind, base / (path.expanduser() if place.startswith("~/") else path)


def _split_kind(text: str, place: str, base: Path) -> tuple[Kind | None, str]:
    prefix = _KIND.fullmatch(place)
    if prefix is None:
        return None, place
    if prefix[1] in tuple(Kind):
        return Kind(prefix[1]), prefix[2]
    if (base / place).exists():
        return None, place
    raise UsageError(
        f"--target {text}: unknown kind {prefix[1]!r}{suggestion(prefix[1], tuple(Kind))}",
        why=f"the kinds are {', '.join(Kind)}",
    )


def _check_kind(text: str, kind: Kind | None, profile: Profile | None) -> None:
    if kind is not None and profile is not None and kind not in profile.kinds:
        raise UsageError(
            f"--target {text}: {profile.name} is not of kind {kind}", why=f"its kind is {', '.join(profile.kinds)}"
        )


def _check_path(text: str, path: Path, profile: Profile | None) -> None:
    if profile is not None and profile.command and not profile.binary:
        raise UsageError(f"--target {text}: {profile.name} runs its own words and takes no path")
    try:
        if profile is not None and profile.command:
            require_readable(path)
        else:
            inspect(path)
    except UsageError as error:
        raise UsageError(f"--target {text}: {error.what}", why=error.why, remedy=error.remedy) from None


def _place(word: Word) -> str:
    kind, mark = (f"{word.kind}:" if word.kind else ""), (f"#{word.executable}" if word.executable else "")
    path = word.path or word.checkout
    return f"{kind}{path}{mark}" if path else "the catalogue's"
