"""Tests that run behind a wall: as PID 1 of namespaces of their own, where nothing they do reaches the machine.

PYTEST_DONT_REWRITE: a walled test runs in an interpreter without pytest's assertions.
"""

from __future__ import annotations

import functools
import importlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec

import pytest

from suites.framework.identity import keep_to_ourselves

ROOT = Path(__file__).parents[1]
SECONDS = 60
NAMESPACES = (
    "--mount",
    "--uts",
    "--ipc",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--propagation",
    "private",
)
MAPPED = ("--user", "--map-root-user")
INITIAL = "0 0 4294967295"
"""The uid_map of the machine's own user namespace (user_namespaces(7))."""
P = ParamSpec("P")


@functools.cache
def refusal(*, user: bool) -> str:
    """Return why no wall can be made here; empty where one can."""
    done = subprocess.run([*_wall(user=user), "true"], capture_output=True, text=True)
    return "" if done.returncode == 0 else f"no wall: {done.stderr.strip()}"


def _wall(*, user: bool) -> list[str]:
    mapped = MAPPED if user or os.geteuid() != 0 else ()
    return ["unshare", *mapped, *NAMESPACES, "--"]


def walled(*, before: Sequence[str] = (), user: bool = False) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Run a test as PID 1 of its own namespaces, started through the words `before`; with `user` as mapped root."""

    def decorate(test: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(test)
        def outside(*args: P.args, **kwargs: P.kwargs) -> None:
            behind(test.__module__, test.__name__, args, kwargs, before=before, user=user)

        return outside

    return decorate


def behind(
    module: str, name: str, args: tuple[object, ...], kwargs: dict[str, object], *, before: Sequence[str], user: bool
) -> None:
    """Run a module's function behind a wall; fail with what it says."""
    if reason := refusal(user=user):
        pytest.skip(reason)
    words = [
        sys.executable,
        "-B",
        "-W",
        "error",
        "-m",
        "tests.walled",
        module,
        name,
        pickle.dumps((args, kwargs)).hex(),
    ]
    with tempfile.TemporaryDirectory(prefix="walled-") as folder:  # what is mounted in it is gone with the namespace
        done = subprocess.run(
            [*_wall(user=user), *before, *words],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": folder},
        )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"


def main(module: str, name: str, arguments: str) -> None:
    """Run a walled test, after making sure that this is inside."""
    if os.getpid() != 1:
        raise SystemExit("not behind a wall")
    keep_to_ourselves()
    args, kwargs = pickle.loads(bytes.fromhex(arguments))
    function = getattr(importlib.import_module(module), name)
    getattr(function, "__wrapped__", function)(*args, **kwargs)


def forbid_user_namespaces() -> None:
    """Let nobody below this user namespace make another one; refuse to touch the machine's own."""
    assert Path("/proc/self/uid_map").read_text().split() != INITIAL.split()
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def mount(*words: str | Path) -> None:
    """Mount something, in this mount namespace alone."""
    assert os.getpid() == 1
    subprocess.run(["mount", *map(str, words)], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
