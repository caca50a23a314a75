"""The smallest tree in which a shell runs: one static busybox, and a link to it for each of its applets (layer 2).

The busybox is this machine's, or the one in the distribution's package busybox-static, which is not installed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from suites.framework.errors import CannotRunError, InfrastructureError, UsageError
from suites.framework.facts import Missing
from suites.framework.provisioning.cache import sha256_of
from suites.framework.provisioning.command import Run, run
from suites.framework.provisioning.debian import Provider
from suites.framework.rootfs.tree import TREE
from suites.framework.targets.executable import inspect

PACKAGE = "busybox-static"
REMEDY = "install one (apt-get install busybox-static), or give another --rootfs"
LAYOUT = 1
"""Counted up when the tree around the same busybox changes."""
DIRECTORIES = ("bin", "dev", "etc", "proc", "root", "sys", "tmp")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
}
_LIST_S = 10.0
_APPLET = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.\[+-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Busybox:
    """A static busybox."""

    path: Path
    sha256: str
    origin: str
    """Where it is from, for a person."""


def find(packages: Provider, *, environ: Mapping[str, str] = os.environ) -> Busybox:
    """Return the static busybox on PATH, else that of the distribution's package; CannotRunError says why neither."""
    reasons = []
    for folder in dict.fromkeys(filter(None, environ.get("PATH", os.defpath).split(os.pathsep))):
        path = Path(folder, "busybox")
        if not (os.access(path, os.R_OK) and path.is_file()):  # a PATH may name folders that are closed to this user
            continue
        if not (reason := not_static(path)):
            return Busybox(path=path, sha256=sha256_of(path), origin=str(path))
        reasons.append(reason)
    return _provisioned(packages, reasons[0] if reasons else "busybox is not on PATH")


def _provisioned(packages: Provider, reason: str) -> Busybox:
    got = packages.provision(PACKAGE, "busybox")
    if isinstance(got, Missing):
        raise CannotRunError("there is no static busybox", why=f"{reason}; {got.reason}", remedy=REMEDY)
    if also := not_static(got.path):
        raise CannotRunError("there is no static busybox", why=f"{reason}; {also}", remedy=REMEDY)
    return Busybox(path=got.path, sha256=sha256_of(got.path), origin=f"package {PACKAGE} {got.version}")


def not_static(path: Path) -> str:
    """Return why a program needs more than itself, read from its ELF header (no PT_INTERP); empty for a static one."""
    try:
        found = inspect(path)
    except (UsageError, OSError) as error:
        return str(error)
    if found.form != "elf":
        return f"{path} is a script"
    return f"{path} is not static: it needs {found.interpreter}" if found.interpreter else ""


def applets(path: Path, *, run: Run = run) -> list[str]:
    """Return the names under which a busybox does different things, without its own."""
    asked = run((str(path), "--list"), deadline_s=_LIST_S, environment={})
    names = dict.fromkeys(filter(_APPLET.fullmatch, asked.stdout.split()))
    if not asked.ok or "sh" not in names:
        why = asked.complaint if not asked.ok else "its list of applets has no sh"
        raise InfrastructureError(f"{path} --list does not work", why=why, remedy=REMEDY)
    return [name for name in names if name != "busybox"]


def build(busybox: Busybox, entry: Path, *, run: Run = run) -> None:
    """Make the tree in ``entry``: relative links, because an absolute one would lead to the machine's own files."""
    tree = entry / TREE
    for folder in (tree, *(tree / name for name in DIRECTORIES)):
        folder.mkdir()
        folder.chmod(0o1777 if folder.name == "tmp" else 0o755)
    copy = tree / "bin/busybox"
    shutil.copyfile(busybox.path, copy)
    copy.chmod(0o755)
    if sha256_of(copy) != busybox.sha256:
        raise InfrastructureError(f"{busybox.path} changed while it was copied", remedy="start again")
    for name in applets(copy, run=run):
        (tree / "bin" / name).symlink_to("busybox")
    for name, text in FILES.items():
        (tree / name).write_text(text, encoding="utf-8")
        (tree / name).chmod(0o644)
