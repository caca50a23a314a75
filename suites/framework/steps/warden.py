"""The process above a step's command: adopts and reaps what it leaves, and tells its exact wait status (layer 2).

Started as a file, by an interpreter with the standard library alone: ``warden.py REPORT USER COMMAND [ARGUMENT...]``.
REPORT is the number of a descriptor that gets the integer of wait(2), or ``error NUMBER`` when nothing could be
started. USER is ``NAME:UID:GID``, whom the command becomes while the warden stays who it is, or empty.
Behind a wall it is PID 1, so that the command is not: the kernel keeps signals from a PID 1 that has no handlers.
Without one nothing takes its descendants along, so TERM, which the death of the launcher sends too, ends them first.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main(report: int, user: str, argv: list[str]) -> int:
    """Run the command; end everything below when it is over."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler would let a build end PID 1
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getpid() != 1:
        signal.signal(signal.SIGTERM, _give_up)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.set_inheritable(report, False)
    try:
        command = _start(argv, user)
    except OSError as error:
        os.write(report, f"error {error.errno}".encode())
        return 127
    pid = 0
    while pid != command.pid:
        pid, status = os.wait()
        if pid == command.pid:
            os.write(report, str(status).encode())
    _end_all()
    return 0


def _start(argv: list[str], user: str) -> subprocess.Popen[bytes]:
    """Start the command with the default action for SIGPIPE, which Python ignores, and with no right but its user's."""
    if not user:
        return subprocess.Popen(argv)
    name, uid, gid = user.rsplit(":", 2)
    return subprocess.Popen(argv, user=int(uid), group=int(gid), extra_groups=os.getgrouplist(name, int(gid)))


def _give_up(_number: int, _frame: FrameType | None) -> None:
    _end_all()
    os._exit(1)


def _end_all() -> None:
    """Kill and reap until nobody is left: the children of a killed child become ours."""
    with contextlib.suppress(ChildProcessError):
        while True:
            _kill_children()
            os.wait()


def _kill_children() -> None:
    for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        os.kill(int(pid), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
