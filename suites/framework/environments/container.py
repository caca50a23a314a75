"""Workers in Docker containers: privileged as root, unprivileged as an ordinary user of the image (layer 2)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from suites.catalog import Environment, Place, Privilege
from suites.framework import launcher
from suites.framework.cleanup import ENVIRONMENT_LABEL, RUN_LABEL
from suites.framework.environments import wall
from suites.framework.environments.driver import (
    NOT_EXECUTED,
    STOP,
    Ending,
    Mount,
    NeverStarted,
    Worker,
    WorkerEnd,
    judge,
    signal_name,
)
from suites.framework.environments.engine import (
    FRAME,
    Attachment,
    ContainerSpec,
    ContainerState,
    Engine,
    EngineError,
)
from suites.framework.environments.image import Image
from suites.framework.model import Limits


class ContainerWorker:
    """A worker that is the main process of a container, held by its attached standard streams."""

    def __init__(self, engine: Engine, container: str, streams: Attachment, *, log: Path) -> None:
        """Hold a started container and copy its output to `log` from a thread."""
        self.container = container
        self._engine, self._streams, self._log = engine, streams, log
        self._over = os.eventfd(0, os.EFD_CLOEXEC)
        self._killed = False
        self._end: WorkerEnd | None = None
        self._pump = threading.Thread(target=self._follow, name=f"container {container[:12]}", daemon=True)
        self._pump.start()

    def fileno(self) -> int:
        """Return an eventfd that is written when the engine says that the container is over."""
        return self._over

    def stop(self) -> None:
        """Write the word for an orderly end to the container's standard input."""
        with suppress(OSError):
            if self._end is None:
                self._streams.send(STOP)

    def kill(self) -> None:
        """Kill the container's main process, hence all others; one that is over is no error."""
        if self._end is None:
            self._killed = True
            with suppress(EngineError):
                self._engine.kill(self.container)

    def end(self) -> WorkerEnd:
        """Ask the engine how the container ended, and remove it."""
        if self._end is None:
            self._pump.join()
            self._end = self._inspect()
            self._streams.close()
            os.close(self._over)
            with suppress(EngineError):  # what cannot be removed now is removed by its label
                self._engine.remove(self.container)
        return self._end

    def _inspect(self) -> WorkerEnd:
        try:
            return judge_state(self._engine.inspect(self.container), killed=self._killed, log=self._log)
        except EngineError as error:
            how = Ending.KILLED if self._killed else Ending.SIGNAL
            return WorkerEnd(how=how, code=signal.SIGKILL, detail=f"the container is lost: {error}")

    def _follow(self) -> None:
        try:
            with suppress(OSError):
                copy_output(self._streams.receive, self._log)
            with suppress(EngineError):  # end() finds out what became of it
                self._engine.wait(self.container)
        finally:
            os.eventfd_write(self._over, 1)


class ContainerDriver:
    """Starts each worker as the main process of a container of its own."""

    def __init__(
        self,
        privilege: Privilege,
        *,
        engine: Engine,
        image: Image,
        run: str,
        limits: Limits,
        mounts: Sequence[Mount] = (),
        network: str = "none",
    ) -> None:
        """Take what every container of this run has in common."""
        self.environment = Environment(privilege=privilege, place=Place.CONTAINER)
        self._engine, self._image, self._run, self._limits = engine, image, run, limits
        self._mounts, self._network = tuple(mounts), network
        self._labels = {RUN_LABEL: run, ENVIRONMENT_LABEL: self.environment.name}
        self._workers: list[ContainerWorker] = []

    def start(
        self,
        argv: Sequence[str],
        *,
        name: str,
        env: Mapping[str, str],
        log: Path,
        keep: Sequence[int] = (),  # noqa: ARG002 - descriptors do not cross into a container
    ) -> Worker:
        """Make a container, attach to it, start it. See `Driver.start`. PATH is the image's own business."""
        container = ""
        try:
            container = self._engine.create(self.spec(argv, name=name, env=env))
            streams = self._engine.attach(container)
            try:
                self._engine.start(container)
            except EngineError:
                streams.close()
                raise
        except EngineError as error:
            if container:
                with suppress(EngineError):
                    self._engine.remove(container)
            return NeverStarted(str(error))
        worker = ContainerWorker(self._engine, container, streams, log=log)
        self._workers.append(worker)
        return worker

    def spec(self, argv: Sequence[str], *, name: str, env: Mapping[str, str]) -> ContainerSpec:
        """Return the container in which a worker will run."""
        root = self.environment.privilege is Privilege.ROOT
        return ContainerSpec(
            name=f"seatrial-{self._run}-{self.environment.name}-{name}",
            image=self._image.name,
            argv=(*(wall.container_wall() if root else ()), *argv),
            env={key: value for key, value in env.items() if key != "PATH"},
            labels=self._labels | {launcher.LABEL: launcher.name()},
            user="0:0" if root else self._image.user,
            privileged=root,
            mounts=(*self._image.mounts, *self._mounts),
            processes=self._limits.processes,
            memory_bytes=self._limits.memory_bytes,
            network=self._network,
        )

    def close(self) -> None:
        """Kill and remove the workers that nobody has ended, then whatever carries this driver's labels."""
        for worker in self._workers:
            worker.kill()
            worker.end()
        self._workers.clear()
        self._engine.remove_labelled(self._labels)


def judge_state(state: ContainerState, *, killed: bool, log: Path) -> WorkerEnd:
    """Return what the engine's words mean.

    It says 128 + n both for signal n and for that exit code; no worker returns such a code by itself.
    """
    code = state.exit_code
    if state.oom_killed and code == 128 + signal.SIGKILL and not killed:
        return WorkerEnd(how=Ending.OOM, code=code, detail="killed by the kernel: the container's memory is full")
    if state.error and code in NOT_EXECUTED:
        return WorkerEnd(how=Ending.NOT_STARTED, code=code, detail=state.error)
    if code <= 128:
        return judge(code, killed=killed, log=log)
    end = judge(128 - code, killed=killed, log=log)
    if end.how is Ending.KILLED:
        return end
    detail = f"status {code}: exit({code}) or killed by {signal_name(code - 128)}"
    return WorkerEnd(how=end.how, code=end.code, detail=detail)


def copy_output(receive: Callable[[], bytes], log: Path) -> None:
    """Append the payload of the engine's frames to a file until the stream ends; a full disk does not stop it."""
    pending = b""
    with log.open("ab", buffering=0) as output:
        while data := receive():
            pending += data
            while len(pending) >= FRAME:
                length = int.from_bytes(pending[4:FRAME])
                if len(pending) < FRAME + length:
                    break
                with suppress(OSError):
                    output.write(pending[FRAME : FRAME + length])
                pending = pending[FRAME + length :]
