"""Images made by us, as archives that an engine imports without any registry (layer 1: standard library only).

The format is docker-archive (moby, image/spec/v1.2.md): a tar with manifest.json, a configuration and one layer.
The same content gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAUSE = "localhost/seatrial-pause:1"
"""The image of which sandboxes are made."""
TOOLS = "localhost/seatrial-{}:1"
"""The images of which containers are made, by the words of `driver.Image`."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image is made of."""

    name: str
    tree: Path
    """A root file system; links are kept, ownership and times are not."""
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": PATH})
    stop_signal: str = ""


def write(path: Path, *images: Image, machine: str = os.uname().machine) -> None:
    """Write the images into one archive; those of the same tree share its layer."""
    layers = {image.tree: layer(image.tree) for image in images}
    names = {tree: f"{hashlib.sha256(data).hexdigest()}.tar" for tree, data in layers.items()}
    files = {names[tree]: data for tree, data in layers.items()}
    manifest = []
    for image in images:
        text = json.dumps(_configuration(image, layers[image.tree], machine), sort_keys=True).encode()
        name = f"{hashlib.sha256(text).hexdigest()}.json"
        files[name] = text
        manifest.append({"Config": name, "RepoTags": [image.name], "Layers": [names[image.tree]]})
    files["manifest.json"] = json.dumps(manifest).encode()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))


def layer(tree: Path) -> bytes:
    """Return a tar of everything below a folder, owned by root, in the order of the paths."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(tree.rglob("*")):
            archive.add(path, str(path.relative_to(tree)), recursive=False, filter=_plain)
    return buffer.getvalue()


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Return a member without what differs from machine to machine; None for what no image holds."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member if member.isfile() or member.isdir() or member.issym() or member.islnk() else None


def _configuration(image: Image, data: bytes, machine: str) -> dict[str, object]:
    settings: dict[str, object] = {"Env": [f"{name}={value}" for name, value in image.environment.items()]}
    settings |= {"Entrypoint": list(image.entrypoint), "Cmd": list(image.command)}
    if image.stop_signal:
        settings["StopSignal"] = image.stop_signal
    return {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}"]},
        "history": [{"created_by": "seatrial"}],
    }
