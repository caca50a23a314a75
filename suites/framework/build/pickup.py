"""The last build of a name, for the sessions that try it (layer 2)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from suites.framework.build import checkout as checkouts
from suites.framework.build import products, record
from suites.framework.build.record import LastBuild
from suites.framework.build.user import builder
from suites.framework.errors import UsageError
from suites.framework.provisioning.cache import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """An executable that an earlier ``build`` made."""

    path: Path
    checkout: Path


def last_build(name: str, cache: Cache) -> Picked | None:
    """Return what was built last for ``name``, and tell the user so; a warning where the checkout differs since."""
    last = record.last(cache, name)
    if last is None:
        return None
    key = f"builds/{last.key}"
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last.built_at))
    if not cache.holds(key):
        cache.say(f"{name}: not taken from the build of {last.checkout} at {when}, which the cache has lost")
        return None
    cache.say(f"{name}: built from {last.checkout} at {when}{_warning(last)}")
    return Picked(path=cache.root / key / products.FOLDER / last.executable, checkout=Path(last.checkout))


def _warning(last: LastBuild) -> str:
    directory = Path(last.checkout)
    try:
        checkouts.require_directory(last.name, directory)
        found = checkouts.survey(last.name, directory, builder(last.name, directory, as_root=last.as_root))
    except UsageError as error:
        return f"; warning: whether that is up to date cannot be told: {error.why or error.what}"
    if found.tree == last.tree:
        return ""
    return f"; warning: the checkout has changed since: nox -s build -- {last.name}={last.checkout}"
