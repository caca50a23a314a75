"""What the cases for runtimes share."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def subordinate_ids() -> Callable[[], tuple[int, int]]:
    """Return a reader of the caller's first subordinate uid and gid (subuid(5), subgid(5))."""

    def read() -> tuple[int, int]:
        uid, gid = (_first(Path(file)) for file in ("/etc/subuid", "/etc/subgid"))
        return uid, gid

    return read


def _first(file: Path) -> int:
    """Return the beginning of the range that a file gives to the caller, by name or by number."""
    owners = {pwd.getpwuid(os.getuid()).pw_name, str(os.getuid())}
    rows = (line.split(":") for line in file.read_text().splitlines())
    return next(int(start) for owner, start, _ in rows if owner in owners)
