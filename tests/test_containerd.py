"""Where the engine comes from, and what is said where it cannot be had."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from suites.framework.facts import Fact, Missing
from suites.framework.provisioning import containerd
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.debian import Provisioned

ROOT = Path(__file__).parents[1]
needs_group = pytest.mark.skipif(
    any(not containerd._installed(name) for name in containerd.NEEDED), reason="the dependency group pod is not here"
)


class Packages:
    """A distribution that has one program, or none."""

    def __init__(self, found: Provisioned | Missing) -> None:
        """Take what every question is answered with."""
        self.found = found

    def provision(self, package: str, binary: str) -> Provisioned | Missing:
        """Answer."""
        assert (package, binary) == ("containerd", "containerd")
        return self.found


def programs(folder: Path, version: str = "1.6.20~ds1") -> Path:
    """Make a folder with the three programs of an engine, and return the first."""
    folder.mkdir()
    for name in ("containerd", "ctr", "containerd-shim-runc-v2"):
        (folder / name).write_text(f"#!/bin/sh\necho containerd github.com/containerd/containerd {version}\n")
        (folder / name).chmod(0o755)
    return folder / "containerd"


@pytest.mark.parametrize(
    ("version", "trouble"),
    [
        ("1.6.20~ds1", ""),
        ("v2.0.1", ""),
        ("1.5.9", "older than 1.6"),
        ("unknown", "does not say one"),
        ("hello", "no number: hello"),
    ],
)
def test_an_engine_must_be_new_enough(tmp_path: Path, version: str, trouble: str) -> None:
    """The first with version 1 of the interface, or newer."""
    said = containerd.unfit(programs(tmp_path / "bin"), version)
    assert trouble in said
    assert bool(trouble) == bool(said)


@pytest.mark.parametrize("name", ["ctr", "containerd-shim-runc-v2"])
def test_an_engine_has_its_helpers_beside_it(tmp_path: Path, name: str) -> None:
    """Without the one no image comes in, without the other no handler is reached."""
    program = programs(tmp_path / "bin")
    program.with_name(name).unlink()
    assert f"{name} does not stand beside {program}" == containerd.unfit(program, "1.7.2")


@needs_group
def test_an_engine_on_path_is_taken(tmp_path: Path) -> None:
    """Its programs, its version, and messages that were generated."""
    program = programs(tmp_path / "bin")
    none = Packages(Missing(fact=Fact.PACKAGES, reason="asked", remedy=""))
    environ = {"PATH": str(tmp_path / "bin")}
    place, finding = containerd.engine_place(ROOT, cache=Cache(tmp_path / "c"), packages=none, environ=environ)
    assert place is not None
    assert (str(program), "1.6.20~ds1", True) == (place.containerd, place.version, finding.present)
    assert (Path(place.stubs) / "cri_pb2.py").is_file()


@needs_group
def test_an_engine_of_a_package_has_its_libraries(tmp_path: Path) -> None:
    """Where none is on PATH the distribution's is used, with variables for it alone."""
    variables = {"LD_LIBRARY_PATH": "/opt/lib"}
    got = Packages(Provisioned(path=programs(tmp_path / "p"), version="1.6", environment=variables))
    place, _ = containerd.engine_place(ROOT, cache=Cache(tmp_path / "c"), packages=got, environ={"PATH": "/nowhere"})
    assert place is not None
    assert variables == place.environment


@needs_group
def test_no_engine_is_a_fact_with_a_remedy(tmp_path: Path) -> None:
    """Why the package cannot be had, and what to install."""
    none = Packages(Missing(fact=Fact.PACKAGES, reason="no network", remedy=""))
    cache = Cache(tmp_path / "c")
    place, finding = containerd.engine_place(ROOT, cache=cache, packages=none, environ={"PATH": "/nowhere"})
    assert (None, False, "no network") == (place, finding.present, finding.detail)
    assert "apt-get install containerd" in finding.remedy


def test_without_the_group_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker without grpcio has no use for an engine; the remedy is the group."""

    def gone(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("suites.framework.provisioning.containerd.metadata.version", gone)
    none = Packages(Missing(fact=Fact.PACKAGES, reason="asked", remedy=""))
    place, finding = containerd.engine_place(ROOT, cache=Cache(tmp_path / "c"), packages=none, environ={})
    assert (None, "grpcio is not installed") == (place, finding.detail)
    assert "group pod" in finding.remedy
