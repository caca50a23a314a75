"""The Docker engine behind a typed Protocol (layer 2): the only module that touches the untyped docker SDK.

Every call raises EngineError with the engine's own words. The SDK is imported on the first connection, because that
takes 0.2 s and the keeper hardly ever needs it.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from suites.framework import launcher
from suites.framework.environments.driver import Mount
from suites.framework.errors import InfrastructureError

OLDEST_API = (1, 41)
"""Docker 20.10; older engines do not know what is asked of them here."""
TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5.0
SILENCE_S = 10.0
"""A registry that sends nothing for this long is taken to be unreachable."""
FRAME = 8
"""Bytes in front of each piece of output: stream, three zeros, length in network order (engine API, attach)."""


class EngineError(InfrastructureError):
    """The container engine cannot be reached or refused; holds its words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container to be made. Bytes and counts."""

    name: str
    image: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    labels: Mapping[str, str]
    user: str
    privileged: bool
    mounts: tuple[Mount, ...]
    processes: int
    memory_bytes: int
    network: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """What the engine says of a container that is over."""

    running: bool
    exit_code: int
    oom_killed: bool
    error: str
    launcher: str = ""
    """Who made it, as its label says."""


class Attachment(Protocol):
    """The standard streams of a container: what is sent is its input, what is received its output in frames."""

    def send(self, data: bytes) -> None:
        """Write to the container's standard input; raises OSError."""

    def receive(self) -> bytes:
        """Return the next bytes of the stream, empty at its end; raises OSError."""

    def close(self) -> None:
        """End the stream, which is the end of the container's standard input; also wakes a blocked `receive`."""


class Engine(Protocol):
    """What is asked of a container engine. Images and containers are named by strings."""

    @property
    def version(self) -> str:
        """Return the engine's version, such as ``20.10.24``."""

    def has_image(self, name: str) -> bool:
        """Say whether an image is present locally."""

    def identify(self, name: str) -> str:
        """Return the id of a local image, an empty text where there is none."""

    def pull(self, name: str) -> None:
        """Ask the registry for an image; an unreachable one is given up after `SILENCE_S`."""

    def build(self, dockerfile: bytes, *, name: str, labels: Mapping[str, str]) -> None:
        """Build an image from a Dockerfile without a context."""

    def import_image(self, tar: bytes, *, name: str, changes: Sequence[str]) -> None:
        """Make an image of one layer from a tar archive; `changes` are Dockerfile instructions."""

    def create(self, spec: ContainerSpec) -> str:
        """Make a container without starting it, and return its id."""

    def export(self, container: str) -> Iterator[bytes]:
        """Yield the files of a container, running or not, as a tar archive."""

    def attach(self, container: str) -> Attachment:
        """Connect to the standard streams of a container, before it is started so that nothing is lost."""

    def start(self, container: str) -> None:
        """Start a container."""

    def kill(self, container: str) -> None:
        """Send SIGKILL to a container's main process."""

    def wait(self, container: str) -> None:
        """Block until a container is over."""

    def inspect(self, container: str) -> ContainerState:
        """Return a container's state."""

    def remove(self, container: str) -> None:
        """Kill and remove a container; one that is gone is no error."""

    def list_labelled(self, labels: Mapping[str, str]) -> list[str]:
        """Return the ids of all containers, running or not, that carry all these labels."""

    def remove_labelled(self, labels: Mapping[str, str]) -> None:
        """Remove all containers that carry all these labels."""


@contextmanager
def connect(*, timeout_s: float = TIMEOUT_S) -> Iterator[Engine]:
    """Connect to the engine that DOCKER_HOST, the current context or the default socket names."""
    engine = _connect(timeout_s)
    try:
        yield engine
    finally:
        engine.close()


