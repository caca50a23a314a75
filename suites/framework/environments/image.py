"""Which image the container environments run in (layer 2).

What the user names; else ``images/Dockerfile``, where its base is present or the registry answers; else the *host
image*: an empty tree with this machine's ``/usr`` mounted read-only, which needs neither a registry nor a download.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from suites.framework.environments.driver import Mount
from suites.framework.environments.engine import Engine, EngineError
from suites.framework.environments.wall import SEARCH
from suites.framework.errors import CannotRunError, InfrastructureError

DOCKERFILE = Path(__file__).parents[3] / "images" / "Dockerfile"
UID = 1000
USER = f"{UID}:{UID}"
IMAGE_LABEL = "seatrial.image"
OLDEST_PYTHON = (3, 11)
OWN_PROGRAMS = "opt/seatrial/bin"
PATH = "/opt/seatrial/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
CAPABILITIES = {"newgidmap": 6, "newuidmap": 7}
"""CAP_SETGID and CAP_SETUID: what these two need in place of setuid root, which a user namespace refuses them."""

FOLDERS = ("dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "srv", "sys", "usr", "var", "var/lib")
OPEN_FOLDERS = ("tmp", "var/tmp")
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Symbolic links into /usr on most distributions, folders of their own on others."""
ACCOUNTS = {
    "etc/passwd": f"root:x:0:0:root:/root:/bin/sh\nseatrial:x:{UID}:{UID}::/home/seatrial:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": f"root:x:0:\ntty:x:5:\nseatrial:x:{UID}:\nnogroup:x:65534:\n",
    "etc/subuid": "seatrial:100000:65536\n",
    "etc/subgid": "seatrial:100000:65536\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/login.defs": "",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that is present, and what containers made from it need besides."""

    name: str
    mounts: tuple[Mount, ...] = ()
    description: str = ""
    """Which one it is and why, for a person."""
    python: str = "python3"
    """The interpreter that runs workers in it."""
    user: str = USER


def choose(engine: Engine, *, name: str | None = None, offline: bool = False, dockerfile: Path = DOCKERFILE) -> Image:
    """Return the image to use, made if need be; `offline` never asks a registry.

    Raises InfrastructureError for a `name` that cannot be had, CannotRunError where no image can.
    """
    if name:
        if reason := _obtain(engine, name, offline=offline):
            raise InfrastructureError(f"image {name}", why=reason, remedy=f"docker pull {name}, or leave out --image")
        return Image(name=name, description=f"image {name}, as asked for")
    try:
        return _built(engine, dockerfile, offline=offline)
    except EngineError as error:
        return host_image(engine, why=str(error))


def base_of(dockerfile: str) -> str:
    """Return the image that a Dockerfile starts from, with the defaults of its arguments filled in."""
    arguments = dict(re.findall(r"^ARG\s+(\w+)=(\S+)", dockerfile, re.MULTILINE))
    start = re.search(r"^FROM\s+(\S+)", dockerfile, re.MULTILINE)
    if start is None:
        raise EngineError("Dockerfile", why="it has no FROM")
    return re.sub(r"\$\{?(\w+)\}?", lambda match: arguments.get(match[1], ""), start[1])


def _built(engine: Engine, dockerfile: Path, *, offline: bool) -> Image:
    try:
        content = dockerfile.read_bytes()
    except OSError as error:
        raise EngineError(str(dockerfile), why=str(error.strerror)) from error
    name = f"seatrial:{_digest(content)}"
    image = Image(name=name, description=f"{dockerfile.parent.name}/{dockerfile.name} ({name})")
    if engine.has_image(name):
        return image
    base = base_of(content.decode())
    if reason := _obtain(engine, base, offline=offline):
        raise EngineError(base, why=reason)
    if offline:
        raise EngineError(name, why="building it needs the network")
    engine.build(content, name=name, labels={IMAGE_LABEL: "built"})
    return image


def _obtain(engine: Engine, name: str, *, offline: bool) -> str:
    """Make an image present locally, or return why it cannot be."""
    if engine.has_image(name):
        return ""
    if offline:
        return "it is not present, and a registry is not asked because of --offline"
    try:
        engine.pull(name)
    except EngineError as error:
        return str(error)
    return ""


# ---- the host image --------------------------------------------------------------------------------------------------


def host_image(engine: Engine, *, why: str = "", root: Path = Path("/")) -> Image:
    """Return the host image, imported unless one with the same content is present."""
    python, mounts = host_python()
    tar = host_tar(root)
    name = f"seatrial-host:{_digest(tar + PATH.encode())}"
    if not engine.has_image(name):
        engine.import_image(tar, name=name, changes=[f"ENV PATH={PATH}", f"LABEL {IMAGE_LABEL}=host"])
    folders = [f"/{folder}" for folder in ("usr", *MERGED) if _is_folder(root / folder)]
    return Image(
        name=name,
        mounts=(*(Mount(path=folder) for folder in folders), *mounts),
        description=f"host image {name} with this machine's /usr" + (f" ({why})" if why else ""),
        python=python,
    )


def host_python(system: str = "/usr/bin/python3") -> tuple[str, tuple[Mount, ...]]:
    """Return the interpreter for the host image, and the folder to mount for it: the system's, else our own."""
    if _recent(system):
        return system, ()
    own = os.path.realpath(sys.executable)
    if own.startswith("/usr/"):
        return own, ()
    if Path(own).is_relative_to(sys.base_prefix):
        return own, (Mount(path=sys.base_prefix),)
    wanted = ".".join(map(str, OLDEST_PYTHON))
    raise CannotRunError(
        "the host image has no Python", why=f"{system} is older than {wanted} or absent", remedy="use --image NAME"
    )


def _recent(python: str) -> bool:
    code = f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    try:
        return subprocess.run([python, "-I", "-S", "-c", code], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def host_tar(root: Path = Path("/")) -> bytes:
    """Return the tree of the host image as a tar archive; the same machine gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in _members(root):
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _members(root: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for name in (*FOLDERS, "etc/alternatives", "opt/seatrial", OWN_PROGRAMS):
        yield _folder(name), b""
    for name in OPEN_FOLDERS:
        yield _folder(name, mode=0o1777), b""
    yield _folder("home/seatrial", owner=UID), b""
    yield _link("var/run", "/run"), b""
    for name in MERGED:
        if (root / name).is_symlink():
            yield _link(name, str((root / name).readlink())), b""
        elif (root / name).is_dir():
            yield _folder(name), b""
    for name, text in ACCOUNTS.items():
        yield _file(name, text.encode()), text.encode()
    yield from _copies(root)


def _copies(root: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Yield what programs below /usr need outside of it."""
    if (cache := root / "etc/ld.so.cache").is_file():
        yield _file("etc/ld.so.cache", cache.read_bytes()), cache.read_bytes()
    for link in sorted(root.glob("etc/alternatives/*")):
        if link.is_symlink() and not link.name.endswith(".gz"):  # manual pages
            yield _link(f"etc/alternatives/{link.name}", str(link.readlink())), b""
    for name, bit in CAPABILITIES.items():
        if program := shutil.which(name, path=SEARCH):
            content = Path(program).read_bytes()
            yield _capable(f"{OWN_PROGRAMS}/{name}", content, bit), content


def _folder(name: str, *, mode: int = 0o755, owner: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, owner, owner
    return info


def _link(name: str, destination: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, destination, 0o777
    return info


def _file(name: str, content: bytes, *, mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    return info


def _capable(name: str, content: bytes, bit: int) -> tarfile.TarInfo:
    """Return an executable with one permitted and effective file capability (capabilities(7), revision 2).

    The bytes are no UTF-8; through surrogate escapes tarfile marks the header as binary, which the engine accepts.
    """
    info = _file(name, content, mode=0o755)
    value = struct.pack("<5I", 0x02000001, 1 << bit, 0, 0, 0)
    info.pax_headers = {"SCHILY.xattr.security.capability": value.decode("utf-8", "surrogateescape")}
    return info


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
