"""Tar archives, good and hostile, made byte by byte: nothing here was ever unpacked by anything else."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

BLOCK = 512
END = bytes(2 * BLOCK)
EXTERN = b"written by the archive"
"""What a hostile archive wants to write."""


def padded(data: bytes) -> bytes:
    """Return data up to the end of its last block."""
    return data + bytes(-len(data) % BLOCK)


def header(name: str | bytes, kind: bytes = tarfile.REGTYPE, **fields: Any) -> bytes:
    """Return one header; ``name`` may hold what no honest one does."""
    info = tarfile.TarInfo(name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"))
    info.type, info.mode = kind, 0o755
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def file(name: str | bytes, data: bytes = b"x", **fields: Any) -> bytes:
    """Return a regular file."""
    return header(name, size=len(data), **fields) + padded(data)


def folder(name: str, **fields: Any) -> bytes:
    """Return a directory."""
    return header(name, tarfile.DIRTYPE, **fields)


def link(name: str, target: str) -> bytes:
    """Return a symbolic link."""
    return header(name, tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> bytes:
    """Return a hard link."""
    return header(name, tarfile.LNKTYPE, linkname=target)


def pax(fields: dict[str, str | bytes], kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Return a pax header with these records."""
    body = b""
    for key, value in fields.items():
        record = b" " + key.encode() + b"=" + (value if isinstance(value, bytes) else value.encode()) + b"\n"
        length = len(record)
        while len(str(length)) + len(record) != length:
            length = len(str(length)) + len(record)
        body += str(length).encode() + record
    return file("./PaxHeaders/x", body, type=kind)


def rechecked(block: bytes) -> bytes:
    """Return a header with the checksum that fits what is in it."""
    total = sum(block[:148]) + sum(block[156:BLOCK]) + 8 * 32
    return block[:148] + f"{total:06o}\0 ".encode() + block[156:]


def sized(name: str, field: bytes) -> bytes:
    """Return a file's header with these twelve bytes where its size stands."""
    block = header(name)
    return rechecked(block[:124] + field + block[136:])


LONG = "srv/" + "/".join("abcd"[at] * 60 for at in range(4))
"""A path that takes a header of its own."""

FEW = b"".join((
    folder("bin"),
    file("bin/a", b"a" * 600, mode=0o755),
    link("bin/b", "a"),
    hard("c", "bin/a"),
    pax({"path": "d", "mtime": "1.5", "linkpath": "x"}),
    file("e", b"e"),
    file("././@LongLink", b"f\0", type=tarfile.GNUTYPE_LONGNAME),
    file("g", b"g"),
    END,
))  # fmt: skip
"""One of each kind."""

GOOD = b"".join((
    folder("./"),
    folder("./bin", mode=0o700),
    file("./bin/busybox", b"program" * 999, mode=0o755),
    link("./bin/sh", "/bin/busybox"),
    link("./bin/ls", "busybox"),
    hard("./bin/again", "bin/busybox"),
    file("./etc/shadow", b"root:*\n", mode=0o600, uid=4711, gid=42, uname="nobody"),
    file("./etc/Shadow", b"another\n", mode=0o640),
    file("./bin/su", b"setuid", mode=0o6755),
    folder("./tmp", mode=0o1777),
    folder("./everybody", mode=0o777),
    folder("./usr"),
    folder("./usr"),
    link("./lib", "usr/lib"),
    link("./dangling", "/nowhere/at/all"),
    link("./loop", "loop"),
    link("./var/run", "../run"),
    pax({"path": f"./{LONG}", "mtime": "1.5", "SCHILY.xattr.user.x": b"\xff\x00"}),
    file("short", b"deep"),
    file("./etc/ssl/F\u0151tan\u00fas\u00edtv\u00e1ny.crt", b"UTF-8"),
    file("./etc/empty", b""),
    END,
))  # fmt: skip
"""A root file system with everything that is legal."""


def hostile(outside: Path) -> dict[str, bytes]:
    """Return attacks by name; each wants to write into the folder ``outside``, or to exhaust who unpacks it."""
    out, up = str(outside), "../" * 30 + str(outside).lstrip("/")
    attacks = {
        **_names(out, up),
        **_links(out, up),
        **_kinds(),
        **_twice(out),
        **_headers(out, up),
        **_ends(),
    }
    return {name: attack if name.startswith("end-") else attack + END for name, attack in attacks.items()}


