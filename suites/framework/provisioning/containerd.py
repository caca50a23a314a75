"""The engine of kind pod: containerd's programs, and the messages of its interface, generated (layer 2).

containerd is taken from PATH, else from the distribution's package, never installed. The messages come from
suites/framework/pod/cri.proto by grpcio-tools, which the dependency group ``pod`` has; they stand in the cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from suites.framework.facts import Fact, Finding, Missing
from suites.framework.model import EnginePlace
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.command import Run, run
from suites.framework.provisioning.debian import Provider
from suites.framework.provisioning.version import UNKNOWN, version

CONTAINERD, CTR, SHIM = "containerd", "ctr", "containerd-shim-runc-v2"
PROTO = "suites/framework/pod/cri.proto"
OLDEST = (1, 6)
"""The first containerd that speaks version 1 of the interface."""
NEEDED = ("grpcio", "protobuf", "grpcio-tools")
"""What the dependency group ``pod`` has; the first two are a worker's."""
DELIVERED = ("grpcio", "protobuf", "typing_extensions")
"""Distributions that a worker of kind pod has beside those of every worker."""
GENERATE_S = 60.0
_PROBE = "containerd --version; grpcio"
_INSTALL = "install containerd >= 1.6 (sudo apt-get install containerd)"


def engine_place(
    checkout: Path,
    *,
    cache: Cache,
    packages: Provider,
    environ: Mapping[str, str] = os.environ,
    run: Run = run,
) -> tuple[EnginePlace | None, Finding]:
    """Return the engine's programs with the generated messages, and whether they are there."""
    if lacking := [name for name in NEEDED if not _installed(name)]:
        remedy = "install the dependency group pod (nox does where pods are planned)"
        return None, _absent(f"{lacking[0]} is not installed", remedy)
    found = _from_path(environ) or packages.provision(CONTAINERD, CONTAINERD)
    if isinstance(found, Missing):
        return None, _absent(found.reason, _INSTALL)
    program, variables = (found, {}) if isinstance(found, Path) else (found.path, found.environment)
    if trouble := unfit(program, said := version((str(program), "--version"), environment=variables)):
        return None, _absent(trouble, _INSTALL)
    stubs = _stubs(checkout / PROTO, cache, run)
    if isinstance(stubs, str):
        return None, _absent(stubs, "reinstall grpcio-tools")
    place = EnginePlace(
        containerd=str(program),
        ctr=str(program.with_name(CTR)),
        version=said,
        stubs=str(stubs),
        environment=dict(variables),
    )
    return place, Finding(fact=Fact.CONTAINERD, present=True, probe=_PROBE, detail=f"containerd {said}, {program}")


def unfit(program: Path, said: str) -> str:
    """Return why a containerd of this version cannot be used; empty where it can."""
    if absent := [name for name in (CTR, SHIM) if not os.access(program.with_name(name), os.X_OK)]:
        return f"{absent[0]} does not stand beside {program}"
    if said == UNKNOWN:
        return f"{program} --version does not say one"
    numbers = tuple(int(word) for word in re.findall(r"\d+", said)[:2])
    if not numbers:
        return f"{program} --version says no number: {said}"
    if numbers < OLDEST:
        return f"{program} is {said}, older than {'.'.join(map(str, OLDEST))}"
    return ""


def _from_path(environ: Mapping[str, str]) -> Path | None:
    found = shutil.which(CONTAINERD, path=environ.get("PATH", os.defpath))
    return Path(found).resolve() if found else None


def _absent(reason: str, remedy: str) -> Finding:
    return Finding(fact=Fact.CONTAINERD, present=False, probe=_PROBE, detail=reason, remedy=remedy)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _stubs(proto: Path, cache: Cache, run: Run) -> Path | str:
    """Generate the messages once per description and tools; return their folder, or what the generator says."""
    versions = " ".join(f"{name} {metadata.version(name)}" for name in NEEDED)
    key = f"stubs/{hashlib.sha256(proto.read_bytes() + versions.encode()).hexdigest()}"

    def make(folder: Path) -> None:
        words = (sys.executable, "-m", "grpc_tools.protoc", f"-I{proto.parent}", f"--python_out={folder}", proto.name)
        done = run(words, deadline_s=GENERATE_S)
        if not done.ok:
            raise _GeneratorError(f"{proto.name}: {done.complaint}")

    try:
        return cache.entry(key, make)
    except _GeneratorError as error:
        return str(error)


class _GeneratorError(Exception):
    """The messages cannot be generated; the message is the reason."""
