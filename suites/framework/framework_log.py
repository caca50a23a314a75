"""The launcher's own log of a run: ``framework.jsonl``, one JSON object a line (layer 2: standard library only)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = "framework.jsonl"


def write(run: Path, level: str, message: str, *, now: Callable[[], float] = time.time, **fields: Any) -> None:
    """Append one line with ``t`` (Unix seconds), ``level``, ``message`` and the fields to the log of a run directory.

    One os.write to an O_APPEND descriptor: sessions that run at the same time do not tear each other's lines. A log
    that cannot be written is no reason to stop.
    """
    line = json.dumps({"t": now(), "level": level, "message": message, **fields}, default=str)
    try:
        fd = os.open(run / FILE, os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError:
        return
    try:
        os.write(fd, line.encode() + b"\n")
    except OSError:
        return
    finally:
        os.close(fd)
