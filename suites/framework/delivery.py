"""What workers need, copied to a place that every user and container can read (layer 2).

A root's checkout, virtual environment and home are often closed to others, so a run has a folder of its own with
the suites, the fixtures, and the session's pytest and psutil: byte-identical in all environments.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from suites.framework.environments.user import User
from suites.framework.errors import InfrastructureError

DISTRIBUTIONS = ("pytest", "pluggy", "iniconfig", "packaging", "psutil", "pygments")
"""Everything a worker imports that is neither the standard library nor ours."""
SHIPPED = ("suites", "fixtures", "pyproject.toml")
OLDEST = (3, 11)


def deliver(checkout: Path, folder: Path, *, further: Sequence[str] = ()) -> None:
    """Copy the suites, fixtures and the worker's libraries to `folder`/code and `folder`/site, readable by everyone.

    `further` are distributions that the planned kinds need beside those of every worker.
    """
    code, site = folder / "code", folder / "site"
    for path in (code, site):
        path.mkdir(mode=0o755)
        path.chmod(0o755)
    for name in SHIPPED:
        _copy(checkout / name, code / name)
    for name in (*DISTRIBUTIONS, *further):
        for source, relative in _files(name):
            _copy(source, site / relative)


def _copy(source: Path, destination: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"), copy_function=_copy_file)
        for folder, _, _ in os.walk(destination):
            Path(folder).chmod(0o755)
    else:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _copy_file(str(source), str(destination))


def _copy_file(source: str, destination: str) -> None:
    shutil.copy2(source, destination)
    path = Path(destination)
    path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.stat().st_mode & 0o100 else 0))


def _files(distribution: str) -> Iterator[tuple[Path, Path]]:
    """Yield the installed files of a distribution, with their place in site-packages; its commands are left out."""
    found = metadata.distribution(distribution).files
    if found is None:
        raise InfrastructureError(f"the files of {distribution} are not known", remedy="install it with pip or uv")
    for path in found:
        if ".." not in path.parts:
            source = Path(str(path.locate()))
            if source.is_file():
                yield source, Path(path)


def interpreter(user: User | None) -> str:
    """Return the first Python that runs as `user` (None: as this process): our own, else the system's.

    Raises InfrastructureError where neither does.
    """
    tried = []
    for python in dict.fromkeys((sys.executable, "/usr/bin/python3")):
        if not (reason := _refusal(python, user)):
            return python
        tried.append(f"{python}: {reason}")
    raise InfrastructureError(
        "no Python for the workers",
        why="; ".join(tried),
        remedy="install python3 >= 3.11 for every user (/usr/bin/python3)",
    )


def _refusal(python: str, user: User | None) -> str:
    code = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    try:
        done = subprocess.run(
            [*_as(user), "/bin/sh", "-c", 'exec "$@"', "sh", python, "-I", "-c", code],
            check=False,
            capture_output=True,
            timeout=20,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    words = done.stderr.decode(errors="replace").strip().splitlines()
    return "" if done.returncode == 0 else (words[-1] if words else f"older than {OLDEST[0]}.{OLDEST[1]}")


def _as(user: User | None) -> Sequence[str]:
    if user is None or os.geteuid() != 0:
        return ()
    # setpriv executes the shell with root's capabilities still held; the shell's exec is the user's own
    return ("setpriv", "--reuid", str(user.uid), "--regid", str(user.gid), "--clear-groups", "--")
