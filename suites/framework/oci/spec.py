"""The part of the OCI runtime configuration that bundles are made of, as typed dictionaries (layer 1).

Names and meanings are those of runtime-spec 1.2, config.md and config-linux.md; a key that no case uses is not here.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

VERSION = "1.0.2"
"""``ociVersion`` of a configuration that uses nothing newer: what every runtime in use reads."""


class User(TypedDict):
    """process.user (config.md#user)."""

    uid: int
    gid: int
    umask: NotRequired[int]
    additionalGids: NotRequired[list[int]]


class Rlimit(TypedDict):
    """An entry of process.rlimits."""

    type: str
    soft: int
    hard: int


class Capabilities(TypedDict, total=False):
    """process.capabilities: names such as CAP_KILL in five sets (capabilities(7))."""

    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Process(TypedDict):
    """What the container executes (config.md#configProcess)."""

    terminal: NotRequired[bool]
    consoleSize: NotRequired[dict[str, int]]
    user: User
    args: list[str]
    env: NotRequired[list[str]]
    cwd: str
    capabilities: NotRequired[Capabilities]
    rlimits: NotRequired[list[Rlimit]]
    noNewPrivileges: NotRequired[bool]
    oomScoreAdj: NotRequired[int]
    scheduler: NotRequired[dict[str, Any]]
    ioPriority: NotRequired[dict[str, Any]]


class Root(TypedDict):
    """The root file system (config.md#configRoot); a relative path is below the bundle."""

    path: str
    readonly: NotRequired[bool]


class Mount(TypedDict):
    """One mount (config.md#configMounts)."""

    destination: str
    type: NotRequired[str]
    source: NotRequired[str]
    options: NotRequired[list[str]]
    uidMappings: NotRequired[list[IdMapping]]
    gidMappings: NotRequired[list[IdMapping]]


class Hook(TypedDict):
    """One hook (config.md#configHooks); `timeout` in seconds."""

    path: str
    args: NotRequired[list[str]]
    env: NotRequired[list[str]]
    timeout: NotRequired[int]


class Namespace(TypedDict):
    """A namespace to make, or with a path to join (config-linux.md#configLinuxNamespaces)."""

    type: str
    path: NotRequired[str]


class IdMapping(TypedDict):
    """A row of uid_map or gid_map (user_namespaces(7))."""

    containerID: int
    hostID: int
    size: int


class Linux(TypedDict):
    """What only Linux has (config-linux.md)."""

    namespaces: list[Namespace]
    uidMappings: NotRequired[list[IdMapping]]
    gidMappings: NotRequired[list[IdMapping]]
    timeOffsets: NotRequired[dict[str, dict[str, int]]]
    devices: NotRequired[list[dict[str, Any]]]
    cgroupsPath: NotRequired[str]
    resources: NotRequired[dict[str, Any]]
    rootfsPropagation: NotRequired[str]
    seccomp: NotRequired[dict[str, Any]]
    sysctl: NotRequired[dict[str, str]]
    maskedPaths: NotRequired[list[str]]
    readonlyPaths: NotRequired[list[str]]
    personality: NotRequired[dict[str, Any]]


class Spec(TypedDict):
    """config.json."""

    ociVersion: str
    root: Root
    mounts: list[Mount]
    process: Process
    hostname: NotRequired[str]
    domainname: NotRequired[str]
    hooks: NotRequired[dict[str, list[Hook]]]
    annotations: NotRequired[dict[str, str]]
    linux: Linux