def _names(out: str, up: str) -> dict[str, bytes]:
    return {
        "name-absolute": file(f"{out}/file", EXTERN),
        "name-absolute-slashes": file(f"//{out}/file", EXTERN),
        "name-absolute-folder": folder(f"{out}/folder"),
        "name-dotdot": file(f"{up}/file", EXTERN),
        "name-dotdot-later": folder("a") + file(f"a/../{up}/file", EXTERN),
        "name-dotdot-last": folder("a/.."),
        "name-dotdot-harmless": folder("a") + folder("b") + file("a/../b/file", EXTERN),
        "name-newline": file("etc/pass\nwd"),
        "name-escape": file("etc/\x1b[2Jname"),
        "name-delete": file("etc/\x7f"),
        "name-not-utf-8": file(b"etc/\xff\xfe"),
        "name-nul": pax({"path": "etc/pass\0wd"}) + file("x"),
        "name-empty": file(""),
        "name-of-the-tree": file("./"),
        "name-deep": file("/".join(["d"] * 65)),
        "name-deep-pax": pax({"path": "d/" * 50_000 + "x"}) + file("x"),
        "name-long": pax({"path": "/".join(["n" * 200] * 6)}) + file("x"),
        "name-part-long": pax({"path": "n" * 256}) + file("x"),
        "name-below-a-file": file("a") + file("a/b", EXTERN),
    }


def _links(out: str, up: str) -> dict[str, bytes]:
    below = folder("below")
    return {
        "link-write-through": link("a", out) + file("a/file", EXTERN),
        "link-write-through-inside": below + link("a", "below") + file("a/file", EXTERN),
        "link-write-through-itself": link("a", f"{out}/file") + pax({"path": "a/"}) + file("a/.", EXTERN),
        "link-folder-through": link("a", out) + folder("a/folder"),
        "link-link-through": link("a", out) + link("a/link", "x"),
        "link-hardlink-through": file("f") + link("a", out) + hard("a/hard", "f"),
        "link-two-steps": link("a", ".") + link("a/b", out),
        "link-relative-out": link("a", up),
        "link-relative-out-below": below + link("below/a", "../../x"),
        "link-absolute-out": link("a", "/../../etc/passwd"),
        "link-out-by-way-of-others": below + link("below/up", "..") + link("x", "below/up/../etc"),
        "link-out-by-way-of-later": link("x", "below/up/../etc") + below + link("below/up", ".."),
        "link-empty": link("a", ""),
        "link-newline": link("a", "x\ny"),
        "link-of-the-tree": link(".", out),
        "hardlink-absolute": hard("a", f"{out}/canary"),
        "hardlink-dotdot": hard("a", f"{up}/canary"),
        "hardlink-to-a-link": link("a", f"{out}/canary") + hard("b", "a") + file("b", EXTERN),
        "hardlink-through-a-link": link("a", out) + hard("b", "a/canary"),
        "hardlink-to-nothing": hard("a", "later") + file("later"),
        "hardlink-to-itself": hard("a", "a"),
        "hardlink-to-a-folder": below + hard("a", "below"),
        "hardlink-then-write": file("f") + hard("a", "f") + file("a", EXTERN),
    }


