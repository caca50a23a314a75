"""A container init driven by the docker command line: started by ``docker run``, ended by ``docker stop`` (layer 1)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from suites.catalog import Mode
from suites.framework import probes, process
from suites.framework.bench import Bench
from suites.framework.model import Evidence, Reason, Target
from suites.framework.observation import Unmet
from suites.framework.process import Child, exited
from suites.framework.recorder import Recorder, recording_socket
from suites.framework.targets.init import Init
from suites.framework.terminal import Terminal
from suites.framework.waiting import Capture, Deadline, Waiter, ticks

ENGINE_S = 30.0
"""Deadline of one call of the docker command on a busy machine."""


class ContainedInit:
    """A container init that is PID 1 of a Docker container."""

    def __init__(self, bench: Bench, target: Target) -> None:
        """Bind a target to a test's bench."""
        self.bench, self.target = bench, target
        self._init = Init(bench, target, Mode.DOCKER)

    def run(
        self, *, options: Sequence[str] = (), terminal: Terminal | None = None, command: Sequence[str] = ()
    ) -> Container:
        """Start a container whose init has a recording child; use the result in a ``with`` statement.

        `options` are of ``docker run``. With a terminal it is ``docker run --interactive --tty`` at that one. With a
        command of the image instead of the recorder this returns as soon as the container runs.
        """
        return Container(self, options=options, terminal=terminal, command=command)

    def words(self, command: Sequence[str]) -> list[str]:
        """Return the words that call the init with a command; interpreters are those of the container."""
        argv = [_inside(word) for word in self.target.argv]
        separator = [self.target.call.init.separator] if self.target.call.init.separator else []
        return [*argv, *separator, *command]

    def recorder_words(self, channel: Path) -> list[str]:
        """Return the command of a recording process in the container."""
        payload = [_inside(word) for word in self.bench.context.paths.payload]
        return [*payload, "agent", str(channel), self.bench.nonce]


def _inside(word: str) -> str:
    return "python3" if word == "{python}" else word


