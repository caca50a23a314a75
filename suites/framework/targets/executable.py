"""Whether a file is a program that this machine can start, read from its first bytes (layer 1: standard library only).

Sources: elf(5), the System V gABI for the dynamic section, execve(2) for scripts.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from suites.framework.errors import UsageError

_MACHINES = {
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
_ALSO_RUNS = {"x86_64": ("i386",)}
_OUR_NAMES = {"i486": "i386", "i586": "i386", "i686": "i386", "ppc64le": "ppc64", "armv7l": "arm", "mips64": "mips"}
_RELOCATABLE, _EXECUTABLE, _DYNAMIC = 1, 2, 3
_PT_DYNAMIC, _PT_INTERP = 2, 3
_DT_FLAGS_1, _DF_1_PIE = 0x6FFFFFFB, 0x08000000
_PROGRAM_HEADERS_MAX = 512
_PATH_MAX = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Executable:
    """What a file's header says about how the kernel starts it."""

    form: str
    """``elf`` or ``script``."""
    machine: str = ""
    """Architecture of an ELF file, as uname(1) writes it."""
    interpreter: str = ""
    """The dynamic loader, or the program after ``#!``; empty for a static ELF file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    order: str
    wide: bool
    kind: int
    machine: int
    table: int
    size: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    kind: int
    offset: int
    size: int


def inspect(path: Path, *, machine: str = "") -> Executable:
    """Return what ``path`` is; UsageError says why it cannot be started here (``machine`` replaces this one's name)."""
    require_readable(path)
    if not path.stat().st_mode & 0o111:
        raise UsageError(f"{path} is not executable", remedy=f"chmod +x {path}")
    found = _read(path)
    if found.form == "elf":
        _require_machine(path, found, machine or os.uname().machine)
    if found.interpreter and not Path(found.interpreter).exists():
        raise UsageError(
            f"{path} cannot start",
            why=f"its interpreter {found.interpreter} is not here",
            remedy="install it, or link statically",
        )
    return found


def require_readable(path: Path) -> None:
    """Raise UsageError unless ``path`` is a regular file that we can read."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"{path} cannot be tried", why=why, remedy="give the path of the binary") from None
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a directory", remedy="give the binary")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is not a regular file", remedy="give the binary")
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path} cannot be read", why="no permission", remedy=f"chmod +r {path}")


def _read(path: Path) -> Executable:
    try:
        with path.open("rb") as stream:
            start = stream.read(256)
            if start.startswith(b"\x7fELF"):
                return _elf(path, start, stream)
    except (struct.error, IndexError, OSError):
        raise UsageError(f"{path} is not a program", why="its ELF header is cut off or damaged") from None
    if start.startswith(b"#!"):
        return _script(path, start)
    shown = f"it begins with {start[:4]!r}" if start else "it is empty"
    raise UsageError(f"{path} is not a program", why=f"neither ELF nor a #! script: {shown}", remedy="give the binary")


def _script(path: Path, start: bytes) -> Executable:
    words = start.split(b"\n", 1)[0][2:].split(None, 1)
    if not words:
        raise UsageError(f"{path} cannot start", why="nothing stands after #! in its first line")
    return Executable(form="script", interpreter=os.fsdecode(words[0]))


def _elf(path: Path, start: bytes, stream: BinaryIO) -> Executable:
    header = _header(start)
    if header.kind == _RELOCATABLE:
        raise UsageError(f"{path} is an object file", why="it was not linked", remedy="give the linked binary")
    if header.kind not in (_EXECUTABLE, _DYNAMIC):
        raise UsageError(
            f"{path} is not a program", why=f"ELF type {header.kind}, such as a core dump", remedy="give the binary"
        )
    segments = list(_segments(header, stream))
    interpreter = _interpreter(segments, stream)
    if header.kind == _DYNAMIC and not interpreter and not _is_static_pie(header, segments, stream):
        raise UsageError(f"{path} is a shared library", remedy="give the program that uses it")
    return Executable(form="elf", machine=_machine(header), interpreter=interpreter)


def _header(start: bytes) -> _Header:
    wide, order = start[4] == 2, ">" if start[5] == 2 else "<"
    kind, machine = struct.unpack_from(f"{order}HH", start, 16)
    (table,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", start, 32 if wide else 28)
    size, count = struct.unpack_from(f"{order}HH", start, 54 if wide else 42)
    return _Header(order=order, wide=wide, kind=kind, machine=machine, table=table, size=size, count=count)


def _segments(header: _Header, stream: BinaryIO) -> Iterator[_Segment]:
    for index in range(min(header.count, _PROGRAM_HEADERS_MAX)):
        stream.seek(header.table + index * header.size)
        raw = stream.read(56 if header.wide else 32)
        if header.wide:
            kind, _, offset, _, _, size = struct.unpack_from(f"{header.order}IIQQQQ", raw)
        else:
            kind, offset, _, _, size = struct.unpack_from(f"{header.order}IIIII", raw)
        yield _Segment(kind=kind, offset=offset, size=size)


def _interpreter(segments: list[_Segment], stream: BinaryIO) -> str:
    for segment in segments:
        if segment.kind == _PT_INTERP:
            stream.seek(segment.offset)
            return os.fsdecode(stream.read(min(segment.size, _PATH_MAX)).rstrip(b"\0"))
    return ""


def _is_static_pie(header: _Header, segments: list[_Segment], stream: BinaryIO) -> bool:
    """Return whether the dynamic section flags a position-independent executable: a library lacks the flag."""
    form = struct.Struct(f"{header.order}{'QQ' if header.wide else 'II'}")
    for segment in segments:
        if segment.kind == _PT_DYNAMIC:
            stream.seek(segment.offset)
            raw = stream.read(min(segment.size, 1 << 16))
            pairs = form.iter_unpack(raw[: len(raw) - len(raw) % form.size])
            return any(tag == _DT_FLAGS_1 and value & _DF_1_PIE for tag, value in pairs)
    return False


def _machine(header: _Header) -> str:
    if header.order != ("<" if sys.byteorder == "little" else ">"):
        return f"a machine of the other byte order ({_MACHINES.get(header.machine, header.machine)})"
    return _MACHINES.get(header.machine, f"ELF machine {header.machine}")


def _require_machine(path: Path, found: Executable, ours: str) -> None:
    ours = _OUR_NAMES.get(ours, ours)
    if found.machine != ours and found.machine not in _ALSO_RUNS.get(ours, ()):
        raise UsageError(
            f"{path} cannot run here",
            why=f"built for {found.machine}, this machine is {ours}",
            remedy=f"build it for {ours}",
        )
