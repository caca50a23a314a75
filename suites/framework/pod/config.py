"""The configuration of the engine, containerd's config.toml of version 2 (layer 1: standard library only).

containerd, docs/cri/config.md. Pure text: nothing is started or written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

RUNC_SHIM = "io.containerd.runc.v2"
"""Runtime type of the shim through which any OCI runtime is a handler, by its path."""

NETWORKS = "cni/conf"
"""Folder below the root in which the networks of pods are described."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """One runtime under test, as the engine knows it."""

    name: str
    runtime_type: str = RUNC_SHIM
    binary: str = ""
    """Path of an OCI runtime; empty for a shim that has a type of its own."""
    annotations: tuple[str, ...] = ()
    """Patterns of the pod's annotations that the shim is handed."""
    shim: str = ""
    """The script that starts the shim; empty for an OCI runtime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where one engine keeps everything; `state` and `socket` are in a /run of its own."""

    root: Path
    state: Path = Path("/run/containerd")
    socket: Path
    snapshotter: str = "overlayfs"
    cgroups: bool = True
    """Whether the engine may have any; an ordinary user's may not."""
    pause: str
    """Name of the image of which sandboxes are made."""
    plugins: str = ""
    """Folder of the plugins that give pods a network; empty where there are none."""
    handlers: tuple[Handler, ...] = field(default=())


def written(layout: Layout) -> str:
    """Return config.toml for a layout."""
    cri = "plugins.'io.containerd.grpc.v1.cri'"
    lines = [
        "version = 2",
        *_values({"root": layout.root, "state": layout.state, "disabled_plugins": _UNUSED}),
        "[grpc]",
        *_values({"address": layout.socket}),
        "[debug]",
        *_values({"level": "warn"}),
        f"[{cri}]",
        *_values(
            {
                "sandbox_image": layout.pause,
                "restrict_oom_score_adj": True,
                "disable_tcp_service": True,
                "disable_cgroup": not layout.cgroups,
                "stream_server_address": "127.0.0.1",
                "stream_server_port": "0",
                "max_container_log_line_size": 16384,
            }
        ),
        f"[{cri}.cni]",
        *_values({"bin_dir": layout.plugins or layout.root / "cni/bin", "conf_dir": layout.root / NETWORKS}),
        f"[{cri}.containerd]",
        *_values({"snapshotter": layout.snapshotter, "disable_snapshot_annotations": True}),
        *_values({"default_runtime_name": layout.handlers[0].name} if layout.handlers else {}),
    ]
    for handler in layout.handlers:
        lines += _handler(f"{cri}.containerd.runtimes.{json.dumps(handler.name)}", handler)
    return "\n".join(lines) + "\n"


_UNUSED = [
    *(f"io.containerd.snapshotter.v1.{name}" for name in ("aufs", "btrfs", "devmapper", "zfs")),
    "io.containerd.internal.v1.opt",
]
"""Plugins that need a file system or a device of their own, or /opt: nothing here uses them."""


def _handler(table: str, handler: Handler) -> list[str]:
    lines = [f"[{table}]", *_values({"runtime_type": handler.runtime_type})]
    if handler.annotations:
        lines += _values({"pod_annotations": list(handler.annotations)})
    if handler.binary:
        lines += [f"[{table}.options]", *_values({"BinaryName": handler.binary})]
    return lines


def _values(values: Mapping[str, object]) -> list[str]:
    """Return lines of TOML: JSON writes strings, truths and lists the same way."""
    return [f"{key} = {json.dumps(value, default=str)}" for key, value in values.items()]