def _connect(timeout_s: float) -> DockerEngine:
    try:
        docker = importlib.import_module("docker")
    except ImportError as error:
        raise EngineError("Docker", why=f"the Python module docker is not installed ({error})") from None
    client = _client(docker)
    if isinstance(client, str):
        _forget_sockets()
        raise EngineError("Docker", why=client)
    with _words("Docker"):
        engine = DockerEngine(client.api, timeout_s=timeout_s)
    if engine.api < OLDEST_API:
        engine.close()
        wanted, got = (".".join(map(str, version)) for version in (OLDEST_API, engine.api))
        raise EngineError("Docker", why=f"the engine speaks API {got}, at least {wanted} (Docker 20.10) is needed")
    return engine


def _client(docker: Any) -> Any | str:
    """Return a client, or why there is none: an exception would keep the SDK's sockets alive."""
    try:
        with _words("Docker"):
            return docker.from_env(version="auto", timeout=CONNECT_TIMEOUT_S)
    except EngineError as error:
        return error.why


def _forget_sockets() -> None:
    """Drop the socket that the SDK leaves open where it cannot connect, without a ResourceWarning later on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@contextmanager
def _words(what: str) -> Iterator[None]:
    """Turn what the SDK and the libraries below it raise into the engine's own words."""
    errors = importlib.import_module("docker.errors")
    requests = importlib.import_module("requests")
    try:
        yield
    except (errors.DockerException, requests.RequestException, OSError, ValueError) as error:
        raise EngineError(what, why=str(getattr(error, "explanation", None) or error)) from error