def _kinds() -> dict[str, bytes]:
    return {
        "kind-character-device": header("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        "kind-block-device": header("dev/sda", tarfile.BLKTYPE, devmajor=8, devminor=0),
        "kind-fifo": header("run/pipe", tarfile.FIFOTYPE),
        "kind-unknown": header("x", b"Q"),
        "kind-continued-volume": header("x", b"M"),
        "kind-sparse": _gnu_sparse(1 << 40),
        "kind-sparse-pax": pax({"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 40)}) + file("x"),
        "kind-sparse-pax-junk": pax({"GNU.sparse.map": "0,x,1", "GNU.sparse.size": "?"}) + file("x"),
        "kind-sparse-pax-1": pax({
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 30,
        }) + file("x", b"99999999999999\n"),
    }  # fmt: skip


def _gnu_sparse(size: int) -> bytes:
    """Return the old GNU form: one piece of data at the end of a huge file."""
    block = bytearray(header("huge", tarfile.GNUTYPE_SPARSE, size=BLOCK))
    block[386:398] = f"{0:011o}\0".encode()
    block[398:410] = f"{BLOCK:011o}\0".encode()
    block[483:495] = b"\x80" + size.to_bytes(11, "big")
    return rechecked(bytes(block)) + bytes(BLOCK)


def _twice(out: str) -> dict[str, bytes]:
    return {
        "twice-file": file("a") + file("a", EXTERN),
        "twice-spelled-otherwise": file("a/b") + file("./a//b", EXTERN),
        "twice-link-then-file": link("a", f"{out}/file") + file("a", EXTERN),
        "twice-file-then-link": file("a") + link("a", out),
        "twice-folder-then-link": folder("a") + link("a", out) + file("a/file", EXTERN),
        "twice-link-then-folder": link("a", out) + folder("a") + file("a/file", EXTERN),
        "twice-implied-then-link": file("a/b") + link("a", out) + file("a/file", EXTERN),
    }


def _headers(out: str, up: str) -> dict[str, bytes]:
    long = tarfile.GNUTYPE_LONGNAME
    return {
        "pax-absolute": pax({"path": f"{out}/file"}) + file("innocent", EXTERN),
        "pax-dotdot": pax({"path": f"{up}/file"}) + file("innocent", EXTERN),
        "pax-link": pax({"linkpath": up}) + link("a", "innocent"),
        "pax-hardlink": file("innocent") + pax({"linkpath": f"{out}/canary"}) + hard("a", "innocent"),
        "pax-for-all": pax({"path": f"{out}/file"}, tarfile.XGLTYPE) + file("innocent", EXTERN),
        "pax-size-negative": pax({"size": "-1024"}) + file("x", b"y" * 2048),
        "pax-size-junk": pax({"size": "many"}) + file("x", b"y" * 2048),
        "pax-size-huge": pax({"size": "9" * 30}) + file("x"),
        "pax-size-infinite": pax({"size": "inf"}) + file("x"),
        "pax-large": pax({"comment": "c" * (1 << 21)}) + file("x"),
        "pax-without-length": file("./PaxHeaders/x", b"0 path=x\n", type=tarfile.XHDTYPE) + file("x"),
        "pax-length-wrong": file("./PaxHeaders/x", b"999999 path=x\n", type=tarfile.XHDTYPE) + file("x"),
        "pax-for-nothing": pax({"path": "x"}),
        "pax-nested": pax({"comment": "c"}) * 3000 + file("x"),
        "gnu-long-absolute": file("././@LongLink", f"{out}/file\0".encode(), type=long) + file("x", EXTERN),
        "gnu-long-huge": header("././@LongLink", long, size=1 << 33) + file("x"),
        "gnu-long-nested": file("././@LongLink", b"name\0", type=long) * 3000 + file("x"),
        "size-negative": sized("x", b"\xff" * 12) + padded(b"x"),
        "size-huge": sized("x", b"\x80" + (1 << 80).to_bytes(11, "big")) + padded(b"x"),
        "size-junk": sized("x", b"zzzzzzzzzzz\0") + padded(b"x"),
        "checksum": file("x").replace(b"ustar", b"Ustar"),
    }


@functools.cache
def _ends() -> dict[str, bytes]:
    good = file("a", b"y" * 5000) + file("b", b"y" * 5000)
    return {
        "end-missing": good,
        "end-in-a-file": good[:7000],
        "end-in-a-header": good[:5900],
        "end-in-a-pax-header": pax({"path": "p" * 700}) [:1000],
        "end-after-a-header": file("a") + header("b", size=5000),
        "end-followed-by-text": good + END + b"#!/bin/sh\n",
        "end-followed-by-an-archive": good + END + file("c", EXTERN) + END,
        "end-at-once": END,
        "end-empty": b"",
        "end-no-archive": b"#!/bin/sh\necho hello\n" * 100,
        "end-zip": b"PK\x03\x04" + bytes(2000),
        "end-gzip-of-nothing": gzip.compress(b""),
        "end-gzip-cut-off": gzip.compress(GOOD)[:-20],
        "end-gzip-damaged": _bitten(gzip.compress(GOOD)),
        "end-gzip-checksum": gzip.compress(GOOD)[:-8] + bytes(8),
        "end-gzip-followed-by-text": gzip.compress(GOOD) + b"#!/bin/sh\n",
        "end-gzip-followed-by-an-archive": gzip.compress(GOOD) + GOOD,
        "end-gzip-in-gzip": gzip.compress(gzip.compress(GOOD)),
        "end-xz-cut-off": lzma.compress(GOOD)[:-20],
        "end-xz-damaged": _bitten(lzma.compress(GOOD)),
        "end-xz-followed-by-text": lzma.compress(GOOD) + b"#!/bin/sh\n",
        "end-xz-huge-window": _window(),
        "end-bzip2-cut-off": bz2.compress(GOOD)[:-20],
        "end-bzip2-damaged": _bitten(bz2.compress(GOOD)),
        "end-bomb": gzip.compress(gzip_bomb()),
        "end-bomb-xz": lzma.compress(gzip_bomb()),
    }  # fmt: skip


def _bitten(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(byte ^ 0x55 for byte in data[middle : middle + 8]) + data[middle + 8 :]


def _window() -> bytes:
    """Return an xz stream that asks for 1.5 GiB of memory."""
    return lzma.compress(GOOD, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1536 << 20}])


def gzip_bomb(size: int = 80 << 20) -> bytes:
    """Return an archive that grows a thousandfold when it is decompressed."""
    return header("zeros", size=size) + bytes(size) + END


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "gz": gzip.compress,
    "xz": lzma.compress,
    "bz2": bz2.compress,
    "gz-in-two": lambda data: gzip.compress(data[:3000]) + gzip.compress(data[3000:]),
    "xz-padded": lambda data: lzma.compress(data[:3000]) + bytes(8) + lzma.compress(data[3000:]) + bytes(4),
    "blocked": lambda data: data + bytes(10240),
}


def names(archive: bytes) -> Iterable[str]:
    """Return what tarfile finds in an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return opened.getnames()
