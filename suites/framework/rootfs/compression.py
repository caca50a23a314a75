"""Decompression of a stream from outside, within limits on how much comes out of it (layer 2: standard library only).

The file classes of gzip, bz2 and lzma are not used: they know no limit on memory, and end quietly in different places.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

CHUNK_BYTES = 1 << 16
WINDOW_BYTES = 256 << 20
"""Memory that an xz archive may ask for; `xz -9` needs 65 MiB."""
_GZIP = 16 + 15
"""zlib's way to say: a gzip header, the largest window."""


class ArchiveError(Exception):
    """An archive is not what it should be; the message is the reason."""


class Readable(Protocol):
    """What an archive is read from."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end."""


class Engine(Protocol):
    """A decompressor of one compressed stream, as in bz2, lzma and compression.zstd."""

    @property
    def eof(self) -> bool:
        """Say whether the stream is over."""

    @property
    def needs_input(self) -> bool:
        """Say whether nothing comes out before more is put in."""

    @property
    def unused_data(self) -> bytes:
        """Return what was put in after the end of the stream."""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Take input and return output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A way to compress, known by its first bytes."""

    name: str
    magic: bytes
    module: str
    engine: Callable[[ModuleType], Engine]
    remedy: str


FORMS = (
    Form(
        name="gzip",
        magic=b"\x1f\x8b",
        module="zlib",
        engine=lambda zlib: _Zlib(zlib),
        remedy="use a Python that has zlib",
    ),
    Form(
        name="xz",
        magic=b"\xfd7zXZ\x00",
        module="lzma",
        engine=lambda lzma: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=WINDOW_BYTES),
        remedy="use a Python that has lzma, or give the archive uncompressed (xz -dk)",
    ),
    Form(
        name="bzip2",
        magic=b"BZh",
        module="bz2",
        engine=lambda bz2: bz2.BZ2Decompressor(),
        remedy="use a Python that has bz2, or give the archive uncompressed (bzip2 -dk)",
    ),
    Form(
        name="zstd",
        magic=b"\x28\xb5\x2f\xfd",
        module="compression.zstd",
        engine=lambda zstd: zstd.ZstdDecompressor(),
        remedy="use Python 3.14 or newer, or give the archive uncompressed (zstd -dk)",
    ),
)
_MAGIC_BYTES = max(len(form.magic) for form in FORMS)


class Source:
    """What is read from outside: counted, with a look at what comes next."""

    def __init__(self, raw: Readable) -> None:
        """Read from ``raw``, which is not closed."""
        self._raw, self._ahead = raw, b""
        self.taken = 0
        """Bytes read from ``raw``."""

    def read(self, size: int = CHUNK_BYTES, /) -> bytes:
        """Return at most so many bytes, none at the end."""
        if not self._ahead:
            return self._fresh(size)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def push(self, data: bytes) -> None:
        """Put bytes back that were read too much."""
        self._ahead = data + self._ahead

    def peek(self, size: int) -> bytes:
        """Return the next bytes without taking them, fewer at the end."""
        while len(self._ahead) < size and (more := self._fresh(CHUNK_BYTES)):
            self._ahead += more
        return self._ahead[:size]

    def _fresh(self, size: int) -> bytes:
        data = self._raw.read(size)
        self.taken += len(data)
        return data


def opened(source: Source) -> Readable:
    """Return the content of a stream that is compressed in a way that this Python knows, or not at all."""
    start = source.peek(_MAGIC_BYTES)
    form = next((form for form in FORMS if start.startswith(form.magic)), None)
    return source if form is None else _Decompressed(source, form, _module(form))


def _module(form: Form) -> ModuleType:
    try:
        return importlib.import_module(form.module)
    except ImportError:
        raise ArchiveError(f"it is compressed with {form.name}, which this Python cannot read; {form.remedy}") from None


class _Zlib:
    """zlib's decompressor with the interface of the others."""

    def __init__(self, zlib: ModuleType) -> None:
        self._inner = zlib.decompressobj(wbits=_GZIP)

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return bytes(self._inner.decompress(self._inner.unconsumed_tail + data, max_length))


class _Decompressed:
    """The content of one or more compressed streams, one after the other."""

    def __init__(self, source: Source, form: Form, module: ModuleType) -> None:
        self._source, self._form, self._module = source, form, module
        self._engine = form.engine(module)

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes, none at the end."""
        while not self._engine.eof or self._next_stream():
            wanted = self._engine.needs_input
            data = self._source.read() if wanted else b""
            if out := self._decompress(data, size):
                return out
            if wanted and not data and not self._engine.eof:
                raise ArchiveError(f"its {self._form.name} stream is cut off")
        return b""

    def _decompress(self, data: bytes, size: int) -> bytes:
        try:
            out = self._engine.decompress(data, size)
        except Exception as error:  # zlib.error, LZMAError, ZstdError, OSError: each module has its own
            raise ArchiveError(f"its {self._form.name} stream is damaged: {error}") from None
        if self._engine.eof:
            self._source.push(self._engine.unused_data)
        return out

    def _next_stream(self) -> bool:
        """Begin the stream that follows, if one does; zeros in between are padding (gzip(1), xz(1))."""
        while data := self._source.read():
            if rest := data.lstrip(b"\0"):
                self._source.push(rest)
                if not self._source.peek(_MAGIC_BYTES).startswith(self._form.magic):
                    raise ArchiveError(f"something that is not {self._form.name} follows its end")
                self._engine = self._form.engine(self._module)
                return True
        return False