class SocketAttachment:
    """The hijacked connection of an attach call."""

    def __init__(self, stream: Any) -> None:
        """Take what the SDK returns: a socket, or a file around one that must be kept alive."""
        self._stream = stream
        self._socket: socket.socket = getattr(stream, "_sock", stream)
        self._socket.settimeout(None)

    def send(self, data: bytes) -> None:
        """Write to the container's standard input."""
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """Return the next bytes of the stream."""
        return self._socket.recv(65536)

    def close(self) -> None:
        """End the stream."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            response = getattr(self._stream, "_response", None)
            (self._stream if response is None else response).close()


@dataclass(slots=True)
class DockerEngine:
    """An engine reached through the docker SDK; see `Engine`."""

    _client: Any
    timeout_s: float = TIMEOUT_S
    version: str = field(default="", init=False)
    api: tuple[int, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        """Ask the engine for its versions."""
        answer = self._client.version()
        self.version, self.api = answer["Version"], tuple(map(int, answer["ApiVersion"].split(".")))
        self._client.timeout = self.timeout_s

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def has_image(self, name: str) -> bool:
        """Say whether an image is present locally."""
        return bool(self.identify(name))

    def identify(self, name: str) -> str:
        """Return the id of a local image, an empty text where there is none."""
        missing = importlib.import_module("docker.errors").ImageNotFound
        with _words(f"image {name}"):
            try:
                return str(self._client.inspect_image(name)["Id"])
            except missing:
                return ""

    def pull(self, name: str) -> None:
        """Ask the registry for an image."""
        repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
        self._client.timeout = SILENCE_S
        try:
            with _words(f"pull of {name}"):
                self._follow(self._client.pull(repository, tag=tag, stream=True, decode=True))
        finally:
            self._client.timeout = self.timeout_s

    def build(self, dockerfile: bytes, *, name: str, labels: Mapping[str, str]) -> None:
        """Build an image from a Dockerfile without a context."""
        with _words(f"build of {name}"):
            lines = self._client.build(
                fileobj=io.BytesIO(dockerfile), tag=name, labels=dict(labels), rm=True, forcerm=True, decode=True
            )
            self._follow(lines)

    def import_image(self, tar: bytes, *, name: str, changes: Sequence[str]) -> None:
        """Make an image of one layer from a tar archive."""
        repository, _, tag = name.rpartition(":")
        with _words(f"import of {name}"):
            answer = self._client.import_image_from_data(tar, repository=repository, tag=tag, changes=list(changes))
            self._follow(json.loads(line) for line in answer.splitlines() if line.strip())

    def create(self, spec: ContainerSpec) -> str:
        """Make a container without starting it."""
        with _words(f"container {spec.name}"):
            answer = self._client.create_container(
                image=spec.image,
                entrypoint=[spec.argv[0]],
                command=list(spec.argv[1:]),
                name=spec.name,
                user=spec.user,
                environment=dict(spec.env),
                labels=dict(spec.labels),
                working_dir="/",
                stdin_open=True,
                healthcheck={"test": ["NONE"]},
                host_config=self._host_config(spec),
            )
        return str(answer["Id"])

    def _host_config(self, spec: ContainerSpec) -> Any:
        types = importlib.import_module("docker.types")
        config = self._client.create_host_config(
            privileged=spec.privileged,
            userns_mode="host" if spec.privileged else None,
            security_opt=None if spec.privileged else ["seccomp=unconfined", "apparmor=unconfined"],
            network_mode=spec.network,
            pids_limit=spec.processes,
            mem_limit=spec.memory_bytes,
            memswap_limit=spec.memory_bytes,
            init=False,
            tmpfs={"/tmp": "rw,exec,mode=1777", "/run": "rw,exec,mode=1777"},  # noqa: S108 - of the container
            mounts=[types.Mount(m.path, m.path, type="bind", read_only=not m.writable) for m in spec.mounts],
            ulimits=[types.Ulimit(name="core", soft=0, hard=0)],
            log_config=types.LogConfig(type="none"),
        )
        if not spec.privileged:  # what the command line calls systempaths=unconfined
            config.update(MaskedPaths=[], ReadonlyPaths=[])
        return config

    def export(self, container: str) -> Iterator[bytes]:
        """Yield the files of a container as a tar archive."""
        with _words(f"export of {container[:12]}"):
            yield from self._client.export(container)

    def attach(self, container: str) -> Attachment:
        """Connect to the standard streams of a container."""
        with _words(f"attach to {container[:12]}"):
            streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            return SocketAttachment(self._client.attach_socket(container, params=streams))

    def start(self, container: str) -> None:
        """Start a container."""
        with _words(f"start of {container[:12]}"):
            self._client.start(container)

    def kill(self, container: str) -> None:
        """Send SIGKILL to a container's main process."""
        with _words(f"kill of {container[:12]}"):
            self._client.kill(container)

    def wait(self, container: str) -> None:
        """Block until a container is over."""
        with _words(f"wait for {container[:12]}"):
            self._client.wait(container, timeout=None)

    def inspect(self, container: str) -> ContainerState:
        """Return a container's state."""
        with _words(f"state of {container[:12]}"):
            found = self._client.inspect_container(container)
        state = found["State"]
        return ContainerState(
            running=bool(state["Running"]),
            exit_code=int(state["ExitCode"]),
            oom_killed=bool(state["OOMKilled"]),
            error=str(state["Error"]),
            launcher=str((found["Config"].get("Labels") or {}).get(launcher.LABEL, "")),
        )

    def remove(self, container: str) -> None:
        """Kill and remove a container; one that is gone, or going, is no error."""
        error = importlib.import_module("docker.errors").APIError
        with _words(f"removal of {container[:12]}"):
            try:
                self._client.remove_container(container, force=True, v=True)
            except error as refusal:
                if refusal.status_code not in (404, 409):
                    raise

    def list_labelled(self, labels: Mapping[str, str]) -> list[str]:
        """Return the ids of all containers that carry all these labels, an empty value standing for any."""
        filters = {"label": [f"{name}={value}" if value else name for name, value in labels.items()]}
        with _words("list of containers"):
            return [str(entry["Id"]) for entry in self._client.containers(all=True, filters=filters)]

    def remove_labelled(self, labels: Mapping[str, str]) -> None:
        """Remove all containers that carry all these labels, several at a time."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(self.remove, self.list_labelled(labels)))

    @staticmethod
    def _follow(lines: Any) -> None:
        """Read a stream of progress to its end; an error in it is the outcome, whatever the HTTP status was."""
        for line in lines:
            if "error" in line:
                raise ValueError(line["error"])
