"""What is taken from packages is a phase of the run, with one node a package."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from suites.framework.errors import InfrastructureError
from suites.framework.facts import Fact, Missing
from suites.framework.model import Outcome
from suites.framework.provisioning.debian import Provisioned
from suites.framework.provisioning.phase import ProvisionPhase
from suites.framework.results import junit
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import load


class Shelf:
    """A provider that has what it was told."""

    def __init__(self, **content: Provisioned | Missing | Exception) -> None:
        """Take what each package is."""
        self.content = content

    def provision(self, package: str, binary: str) -> Provisioned | Missing:
        """Return or raise it."""
        assert binary == f"bin-{package}"
        found = self.content[package]
        if isinstance(found, Exception):
            raise found
        return found


TINI = Provisioned(path=Path("/cache/tini"), environment={}, version="0.19")
GONE = Missing(fact=Fact.PACKAGES, reason="no network", remedy="connect")


def test_every_package_is_a_node(tmp_path: Path) -> None:
    """Got, missing with its remedy, or broken: the verdicts say so, in a suite of their own."""
    run = RunDirectory.create(tmp_path)
    shelf = Shelf(tini=TINI, catatonit=GONE, crun=InfrastructureError("the disk is full"))
    with ExitStack() as stack:
        phase = ProvisionPhase(shelf, run, stack)
        assert TINI is phase.provision("tini", "bin-tini")
        assert GONE is phase.provision("catatonit", "bin-catatonit")
        with pytest.raises(InfrastructureError, match="disk is full"):
            phase.provision("crun", "bin-crun")
    found = {result.node: result for result in load(run).results}
    assert {
        "provision::tini": (Outcome.PASSED, ""),
        "provision::catatonit": (Outcome.SKIPPED, "missing:packages"),
        "provision::crun": (Outcome.ERRORED, ""),
    } == {node: (result.outcome, result.reason) for node, result in found.items()}
    assert "no network; connect" == found["provision::catatonit"].message
    assert {"host.provision", "junit"} == set(junit.documents(load(run).results))


def test_without_a_package_there_is_no_phase(tmp_path: Path) -> None:
    """A run that needs none has no file of it."""
    run = RunDirectory.create(tmp_path)
    with ExitStack() as stack:
        ProvisionPhase(Shelf(), run, stack)
    assert not (run.path / "host").exists()