class Container:
    """One container, from ``docker run`` to its removal."""

    def __init__(
        self, contained: ContainedInit, *, options: Sequence[str], terminal: Terminal | None, command: Sequence[str]
    ) -> None:
        """Start it and wait until the child records, or until the container runs."""
        self._bench, self._contained = contained.bench, contained
        self._options, self._terminal, self._command = options, terminal, command
        self.name = f"seatrial-{contained.bench.nonce}-{len(contained.bench.launches)}"
        self._waiter = Waiter()
        self._docker = probes.tool("docker")
        self._folder = contained.bench.make_folder()
        self._bench.launches.append(self)
        self._began, self._ended = time.monotonic(), 0.0
        self._child: Recorder | None = None
        self._entered: list[Child] = []
        self._client, self._output = self._start()

    def _start(self) -> tuple[Child, Capture]:
        if self._command:
            return self._started(self._contained.words(self._command))
        with self._channel("c") as (channel, listener):
            client, output = self._run(self._contained.words(self._contained.recorder_words(channel)))
            if listener.fileno() in self._waiter.wait((listener.fileno(), client.pidfd), Deadline(ENGINE_S)):
                self._child = Recorder(
                    listener.accept()[0],
                    nonce=self._bench.nonce,
                    waiter=self._waiter,
                    seconds=self._init_s,
                    supervisor=self,
                )
        return client, output

    def _started(self, words: Sequence[str]) -> tuple[Child, Capture]:
        """Start the container detached; its client is then ``docker wait``."""
        client, output = self._run(words, "--detach")
        if client.wait(Deadline(ENGINE_S), self._waiter) != exited(0):
            return client, output
        return self._spawn([self._docker, "wait", self.name])

    @contextmanager
    def _channel(self, name: str) -> Iterator[tuple[Path, socket.socket]]:
        """Yield a listening socket that processes in the container reach by its path."""
        channel = self._folder / name
        with recording_socket() as listener:
            listener.bind(str(channel))
            try:
                channel.chmod(0o777)
                listener.listen(1)
                yield channel, listener
            finally:
                channel.unlink()

    @property
    def _init_s(self) -> float:
        return self._bench.context.limits.deadline_s

    def _run(self, words: Sequence[str], *options: str) -> tuple[Child, Capture]:
        """Start ``docker run``, attached unless an option says otherwise, so that its output is evidence."""
        mounts = {str(self._folder): "rw"} | {str(Path(word).parent): "ro" for word in self._paths()}
        volumes = [word for path, mode in mounts.items() for word in ("--volume", f"{path}:{path}:{mode}")]
        given = [*options, *self._options, *(["--interactive", "--tty"] if self._terminal else [])]
        run = [self._docker, "run", "--name", self.name, *probes.container_options(self._bench), *volumes, *given]
        return self._spawn([*run, *self._variables(), self._bench.context.image, *words])

    def _spawn(self, words: Sequence[str]) -> tuple[Child, Capture]:
        """Start a docker client at the terminal, where there is one, with its output captured."""
        if self._terminal is not None:
            slave = self._terminal.slave
            output = self._waiter.add(Capture(os.dup(self._terminal.master), title="terminal", limit=65536))
            return process.spawn(
                words, environment=self._bench.environment, fds=dict.fromkeys((0, 1, 2), slave)
            ), output
        reading, writing = os.pipe()
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        output = self._waiter.add(Capture(reading, title="docker run", limit=65536))
        try:
            client = process.spawn(words, environment=self._bench.environment, fds={0: null, 1: writing, 2: writing})
        finally:
            os.close(null)
            os.close(writing)
        return client, output

    def _paths(self) -> list[str]:
        """Return the absolute paths of files in the command that the image does not have."""
        words = [*self._contained.target.argv, *self._bench.context.paths.payload]
        libraries = self._contained.target.environment.get("LD_LIBRARY_PATH", "")
        folders = [f"{folder}/." for folder in libraries.split(":") if folder]
        return [word for word in [*words, *folders] if word.startswith("/") and not word.startswith("/usr/")]

    def _variables(self) -> list[str]:
        return [
            word for name, value in self._contained.target.environment.items() for word in ("--env", f"{name}={value}")
        ]

    # -- acting

    @property
    def child(self) -> Recorder:
        """Return the recording child; Unmet when it never connected."""
        if self._child is None:
            raise Unmet("the payload ready under the target", self.fate()[0], reason=Reason.TIMEOUT)
        return self._child

    def stop(self, *, seconds: int) -> tuple[str, float]:
        """Call ``docker stop --time``; return what ``docker wait`` says then, and the seconds it took."""
        began = time.monotonic()
        status, output = self._call("stop", "--time", str(seconds), self.name)
        took = time.monotonic() - began
        if status != exited(0):
            raise Unmet("docker stop succeeded", f"{status}: {output}")
        _, code = self._call("wait", self.name)
        return f"exit {code}", took

    def ended(self) -> str:
        """Return what ``docker wait`` says once the container has ended by itself."""
        if self._client.wait(Deadline(ENGINE_S), self._waiter) is None:
            raise Unmet("the container ended", "it was still running at the deadline", reason=Reason.TIMEOUT)
        _, code = self._call("wait", self.name)
        return f"exit {code}"

    def enter(self) -> Recorder:
        """Start a recording process in the container by ``docker exec``; its parent is not in there."""
        with self._channel("e") as (channel, listener):
            words = [self._docker, "exec", self.name, *self._contained.recorder_words(channel)]
            client, output = self._spawn(words)
            self._entered.append(client)
            if listener.fileno() not in self._waiter.wait((listener.fileno(), client.pidfd), Deadline(ENGINE_S)):
                raise Unmet("docker exec succeeded", output.data.decode(errors="replace").strip() or "nothing came")
            return self.child.beside(listener.accept()[0])

    def end_of(self, pid: int) -> str:
        """Wait for the end of an orphan of this number inside; return ``reaped``, or how it is past the deadline."""
        text = ""
        for _ in ticks(Deadline(self._init_s), every=0.1):
            status, text = self._call("exec", self.name, "cat", f"/proc/{pid}/stat")
            if status != exited(0):
                return "reaped" if "No such" in text else f"docker exec: {text}"
        return "left as a zombie" if ") Z " in text else "still alive"

    def note(self, name: str, value: object) -> None:
        """Keep a measured value for the report."""
        self._bench.note(name, value)

    def _call(self, *words: str) -> tuple[process.Status | None, str]:
        return process.output_of([self._docker, *words], environment=self._bench.environment, seconds=ENGINE_S)

    def __enter__(self) -> Container:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Look at everything if the test is failing, then remove the container."""
        if error is not None:
            self._bench.record_failure()
        self.close()

    # -- looking

    def watch(self) -> tuple[int, ...]:
        """Return the docker client's pidfd while it runs: it ends with the container."""
        return (self._client.pidfd,) if self._client.status is None else ()

    def fate(self) -> tuple[str, Reason | None]:
        """Return how the container stands."""
        status = self._client.wait(Deadline(0), self._waiter)
        return ("the container is running" if status is None else f"the container ended: {status}"), None

    def evidence(self) -> Sequence[Evidence]:
        """Return the container's output and the signal log."""
        if self._output.fd >= 0:
            self._output.drain()
        log = "\n".join(map(str, self._child.history())) if self._child else "nothing was recorded"
        text = self._output.data.decode(errors="backslashreplace")
        return (
            Evidence(title="container", text=self.fate()[0]),
            Evidence(title="records", text=log),
            Evidence(title="docker run", text=text),
        )

    @property
    def proven(self) -> bool:
        """Return whether the payload recorded in the container."""
        return self._child is not None and bool(self._child.log)

    @property
    def cut_short(self) -> bool:
        """Return False: processes of a container are the engine's, never the worker's."""
        return False

    @property
    def cost(self) -> tuple[float, float, int]:
        """Return the seconds from ``docker run`` to removal; CPU and memory are the engine's affair."""
        return (self._ended or time.monotonic()) - self._began, 0.0, 0

    def close(self) -> None:
        """Remove the container and let go of everything; safe to repeat."""
        if self._ended:
            return
        if self._child is not None:
            self._child.close()
        self._call("rm", "--force", "--volumes", self.name)
        self._client.wait(Deadline(ENGINE_S), self._waiter)
        for client in (self._client, *self._entered):
            client.kill()
        self._waiter.finish()
        self._ended = time.monotonic()
