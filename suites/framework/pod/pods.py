"""Pods as the cases see them: what runs in them, how it ends, what it wrote (layer 1).

Every program writes a record with the test's nonce to its stdout before anything else: that is the proof that a
handler has run it, and is no part of what a case is given as its output.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from suites.framework import proc, process
from suites.framework.bench import Bench
from suites.framework.model import Evidence, Target
from suites.framework.observation import Unmet
from suites.framework.pod import shim
from suites.framework.pod.cri import Refused
from suites.framework.pod.driver import Program, Request, Volume
from suites.framework.pod.engine import Engine
from suites.framework.pod.engine_driver import EngineDriver, place_of_pods
from suites.framework.pod.pod import MAIN, SHELL, Pod
from suites.framework.process import covered
from suites.framework.waiting import Deadline, ticks

LONG_S = 30
"""A grace that no program of a case needs: it ends before, or the case is red."""
LIVENESS_S = 20.0
"""What is done at once on a quiet machine takes no longer on a busy one; the tight figure is a note."""
PATIENCE_S = 20.0
"""Least liveness deadline of one observation: many times what a whole pod takes on a quiet machine."""
RECORD = "seatrial record"
MARK = "SEATRIAL_NONCE"
"""Variable by which the processes of a program are found on the node."""


class Pods:
    """What a handler runs, with a folder of the test's own."""

    def __init__(self, bench: Bench, target: Target, engine: Engine) -> None:
        """Bind a handler of the engine to a test's bench."""
        self.bench, self.target, self.engine = bench, target, engine
        self.seconds = max(PATIENCE_S, bench.patience(target))
        self.folder = bench.make_folder()
        self.proven = False
        self.waits: list[tuple[float, float]] = []
        self._made: list[Pod] = []
        self.driver = EngineDriver(
            engine,
            handler=engine.handlers[target.name].name,
            folder=self.folder,
            tag=bench.nonce[:8],
            cgroup=place_of_pods(),
            conventions=target.call.pod,
        )
        bench.launches.append(self)

    # -- what to run

    def shell(self, script: str, *, name: str = MAIN, **fields: object) -> Program:
        """Return a program that records and then is this script of a POSIX shell."""
        made = Program(name=name, command=SHELL, arguments=(self.recording(script),), **fields)  # type: ignore[arg-type]
        return replace(made, environment={MARK: self.bench.nonce, **made.environment})

    def recording(self, script: str) -> str:
        """Return the script with the record in front of it, whose last word the shell works out."""
        return f"echo {RECORD} {self.bench.nonce} $((6 * 7))\n{script}"

    @property
    def record(self) -> bytes:
        """Return the line that a program has written which runs."""
        return f"{RECORD} {self.bench.nonce} 42\n".encode()

    def prove(self) -> None:
        """Take note that the record was there."""
        self.proven = True

    def volume(self, name: str, path: str, *, read_only: bool = False) -> Volume:
        """Return a folder of the node to be mounted at a path; it has a marker that holds the nonce."""
        source = self.folder / name
        if not source.exists():
            source.mkdir(mode=0o777)
            (source / "marker").write_text(self.bench.nonce)
            self.bench.own(lambda: _empty(source))
        return Volume(source=source, path=path, read_only=read_only)

    # -- running it

    def run(
        self,
        *programs: Program,
        hostname: str = "",
        isolated: bool = False,
        annotations: Mapping[str, str] | None = None,
        apart: str = "",
    ) -> Pod:
        """Have a pod with these containers run, in a network of its own if `isolated`; Unmet where there is no pod."""
        number = len(self._made)
        request = Request(
            name=f"{self.bench.nonce[:8]}-{number}",
            programs=programs,
            hostname=hostname,
            isolated=isolated,
            annotations=annotations or {},
            apart=apart,
        )
        pod = Pod(self, request)
        self._made.append(pod)
        return pod.begun()

    def refused(self, program: Program) -> str:
        """Ask for a pod that is to be refused and return what is said; Unmet where it is not."""
        request = Request(name=f"{self.bench.nonce[:8]}-{len(self._made)}", programs=(program,))
        self._made.append(Pod(self, request))
        try:
            self.driver.run(request)
        except Refused as refusal:
            return refusal.words
        if words := self.driver.status(request.name, program.name).refusal:
            return words
        raise Unmet("the pod refused", "it was begun")

    def together(self, count: int, *programs: Program) -> list[Pod]:
        """Have so many pods of these containers run, all begun at once."""
        first = len(self._made)
        requests = [Request(name=f"{self.bench.nonce[:8]}-{first + n}", programs=programs) for n in range(count)]
        pods = [Pod(self, request) for request in requests]
        self._made += pods
        with ThreadPoolExecutor(max_workers=count) as pool:
            return list(pool.map(Pod.begun, pods))

    def living(self, *, at_least: int = 0, at_most: int | None = None) -> int:
        """Return how many processes of programs there are.

        It waits until there are `at_least` so many, for one that has just been forked is about to be another, and
        until there are `at_most` so many, for one that was killed may take a moment.
        """
        found = 0
        for _ in ticks(Deadline(self.seconds), every=0.01):
            found = len(self._processes())
            if found >= at_least and (at_most is None or found <= at_most):
                break
        return found

    def _processes(self) -> list[int]:
        """Return the ids of the processes that have the nonce in their environment, parents first."""
        needle = f"{MARK}={self.bench.nonce}".encode()
        return [pid for pid in proc.descendants(os.getpid()) if needle in proc.environment(pid)]

    def first(self) -> int:
        """Return the id of the first process of a program; Unmet where there is none."""
        if self.living(at_least=1) == 0:
            raise Unmet("a process of the program on the node", "none")
        return self._processes()[0]

    def shim(self) -> int:
        """Return the id of the shim of a program: its ancestor that is the worker's child; Unmet where none is."""
        pid = self.first()
        while (stat := proc.stat(pid)) is not None and stat.parent != os.getpid():
            pid = stat.parent
        if stat is None:
            raise Unmet("a shim above the program", "none")
        return pid

    @staticmethod
    def kill(pid: int) -> None:
        """Kill a process below this worker by KILL, as somebody on the node would."""
        process.dismiss(pid)

    def left(self) -> list[str]:
        """Return what is left of pods that were deleted, in words, when the engine had its time to settle."""
        forced = dict.fromkeys(map(str, self.driver.forced))
        return [*forced, *(str(leak) for leak in self.driver.leaks())]

    def note(self, name: str, value: object) -> None:
        """Keep a measured value for the report."""
        self.bench.note(name, value)

    @contextmanager
    def waited(self) -> Iterator[None]:
        """Count what is done meanwhile as the target's time."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.waits.append((began, time.monotonic()))

    @contextmanager
    def shims_with(self, **variables: str) -> Iterator[None]:
        """Have the shims of pods that are begun meanwhile start with these variables, as its node would set them.

        Unmet for a runtime that is reached through the engine's own shim.
        """
        handler = self.engine.handlers[self.target.name]
        if not handler.shim:
            raise Unmet("a shim of its own", "it is reached through the engine's")
        with shim.changed(handler, variables):
            yield

    # -- a launch of the bench

    cut_short = False

    @property
    def cost(self) -> tuple[float, float, int]:
        """Return the seconds in which a call was under way or a program was waited for; more is not known."""
        return covered((*self.driver.spans, *self.waits)), 0.0, 0

    def evidence(self) -> Sequence[Evidence]:
        """Return the calls, the logs and the engine's last words."""
        return self.driver.evidence()

    def close(self) -> None:
        """Remove every pod and report what is left of them; safe to repeat."""
        if self._made:
            self.driver.close()
            self._made.clear()
            for leak in self.driver.leaks():
                self.bench.found(leak)
            self.driver.let_go()
            if self.engine.spoilt:
                self.engine.close()  # the census ends its shims


def _empty(folder: Path) -> None:
    """Remove a volume with what is in it; OSError where something is mounted there."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            _empty(path)
        else:
            path.unlink()
    folder.rmdir()
