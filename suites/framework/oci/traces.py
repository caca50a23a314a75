"""What there is of a container besides its bundle, compared with before (layer 1).

For operations that must leave "the state of the environment as if the operation were never attempted" (runtime.md,
"Errors").
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping

from suites.framework import mountinfo, proc
from suites.framework.oci import cgroup
from suites.framework.oci.container import NO_STATE, Container
from suites.framework.oci.runtime import Runtime
from suites.framework.waiting import Deadline, ticks

NOTHING = "nothing"


class Traces:
    """What came since this was made: a registered id, state files, processes, mounts, cgroups."""

    def __init__(
        self, runtime: Runtime, container: Container, *, mounts: Callable[[], Mapping[str, str]] = mountinfo.points
    ) -> None:
        """Look at what is there before the container is; `mounts` returns mount id: mount point."""
        self._runtime, self._container, self._mount_table = runtime, container, mounts
        self._files = Counter(runtime.left())
        self._children, self._mounts = frozenset(proc.children(os.getpid())), frozenset(mounts())

    def found(self) -> str:
        """Return in words what there is now that was not there before, ``nothing`` at best.

        Processes that are about to end are waited for.
        """
        words = [*self._registered(), *self._processes(), *self._state_files(), *self._mount_points(), *self._cgroups()]
        return ", ".join(words) or NOTHING

    def _registered(self) -> list[str]:
        status = self._container.status()
        return [] if status == NO_STATE else [f"the id ({status})"]

    def _processes(self) -> list[str]:
        names: set[str] = set()
        for _ in ticks(Deadline(self._runtime.seconds)):
            if not (names := self._alive()):
                break
        return [f"process {name}" for name in sorted(names)]

    def _alive(self) -> set[str]:
        came = (proc.stat(pid) for pid in proc.children(os.getpid()) if pid not in self._children)
        return {stat.name for stat in came if stat is not None and stat.state != "Z"}

    def _state_files(self) -> list[str]:
        return [f"file {name}" for name in sorted(Counter(self._runtime.left()) - self._files)]

    def _mount_points(self) -> list[str]:
        return ["mounts"] if self._mount_table().keys() - self._mounts else []

    def _cgroups(self) -> list[str]:
        return ["cgroups"] if cgroup.folders(self._container.cgroup) else []
