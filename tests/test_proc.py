"""What /proc says of processes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from suites.framework import proc


def test_a_unix_socket_that_listens_is_found_by_the_end_of_its_path(tmp_path: Path) -> None:
    """Bound is not listening, another end is another socket, and a process that is gone has none."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "a.sock"))
        assert not proc.listens(os.getpid(), "/a.sock")
        server.listen()
        assert proc.listens(os.getpid(), "/a.sock")
        assert not proc.listens(os.getpid(), "/b.sock")
    assert not proc.listens(os.getpid(), "/a.sock")
    assert not proc.listens(2**22 + 1, "/a.sock")
