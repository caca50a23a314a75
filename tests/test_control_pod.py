"""The handler that answers success and runs nothing: it does what a shim believes, and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

import pytest

from suites.framework import proc

PROGRAM = Path(__file__).parents[1] / "fixtures/runtimes/control_pod.py"
Verb = Callable[..., int]


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Verb]:
    """Return a caller of its verbs, as a shim calls them; what it leaves is killed."""

    def call(*words: str) -> int:
        front = [sys.executable, "-I", "-S", str(PROGRAM), "--root", str(tmp_path / "root"), "--log-format", "json"]
        return subprocess.run([*front, *words], stdout=subprocess.DEVNULL, check=False).returncode

    yield call
    for path in tmp_path.glob("*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(path.read_text()), SIGKILL)


def made(runtime: Verb, folder: Path, name: str, kind: str) -> int:
    """Create a container of this kind and return what is in its place."""
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps({"annotations": {"io.kubernetes.cri.container-type": kind}}))
    pid_file = folder / f"{name}.pid"
    assert 0 == runtime("create", "--bundle", str(folder / name), "--pid-file", str(pid_file), name)
    return int(pid_file.read_text())


def gone(pid: int) -> bool:
    """Return whether a process has ended, be it reaped or not; it has a moment for it."""
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        with os.fdopen(pidfd):
            for _ in range(200):
                if proc.state(pid) in ("", "Z"):
                    return True
                subprocess.run(["/bin/true"], check=True)
            return False
    return True


@pytest.mark.parametrize(("kind", "ends"), [("container", True), ("sandbox", False)])
def test_start_ends_a_container_and_leaves_a_sandbox(runtime: Verb, tmp_path: Path, kind: str, ends: bool) -> None:
    """A container looks as if it had run and ended; a sandbox stays until it is killed, and nothing is left."""
    pid = made(runtime, tmp_path, "c", kind)
    assert "S" == proc.state(pid)
    assert 0 == runtime("start", "c")
    assert ends == gone(pid)
    assert 0 == runtime("kill", "--all", "c", "9")
    assert gone(pid)
    assert 0 == runtime("delete", "c")
    assert [] == os.listdir(tmp_path / "root")


@pytest.mark.parametrize("verb", ["start", "kill", "delete", "state", "pause", ""])
def test_every_verb_succeeds(runtime: Verb, verb: str) -> None:
    """Of what never was, too."""
    assert 0 == runtime(*filter(None, (verb, "never-was")))
