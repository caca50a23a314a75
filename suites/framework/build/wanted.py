"""The checkouts among the targets of a run, built before it (layer 2)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from suites.framework.build.build import Built, Request
from suites.framework.build.phase import Failed, opened
from suites.framework.facts import Missing
from suites.framework.hooks import Hooks
from suites.framework.model import Profile
from suites.framework.options import Options
from suites.framework.provisioning.cache import Cache
from suites.framework.results.rundir import RunDirectory
from suites.framework.targets.word import Word


def from_checkouts(options: Options, run: RunDirectory, hooks: Hooks) -> Callable[[Word, Profile], Path | Missing]:
    """Return what builds the checkout of a word within a run; a build that fails makes its target absent."""

    def build(word: Word, profile: Profile) -> Path | Missing:
        """Build the checkout that a word names."""
        assert word.checkout is not None
        request = Request(name=word.name, directory=word.checkout, profile=profile, executable=word.executable)
        with opened(
            run,
            Cache(options.cache),
            promises=options.promises,
            offline=options.offline,
            as_root=options.as_root,
            hooks=hooks,
        ) as phase:
            found = phase.build(request)
        match found:
            case Built():
                print(f"{word.name}: {'unchanged' if found.unchanged else 'built'}: {word.checkout}", file=sys.stderr)
                return found.path
            case Failed():
                print(f"{word.name}: {found.paragraph}", file=sys.stderr)
                return Missing(fact=found.fact, reason=f"its build failed: {found.summary}", remedy=f"see {found.log}")
            case Missing():
                return found

    return build
