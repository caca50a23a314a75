"""Who a worker is, as the kernel says, and what it keeps to itself (layer 1)."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from suites.framework.model import SCHEMA, Begun, Context


def identity(context: Context, name: str) -> Begun:
    """Return who this worker is, as the kernel says."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    return Begun(
        schema=SCHEMA,
        run=context.run,
        environment=context.environment,
        phase=context.phase,
        worker=name,
        pid=os.getpid(),
        uid=os.getuid(),
        cap_eff=status["CapEff"],
        uid_map=" ".join(Path("/proc/self/uid_map").read_text().split()),
        container=container_id(),
        versions={
            "python": platform.python_version(),
            "pytest": pytest.__version__,
            "psutil": psutil.__version__,
            "kernel": platform.release(),
        },
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
