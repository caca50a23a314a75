"""A look into the files that two environments have made differently, by diffoscope where it is installed (layer 2)."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from suites.framework.manifest import CONTENT, Entry, difference
from suites.framework.results import terminal
from suites.framework.results.artefacts import Artefact
from suites.framework.results.escaping import visible
from suites.framework.results.parity import Parity, parities
from suites.framework.results.rundir import RunDirectory, write_whole
from suites.framework.results.view import View

FILE = "differences.txt"
"""Of a run directory."""
SECONDS = 60.0
"""For one path."""
LINES = 40
"""Of what is said about one path that are shown; the file has all."""
PATHS = 5
"""Of one artefact that are looked into."""
_BYTES = 1 << 16
"""Of what diffoscope says about one path."""
_WORDS = ("--no-progress", "--text-color=never", f"--max-text-report-size={_BYTES}", "--text=-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """One path that is not the same in two environments, and what is in the difference."""

    name: str
    path: str
    before: str
    """The environment."""
    after: str
    said: str

    def __str__(self) -> str:
        """Return a heading and what was said."""
        return f"{self.name} {self.path}: {self.before} -> {self.after}\n{self.said}"


def inspect(
    run: RunDirectory, view: View, *, tool: str | None = None, seconds: float = SECONDS
) -> tuple[Inspection, ...]:
    """Return what is in the differences between environments, path by path, and write it to the run directory.

    `tool` is the path of diffoscope, from PATH where it is not given. Without it, and for what was not kept, that is
    what is said.
    """
    found = tuple(
        Inspection(
            name=each.name, path=path, before=each.where(each.made[0]), after=each.where(other),
            said=_said(before, after, tool or shutil.which("diffoscope"), seconds),
        )
        for each in parities(view.artefacts)
        for other in each.apart
        for path, before, after in _changed(run, each, other)
    )  # fmt: skip
    if found:
        with run.locked():
            write_whole(run.path / FILE, "\n".join(map(str, found)))
    return found


def show(run: RunDirectory, view: View, *, stream: TextIO | None = None) -> None:
    """Write what is in the differences to `stream` (standard output), the first lines of each, and where all is."""
    out, found = stream or sys.stdout, inspect(run, view)
    for each in found:
        lines = visible(str(each)).splitlines()
        more = [f"({len(lines) - LINES} lines more)"] if len(lines) > LINES else []
        terminal.put(out, "\n".join((lines[0], *(f"  {line}" for line in (*lines[1:LINES], *more)), "")))
    if found:
        terminal.put(out, f"differences: {visible(str(run.path.absolute() / FILE))}\n")


def _changed(run: RunDirectory, parity: Parity, other: Artefact) -> Iterator[tuple[str, Path | None, Path | None]]:
    """Yield the first paths whose content differs, and where each side's is kept."""
    first = parity.made[0]
    if not first.content or not other.content:
        return
    old, new = ({entry.path: entry for entry in side.entries} for side in (first.content, other.content))
    paths = [each.path for each in difference(first.content, other.content)]
    changed = [path for path in paths if path in old and path in new and old[path].sha256 != new[path].sha256]
    for path in changed[:PATHS]:
        yield path, _kept(run, first, old[path]), _kept(run, other, new[path])


def _kept(run: RunDirectory, artefact: Artefact, entry: Entry) -> Path | None:
    """Return where the content of a file is; none where it was not kept, or is another one by now."""
    path = run.path / artefact.environment / "artefacts" / CONTENT / entry.sha256
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor
            return path if hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256 else None
    except OSError:
        return None


def _said(before: Path | None, after: Path | None, tool: str | None, seconds: float) -> str:
    if not before or not after:
        return "its content was not kept"
    if not tool:
        return f"diffoscope is not installed; compare {before} with {after}"
    return _compared([tool, *_WORDS, str(before), str(after)], seconds) or "diffoscope sees no difference"


def _compared(words: list[str], seconds: float) -> str:
    """Return what diffoscope says; it and all that it has started get so many seconds."""
    with tempfile.TemporaryFile() as output:
        try:
            child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            return f"diffoscope cannot be started: {error.strerror}"
        done = False
        try:
            done = _over(child.pid, seconds)
        finally:
            os.killpg(child.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
            child.wait()
        output.seek(0)
        late = "" if done else f"diffoscope was not done in {seconds:g} s\n"
        return late + output.read(_BYTES).decode(errors="backslashreplace").rstrip()


def _over(pid: int, seconds: float) -> bool:
    """Wait for the end of a child, which stays to be reaped; return whether it came in time."""
    pidfd = os.pidfd_open(pid)
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)
