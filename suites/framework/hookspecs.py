"""The hook points for people who run Seatrial: before, during and after a build step and a phase (layer 2; pluggy).

A module given with ``--plugin`` defines any of these functions, marked with `hookimpl`. A hook that raises, exits or
hangs makes the step *errored*; it is never taken for a failure of the target and never silent. Inside a phase pytest's
own hooks serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pluggy

PROJECT = "seatrial"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookStep:
    """What a hook is called for."""

    kind: str
    """``step`` (one command of a build) or ``phase`` (preflight or test of an environment)."""
    name: str
    """``build::tini::cmake`` or ``test``."""
    environment: str
    """``host`` for builds, else such as ``root-native``."""
    target: str = ""
    """Of a build; empty for a phase, which has many."""
    run: Path
    """The run directory."""


@hookspec
def seatrial_before(step: HookStep) -> None:
    """Act before a step starts; if this raises, the step is not executed."""


@hookspec
def seatrial_during(step: HookStep) -> None:
    """Act when a step has been started and runs."""


@hookspec
def seatrial_after(step: HookStep, outcome: str) -> None:
    """Act when a step has ended: ``passed``, ``failed`` or ``errored``; a phase that ran to its end has passed."""
