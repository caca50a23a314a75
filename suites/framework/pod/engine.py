"""The engine of kind pod: a containerd of the worker's own, from its start to its end (layer 1).

It is a child of the worker, in namespaces of its own (`enclosure`) with a /run of its own: shims become the worker's
children, nothing is written to the machine's /run, and with the worker's namespaces all of it is gone.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suites.framework import process
from suites.framework.calls import interpreted
from suites.framework.errors import InfrastructureError
from suites.framework.model import EnginePlace, Target
from suites.framework.pod import config, image, network, shim
from suites.framework.pod.config import Handler, Layout
from suites.framework.pod.cri import Client, Refused
from suites.framework.pod.driver import Image as Kind
from suites.framework.pod.enclosure import Enclosure
from suites.framework.process import Child, exited
from suites.framework.waiting import Deadline, Waiter, ticks

START_S = 30.0
"""A containerd that does not answer by then will not; a cold start takes 0.4 s on a quiet machine."""
END_S = 5.0
IMPORT_S = 60.0
_REMEDY = "correct what it says, or give another one first on PATH"
LINES = 8
"""Of its log, the last ones are shown."""
PAUSE = ("/bin/busybox", "sleep", "2000000000")
"""What a sandbox runs; the engine ends it by KILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What an engine is started from, and where."""

    place: EnginePlace
    folder: Path
    """Of its own, which is removed with it; short, because a socket is in it (unix(7))."""
    rootfs: Path
    """The tree of which images are made."""
    environment: Mapping[str, str]
    rootless: bool = False
    """Whether the worker is an ordinary user's."""
    snapshotter: str = "overlayfs"


