"""The file system of a local Docker image, as ``docker export`` gives it (layer 2)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from suites.framework import launcher
from suites.framework.cleanup import RUN_LABEL
from suites.framework.environments.engine import ContainerSpec, Engine, EngineError
from suites.framework.errors import CannotRunError, UsageError

Connect = Callable[[], AbstractContextManager[Engine]]
_MEMORY_BYTES = 64 << 20
"""Of a container that is never started; the engine wants a number."""


def identify(image: str, connect: Connect) -> str:
    """Return the id of a local image; CannotRunError without an engine, UsageError without the image."""
    with _engine(image, connect) as engine:
        found = engine.identify(image)
    if not found:
        raise UsageError(f"image {image} is not here", remedy=f"docker pull {image}, or give another --rootfs")
    return found


@contextmanager
def exported(image: str, connect: Connect) -> Iterator[Exported]:
    """Make a container that is never started, hand out its files as a tar stream, and remove it."""
    with _engine(image, connect) as engine:
        container = engine.create(_spec(image))
        try:
            yield Exported(engine.export(container))
        finally:
            engine.remove(container)


class Exported:
    """A stream of blocks, read in pieces of the reader's choice."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        """Take the blocks as they come."""
        self._blocks, self._rest = blocks, b""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end."""
        while not self._rest:
            if (block := next(self._blocks, None)) is None:
                return b""
            self._rest = block
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


@contextmanager
def _engine(image: str, connect: Connect) -> Iterator[Engine]:
    connection = connect()
    try:
        engine = connection.__enter__()
    except EngineError as error:
        why, remedy = error.why or str(error), "start Docker, or give another --rootfs"
        raise CannotRunError(f"rootfs docker:{image} cannot be had", why=why, remedy=remedy) from None
    try:
        yield engine
    finally:
        connection.__exit__(None, None, None)


def _spec(image: str) -> ContainerSpec:
    return ContainerSpec(
        name=f"seatrial-rootfs-{os.getpid()}-{secrets.token_hex(4)}",
        image=image,
        argv=("/never-started",),
        env={},
        labels={RUN_LABEL: "rootfs", launcher.LABEL: launcher.name()},
        user="",
        privileged=False,
        mounts=(),
        processes=1,
        memory_bytes=_MEMORY_BYTES,
    )
