"""One test's surroundings: its nonce, scratch folder, notes, evidence and what it started (layer 1).

A `Bench` is made before a test and settled after it. Settling ends what the harness holds, then takes a census of
what is left: that is a leak, told apart as the target's or the harness's own.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from suites.catalog import Environment, Place
from suites.framework import codec, leaks, proc
from suites.framework.calls import interpreted
from suites.framework.events import legible
from suites.framework.leaks import Census, Leak
from suites.framework.manifest import CONTENT, SUFFIX, Manifest, keep_content
from suites.framework.model import Context, Evidence, Target

EVIDENCE = "evidence"
"""Folder below a worker's scratch that the launcher keeps with the run."""


class Launch(Protocol):
    """Something a test started through the bench."""

    def close(self) -> None:
        """End it and let go of everything; safe to repeat."""

    def evidence(self) -> Sequence[Evidence]:
        """Return what there is to see of it now."""
        ...

    @property
    def proven(self) -> bool:
        """Return whether a record with the test's nonce came from below it."""
        ...

    @property
    def cut_short(self) -> bool:
        """Return whether closing it killed the target, which then had no chance to end its own helpers."""
        ...

    @property
    def cost(self) -> tuple[float, float, int]:
        """Return seconds from spawn to reaping, CPU seconds, peak memory in bytes."""
        ...


def slowness(target: Target) -> int:
    """Return how much longer a target may take where it runs under strace, rr or valgrind."""
    return 10 if target.wrap else 1


def as_made(folder: Path, mode: int) -> bool:
    """Return whether a folder is what it was: empty, the caller's, with these permissions; it need not be made anew.

    Making and removing folders is much of what a short case costs.
    """
    try:
        found = folder.lstat()
        return (stat.S_IFDIR | mode, os.geteuid()) == (found.st_mode, found.st_uid) and not os.listdir(folder)
    except OSError:
        return False


def home(context: Context) -> Path:
    """Return the folder that targets of a worker may write to, which is empty again after each test."""
    return Path(context.paths.scratch) / "home"


def census_of(context: Context, here: Environment) -> Census:
    """Make the home of a worker's targets, and count what the worker has."""
    (folder := home(context)).mkdir(exist_ok=True)
    return Census(folder, groups=leaks.own_cgroups(contained=here.place is Place.CONTAINER))


