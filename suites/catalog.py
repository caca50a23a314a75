"""The environments and target kinds, as frozen data (layer 0: standard library only, no logic)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Privilege(StrEnum):
    """Who runs the worker: the superuser or an ordinary user."""

    ROOT = "root"
    ROOTLESS = "rootless"


class Place(StrEnum):
    """Where the worker runs: on this host or in a Docker container."""

    NATIVE = "native"
    CONTAINER = "container"


class Kind(StrEnum):
    """What a target is, hence which suite tries it."""

    INIT = "init"
    OCI = "oci"
    BUILDSCRIPTS = "buildscripts"
    POD = "pod"


class Mode(StrEnum):
    """How a case runs its target: an ordinary process, PID 1, below docker, by its own words, behind an engine."""

    PLAIN = "plain"
    PID1 = "pid1"
    DOCKER = "docker"
    CLI = "cli"
    CRI = "cri"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A privilege times a place."""

    privilege: Privilege
    place: Place

    @property
    def name(self) -> str:
        """Return the name used in directories, reports and node properties, such as ``root-native``."""
        return f"{self.privilege}-{self.place}"


ENVIRONMENTS = tuple(Environment(privilege=privilege, place=place) for privilege in Privilege for place in Place)

SUITES: dict[Kind, str] = {
    Kind.INIT: "suites/init",
    Kind.OCI: "suites/oci",
    Kind.BUILDSCRIPTS: "suites/buildscripts",
    Kind.POD: "suites/pod",
}
"""The folder of test modules for each kind, relative to the folder that holds ``suites``."""

MODES: dict[Kind, tuple[Mode, ...]] = {
    Kind.INIT: (Mode.PLAIN, Mode.PID1),
    Kind.OCI: (Mode.CLI,),
    Kind.BUILDSCRIPTS: (Mode.CLI,),
    Kind.POD: (Mode.CRI,),
}
"""The modes of a case that names none."""

TIERS: dict[str, int] = {"smoke": 1, "plan": 2, "full": 3, "nightly": 4}
"""Names that ``--tier`` takes beside the numbers 1 to 4."""
