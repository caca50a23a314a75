"""What is full is full in the engine's own mounts alone, and for no longer than it is asked for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from errno import ENOSPC
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from suites.framework.errors import InfrastructureError
from suites.framework.pod import strain
from suites.framework.pod.engine import Engine

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mount(2) takes root")
FRONT = "mount -t tmpfs -o mode=755 seatrial /run && touch /run/kept && echo ready && exec cat"


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Yield what has an engine's mount namespace, with a /run of its own, and runs as long as its stdin is open."""
    words = ["/usr/bin/unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", FRONT]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b"ready\n" == process.stdout.readline()
        yield cast(Engine, SimpleNamespace(pid=process.pid))


@needs_root
@pytest.mark.parametrize("own", [True, False])
def test_what_is_full_has_no_space_and_has_it_again(engine: Engine, tmp_path: Path, own: bool) -> None:
    """A folder, or its /run with what is in that; the machine's own is as it was."""
    folder = strain.RUN if own else tmp_path
    seen = Path(f"/proc/{engine.pid}/root{folder}")
    before = sorted(os.listdir(folder))
    with strain.full(engine, folder) as inside:
        with pytest.raises(OSError, match="No space left") as caught:
            (seen / "new").write_bytes(b"x" * 8192)
        assert ENOSPC == caught.value.errno
        assert inside == seen
        assert own == (seen / "kept").exists()
        assert before == sorted(os.listdir(folder))
    (seen / "new").write_bytes(b"x" * (2 << 20))
    assert own == (seen / "kept").exists()
    assert not (seen / "filler").exists()


@needs_root
def test_what_cannot_be_mounted_is_told(engine: Engine) -> None:
    """The command that failed, and what it says."""
    with (
        pytest.raises(InfrastructureError, match=r"mount -t tmpfs .* /nowhere: .*/nowhere"),
        strain.full(engine, Path("/nowhere")),
    ):
        pytest.fail("it is full")  # pragma: no cover