class Bench:
    """What one test works with; see the module's description."""

    def __init__(
        self,
        context: Context,
        *,
        here: Environment,
        python: str,
        number: int,
        node: str = "",
        census: Census | None = None,
    ) -> None:
        """Make the scratch folder; `census` is the worker's, which counts from test to test."""
        self.node = node
        self.wrappers: set[str] = set()
        """Programs that ``--wrap`` puts in front of targets; theirs are no leaks of the target."""
        self.context, self.privilege, self.python = context, here.privilege, python
        self.nonce = secrets.token_hex(8)
        self.home = home(context)
        self.folder = Path(context.paths.scratch) / f"t{number}"
        """Short path for sockets of the harness (unix(7): 108 bytes)."""
        self._spare = self.folder.with_name("t0")
        self.launches: list[Launch] = []
        self.notes: list[tuple[str, Any]] = []
        self.failure_evidence: list[Evidence] = []
        self._cleanups: list[Callable[[], object]] = []
        self._found: list[Leak] = []
        self._census, self._alone = census or census_of(context, here), census is None

    def note(self, name: str, value: Any) -> None:
        """Keep a measured value for the report; units stand in the name (``forwarding_s``)."""
        self.notes.append((name, value))

    def found(self, leak: Leak) -> None:
        """Report something left behind that the census cannot see, or would see too late."""
        self._found.append(leak)

    def own(self, cleanup: Callable[[], object]) -> None:
        """Call this when the test is over, last in first out."""
        self._cleanups.append(cleanup)

    @property
    def evidence(self) -> Path:
        """Return the folder for what ``--wrap`` writes about this node; the launcher keeps it with the run."""
        folder = Path(self.context.paths.scratch) / EVIDENCE / re.sub(r"[^\w.+:-]+", "_", self.node)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def keep(self, name: str, content: Manifest, folder: Path) -> None:
        """Keep what was made in a folder for the gate `artefacts`, which compares it between environments."""
        keep_content(content, folder, self.evidence.parent / CONTENT)
        text = json.dumps(legible(codec.encode(content)), indent=2, ensure_ascii=False)
        (self.evidence.parent / f"{name}{SUFFIX}").write_text(f"{text}\n", encoding="utf-8")

    def wrapping(self, target: Target) -> list[str]:
        """Return the words of ``--wrap``, which stand in front of a target."""
        self.wrappers.update(Path(word).name for word in target.wrap[:1])
        return [word.replace("{evidence}", str(self.evidence)) for word in target.wrap]

    def patience(self, target: Target) -> float:
        """Return the seconds that a target may take for what it does at once; more where it is wrapped."""
        return self.context.limits.deadline_s * slowness(target)

    def make_folder(self) -> Path:
        """Return this test's own folder, which must be empty again in the end."""
        if not self.folder.exists():
            try:
                self._spare.rename(self.folder)
            except FileNotFoundError:
                self.folder.mkdir(mode=0o755)
            self.own(self._let_go)
        return self.folder

    def _let_go(self) -> None:
        """Keep the test's folder for the next one; OSError where something was left in it."""
        if as_made(self.folder, 0o755):
            self.folder.rename(self._spare)
        else:
            self.folder.rmdir()

    def words(self, words: Sequence[str]) -> list[str]:
        """Return the words with ``{python}`` replaced by the worker's interpreter."""
        return interpreted(words, self.python)

    @property
    def payload(self) -> list[str]:
        """Return the words that start the payload, before its subcommand."""
        return self.words(self.context.paths.payload)

    @property
    def environment(self) -> dict[str, str]:
        """Return the explicit environment of every program under test."""
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "LANG": "C.UTF-8",
        }

    def record_failure(self) -> None:
        """Look at everything that was started, at the moment a test fails."""
        for launch in self.launches:
            self.failure_evidence += launch.evidence()
        lines = [proc.describe(pid) for pid in proc.descendants(os.getpid())]
        self.failure_evidence.append(Evidence(title="processes", text="\n".join(lines) or "none"))

    def survivors(self) -> tuple[str, ...]:
        """Return the command of each living payload process of this test."""
        alive = (pid for pid in proc.descendants(os.getpid()) if proc.state(pid) not in ("", "Z"))
        return tuple(proc.describe(pid).partition(" state ")[2] for pid in alive if self._is_payload(pid))

    @property
    def proven(self) -> bool:
        """Return whether any record with this test's nonce was received."""
        return any(launch.proven for launch in self.launches)

    @property
    def cost(self) -> tuple[float, float, int]:
        """Return target seconds, CPU seconds and peak bytes over all launches."""
        costs = [launch.cost for launch in self.launches]
        return sum(c[0] for c in costs), sum(c[1] for c in costs), max((c[2] for c in costs), default=0)

    def settle(self) -> tuple[Leak, ...]:
        """End everything, remove what is left and return it."""
        for launch in reversed(self.launches):
            launch.close()
        self._census.unlock()
        try:
            with ExitStack() as stack:  # all of them, also after one that raises
                for cleanup in self._cleanups:
                    stack.callback(cleanup)
        finally:
            left = self._census.settle(self._is_payload)
            if self._alone:
                self._census.close()
        cut_short = any(launch.cut_short for launch in self.launches)
        return (*self._found, *(leak for leak in left if not (cut_short and leak.kind == leaks.PROCESSES)))

    def _is_payload(self, pid: int) -> bool:
        payload = [word.encode() for word in self.payload]
        words = proc.words(pid)
        if not words:
            return True
        if words == [b""]:  # its memory is gone, or not there yet
            return proc.exiting(pid)
        if Path(os.fsdecode(words[0])).name in self.wrappers:
            return True
        return words[: len(payload)] == payload and self.nonce.encode() in words
