"""One session: an environment made, preflight and tests run in it, and all of it taken away again (layer 2)."""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from suites.catalog import SUITES, Environment, Place
from suites.framework import cleanup, codec, delivery, framework_log, judgement
from suites.framework.bench import EVIDENCE
from suites.framework.build import availability
from suites.framework.errors import InfrastructureError
from suites.framework.events import EventLog
from suites.framework.facts import Finding
from suites.framework.hooks import NO_HOOKS, Hooks
from suites.framework.keeper import Keeper
from suites.framework.model import MISSING, Ended, Limits, Note, Outcome, Planned, Selection
from suites.framework.options import Options
from suites.framework.phase import TESTS, Phase, Site, missing_among
from suites.framework.provisioning import containerd
from suites.framework.results.rundir import RunDirectory
from suites.framework.steps import log
from suites.framework.subjects import CHECKOUT, Subjects, failed_nodes, within_reach
from suites.framework.surroundings import Builder, Surroundings

PREFLIGHT = "preflight"


class Session:
    """The run of one environment within a run directory."""

    def __init__(
        self,
        options: Options,
        here: Environment,
        run: RunDirectory,
        *,
        hooks: Hooks = NO_HOOKS,
        stream: TextIO = sys.stderr,
    ) -> None:
        """Prepare; nothing is started before `execute`."""
        self.options, self.here, self.run, self.hooks, self.stream = options, here, run, hooks, stream
        self.limits = Limits()
        self.seen: tuple[Finding, ...] = ()
        """Host findings, for a reader of a refusal."""
        self.folder = run.environment(here.name)
        self.scratch = Path(tempfile.gettempdir()) / f"seatrial-{run.path.name}-{here.name}"
        self.work = Path(tempfile.gettempdir()) / f"seatrial-{secrets.token_hex(4)}"
        """Of the workers: short, as the path of a socket has 107 bytes (unix(7)), and a target needs most of them."""

    def execute(self, found: Subjects) -> None:
        """Run preflight and tests; CannotRunError where this environment cannot run, KeyboardInterrupt after Ctrl-C."""
        with self._prepared(found) as (site, events):
            self._test(site, events, self._preflight(site))

    def examine(self, found: Subjects) -> tuple[Finding, ...]:
        """Return the facts of this environment and of the host as `execute` meets them; try the targets, if any."""
        with self._prepared(found) as (site, events):
            findings = self._preflight(site)
            if found.targets:
                self._test(site, events, findings)
        return (*site.around.findings, *findings)

    # ---- the environment

    @contextmanager
    def _prepared(self, found: Subjects) -> Iterator[tuple[Site, EventLog]]:
        """Make the environment with its keeper and scratch folder; take all of it away again."""
        with ExitStack() as stack:
            keeper = Keeper.start(self.folder / "journal.jsonl")
            stack.callback(keeper.finish)
            keeper.record(derive=str(self.run.path))
            for folder in (self.scratch, self.work):
                keeper.record(scratch=str(folder))
                cleanup.make_scratch(folder).chmod(0o755)
            if not self.options.keep:
                stack.callback(self._clean)
            self._say(f"{self.here.name}: preparing")
            site = self._site(stack, found, keeper)
            delivery.deliver(CHECKOUT, self.scratch, further=containerd.DELIVERED if found.engine else ())
            events = stack.enter_context(EventLog(self.run.events(self.here.name, TESTS, "launcher")))
            self._introduce(events, found, site.around)
            yield site, events

    def _site(self, stack: ExitStack, found: Subjects, keeper: Keeper) -> Site:
        """Make the surroundings, with the subjects where the workers' user can reach them."""
        builder = Builder(
            self.options,
            self.here,
            run=self.run.path.name,
            folder=self.folder,
            scratch=self.scratch,
            work=self.work,
            limits=self.limits,
            keeper=keeper,
        )
        self.labels = builder.labels
        try:
            around = stack.enter_context(builder.build(found))
        finally:
            self.seen = builder.seen
        native = self.here.place is Place.NATIVE
        return Site(
            run=self.run,
            scratch=self.scratch,
            work=self.work,
            limits=self.limits,
            promises=self.options.promises,
            around=around,
            found=within_reach(found, self.scratch / "targets") if native and around.owner else found,
            keeper=keeper,
            stream=self.stream,
            hooks=self.hooks,
        )

    def _say(self, line: str) -> None:
        framework_log.write(self.run.path, "info", line, environment=self.here.name)
        self.stream.write(f"{line}\n")
        self.stream.flush()

    def _clean(self) -> None:
        for folder in (self.work, self.scratch):
            if problem := cleanup.remove_scratch(folder):
                self._say(f"warning: {problem}")

    def _introduce(self, events: EventLog, found: Subjects, around: Surroundings) -> None:
        """Note the targets, for readers who have only the events."""
        for target in found.targets:
            value = {key: getattr(target, key) for key in ("name", "kind", "role", "version", "sha256", "path")}
            control = target.profile.control
            value |= {"limits": target.profile.limits, "null": judgement.is_null(control, target.kind)}
            events.write(Note(name="target", value=codec.encode(value)))
        for absent in found.absent:
            events.write(Note(name="absent", value={"name": absent.name, **codec.encode(absent.missing)}))
            self._say(f"{absent.name}: not tried: {absent.missing.reason}; {absent.missing.remedy}")
        self.run.add(findings=(*around.findings, *found.findings), promised={self.here.name: self.options.promises})

    # ---- phases

    def _preflight(self, site: Site) -> tuple[Finding, ...]:
        """Run the preflight phase; return the findings inside the environment."""
        with EventLog(self.run.events(self.here.name, PREFLIGHT, "launcher")) as own:
            tools = availability.findings(self.options.promises)
            self._keep_promises(own, (*site.around.findings, *site.found.findings, *tools))
            hands = Phase(site=site, name=PREFLIGHT, folders=("suites/preflight",), events=own).execute()
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
        for finding in missing_among(findings, self.options.promises):
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

    def _test(self, site: Site, events: EventLog, findings: tuple[Finding, ...]) -> None:
        Phase(
            site=site,
            name=TESTS,
            folders=tuple(SUITES[kind] for kind in self.options.kinds),
            events=events,
            selection=self._selection(),
            findings=(*site.around.findings, *site.found.findings, *findings),
            workers=site.around.workers,
        ).execute()
        self._keep_evidence()
        if site.around.engine is not None:
            left = site.around.engine.list_labelled(self.labels)
            events.write(Note(name="leaks", value={"containers": len(left)}))

    def _selection(self) -> Selection:
        options = self.options
        return Selection(
            kinds=options.kinds,
            cases=options.cases,
            expression=options.expression,
            tier=options.tier,
            pod_tier=options.pod_tier,
            nodes=failed_nodes(options, self.here.name),
            repeat=options.repeat,
            exitfirst=options.exitfirst,
            shard=options.shard,
        )

    def _keep_evidence(self) -> None:
        """Copy what wrappers wrote about nodes to the run's artefacts, the logs of their steps to its logs."""
        for folder in sorted(self.work.glob(f"*/{EVIDENCE}/*")):
            kept = self.folder / "artefacts" / folder.name
            if folder.is_dir():
                shutil.copytree(folder, kept, dirs_exist_ok=True, symlinks=True)
            elif folder.is_file() and not folder.is_symlink():
                kept.parent.mkdir(exist_ok=True)
                if folder.suffix == log.SUFFIX:
                    log.keep(folder, self.folder / "logs" / folder.name)
                else:
                    shutil.copyfile(folder, kept)
