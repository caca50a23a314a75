"""A pod and its containers as cases see them: how they stand, what they wrote, what can be done to them (layer 1)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from suites.framework.model import Reason
from suites.framework.observation import Unmet
from suites.framework.pod import log
from suites.framework.pod.conversation import Conversation
from suites.framework.pod.cri import Refused
from suites.framework.pod.driver import Output, Program, Request, State, Status
from suites.framework.waiting import Deadline, ticks

if TYPE_CHECKING:
    from suites.framework.pod.pods import Pods

LOOKS = 20
"""After so many looks for a line in a log it is asked whether its writer still runs: one that has ended is no wait."""
LOG_S = 5.0
"""What an engine gets to write down what a container wrote that has ended."""
SHELL = ("/bin/sh", "-c")
MAIN = "main"
"""Name of the container of a pod that has one."""


class Pod:
    """One pod."""

    def __init__(self, pods: Pods, request: Request) -> None:
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
