"""Phase ``provision`` of environment ``host``: what was taken from the distribution's packages, as events (layer 2)."""

from __future__ import annotations

import time
from contextlib import ExitStack

from suites.framework.errors import SeatrialError
from suites.framework.events import EventLog
from suites.framework.facts import Missing
from suites.framework.identity import of_launcher
from suites.framework.model import MISSING, Ended, Outcome, Planned, Started
from suites.framework.provisioning.debian import Provider, Provisioned
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import HOST

PHASE = "provision"


class ProvisionPhase:
    """A provider that accounts for each package in the events of a run; without a package there is no phase."""

    def __init__(self, provider: Provider, run: RunDirectory, stack: ExitStack) -> None:
        """Take the provider; the event log is opened with the first package and closed with the stack."""
        self._provider, self._run, self._stack = provider, run, stack
        self._log: EventLog | None = None

    def provision(self, package: str, binary: str) -> Provisioned | Missing:
        """Return the program of a package and write the node that says so."""
        node, began = f"provision::{package}", time.monotonic()
        title = f"Package {package} is downloaded and unpacked, or in the cache."
        self._events.write(
            Planned(node=node, cases=(), target="", kind="", mode="", title=title, file="packages", line=0)
        )
        self._events.write(Started(node=node))
        try:
            got = self._provider.provision(package, binary)
        except SeatrialError as error:
            self._end(node, began, Outcome.ERRORED, message=str(error))
            raise
        if isinstance(got, Missing):
            self._end(node, began, Outcome.SKIPPED, f"{MISSING}{got.fact}", f"{got.reason}; {got.remedy}")
        else:
            self._end(node, began, Outcome.PASSED, message=str(got.path))
        return got

    @property
    def _events(self) -> EventLog:
        if self._log is None:
            self._log = self._stack.enter_context(EventLog(self._run.events(HOST, PHASE, "launcher")))
            self._log.write(of_launcher(self._run.path.name, environment=HOST, phase=PHASE))
        return self._log

    def _end(self, node: str, began: float, outcome: Outcome, reason: str = "", message: str = "") -> None:
        wall_s = time.monotonic() - began
        self._events.write(Ended(node=node, outcome=outcome, reason=reason, message=message, wall_s=wall_s))
