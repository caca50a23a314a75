"""Who a worker is, as the kernel says, and what it keeps to itself (layer 1)."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from pathlib import Path

from suites.framework.model import SCHEMA, Begun, Context


def identity(context: Context, name: str) -> Begun:
    """Return who this worker is, as the kernel says."""
    import psutil  # here, because a launcher that only builds needs neither
    import pytest

    versions = {"pytest": pytest.__version__, "psutil": psutil.__version__}
    return _of_process(
        run=context.run, environment=context.environment, phase=context.phase, worker=name, versions=versions
    )


def of_launcher(run: str, *, environment: str, phase: str) -> Begun:
    """Return who this launcher is, for a phase that it executes itself."""
    return _of_process(run=run, environment=environment, phase=phase, worker="launcher", versions={})


def _of_process(*, run: str, environment: str, phase: str, worker: str, versions: dict[str, str]) -> Begun:
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return Begun(
        schema=SCHEMA,
        run=run,
        environment=environment,
        phase=phase,
        worker=worker,
        pid=os.getpid(),
        uid=os.getuid(),
        cap_eff=status["CapEff"],
        uid_map=" ".join(Path("/proc/self/uid_map").read_text().split()),
        container=container_id(),
        versions={"python": platform.python_version(), **versions, "kernel": platform.release()},
    )


def keep_to_ourselves() -> None:
    """Make every descriptor beyond the first three close-on-exec: what the worker was handed is not for targets."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with suppress(OSError):
                os.set_inheritable(int(name), False)


def container_id() -> str:
    """Return the id of the Docker container around this process, from the files that the engine mounts."""
    found = re.search(r"/containers/([0-9a-f]{64})/", Path("/proc/self/mountinfo").read_text())
    return found[1] if found else ""
