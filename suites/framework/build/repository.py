"""What git says about a source directory, asked as its owner and without writing into it (layer 2)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from suites.framework.build.user import Builder
from suites.framework.errors import UsageError

DEADLINE_S = 60.0
# The checkout's own configuration may name programs to run; a foreign owner is what we came for.
_CONFIGURATION = (("safe.directory", "*"), ("core.fsmonitor", "false"), ("core.hooksPath", os.devnull))
_OWN = ("HEAD", "index")
"""Files of a linked work tree that replace those of the repository."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """Where git keeps what belongs to a checkout."""

    folder: Path
    """Of this work tree: HEAD and index."""
    common: Path
    """Of all work trees: objects and references."""
    linked: bool
    """Whether that is elsewhere than in ``.git`` of the checkout (git-worktree(1), git-submodule(1))."""
    state: str
    """Commit and description: versions are stamped from them."""

    def files(self, to: Path) -> Iterator[tuple[Path, Path]]:
        """Yield each file of the repository and its place in a copy of the checkout at ``to``."""
        target = to / ".git"
        for folder, folders, names in os.walk(self.common):
            relative = Path(folder).relative_to(self.common)
            if relative == Path():
                folders[:] = [name for name in folders if name != "worktrees"]
                names = [name for name in names if not (self.linked and name in _OWN)]
            for name in (*folders, *names):
                if not name.endswith(".lock"):
                    yield Path(folder, name), target / relative / name
        if self.linked:
            yield from ((self.folder / name, target / name) for name in _OWN if (self.folder / name).exists())


def find(path: Path, builder: Builder) -> tuple[Repository | None, list[str]]:
    """Return the repository of a checkout and the files that belong to it; no names where git knows none.

    A folder below the top of a checkout has names, and no repository of its own.
    """
    places = _git(path, builder, "rev-parse", "--show-prefix", "--absolute-git-dir", "--git-common-dir")
    if places.returncode:
        return None, []
    prefix, folder, common = places.stdout.split("\n")[:3]
    names = list(_names(path, builder))
    if prefix or not names:
        return None, names
    said = [
        _git(path, builder, *words).stdout
        for words in (("rev-parse", "--quiet", "--verify", "HEAD"), ("describe", "--always", "--tags"))
    ]
    shared = Path(os.path.normpath(path / common))
    linked = not (path / ".git").is_dir() or (path / ".git").is_symlink() or Path(folder) != shared
    return Repository(folder=Path(folder), common=shared, linked=linked, state="".join(said)), names


def detach(copy: Path, builder: Builder) -> None:
    """Make the repository in a copy one of its own; UsageError when git refuses."""
    folder = f"--git-dir={copy / '.git'}"
    _git(copy, builder, folder, "config", "--unset-all", "core.worktree")  # fails where it was not set
    done = _git(copy, builder, folder, "config", "core.bare", "false")
    if done.returncode:
        raise UsageError(f"the repository of {copy} cannot be copied", why=done.stderr.strip())


def _names(path: Path, builder: Builder, below: str = "") -> Iterator[str]:
    listed = _git(path / below, builder, "ls-files", "-co", "--exclude-standard", "-z")
    for name in filter(None, listed.stdout.split("\0")):
        full = os.path.normpath(f"{below}/{name}".lstrip("/"))
        if (path / full).is_dir() and not (path / full).is_symlink() and (path / full / ".git").exists():
            yield from _names(path, builder, full)
        else:
            yield full


def _git(path: Path, builder: Builder, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": builder.user.home, "LC_ALL": "C"}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_CONFIG_COUNT": str(len(_CONFIGURATION))}
    for number, (key, value) in enumerate(_CONFIGURATION):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    try:
        return subprocess.run(
            (*builder.prefix, "git", "-C", str(path), *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=environment,
            timeout=DEADLINE_S,
            start_new_session=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, returncode=1, stdout="", stderr=str(error))
