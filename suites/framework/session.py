"""One session: targets resolved, an environment made, preflight and tests run in it, results derived (layer 2)."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from suites.catalog import SUITES, Environment, Place
from suites.framework import cleanup, codec, crew, delivery
from suites.framework.bench import EVIDENCE
from suites.framework.errors import InfrastructureError
from suites.framework.events import EventLog
from suites.framework.facts import Finding
from suites.framework.keeper import Keeper
from suites.framework.model import (
    MISSING,
    SCHEMA,
    Context,
    Ended,
    Limits,
    Note,
    Outcome,
    Paths,
    Planned,
    Selection,
)
from suites.framework.options import Options
from suites.framework.progress import Progress, Tail
from suites.framework.provisioning.staging import PYTHON
from suites.framework.results.rundir import RunDirectory, invoking_user
from suites.framework.subjects import CHECKOUT, Subjects, failed_nodes, within_reach
from suites.framework.surroundings import Builder, Surroundings

TWIN = 3
"""How much longer an observation may take with the payload's Python twin, where there is no compiler."""


class Session:
    """The run of one environment within a run directory."""

    def __init__(self, options: Options, here: Environment, run: RunDirectory, *, stream: TextIO = sys.stderr) -> None:
        """Prepare; nothing is started before `execute`."""
        self.options, self.here, self.run, self.stream = options, here, run, stream
        self.limits = Limits()
        self.seen: tuple[Finding, ...] = ()
        """Host findings, for a reader of a refusal."""
        self.folder = run.environment(here.name)
        self.scratch = Path(tempfile.gettempdir()) / f"seatrial-{run.path.name}-{here.name}"

    def execute(self, found: Subjects) -> None:
        """Run preflight and tests; CannotRunError where this environment cannot run, KeyboardInterrupt after Ctrl-C."""
        with self._prepared(found) as (around, reachable, events, keeper):
            findings = self._preflight(around, reachable, keeper)
            self._test(around, reachable, findings, events, keeper)

    def examine(self, found: Subjects) -> tuple[Finding, ...]:
        """Return the facts of this environment and of the host as `execute` meets them; try the targets, if any."""
        with self._prepared(found) as (around, reachable, events, keeper):
            findings = self._preflight(around, reachable, keeper)
            if found.targets:
                self._test(around, reachable, findings, events, keeper)
        return (*around.findings, *findings)

    @contextmanager
    def _prepared(self, found: Subjects) -> Iterator[tuple[Surroundings, Subjects, EventLog, Keeper]]:
        """Make the environment with its keeper and scratch folder; take all of it away again."""
        with ExitStack() as stack:
            keeper = Keeper.start(self.folder / "journal.jsonl")
            stack.callback(keeper.finish)
            keeper.record(derive=str(self.run.path))
            keeper.record(scratch=str(self.scratch))
            cleanup.make_scratch(self.scratch)
            self.scratch.chmod(0o755)
            if not self.options.keep:
                stack.callback(self._clean)
            self._say(f"{self.here.name}: preparing")
            around, reachable = self._build(stack, found, keeper)
            delivery.deliver(CHECKOUT, self.scratch)
            events = stack.enter_context(EventLog(self.run.events(self.here.name, "test", "launcher")))
            self._introduce(events, found, around)
            yield around, reachable, events, keeper

    def _build(self, stack: ExitStack, found: Subjects, keeper: Keeper) -> tuple[Surroundings, Subjects]:
        """Make the surroundings; return them with the subjects where the workers' user can reach them."""
        builder = Builder(
            self.options,
            self.here,
            run=self.run.path.name,
            folder=self.folder,
            scratch=self.scratch,
            limits=self.limits,
            keeper=keeper,
        )
        self.labels = builder.labels
        try:
            around = stack.enter_context(builder.build(found))
        finally:
            self.seen = builder.seen
        native = self.here.place is Place.NATIVE
        return around, within_reach(found, self.scratch / "targets") if native and around.owner else found

    def _say(self, line: str) -> None:
        self.stream.write(f"{line}\n")
        self.stream.flush()

    def _clean(self) -> None:
        if problem := cleanup.remove_scratch(self.scratch):
            self._say(f"warning: {problem}")

    def _introduce(self, events: EventLog, found: Subjects, around: Surroundings) -> None:
        """Note the targets, for readers who have only the events."""
        for target in found.targets:
            value = {key: getattr(target, key) for key in ("name", "kind", "role", "version", "sha256", "path")}
            control = target.profile.control
            events.write(
                Note(name="target", value=codec.encode({**value, "null": bool(control and "*" in control.plain)}))
            )
        for absent in found.absent:
            events.write(Note(name="absent", value={"name": absent.name, **codec.encode(absent.missing)}))
            self._say(f"{absent.name}: not tried: {absent.missing.reason}; {absent.missing.remedy}")
        self.run.add(findings=(*around.findings, found.compiler), promises=self.options.promises)

    # -- the environment

    # -- phases

    def _preflight(self, around: Surroundings, found: Subjects, keeper: Keeper) -> tuple[Finding, ...]:
        """Run the preflight phase; return the findings inside the environment."""
        selection = Selection()
        with EventLog(self.run.events(self.here.name, "preflight", "launcher")) as own:
            self._keep_promises(own, (*around.findings, found.compiler))
            hands = self._phase("preflight", ["suites/preflight"], selection, around, found, (), 1, own, keeper)
        notes = [record.event for record in hands.records if isinstance(record.event, Note)]
        findings = tuple(codec.decode(Finding, note.value) for note in notes if note.name == "finding")
        self.run.write_facts(self.here.name, findings)
        if not findings:
            raise InfrastructureError(
                f"{self.here.name}: preflight did not run",
                why=f"see {self.folder / 'logs/preflight.1.log'}",
                remedy="run nox -s doctor",
            )
        return findings

    def _keep_promises(self, events: EventLog, findings: Sequence[Finding]) -> None:
        """Fail for every fact of the host that was promised and is missing."""
        for finding in findings:
            if finding.missing is None or finding.fact not in self.options.promises:
                continue
            node = f"host::{finding.fact}"
            title = f"The machine has {finding.fact}, as promised."
            events.write(Planned(node=node, cases=(), target="", kind="", mode="", title=title, file="host", line=0))
            events.write(
                Ended(
                    node=node,
                    outcome=Outcome.FAILED,
                    reason=f"{MISSING}{finding.fact}",
                    message=f"{finding.fact} was promised and is missing: {finding.detail}; {finding.remedy}",
                    expected=f"{finding.fact} as promised",
                    actual=finding.detail,
                )
            )

    def _test(
        self, around: Surroundings, found: Subjects, findings: tuple[Finding, ...], events: EventLog, keeper: Keeper
    ) -> None:
        options = self.options
        selection = Selection(
            kinds=options.kinds,
            cases=options.cases,
            expression=options.expression,
            tier=options.tier,
            nodes=failed_nodes(options, self.here.name),
            repeat=options.repeat,
            exitfirst=options.exitfirst,
            shard=options.shard,
        )
        folders = [SUITES[kind] for kind in options.kinds]
        known = (*around.findings, *findings)
        self._phase("test", folders, selection, around, found, known, around.workers, events, keeper)
        self._keep_evidence()
        if around.engine is not None:
            left = around.engine.list_labelled(self.labels)
            events.write(Note(name="leaks", value={"containers": len(left)}))

    def _keep_evidence(self) -> None:
        """Copy what wrappers wrote about nodes to the run's artefacts."""
        for folder in sorted(self.scratch.glob(f"work/*/{EVIDENCE}/*")):
            shutil.copytree(folder, self.folder / "artefacts" / folder.name, dirs_exist_ok=True, symlinks=True)

    def _phase(
        self,
        phase: str,
        folders: Sequence[str],
        selection: Selection,
        around: Surroundings,
        found: Subjects,
        findings: tuple[Finding, ...],
        workers: int,
        events: EventLog,
        keeper: Keeper,
    ) -> crew.Crew:
        """Start the workers of a phase and wait for them."""
        tty = self.stream.isatty() and not os.environ.get("CI")
        hands = crew.Crew(
            events=events,
            tail=Tail(self.folder / "events"),
            progress=Progress(stream=self.stream, tty=tty, width=shutil.get_terminal_size().columns),
            node_s=self.limits.node_s,
            exitfirst=selection.exitfirst,
        )
        hands.tail.poll()

        def heir(name: str, nodes: tuple[str, ...]) -> None:
            rest = replace(selection, nodes=nodes, expression="", shard=(1, 1))
            context = self._context(phase, 1, 1, rest, around, found, findings, work=name)
            self._start(hands, name, context, folders, around, keeper)

        hands.heir = heir
        try:
            for number in range(1, workers + 1):
                name = f"{phase}.{number}"
                context = self._context(phase, number, workers, selection, around, found, findings)
                self._start(hands, name, context, folders, around, keeper)
            hands.wait()
        finally:
            if owner := invoking_user():
                self.run.hand_over(*owner, below=self.here.name)
        return hands

    def _context(
        self,
        phase: str,
        number: int,
        workers: int,
        selection: Selection,
        around: Surroundings,
        found: Subjects,
        findings: tuple[Finding, ...],
        *,
        work: str = "",
    ) -> Context:
        """Return what a worker is told; `work` names its scratch folder where its number does not."""
        place = self.scratch / "work" / (work or f"{phase[0]}{number}")
        twin = found.payload[0] == PYTHON[0]
        place.mkdir(parents=True, exist_ok=True)
        if around.owner:
            os.chown(place, *around.owner)
        return Context(
            schema=SCHEMA,
            run=self.run.path.name,
            environment=self.here.name,
            phase=phase,
            worker=number,
            workers=workers,
            selection=selection,
            targets=found.targets if phase == "test" else (),
            findings=findings,
            promises=self.options.promises,
            limits=replace(self.limits, deadline_s=self.limits.deadline_s * (TWIN if twin else 1)),
            paths=Paths(
                suites=str(self.scratch / "code"),
                run=str(self.folder),
                scratch=str(place),
                payload=found.payload,
                events="",
            ),
            image=around.image.name if around.image else "",
            image_mounts=tuple(mount.path for mount in around.image.mounts) if around.image else (),
        )

    def _start(
        self,
        hands: crew.Crew,
        name: str,
        context: Context,
        folders: Sequence[str],
        around: Surroundings,
        keeper: Keeper,
    ) -> None:
        """Start one worker; its event file is handed to it open, because its user may not reach the path."""
        phase, number = name.split(".")
        path = self.run.events(self.here.name, phase, number)
        with path.open("ab") as stream:
            if around.owner:
                os.fchown(stream.fileno(), *around.owner)
            native = self.here.place is Place.NATIVE
            events = f"/proc/self/fd/{stream.fileno()}" if native else str(path)
            context = replace(context, paths=replace(context.paths, events=events))
            file = self.scratch / f"{name}.json"
            file.write_text(json.dumps(codec.encode(context)))
            file.chmod(0o644)
            if name.endswith(".1"):
                (self.folder / "context.json").write_text(file.read_text())
            log = self.folder / "logs" / f"{name}.log"
            worker = around.driver.start(
                self._argv(around.python, file, folders, context),
                name=name.replace(".", "-"),
                env=self._environment(context),
                log=log,
                keep=(stream.fileno(),) if native else (),
            )
        if (pid := getattr(worker, "pid", None)) is not None:
            keeper.record_process(pid)
        hands.add(name, worker, log)

    def _argv(self, python: str, context_file: Path, folders: Sequence[str], context: Context) -> list[str]:
        code = self.scratch / "code"
        words = [python, "-B", "-m", "pytest", "-c", str(code / "pyproject.toml"), f"--rootdir={code}"]
        words += ["--capture=no", "--tb=no", "-p", "no:cacheprovider", f"--context={context_file}"]
        if context.selection.expression:
            words += ["-k", context.selection.expression]
        return [*words, *(str(code / folder) for folder in folders)]

    def _environment(self, context: Context) -> dict[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": f"{self.scratch / 'code'}:{self.scratch / 'site'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "HOME": context.paths.scratch,
            "TMPDIR": context.paths.scratch,
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
        }
