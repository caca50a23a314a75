"""What a pod needs and there is no more of: space, processes (layer 1; tmpfs(5), cgroups(7)).

What is full is a file system in the engine's own mount namespace: nothing of the machine is filled. The engine's /run,
which is one already, is made small for the while.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path

from suites.framework import process
from suites.framework.errors import InfrastructureError
from suites.framework.oci import cgroup
from suites.framework.pod.engine import Engine
from suites.framework.pod.engine_driver import place_of_pods
from suites.framework.process import exited

SMALL = "size=1m"
"""While it is full; sockets and links, which are there before, take nothing of it."""
USUAL = "size=50%"
MOUNT_S = 10.0
RUN = Path("/run")
_FILLER = "filler"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@contextmanager
def full(engine: Engine, folder: Path) -> Iterator[Path]:
    """Have no space left below a folder of the engine's meanwhile, which is empty or its /run; takes CAP_SYS_ADMIN.

    Yields it as the worker has it.
    """
    inside = Path(f"/proc/{engine.pid}/root{folder}", _FILLER)
    if folder.is_relative_to(RUN):
        inside.parent.mkdir(parents=True, exist_ok=True)
    if folder == RUN:
        _inside(engine, "mount", "-o", f"remount,{SMALL}", str(folder))
    else:
        _inside(engine, "mount", "-t", "tmpfs", "-o", f"{SMALL},mode=755", "seatrial", str(folder))
    try:
        _fill(inside)
        yield inside.parent
    finally:
        inside.unlink(missing_ok=True)
        if folder == RUN:
            _inside(engine, "mount", "-o", f"remount,{USUAL}", str(folder))
        else:
            _inside(engine, "umount", str(folder))


@contextmanager
def crowded(container: str) -> Iterator[None]:
    """Let a container have no more processes meanwhile than it has; takes the pids controller."""
    folder = cgroup.folder(f"{place_of_pods()}/{container}", "pids")
    if folder is None:
        raise InfrastructureError("a limit for a test", why=f"the container {container} has no cgroup of pids")
    (folder / "pids.max").write_text((folder / "pids.current").read_text())
    try:
        yield
    finally:
        (folder / "pids.max").write_text("max")


def _fill(file: Path) -> None:
    """Write a file until there is no space left."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        while True:
            os.write(fd, bytes(4096))
    except OSError as error:
        if error.errno != ENOSPC:
            raise
    finally:
        os.close(fd)


def _inside(engine: Engine, *words: str) -> None:
    """Run a command in the engine's mount namespace; InfrastructureError where it fails."""
    enter = ("/usr/bin/nsenter", f"--mount=/proc/{engine.pid}/ns/mnt", "--")
    status, said = process.output_of([*enter, *words], environment=_ENVIRONMENT, seconds=MOUNT_S)
    if status != exited(0):
        raise InfrastructureError("a full file system for a test", why=f"{' '.join(words)}: {said.strip() or status}")
