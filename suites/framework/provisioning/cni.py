"""Plugins that give pods a network of their own (layer 2).

Those of the machine are taken, else the distribution's package, never installed. An engine runs them in a network
namespace of its own, so that nothing they make is the machine's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from suites.framework.facts import Fact, Finding, Missing
from suites.framework.pod.network import NEEDED, VERSION
from suites.framework.provisioning.command import Run, run
from suites.framework.provisioning.debian import Provider

PACKAGE = "containernetworking-plugins"
PLACES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
"""Where distributions and those who unpack a release put them."""
ASK_S = 10.0
_PROBE = f"CNI_COMMAND=VERSION {', '.join(NEEDED)}"
_REMEDY = f"install the plugins (sudo apt-get install {PACKAGE}), or name their folder in CNI_PATH"


def plugins(
    *, packages: Provider, environ: Mapping[str, str] = os.environ, places: Sequence[str] = PLACES, run: Run = run
) -> tuple[str, Finding]:
    """Return the folder of the plugins, empty where there is none that will do, and whether they are there."""
    why = ""
    for folder in _folders(environ, places):
        if not (trouble := unfit(folder, run)):
            return _there(folder)
        why = why or trouble
    found = packages.provision(PACKAGE, NEEDED[0])
    if isinstance(found, Missing):
        return "", _finding(why or found.reason, _REMEDY)
    if trouble := unfit(found.path.parent, run):
        return "", _finding(trouble, _REMEDY)
    return _there(found.path.parent)  # libraries that came with it are those of iptables, which nobody calls


def unfit(folder: Path, run: Run = run) -> str:
    """Return why the plugins in a folder cannot be used; empty where they can."""
    for name in NEEDED:
        program = folder / name
        if not os.access(program, os.X_OK):
            return f"there is no {program}"
        done = run((str(program),), deadline_s=ASK_S, environment={"CNI_COMMAND": "VERSION"})
        if VERSION not in _versions(done.stdout):
            return f"{program} does not say that it speaks version {VERSION}"
    return ""


def _versions(text: str) -> Sequence[object]:
    try:
        return list(json.loads(text)["supportedVersions"])
    except (ValueError, LookupError, TypeError):
        return ()


def _folders(environ: Mapping[str, str], places: Sequence[str]) -> Iterator[Path]:
    """Yield the folders that hold any of them."""
    named = environ.get("CNI_PATH", "").split(os.pathsep)
    for place in (*filter(None, named), *places):
        if any((Path(place) / name).is_file() for name in NEEDED):
            yield Path(place).resolve()


def _there(folder: Path) -> tuple[str, Finding]:
    return str(folder), _finding("", "", detail=str(folder))


def _finding(why: str, remedy: str, *, detail: str = "") -> Finding:
    return Finding(fact=Fact.POD_NETWORK, present=not why, probe=_PROBE, detail=why or detail, remedy=remedy)
