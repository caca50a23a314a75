"""The launcher's own log: one JSON object a line, and never a reason to stop."""

from __future__ import annotations

import json
from pathlib import Path

from suites.framework import framework_log


def test_lines_are_appended(tmp_path: Path) -> None:
    """With the time, a level, the message and fields."""
    framework_log.write(tmp_path, "info", "one", now=lambda: 5.0)
    framework_log.write(tmp_path, "warning", "two\nlines", now=lambda: 6.0, path=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "framework.jsonl").read_text().splitlines()]
    assert {"t": 5.0, "level": "info", "message": "one"} == lines[0]
    assert {"t": 6.0, "level": "warning", "message": "two\nlines", "path": str(tmp_path)} == lines[1]


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """Neither a missing folder, nor a link of somebody else's, nor a full disk."""
    framework_log.write(tmp_path / "gone", "info", "lost")
    (tmp_path / "framework.jsonl").symlink_to(tmp_path / "elsewhere")
    framework_log.write(tmp_path, "info", "lost")
    assert not (tmp_path / "elsewhere").exists()
