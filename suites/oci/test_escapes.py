"""Ways out of a root file system that runtimes have left open once (config.md, "Mounts"; CVE numbers in the titles).

Whatever a runtime is led to stands in the test's own folder: a marked place beside the bundle. Each case has a
container that runs first, so that a runtime which refuses everything is not taken for a careful one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from suites.framework.marks import case, tier
from suites.framework.oci.config import bind
from suites.framework.oci.container import Container
from suites.framework.oci.place import MARKER, Place
from suites.framework.oci.result import Result
from suites.framework.oci.runtime import Runtime
from suites.framework.recorder import Recorder

CONTAINED = "refused, or inside"
OUTSIDE = 10
"""Number under which a runtime is given the descriptor of a place outside."""


def tried(container: Container, created: Result) -> Recorder | str:
    """Return the program of a container that was created, once it runs, or how the runtime ended."""
    ended = container.start() if created.outcome == "done" else created
    if ended.outcome != "done":
        return CONTAINED if ended.outcome == "refused" else f"{ended.verb}: {ended.outcome}"
    recorder = container.recorder()
    recorder.ready()
    return recorder


def outcome(runtime: Runtime, container: Container, marker: str, *, through: Sequence[str] = ()) -> str:
    """Return whether a container whose mount is led outside is refused, or has the mount's marker inside."""
    found = tried(container, container.created(container.begin_create(through=through)))
    if isinstance(found, str):
        return found
    return (
        CONTAINED if found.sh(f"cat {marker}").text == runtime.bench.nonce else "it runs, and the mount is not inside"
    )


def entries(container: Container) -> list[str]:
    """Return what is in the bundle's folder beside what belongs there."""
    return sorted(set(os.listdir(container.folder)) - {"config.json", "pid", "rootfs"})


@case("F12")
@pytest.mark.parametrize("link", ["absolute", "relative", "final"])
def test_link_in_a_mount_destination_does_not_lead_outside(runtime: Runtime, link: str) -> None:
    """A link in a mount's destination is resolved inside the root file system (CVE-2019-19921, CVE-2021-30465).

    Why: an image brings the link, and the runtime mounts over the host's own folders, as root.
    By hand:
        mkdir /tmp/outside; ln -s /tmp/outside BUNDLE/rootfs/link
        # mount {"destination": "/link/new", "type": "bind", "source": FOLDER, "options": ["bind"]}
        $RUNTIME create --bundle BUNDLE ID; ls /tmp/outside    # empty
    """
    runtime.container().running()
    container, bait, given = runtime.container(), Place(runtime.bench, "outside"), Place(runtime.bench, "given")
    relative = os.path.relpath(bait.path, container.bundle.rootfs)
    container.bundle.inside("/link").symlink_to(relative if link == "relative" else bait.path)
    destination = "/link" if link == "final" else "/link/new"
    container.spec["mounts"].append(bind(str(given.path), destination))
    assert CONTAINED == outcome(runtime, container, f"{destination}/{MARKER}")
    assert ([], []) == (bait.changes(), given.changes())


@case("F13")
def test_dots_in_a_mount_destination_do_not_lead_outside(runtime: Runtime) -> None:
    """``..`` in a mount's destination stays inside the root file system (CVE-2019-19921 class; path_resolution(7)).

    Why: a destination that is merely appended to the rootfs's path reaches every folder of the host.
    By hand:
        mkdir BUNDLE/../outside
        # mount {"destination": "/../../outside/new", "type": "bind", "source": FOLDER, "options": ["bind"]}
        $RUNTIME create --bundle BUNDLE ID; ls BUNDLE/../outside    # empty
    """
    runtime.container().running()
    container, bait, given = runtime.container(), Place(runtime.bench, "outside"), Place(runtime.bench, "given")
    destination = f"/{os.path.relpath(bait.path, container.bundle.rootfs)}/new"
    container.spec["mounts"].append(bind(str(given.path), destination))
    assert CONTAINED == outcome(runtime, container, f"{destination}/{MARKER}")
    assert ([], [], []) == (bait.changes(), given.changes(), entries(container))


@case("F15")
@tier(2)
@pytest.mark.parametrize("number", [3, 6, 7, 8, OUTSIDE])
def test_working_directory_does_not_lead_outside(runtime: Runtime, number: int) -> None:
    """A cwd of /proc/self/fd/N is refused, or lies inside the root file system (CVE-2024-21626).

    Why: a descriptor of the host that the runtime still holds is a way to the host's whole file system.
    By hand:
        # "cwd": "/proc/self/fd/7"
        $RUNTIME create --bundle BUNDLE ID 10<FOLDER; $RUNTIME start ID
        cat ../../../etc/hostname    # in the container
    """
    runtime.container().running()
    container, bait = runtime.container(), Place(runtime.bench, "outside")
    container.spec["process"]["cwd"] = f"/proc/self/fd/{number}"
    held = os.open(bait.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = tried(container, container.create(fds={OUTSIDE: held}))
    finally:
        os.close(held)
    assert CONTAINED == (found if isinstance(found, str) else _directory(found.pid))
    assert [] == bait.changes()


def _directory(pid: int) -> str:
    """Return where a walk upwards from a process's working directory ends."""
    top = Path(f"/proc/{pid}/cwd/{'../' * 40}")
    return CONTAINED if top.samefile(f"/proc/{pid}/root") else "it runs in a folder of the host"


@case("F20")
@tier(3)
def test_relative_mount_destination_does_not_lead_outside(runtime: Runtime) -> None:
    """A relative destination is refused, or taken from the container's root (config.md#mounts).

    Why: taken from where the runtime was called, it covers a folder of the host.
    By hand:
        # mount {"destination": "below/new", "type": "bind", "source": FOLDER, "options": ["bind"]}
        cd /tmp/outside; $RUNTIME create --bundle BUNDLE ID; ls /tmp/outside    # empty
    """
    runtime.container().running()
    container, bait, given = runtime.container(), Place(runtime.bench, "outside"), Place(runtime.bench, "given")
    container.spec["mounts"].append(bind(str(given.path), "below/new"))
    assert CONTAINED == outcome(runtime, container, f"/below/new/{MARKER}", through=_from(runtime, bait))
    assert ([], [], []) == (bait.changes(), given.changes(), entries(container))


def _from(runtime: Runtime, folder: Place) -> list[str]:
    """Return the words with which a program is executed in a folder."""
    script = "import os, sys; os.chdir(sys.argv[1]); os.execv(sys.argv[2], sys.argv[2:])"
    return [runtime.bench.python, "-I", "-S", "-c", script, str(folder.path)]
