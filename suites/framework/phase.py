"""One phase of a session: its workers told what to do, started, and waited for (layer 2)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from suites.catalog import Place
from suites.framework import codec, launcher
from suites.framework.crew import Crew
from suites.framework.events import EventLog
from suites.framework.facts import Fact, Finding
from suites.framework.hooks import NO_HOOKS, Hooks
from suites.framework.hookspecs import HookStep
from suites.framework.keeper import Keeper
from suites.framework.model import (
    SCHEMA,
    Context,
    Ended,
    Limits,
    Outcome,
    Paths,
    Planned,
    Reason,
    Selection,
    Started,
)
from suites.framework.progress import Progress, Tail
from suites.framework.provisioning.staging import PYTHON
from suites.framework.results.rundir import RunDirectory, invoking_user
from suites.framework.sampler import MetricsFile, Sampler
from suites.framework.subjects import Subjects
from suites.framework.surroundings import Surroundings

_IDLE = ("cacheprovider", "logging", "doctest", "unittest", "junitxml", "pastebin", "stepwise")
"""Plugins of pytest that find nothing to do in a suite; each is called several times a case."""
TWIN = 3
"""How much longer an observation may take with the payload's Python twin, where there is no compiler."""
TESTS = "test"
"""The phase whose nodes are cases; the only one whose workers know the targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the phases of a session share."""

    run: RunDirectory
    scratch: Path
    work: Path
    """Of the workers, each of which has a folder in it."""
    limits: Limits
    promises: tuple[Fact, ...]
    around: Surroundings
    found: Subjects
    keeper: Keeper
    stream: TextIO
    hooks: Hooks = NO_HOOKS

    @property
    def name(self) -> str:
        """Return the environment's name."""
        return self.around.here.name

    @property
    def folder(self) -> Path:
        """Return the environment's folder in the run directory."""
        return self.run.path / self.name

    @property
    def native(self) -> bool:
        """Return whether the workers run on this machine itself."""
        return self.around.here.place is Place.NATIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A file of the run directory that a worker writes."""

    path: str
    """As the worker reaches it."""
    fd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A pytest run by one or more workers, each with its share of the nodes."""

    site: Site
    name: str
    folders: tuple[str, ...]
    """Of test modules, relative to the folder that holds ``suites``."""
    events: EventLog
    """The launcher's own event file, for how the workers ended."""
    selection: Selection = field(default_factory=Selection)
    findings: tuple[Finding, ...] = ()
    workers: int = 1

    def execute(self) -> Crew:
        """Start the workers and wait for them; one that dies is replaced for the nodes it has not begun.

        A hook that raises makes the phase errored, before its start instead of it.
        """
        hooked = HookStep(kind="phase", name=self.name, environment=self.site.name, run=self.site.run.path)
        with MetricsFile(self.site.folder / "metrics" / f"{self.name}.jsonl") as metrics:
            hands = self._crew(Sampler(metrics))
            problems = [self.site.hooks.before(hooked)]
            outcome = Outcome.ERRORED
            try:
                if not problems[0]:
                    self._start_all(hands)
                    problems.append(self.site.hooks.during(hooked))
                    hands.wait()
                    outcome = Outcome.PASSED
            finally:
                problems.append(self.site.hooks.after(hooked, outcome.value))
                self._drop_empty()
                if owner := invoking_user():
                    self.site.run.hand_over(*owner, below=self.site.name)
        if any(problems):
            self._complain("; ".join(filter(None, problems)))
        return hands

    def _drop_empty(self) -> None:
        """Remove the metrics files of workers whose cases measured nothing."""
        for path in (self.site.folder / "metrics").glob(f"{self.name}.*.jsonl"):
            if not path.is_symlink() and not path.stat().st_size:
                path.unlink()

    def _start_all(self, hands: Crew) -> None:
        def heir(name: str, nodes: tuple[str, ...]) -> None:
            rest = replace(self.selection, nodes=nodes, expression="", shard=(1, 1))
            self._start(hands, name, self._context(1, 1, rest, work=name.replace(f"{self.name}.", self.name[0])))

        hands.heir = heir
        for number in range(1, self.workers + 1):
            context = self._context(number, self.workers, self.selection, work=f"{self.name[0]}{number}")
            self._start(hands, f"{self.name}.{number}", context)

    def _complain(self, problem: str) -> None:
        """Write the node of a hook that raised."""
        node, title = f"hook::{self.name}", f"The hooks of phase {self.name} do their work."
        self.events.write(Planned(node=node, cases=(), target="", kind="", mode="", title=title, file="hook", line=0))
        self.events.write(Started(node=node))
        self.events.write(Ended(node=node, outcome=Outcome.ERRORED, reason=Reason.HOOK, message=problem))

    def _crew(self, sampler: Sampler) -> Crew:
        tty = self.site.stream.isatty() and not os.environ.get("CI")
        width = shutil.get_terminal_size().columns
        hands = Crew(
            events=self.events,
            tail=Tail(self.site.folder / "events"),
            progress=Progress(stream=self.site.stream, tty=tty, width=width),
            node_s=self.site.limits.node_s,
            exitfirst=self.selection.exitfirst,
            sampler=sampler,
        )
        hands.tail.poll()  # what stands there already is of other phases
        return hands

    def _context(self, number: int, workers: int, selection: Selection, *, work: str) -> Context:
        """Return what a worker is told; `work` is the name of its scratch folder."""
        site, found, image = self.site, self.site.found, self.site.around.image
        twin = found.payload[0] == PYTHON[0]
        return Context(
            schema=SCHEMA,
            run=site.run.path.name,
            environment=site.name,
            phase=self.name,
            worker=number,
            workers=workers,
            selection=selection,
            targets=found.targets if self.name == TESTS else (),
            findings=self.findings,
            promises=site.promises,
            limits=replace(site.limits, deadline_s=site.limits.deadline_s * (TWIN if twin else 1)),
            paths=Paths(
                suites=str(site.scratch / "code"),
                run=str(site.folder),
                scratch=str(self._place(work)),
                payload=found.payload,
                rootfs=found.rootfs,
                sources=found.sources,
                engine=found.engine,
                events="",
            ),
            image=image.name if image else "",
            launcher=launcher.name(),
            image_mounts=tuple(mount.path for mount in image.mounts) if image else (),
        )

    def _place(self, name: str) -> Path:
        """Make a worker's private folder."""
        place = self.site.work / name
        place.mkdir(parents=True, exist_ok=True)
        if self.site.around.owner:
            os.chown(place, *self.site.around.owner)
        return place

    def _start(self, hands: Crew, name: str, context: Context) -> None:
        """Start one worker; its files are handed to it open, because its user may not reach the paths."""
        site, number = self.site, name.removeprefix(f"{self.name}.")
        with ExitStack() as stack:
            events = self._handed(stack, site.run.events(site.name, self.name, number))
            metrics = self._handed(stack, site.folder / "metrics" / f"{name}.jsonl")
            paths = replace(context.paths, events=events.path, metrics=metrics.path)
            context = replace(context, paths=paths)
            log = site.folder / "logs" / f"{name}.log"
            worker = site.around.driver.start(
                self._argv(self._written(name, context), context.selection.expression),
                name=name.replace(".", "-"),
                env=self._environment(context),
                log=log,
                keep=(events.fd, metrics.fd) if site.native else (),
            )
        if (pid := getattr(worker, "pid", None)) is not None:
            site.keeper.record_process(pid)
        hands.add(name, worker, log)

    def _handed(self, stack: ExitStack, path: Path) -> Handed:
        """Open a file that a worker is the writer of, and make it its user's."""
        fd = stack.enter_context(path.open("ab")).fileno()
        if self.site.around.owner:
            os.fchown(fd, *self.site.around.owner)
        return Handed(path=f"/proc/self/fd/{fd}" if self.site.native else str(path), fd=fd)

    def _written(self, name: str, context: Context) -> Path:
        """Write a worker's context where its user can read it; the first one's stays in the run directory."""
        file = self.site.scratch / f"{name}.json"
        file.write_text(json.dumps(codec.encode(context)))
        file.chmod(0o644)
        if name.endswith(".1"):
            (self.site.folder / "context.json").write_text(json.dumps(codec.encode(_public(context))))
        return file

    def _argv(self, context_file: Path, expression: str) -> list[str]:
        code = self.site.scratch / "code"
        words = [self.site.around.python, "-B", "-m", "pytest", "-c", str(code / "pyproject.toml")]
        words += [f"--rootdir={code}", "--capture=no", "--tb=no"]
        words += [word for plugin in _IDLE for word in ("-p", f"no:{plugin}")]
        words += [f"--context={context_file}", *(["-k", expression] if expression else [])]
        return [*words, *(str(code / folder) for folder in self.folders)]

    def _environment(self, context: Context) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": f"{self.site.scratch / 'code'}:{self.site.scratch / 'site'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "HOME": context.paths.scratch,
            "TMPDIR": context.paths.scratch,
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
        }


def _public(context: Context) -> Context:
    """Return a context without the values of the targets' variables: a run directory is passed around."""
    named = (replace(target, environment=dict.fromkeys(target.environment, "...")) for target in context.targets)
    return replace(context, targets=tuple(named))


def missing_among(findings: Iterable[Finding], promises: Iterable[Fact]) -> list[Finding]:
    """Return the findings of facts that were promised and are missing."""
    wanted = set(promises)
    return [finding for finding in findings if not finding.present and finding.fact in wanted]
