"""The environment is what its name says, and its facts are found out by doing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from suites.catalog import Environment, Place, Privilege
from suites.framework import probes
from suites.framework.bench import Bench
from suites.framework.codec import encode
from suites.framework.facts import Fact
from suites.framework.identity import container_id
from suites.framework.observation import Lacking

FORBIDDEN = {"SYS_MODULE": 16, "SYS_RAWIO": 17, "SYS_BOOT": 22, "SYS_TIME": 25}
"""Capabilities (capability.h) that no worker may pass on to a target."""


def test_uid_is_that_of_the_privilege(here: Environment) -> None:
    """A root environment runs as uid 0, a rootless one does not."""
    assert (here.privilege is Privilege.ROOT) == (os.getuid() == 0)


def test_place_is_that_of_the_name(here: Environment) -> None:
    """A container environment runs in a Docker container, a native one does not."""
    assert (here.place is Place.CONTAINER) == (container_id() != "")


def test_rootless_holds_no_capability(here: Environment) -> None:
    """An ordinary user has no effective capability (capabilities(7))."""
    assert (here.privilege is Privilege.ROOT) == (_capabilities("CapEff") != 0)


def test_root_is_real_root(here: Environment) -> None:
    """Root is not a user namespace's: its ids are those of the host (user_namespaces(7))."""
    identity = "0 0 4294967295"
    if here.privilege is Privilege.ROOT:
        assert identity == " ".join(Path("/proc/self/uid_map").read_text().split())


def test_worker_is_init_of_its_own_pid_namespace() -> None:
    """A target's kill(-1) stays in the worker's namespace, every orphan becomes the worker's (pid_namespaces(7))."""
    assert os.getpid() == 1


def test_worker_has_no_controlling_terminal() -> None:
    """A target cannot take the user's terminal (tty(4))."""
    with pytest.raises(OSError, match="No such device or address"):
        os.open("/dev/tty", os.O_RDWR)


def test_machine_is_out_of_reach(here: Environment) -> None:
    """The capabilities to reboot, to set the clock, to load modules and to touch ports are out of the bounding set."""
    held = [name for name, bit in FORBIDDEN.items() if _capabilities("CapBnd") >> bit & 1]
    assert [] == held or here.privilege is Privilege.ROOTLESS


def test_fact(fact: Fact, bench: Bench) -> None:
    """A fact holds here; where it does not, the cases that need it are skipped with this reason and remedy."""
    finding = probes.PROBES[fact](bench)
    bench.note("finding", encode(finding))
    if finding.missing is not None:
        raise Lacking(finding.missing)


def _capabilities(kind: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{kind}:\t", 1)[1].split("\n", 1)[0], 16)
