"""The engine of a worker, started when the first case needs it and again where one has killed it (layer 1)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from suites.catalog import Kind
from suites.framework.errors import InfrastructureError
from suites.framework.facts import Finding
from suites.framework.model import Context, Role
from suites.framework.pod import calibration
from suites.framework.pod.engine import Engine, Site
from suites.framework.pod.engine_driver import place_of_pods

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class Engines:
    """At most one engine at a time; `close` ends it."""

    def __init__(self, context: Context, *, python: str) -> None:
        """Take what a worker was told; nothing is started before `take`."""
        self._context, self._python = context, python
        self._engine: Engine | None = None
        self._trouble: InfrastructureError | None = None

    def prepare(self) -> None:
        """Start the engine; what stands against that is said by `take`."""
        with contextlib.suppress(InfrastructureError):
            self.take()

    def calibrate(self) -> Finding:
        """Find out whether the engine keeps all that programs write, with the handler of each reference."""
        references = (Role.REFERENCE, Role.STANDBY)
        mine = [target for target in self._context.targets if target.kind is Kind.POD and target.role in references]
        if not mine:
            return calibration.unknown("no reference is among the targets")
        try:
            engine, _ = self.take()
        except InfrastructureError as error:
            return calibration.unknown(str(error))
        folder = Path(self._context.paths.scratch) / "c"
        cgroup = place_of_pods()
        found = (calibration.output(engine, each, folder=folder, cgroup=cgroup) for each in mine)
        first = next(found)
        return first if not first.present else next((finding for finding in found if not finding.present), first)

    def take(self) -> tuple[Engine, bool]:
        """Return the engine, and whether it was started just now; InfrastructureError for one that does not start."""
        if self._trouble is not None:
            raise self._trouble
        if self._engine is not None and self._engine.alive and not self._engine.spoilt:
            return self._engine, False
        self.close()
        try:
            self._engine = start(self._context, python=self._python)
        except InfrastructureError as error:
            self._trouble = error
            raise
        return self._engine, True

    def close(self) -> None:
        """End the engine; safe to repeat."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def start(context: Context, *, python: str) -> Engine:
    """Start an engine with a handler for each target of kind pod."""
    if context.paths.engine is None:
        raise InfrastructureError("no engine", why="this worker was told of none")
    site = Site(
        place=context.paths.engine,
        folder=Path(context.paths.scratch) / "e",
        rootfs=Path(context.paths.rootfs),
        environment=ENVIRONMENT | {"PATH": os.environ.get("PATH", ENVIRONMENT["PATH"])},
        rootless=os.geteuid() != 0,
    )
    return Engine(site, [target for target in context.targets if target.kind is Kind.POD], python=python)
