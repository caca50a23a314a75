"""Pods as the cases see them: what runs in them, how it ends, what it wrote (layer 1).

Every program writes a record with the test's nonce to its stdout before anything else: that is the proof that a
handler has run it, and is no part of what a case is given as its output.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from suites.framework import proc, process
from suites.framework.bench import Bench
from suites.framework.model import Evidence, Reason, Target
from suites.framework.observation import Unmet
from suites.framework.pod import log, shim
from suites.framework.pod.conversation import Conversation
from suites.framework.pod.cri import Refused
from suites.framework.pod.driver import Output, Program, State, Status, Volume
from suites.framework.pod.driver import Request as PodRequest
from suites.framework.pod.engine import Engine
from suites.framework.pod.engine_driver import EngineDriver, place_of_pods
from suites.framework.process import covered
from suites.framework.waiting import Deadline, ticks

LONG_S = 30
"""A grace that no program of a case needs: it ends before, or the case is red."""
LIVENESS_S = 20.0
"""What is done at once on a quiet machine takes no longer on a busy one; the tight figure is a note."""
PATIENCE_S = 20.0
"""Least liveness deadline of one observation: many times what a whole pod takes on a quiet machine."""
LOG_S = 5.0
"""What an engine gets to write down what a container wrote that has ended."""
LOOKS = 20
"""After so many looks for a line in a log it is asked whether its writer still runs: one that has ended is no wait."""
SHELL = ("/bin/sh", "-c")
MAIN = "main"
"""Name of the container of a pod that has one."""
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
        request = PodRequest(
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
        request = PodRequest(name=f"{self.bench.nonce[:8]}-{len(self._made)}", programs=(program,))
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
        requests = [PodRequest(name=f"{self.bench.nonce[:8]}-{first + n}", programs=programs) for n in range(count)]
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


class Pod:
    """One pod."""

    def __init__(self, pods: Pods, request: PodRequest) -> None:
        """Keep what is to run; `begun` runs it."""
        self._pods, self._request = pods, request
        self.name = request.name

    def begun(self) -> Pod:
        """Have it run and return itself; Unmet where there is no pod."""
        try:
            self._pods.driver.run(self._request)
        except Refused as refusal:
            raise Unmet("a pod", f"{refusal.verb}: refused", words=refusal.words) from refusal
        return self

    def __getitem__(self, name: str) -> Container:
        """Return one of its containers."""
        return Container(self._pods, self, name)

    @property
    def main(self) -> Container:
        """Return its container of that name."""
        return self[MAIN]

    def phase(self) -> str:
        """Return the phase that a cluster would show: as long as a container runs that is ``Running``."""
        found = [self[program.name].status() for program in self._request.programs]
        if any(each.state is State.RUNNING for each in found):
            return "Running"
        if any(each.refusal or each.code for each in found):
            return "Failed"
        return "Succeeded" if all(each.code == 0 for each in found) else "Pending"

    def halt(self) -> float:
        """Stop it with all that runs in it, and return the seconds that this took; Unmet where that is refused."""
        began = time.monotonic()
        try:
            self._pods.driver.halt(self.name)
        except Refused as refusal:
            raise Unmet("the pod stopped", f"{refusal.verb}: refused") from refusal
        return time.monotonic() - began

    def replaced(self, program: Program, *, attempt: int) -> None:
        """Remove the container of this name and have its next attempt run in the same pod; Unmet if refused."""
        try:
            self._pods.driver.remove(self.name, program.name)
        except Refused as refusal:
            raise Unmet("the container removed", f"{refusal.verb}: refused") from refusal
        self._pods.driver.add(self.name, program, attempt=attempt)

    def delete(self) -> None:
        """Remove it with all that is in it; Unmet where that is refused."""
        try:
            self._pods.driver.delete(self.name)
        except Refused as refusal:
            raise Unmet("the pod removed", f"{refusal.verb}: refused", words=refusal.words) from refusal


class Container:
    """One container of a pod."""

    def __init__(self, pods: Pods, pod: Pod, name: str) -> None:
        """Name it; it is there already, or could not be started."""
        self._pods, self._pod, self.name = pods, pod, name

    def status(self) -> Status:
        """Return how it stands."""
        return self._pods.driver.status(self._pod.name, self.name)

    def ended(self) -> Status:
        """Return how it stands once it has exited, or could not be started; Unmet where that does not come."""
        status = self.status()
        with self._pods.waited():
            for _ in ticks(Deadline(self._pods.seconds), every=0.01):
                status = self.status()
                if status.state is State.EXITED or (status.refusal and status.state is State.CREATED):
                    return status
        raise Unmet("the container exited", f"it is {status.state}", reason=Reason.TIMEOUT)

    # -- what it wrote

    def output(self, stream: str = "stdout") -> bytes:
        """Return what it wrote to a stream so far, the record left out; Unmet where stdout does not begin with that."""
        written = self._written(stream)
        if stream != "stdout":
            return written
        if not written.startswith(self._pods.record):
            raise Unmet("the program's record in its log", "none" if not written else "something else is first")
        self._pods.proven = True
        return written.removeprefix(self._pods.record)

    def outputs(self) -> tuple[bytes, bytes]:
        """Return all that it wrote to stdout and stderr, once it has ended and the engine has written it down."""
        self.ended()
        return self.settled("stdout"), self.settled("stderr")

    def bare(self) -> bytes:
        """Return all that a program wrote to stdout, once it has ended, that is no script of ours: it has no record."""
        self.ended()
        self._await_log()
        return self._written("stdout")

    def _await_log(self) -> None:
        for _ in ticks(Deadline(LOG_S), every=0.005):
            if self._pods.driver.complete(self._pod.name, self.name):
                return

    def settled(self, stream: str) -> bytes:
        """Return what a container wrote that has ended, once its log is complete or has had its time."""
        self._await_log()
        if stream != "stdout":
            self.output()  # the record
        return self.output(stream)

    def says(self, line: str) -> None:
        """Wait until it has written a line to its stdout; Unmet where it does not."""
        wanted, over = re.compile(rb"^" + re.escape(line.encode()) + rb"$", re.MULTILINE), False
        with self._pods.waited():
            for number, _ in enumerate(ticks(Deadline(self._pods.seconds), every=0.01), start=1):
                if self._written("stdout").startswith(self._pods.record) and wanted.search(self.output()):
                    return
                if over:
                    raise Unmet(f"the program says {line}", self._fate())
                over = number % LOOKS == 0 and self._over()
        raise Unmet(f"the program says {line}", self._fate(), reason=Reason.TIMEOUT)

    def _over(self) -> bool:
        """Return whether it has ended and its log is complete, so that nothing more will come."""
        return self.status().state is State.EXITED and self._pods.driver.complete(self._pod.name, self.name)

    def _written(self, stream: str) -> bytes:
        return log.text(self.pieces(), stream)

    def pieces(self) -> list[log.Piece]:
        """Return the lines of its log so far."""
        try:
            return log.pieces(self._pods.driver.log(self._pod.name, self.name))
        except ValueError as error:
            raise Unmet("a log in the format of a kubelet", "a line that is not") from error

    def _fate(self) -> str:
        status = self.status()
        code = "" if status.code is None else f" with {status.code}"
        return f"nothing; it is {status.state}{code}"

    # -- acting on it

    def execute(self, *words: str, seconds: int = 10) -> Output:
        """Run a command in it."""
        return self._pods.driver.execute(self._pod.name, self.name, words, seconds=seconds)

    def timed(self, *words: str, seconds: int) -> tuple[Output, float]:
        """Run a command in it that may take so many seconds; return also how many it took."""
        began = time.monotonic()
        said = self.execute(*words, seconds=seconds)
        return said, time.monotonic() - began

    def shell(self, script: str) -> Output:
        """Run a script in it that records first; return what came of it without the record, Unmet where that lacks."""
        said = self.execute(*SHELL, self._pods.recording(script))
        record = self._pods.record
        if not said.stdout.startswith(record):
            raise Unmet("the script's record", "refused" if said.refusal else f"none; exit {said.code}")
        self._pods.proven = True
        return Output(code=said.code, stdout=said.stdout.removeprefix(record), stderr=said.stderr)

    @contextmanager
    def converse(self, script: str, *, stdin: bool = False, tty: bool = False) -> Iterator[Conversation]:
        """Run a script in it that records first and with which one talks meanwhile; Unmet where that is refused."""
        pods, words = self._pods, (*SHELL, self._pods.recording(script))
        try:
            session = pods.driver.attend(self._pod.name, self.name, words, seconds=pods.seconds, stdin=stdin, tty=tty)
        except Refused as refusal:
            raise Unmet("a command with its streams connected", f"{refusal.verb}: refused") from refusal
        with closing(session):
            yield Conversation(session, record=pods.record, seconds=pods.seconds, waited=pods.waited, proven=pods.prove)

    def shells(self, *scripts: str) -> list[Output]:
        """Run scripts as `shell` does, all at the same time; return what came of them in their order."""
        with ThreadPoolExecutor(max_workers=len(scripts)) as pool:
            return list(pool.map(self.shell, scripts))

    def stop(self, *, grace: int) -> float:
        """Ask it to end, have it killed when `grace` seconds are over, and return the seconds that this took."""
        began = time.monotonic()
        try:
            self._pods.driver.stop(self._pod.name, self.name, grace=grace)
        except Refused as refusal:
            raise Unmet("the container stopped", f"{refusal.verb}: refused") from refusal
        return time.monotonic() - began


def _empty(folder: Path) -> None:
    """Remove a volume with what is in it; OSError where something is mounted there."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            _empty(path)
        else:
            path.unlink()
    folder.rmdir()
