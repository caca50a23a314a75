"""Where the plugins for networks come from, and what is said where they cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.framework.facts import Fact, Missing
from suites.framework.pod.network import NEEDED
from suites.framework.provisioning import cni
from suites.framework.provisioning.debian import Provisioned

GOOD = '{"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0"]}'


class Packages:
    """A distribution that has the plugins, or does not."""

    def __init__(self, found: Provisioned | Missing) -> None:
        """Take what every question is answered with."""
        self.found, self.asked = found, 0

    def provision(self, package: str, binary: str) -> Provisioned | Missing:
        """Answer."""
        assert (package, binary) == ("containernetworking-plugins", "loopback")
        self.asked += 1
        return self.found


NONE = Missing(fact=Fact.PACKAGES, reason="no network", remedy="")


def folder(place: Path, *names: str, said: str = GOOD) -> Path:
    """Make a folder of plugins that answer the question for their version alone."""
    place.mkdir()
    for name in names or NEEDED:
        (place / name).write_text(f"#!/bin/sh\n[ \"$CNI_COMMAND\" = VERSION ] && echo '{said}'\n")
        (place / name).chmod(0o755)
    return place


def test_the_machines_own_are_taken(tmp_path: Path) -> None:
    """The first folder that will do, and one that the user names before all others; nobody asks the distribution."""
    first, named = folder(tmp_path / "a"), folder(tmp_path / "b")
    packages, places = Packages(NONE), (str(tmp_path / "none"), str(first))
    found, finding = cni.plugins(packages=packages, environ={}, places=places)
    assert (str(first), Fact.POD_NETWORK, True) == (found, finding.fact, finding.present)
    assert str(named) == cni.plugins(packages=packages, environ={"CNI_PATH": str(named)}, places=places)[0]
    assert 0 == packages.asked


def test_the_distributions_are_taken_else(tmp_path: Path) -> None:
    """Where the machine has none, or some that will not do."""
    package = Packages(Provisioned(path=folder(tmp_path / "p") / "loopback", version="1.1"))
    assert str(tmp_path / "p") == cni.plugins(packages=package, environ={}, places=())[0]
    part = folder(tmp_path / "part", "loopback")
    assert str(tmp_path / "p") == cni.plugins(packages=package, environ={}, places=(str(part),))[0]


def test_no_plugins_are_a_fact_with_a_remedy(tmp_path: Path) -> None:
    """Why the package cannot be had, or what the machine's own lack; and what to install."""
    found, finding = cni.plugins(packages=Packages(NONE), environ={}, places=())
    assert ("", False, "no network") == (found, finding.present, finding.detail)
    assert "apt-get install containernetworking-plugins" in finding.remedy
    part = folder(tmp_path / "part", "loopback", "ptp")
    _, finding = cni.plugins(packages=Packages(NONE), environ={}, places=(str(part),))
    assert f"there is no {part}/host-local" == finding.detail
    package = Packages(Provisioned(path=part / "loopback", version="1.1"))
    assert ("", f"there is no {part}/host-local") == (
        (answer := cni.plugins(packages=package, environ={}, places=()))[0],
        answer[1].detail,
    )


@pytest.mark.parametrize("said", ["", "no JSON", "[]", '{"supportedVersions": ["0.2.0"]}'])
def test_plugins_must_speak_our_version(tmp_path: Path, said: str) -> None:
    """What does not say so is not used."""
    assert "does not say that it speaks version 0.4.0" in cni.unfit(folder(tmp_path / "p", said=said))