class Engine:
    """A running containerd with the images in it; `close` it."""

    def __init__(self, site: Site, targets: Sequence[Target], *, python: str) -> None:
        """Start it with a handler for each target, wait until it answers; InfrastructureError with its last lines."""
        self._site, self._python, self._waiter = site, python, Waiter()
        self._child: Child | None = None
        self.client: Client | None = None
        self.folder, self.log = site.folder, site.folder / "log"
        self.socket = site.folder / "s"
        self.root = site.folder / "root"
        self.enclosure = Enclosure(rootless=site.rootless, python=python)
        refuse_used(self.socket)
        site.folder.mkdir(mode=0o711, exist_ok=True)
        self.handlers: dict[str, Handler] = {}
        for target in targets:
            taken = {known.runtime_type for known in self.handlers.values()}
            self.handlers[target.name] = handler(target, folder=site.folder, python=python, taken=taken)
        self.version = ""
        self._namespaces: dict[int, int] = {}
        """Those of its enclosure, held so that the next one finds what this one left there."""
        self._door: network.Door | None = None
        self.spoilt = False
        """Whether a test has left something in it that it could not remove: such an engine serves nobody else."""
        try:
            self._start()
            self._import()
        except BaseException:
            self.close()
            raise

    # -- its life

    def _start(self) -> None:
        site = self._site
        layout = Layout(
            root=self.root,
            socket=self.socket,
            snapshotter=site.snapshotter,
            cgroups=not site.rootless,
            pause=image.PAUSE,
            plugins=self._site.place.plugins,
            handlers=tuple(self.handlers.values()),
        )
        (site.folder / "config.toml").write_text(config.written(layout))
        conf = self.root / config.NETWORKS
        conf.mkdir(parents=True)
        (conf / network.FILE).write_text(network.configuration(self.root / "cni/state"))
        self._spawn(self.enclosure.words)
        self._await()
        self._namespaces = self.enclosure.held(self.pid)
        self._door = network.Door(front=self.enclosure.entering, python=self._python, fds=self._namespaces)

    def crash(self) -> None:
        """Kill it as it stands and start another in its place; what it kept, and its shims, are still there."""
        assert self._child is not None
        assert self.client is not None
        self.spoilt = True  # the next case does not begin with the traces of this
        self.client.close()
        self._child.kill()
        self._spawn(self.enclosure.entering)
        self._await()

    def _spawn(self, front: Sequence[str]) -> None:
        # the front finds newuidmap as the worker does, not as the engine finds its shims
        inner, outer = self._environment, self._site.environment.get("PATH", os.defpath)
        words = [*front, "/usr/bin/env", f"PATH={inner['PATH']}"]
        words += [self._site.place.containerd, "--config", str(self.folder / "config.toml")]
        fds = {0: os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)}
        fds[1] = fds[2] = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            self._child = process.spawn(words, environment={**inner, "PATH": outer}, fds=fds | self._namespaces)
        except OSError as error:
            raise InfrastructureError(f"{words[0]} cannot be started", why=os.strerror(error.errno or 0)) from None
        finally:
            for fd in {fds[0], fds[1]}:
                os.close(fd)

    @property
    def _environment(self) -> dict[str, str]:
        """Return its environment: first on PATH the targets' shims and its own folder, where it finds the others."""
        given = {**self._site.environment, **self._site.place.environment}
        own = Path(self._site.place.containerd).parent
        path = f"{self.folder / shim.FOLDER}:{own}:{given.get('PATH', os.defpath)}"
        return {**given, "PATH": path, "TMPDIR": str(self._site.folder)}

    def _await(self) -> None:
        """Wait until its CRI answers."""
        deadline = Deadline(START_S)
        for _ in ticks(deadline, every=0.01):
            self._refuse_ended()
            if accepts(self.socket):
                break
        else:
            why = f"nobody listens at its socket after {START_S:g} s; {self.said()}"
            raise InfrastructureError(f"{self._site.place.containerd} does not answer", why=why, remedy=_REMEDY)
        self.client = Client(self.socket, stubs=Path(self._site.place.stubs))
        said = "it does not answer"
        for _ in ticks(deadline, every=0.02):
            self._refuse_ended()
            try:
                self.version = self.client.call("Version", seconds=5).runtime_version
            except Refused as refusal:
                said = refusal.words
                if refusal.code == "UNIMPLEMENTED":
                    break
            else:
                return
        why = f"{said}; {self.said()}"
        raise InfrastructureError("containerd runs without its CRI", why=why, remedy="use containerd >= 1.6")

    def _refuse_ended(self) -> None:
        assert self._child is not None
        if (status := self._child.wait(Deadline(0), self._waiter)) is not None:
            raise InfrastructureError(
                f"{self._site.place.containerd} did not stay: {status}",
                why=self.said(),
                remedy=_REMEDY,
            )

    def _import(self) -> None:
        """Make the images and have the engine take them in."""
        assert self.client is not None
        archive = self.folder / "images.tar"
        images = made(self._site.rootfs)
        try:
            image.write(archive, *images)
        except OSError as error:
            why = f"{archive}: {error.strerror}"
            raise InfrastructureError(
                "the images are not written", why=why, remedy="see to that, or give another TMPDIR"
            ) from None
        words = [self._site.place.ctr, "--address", str(self.socket), "--namespace", "k8s.io"]
        words += ["images", "import", "--snapshotter", self._site.snapshotter, str(archive)]
        status, output = process.output_of(words, environment=self._environment, seconds=IMPORT_S)
        archive.unlink()
        if status != exited(0):
            raise InfrastructureError("the images are not imported", why=output.strip() or f"{status}; {self.said()}")
        for each in images:
            self._await_image(each.name)

    def _await_image(self, name: str) -> None:
        """Wait until the CRI knows an image, which it learns by an event."""
        assert self.client is not None
        for _ in ticks(Deadline(IMPORT_S), every=0.01):
            if self.client.call("ImageStatus", seconds=5, image={"image": name}).image.id:
                return
        raise InfrastructureError(f"the engine does not know image {name}", why=self.said())

    @property
    def pid(self) -> int:
        """Return its process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Return whether it runs."""
        return self._child is not None and self._child.wait(Deadline(0), self._waiter) is None

    def connect(self, host: str, port: int, seconds: float) -> socket.socket:
        """Connect to a port of its own network; OSError where that is refused."""
        assert self._door is not None
        return self._door.connect(host, port, seconds)

    @property
    def networks(self) -> str:
        """Return why pods cannot have a network of their own; empty where they can."""
        if not self._site.place.plugins:
            return "the engine was given no plugins"
        hidden = Path(f"/proc/{self.pid}/root{network.STATE}")
        return "" if hidden.is_dir() else f"{network.STATE} cannot be hidden from the machine"

    def said(self) -> str:
        """Return the last lines of its log, without their times."""
        return last_lines(self.log)

    def close(self) -> None:
        """End it and remove its folder; safe to repeat."""
        if self.client is not None:
            self.client.close()
        if self._child is not None:
            self._child.send(signal.SIGTERM)
            self._child.wait(Deadline(END_S), self._waiter)
            self._child.kill()
        if self._door is not None:
            self._door.close()
        self._waiter.finish()
        while self._namespaces:
            os.close(self._namespaces.popitem()[1])
        self.enclosure.remove(self.folder, environment=self._site.environment)


