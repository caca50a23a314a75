"""What a build tool is to this package: its manifests, what it needs, and how it builds (layer 2)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from suites.framework.build.user import Builder
from suites.framework.facts import Fact
from suites.framework.steps.step import Step, StepEnd

Execute = Callable[[Step, Path], StepEnd]
"""Runs a step whose log is to be at a path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A program that a build needs, shown by its printing its version."""

    fact: Fact
    argv: tuple[str, ...]
    package: str
    """Of Debian, which has it."""


COMPILER = Probe(fact=Fact.COMPILER, argv=("cc", "--version"), package="gcc libc6-dev")
MAKE = Probe(fact=Fact.MAKE, argv=("make", "--version"), package="make")
COMPILERS = (
    COMPILER,
    Probe(fact=Fact.GO, argv=("go", "version"), package="golang-go"),
    Probe(fact=Fact.CARGO, argv=("rustc", "--version"), package="rustc"),
)
"""What a command that only its author understands may call."""


class BuildFailedError(Exception):
    """A step of a build failed; where it did and how."""

    def __init__(self, step: Step, end: StepEnd) -> None:
        """Keep both for the one paragraph that is printed."""
        self.step, self.end = step, end
        super().__init__(f"{step.name}: {end.detail}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A copied checkout and everything that its build may use."""

    name: str
    """Of the target."""
    tree: Path
    """The copy."""
    out: Path
    """Empty folder outside the copy, which the builder owns."""
    answers: Path
    """Folder of ours for what tools answer."""
    logs: Path
    hints: tuple[str, ...]
    """What the executable may be called, most likely first."""
    builder: Builder
    environment: Mapping[str, str]
    execute: Execute
    offline: bool = False
    command: tuple[str, ...] = ()
    """Of the target's profile; replaces the tool."""
    jobs: int = field(default_factory=lambda: os.cpu_count() or 1)

    def step(
        self,
        name: str,
        title: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        answer: bool = False,
    ) -> Path:
        """Run a step in the copy; return the file with its standard output (``answer``) or its log.

        Raises BuildFailedError when it does not end with status 0.
        """
        log = self.logs / f"build.{self.name}.{name}.log"
        output = self.answers / name if answer else None
        step = Step(
            name=f"build::{self.name}::{name}",
            title=title,
            target=self.name,
            argv=tuple(argv),
            cwd=self.tree,
            environment={**self.environment, **(environment or {})},
            user=self.builder.other,
            output=output,
        )
        end = self.execute(step, log)
        if not end.ok:
            raise BuildFailedError(step, end)
        return output or log


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A build tool, found by its manifests."""

    name: str
    fact: Fact
    manifests: tuple[str, ...]
    build: Callable[[Site], list[Path]]
    """Builds and returns the programs that were made."""
    needs: Callable[[Path], Sequence[Probe]]
    """What building this directory needs."""
    also: tuple[Probe, ...] = ()
    """What a build may use beside, so that another version of it makes another result."""
    hinted: bool = False
    """Whether it builds only the executable that is meant, where it can tell."""
    static: str = ""
    """How it is told to link statically."""
