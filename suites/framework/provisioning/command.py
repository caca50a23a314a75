"""Run a short-lived tool of the host in its own session, with a deadline and capped output (layer 2)."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

NOT_STARTED = 127
OUTPUT_BYTES = 1 << 20
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a command ended and what it wrote."""

    code: int
    """Exit status, negative for a signal; 127 when it could not be started."""
    stdout: str = ""
    stderr: str = ""
    late: bool = False
    """True when it was killed at its deadline."""

    @property
    def ok(self) -> bool:
        """Return whether it ended by itself with status 0."""
        return self.code == 0 and not self.late

    @property
    def complaint(self) -> str:
        """Return the line that says best why it failed."""
        if self.late:
            return "no answer within its deadline"
        lines = [line.strip() for line in (self.stderr or self.stdout).splitlines() if line.strip()]
        full = [line for line in lines if os.strerror(errno.ENOSPC) in line]
        errors = full or [line for line in lines if line.startswith("E:") or "error" in line.lower()]
        return (errors or lines[-1:] or [f"exit status {self.code}"])[0]


Run = Callable[..., Completed]
"""The type of `run`, for callers that are handed another one."""


def run(
    argv: Sequence[str],
    *,
    deadline_s: float,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    output_bytes: int = OUTPUT_BYTES,
) -> Completed:
    """Run ``argv`` with an empty stdin and return how it ended; its session is killed at the deadline or its end.

    Of each stream the first ``output_bytes`` are kept and the rest is drained. Whatever holds the streams open
    after the command has ended is not waited for.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=None if environment is None else dict(environment),
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        return Completed(code=NOT_STARTED, stderr=f"{argv[0]}: {error.strerror or error}")
    with process:
        return _attend(process, time.monotonic() + deadline_s, output_bytes)


def _attend(process: subprocess.Popen[bytes], deadline: float, output_bytes: int) -> Completed:
    kept = {stream.fileno(): bytearray() for stream in (process.stdout, process.stderr) if stream is not None}
    end = os.pidfd_open(process.pid)
    try:
        ended = _drain(kept, end, deadline, output_bytes)
    finally:
        os.close(end)
        # Before the reaping: the pid still names our process, so its group is ours alone.
        _kill_session(process.pid)
    code = process.wait()
    out, err = (bytes(text).decode("utf-8", "backslashreplace") for text in kept.values())
    return Completed(code=code, stdout=out, stderr=err, late=not ended)


def _drain(kept: Mapping[int, bytearray], end: int, deadline: float, output_bytes: int) -> bool:
    """Read every stream until the process ends (True) or the deadline passes (False)."""
    with selectors.DefaultSelector() as selector:
        for descriptor in kept:
            os.set_blocking(descriptor, False)
            selector.register(descriptor, selectors.EVENT_READ)
        selector.register(end, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            ready = [key.fd for key, _ in selector.select(left)]
            streams = [descriptor for descriptor in ready if descriptor != end]
            for descriptor in streams:
                if not _read(descriptor, kept[descriptor], output_bytes):
                    selector.unregister(descriptor)
            if end in ready:
                _read_rest(kept, selector, output_bytes)
                return True
    return False


def _read_rest(kept: Mapping[int, bytearray], selector: selectors.BaseSelector, output_bytes: int) -> None:
    for descriptor in [key.fd for key in selector.get_map().values() if key.fd in kept]:
        for _ in range(output_bytes // _CHUNK + 1):
            if not _read(descriptor, kept[descriptor], output_bytes):
                break


def _read(descriptor: int, kept: bytearray, output_bytes: int) -> bool:
    """Read once; return False at the end of the stream or when nothing is there."""
    try:
        chunk = os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return False
    kept += chunk[: max(0, output_bytes - len(kept))]
    return bool(chunk)


def _kill_session(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