def handler(target: Target, *, folder: Path, python: str, taken: Collection[str] = ()) -> Handler:
    """Return the handler for a target: its shim, its program, or a script where that is more than one word."""
    name = re.sub(r"[^a-z0-9]+", "-", target.name.lower()).strip("-")
    if shim.runtime_type(target):
        return shim.handler(target, name, folder=folder, python=python, taken=taken)
    words = interpreted((*target.wrap, *target.argv), python)
    given = [f"{key}={value}" for key, value in target.environment.items()]
    if len(words) == 1 and not given:
        binary = words[0]
    else:
        binary = shim.write(folder / f"{name}.sh", ["/usr/bin/env", *given, *words])
    front = interpreted(target.call.pod.front, python)
    return _fronted(name, front, binary, folder) if front else Handler(name=name, binary=binary)


def _fronted(name: str, front: Sequence[str], binary: str, folder: Path) -> Handler:
    """Return a handler whose shim has words in front of it: a type of its own, whose options an engine does not know.

    So the shim, which takes the first runc on PATH where it is told of none, is given one that is the binary.
    """
    shim.write(folder / name / "runc", [binary])
    script = f'PATH={shlex.quote(str(folder / name))}:$PATH exec {shlex.join(front)} "$@"'
    shim.write(folder / shim.FOLDER / f"containerd-shim-{name}-behind-v2", ["/bin/sh", "-c", script, name])
    return Handler(name=name, runtime_type=f"io.containerd.{name}-behind.v2")


def made(tree: Path) -> tuple[image.Image, ...]:
    """Return the images that an engine is given, all of one tree."""

    def tools(kind: Kind, **settings: Any) -> image.Image:
        return image.Image(name=image.TOOLS.format(kind), tree=tree, **settings)

    return (
        image.Image(name=image.PAUSE, tree=tree, entrypoint=PAUSE),
        tools(Kind.TOOLS, command=("/bin/sh",)),
        tools(Kind.ENTRY, entrypoint=("/bin/echo", "entry"), command=("default",)),
        tools(Kind.USR1, command=("/bin/sh",), stop_signal="SIGUSR1"),
    )


def refuse_used(path: Path) -> None:
    """Raise InfrastructureError where somebody listens at a socket already: containerd would take it from him."""
    if accepts(path):
        raise InfrastructureError(
            f"socket {path} is in use", why="another engine answers there", remedy="end it, or give another TMPDIR"
        )


def accepts(path: Path) -> bool:
    """Return whether somebody accepts a connection at a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def last_lines(log: Path, *, most: int = LINES) -> str:
    """Return the end of an engine's log on one line, times and levels taken off; how it stands where it is empty."""
    try:
        lines = log.read_text(errors="backslashreplace").splitlines()
    except OSError:
        lines = []
    kept = [re.sub(r'^time="[^"]*" ', "", line).strip() for line in lines if line.strip()]
    return " | ".join(kept[-most:]) or "it said nothing"
