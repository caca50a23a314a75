"""The executables of a build: taken out of the builder's hands, and which of them is meant (layer 2)."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path

from suites.framework.build.checkout import open_regular
from suites.framework.build.record import BuildRecord, Product
from suites.framework.build.user import Builder
from suites.framework.errors import UsageError
from suites.framework.model import Profile
from suites.framework.provisioning.cache import sha256_of
from suites.framework.targets.executable import inspect
from suites.framework.targets.profile import suggestion

FOLDER = "bin"
"""Of a build's cache entry."""


def take(word: str, programs: Sequence[Path], top: Path, to: Path, builder: Builder) -> tuple[Product, ...]:
    """Copy programs below ``top`` to ``to`` and return them, those left out that cannot start here.

    The cache can be read by everybody: what is copied must be a file of the builder's own, reached without a link.
    Any other raises UsageError, as does a build none of whose programs can start here.
    """
    found, refusals = [], []
    for name, path in _named(programs, top):
        copy = to / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        with _opened(word, path, builder) as stream, copy.open("xb") as written:
            shutil.copyfileobj(stream, written, 1 << 20)
        copy.chmod(0o755)
        try:
            found.append(_product(name, copy))
        except UsageError as error:
            refusals.append(f"{name}: {error.what.replace(f'{copy} ', '')}: {error.why}")
            copy.unlink()
    if refusals and not found:
        raise UsageError(f"{word}: nothing that was built can start here", why="; ".join(refusals))
    return tuple(found)


def _named(programs: Sequence[Path], top: Path) -> Iterator[tuple[str, Path]]:
    """Yield each program with its name: the file's, with the way to it where that is taken twice."""
    taken = Counter(path.name for path in dict.fromkeys(programs))
    for path in dict.fromkeys(programs):
        yield (path.name if taken[path.name] == 1 else os.path.relpath(path, top).replace("../", "")), path


def _opened(word: str, path: Path, builder: Builder) -> BufferedReader:
    try:
        with builder.acting():
            stream = open_regular(path)
    except OSError as error:
        why = f"{error.strerror}; it is a link or no regular file, or cannot be read"
        raise UsageError(f"{word}: the build made {path.name}, which is not taken", why=why) from None
    if (owner := os.fstat(stream.fileno()).st_uid) != builder.user.uid:
        stream.close()
        raise UsageError(
            f"{word}: the build made {path.name}, which is not taken",
            why=f"it belongs to uid {owner}, not to {builder.user.name}, who built",
        )
    return stream


def _product(name: str, path: Path) -> Product:
    found = inspect(path)
    linkage = "script" if found.form == "script" else "dynamic" if found.interpreter else "static"
    return Product(
        name=name,
        sha256=sha256_of(path),
        size=path.stat().st_size,
        linkage=linkage,
        interpreter=found.interpreter,
    )


def hints(name: str, executable: str, profile: Profile) -> tuple[str, ...]:
    """Return what the executable may be called, most certain first."""
    return tuple(dict.fromkeys(filter(None, (executable, profile.build.executable, profile.binary, name))))


def meant(record: BuildRecord, name: str, directory: Path, executable: str, profile: Profile) -> Product:
    """Return the executable that a user means: the one named, else the profile's, else NAME, else the only one.

    UsageError where it is not there or more than one could be meant, with the words to type.
    """
    products = {product.name: product for product in record.products}
    if not products:
        raise UsageError(
            f"{name}: the build of {directory} made no executable",
            why=f"{record.tool} ended well, following {record.manifest}",
            remedy="give a [build] command with --profile",
        )
    certain = executable or profile.build.executable
    if certain and certain not in products:
        raise UsageError(
            f"{name}: the build made no {certain!r}{suggestion(certain, products)}",
            why=f"it made {', '.join(sorted(products))}",
        )
    for wanted in hints(name, executable, profile):
        if wanted in products:
            return products[wanted]
    if len(products) > 1:
        choices = " or ".join(f"{name}={directory}#{one}" for one in sorted(products))
        raise UsageError(
            f"{name}: the build made {len(products)} executables", why="any could be meant", remedy=f"say {choices}"
        )
    return record.products[0]


def require_siblings(record: BuildRecord, name: str, profile: Profile) -> None:
    """Raise UsageError unless the build made what the profile wants beside the program."""
    made = {product.name for product in record.products}
    if absent := [sibling for sibling in profile.siblings if sibling not in made]:
        raise UsageError(
            f"{name}: the build made no {absent[0]!r}, which its profile wants beside it",
            why=f"it made {', '.join(sorted(made))}",
            remedy="correct siblings in the profile",
        )
