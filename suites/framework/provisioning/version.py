"""What a program says its version is, asked behind a wall of namespaces (layer 2)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from suites.framework.provisioning.command import Run, run

UNKNOWN = "unknown"
DEADLINE_S = 5.0

_OUTPUT_BYTES = 4096
_LINE_LENGTH = 200
_NUMBER = re.compile(r"(?<![\w.])v?(\d+(?:\.\d+)+[^\s,;()]*)")
# A program under test may signal every process it can reach, whatever its arguments are.
_WALLS = {
    True: ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"),
    False: ("unshare", "--user", "--map-current-user", "--pid", "--fork", "--kill-child"),
}
_ROOT_BOUNDS = ("setpriv", "--bounding-set=-sys_boot,-sys_time,-sys_module,-sys_rawio")


def version(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    deadline_s: float = DEADLINE_S,
    root: bool | None = None,
    run: Run = run,
) -> str:
    """Return the version in the first line that ``argv`` prints (stdout before stderr); ``unknown`` where it hangs.

    That is its first word such as ``0.19.0`` or ``1.1.5+ds1``; the whole line where there is none.

    It runs in its own session and PID namespace with an empty environment beside ``environment``, and everything
    it started is gone afterwards. Where no such namespace can be made it is not run.
    """
    line = first_line(argv, environment=environment, deadline_s=deadline_s, root=root, run=run)
    number = _NUMBER.search(line)
    return (number[1] if number else line) or UNKNOWN


def first_line(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    deadline_s: float = DEADLINE_S,
    root: bool | None = None,
    run: Run = run,
) -> str:
    """Return the first line that ``argv`` prints, asked as `version` asks; empty where it hangs or fails."""
    as_root = os.geteuid() == 0 if root is None else root
    variables = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **(environment or {})}
    # Set by env, behind the wall: a target's LD_LIBRARY_PATH must not reach unshare.
    words = ("env", "-i", *(f"{name}={value}" for name, value in variables.items()), *argv)
    walled = (*_WALLS[as_root], *(_ROOT_BOUNDS if as_root else ()), *words)
    done = run(walled, deadline_s=deadline_s, output_bytes=_OUTPUT_BYTES)
    return (_first_line(done.stdout) or _first_line(done.stderr)) if done.ok else ""


def _first_line(text: str) -> str:
    lines = (re.sub(r"\x1b\[[0-9;]*[A-Za-z]|[^\x20-\x7e\xa0-\uffff]", "", line).strip() for line in text.splitlines())
    return next((line[:_LINE_LENGTH] for line in lines if line), "")
