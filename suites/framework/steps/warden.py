"""The process above a step's command: adopts and reaps what it leaves, and tells its exact wait status (layer 2).

Started as a file, by an interpreter with the standard library alone: ``warden.py REPORT COMMAND [ARGUMENT...]``. REPORT
is the number of a descriptor that gets the integer of wait(2), or ``error NUMBER`` when nothing could be started.
Behind a wall it is PID 1, so that the command is not: the kernel keeps signals from a PID 1 that has no handlers.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def main(report: int, argv: list[str]) -> int:
    """Run the command; end everything below when it is over."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(report, False)
    try:
        child = os.posix_spawnp(argv[0], argv, os.environ)
    except OSError as error:
        os.write(report, f"error {error.errno}".encode())
        return 127
    pid = 0
    while pid != child:
        pid, status = os.wait()
        if pid == child:
            os.write(report, str(status).encode())
    with contextlib.suppress(ChildProcessError):
        while True:
            _kill_children()
            os.wait()
    return 0


def _kill_children() -> None:
    for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
