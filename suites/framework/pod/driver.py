"""What a driver of pods does: the same cases over an engine's own interface or a cluster's (layer 1).

A pod is asked for as a whole and its containers are told apart by name, as a cluster has it. What only one driver can
do is no part of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from suites.framework.leaks import Leak
from suites.framework.model import Evidence


class State(StrEnum):
    """How a container stands."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


class Image(StrEnum):
    """What a container can be made of; each driver has them under names of its own."""

    TOOLS = "tools"
    """A shell with the usual tools, and no entrypoint."""
    ENTRY = "entry"
    """The same, with an entrypoint that prints ``entry`` and its arguments: ``default`` unless some are given."""
    USR1 = "usr1"
    """The same as the first, and is asked to end by USR1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A file or folder of the node at a path in a container."""

    source: Path
    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One container: what it runs, and in what. Fields that are left out are the image's."""

    name: str = "main"
    command: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = ""
    volumes: tuple[Volume, ...] = ()
    user: int | None = None
    group: int | None = None
    groups: tuple[int, ...] = ()
    read_only: bool = False
    image: Image = Image.TOOLS
    added: tuple[str, ...] = ()
    """Capabilities beyond the engine's own set, without ``CAP_``; so for the next."""
    dropped: tuple[str, ...] = ()
    no_new_privileges: bool = False
    memory: int = 0
    """Bytes; 0 for no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A pod."""

    name: str
    programs: tuple[Program, ...]
    hostname: str = ""
    isolated: bool = False
    """Whether it has a network of its own; otherwise it has what costs the driver least."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    apart: str = ""
    """Two pods of a test that differ in this are in different namespaces of the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a container stands, in the driver's words. Times in Unix seconds, 0 for what did not happen."""

    state: State
    code: int | None = None
    reason: str = ""
    message: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0
    refusal: str = ""
    """What was said where it could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a command in a container came to."""

    code: int | None
    """None where it could not be started."""
    stdout: bytes = b""
    stderr: bytes = b""
    refusal: str = ""


class Session(Protocol):
    """A command in a container with its streams connected; nothing moves but in `until` and `ended`.

    A program that closes its stdout or stderr may lose what it has not read yet (containerd issue 13934).
    """

    def send(self, data: bytes) -> None:
        """Give it input."""
        ...

    def finish(self) -> None:
        """End its input behind what was sent."""
        ...

    def resize(self, *, columns: int, rows: int) -> None:
        """Give its terminal a size."""
        ...

    def until(self, satisfied: Callable[[bytes], bool], *, seconds: float) -> bool:
        """Return whether all that it has written to stdout comes to satisfy, in time and before its end."""
        ...

    def ended(self, *, seconds: float) -> Output | None:
        """Return what came of it once it has ended; None where that takes longer."""
        ...

    def close(self) -> None:
        """Leave; what still runs is not ended by that. Safe to repeat."""
        ...


class Driver(Protocol):
    """One way to have pods; everything it made is gone after `close`."""

    def run(self, request: Request) -> str:
        """Have a pod run and return its id, a container that could not be started included (`Status.refusal`).

        Lacking where pods cannot have the network that is asked for.
        """
        ...

    def status(self, pod: str, name: str) -> Status:
        """Return how a container stands."""
        ...

    def log(self, pod: str, name: str) -> bytes:
        """Return the log of a container so far, in the format of `log`."""
        ...

    def complete(self, pod: str, name: str) -> bool:
        """Return whether the log of a container that has ended is complete: an engine copies in its own time."""
        ...

    def execute(self, pod: str, name: str, words: Sequence[str], *, seconds: int) -> Output:
        """Run a command in a container."""
        ...

    def attend(
        self, pod: str, name: str, words: Sequence[str], *, seconds: float, stdin: bool = False, tty: bool = False
    ) -> Session:
        """Begin a command in a container with its streams connected, in so many seconds; Refused where it cannot be."""
        ...

    def stop(self, pod: str, name: str, *, grace: int) -> None:
        """Ask a container to end, and kill it when `grace` seconds are over."""
        ...

    def delete(self, pod: str) -> None:
        """Remove a pod with all that is in it."""
        ...

    def leaks(self) -> list[Leak]:
        """Return what is left of pods that were deleted."""
        ...

    def evidence(self) -> list[Evidence]:
        """Return what there is to see."""
        ...

    def close(self) -> None:
        """Remove every pod; safe to repeat."""
        ...
