"""The events, logs and metrics of the builds of one run: phase ``build`` of environment ``host`` (layer 2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from suites.framework.build.build import Built, Prepared, Request, make, prepare
from suites.framework.build.tool import BuildFailedError, Execute
from suites.framework.events import EventLog
from suites.framework.facts import Fact, Missing
from suites.framework.hooks import NO_HOOKS, Hooks
from suites.framework.identity import of_launcher
from suites.framework.keeper import Keeper
from suites.framework.manifest import SUFFIX, manifest
from suites.framework.model import MISSING, Ended, Note, Outcome, Planned, Started
from suites.framework.provisioning.cache import Cache
from suites.framework.results.manifest import write
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import HOST
from suites.framework.sampler import MetricsFile
from suites.framework.steps.runner import Runner
from suites.framework.steps.step import Step, StepEnd

PHASE = "build"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A build that failed."""

    name: str
    fact: Fact
    """Of the tool that failed."""
    summary: str
    """Step and how it ended."""
    log: Path
    paragraph: str
    """Step, how it ended, the end of its log and where the log is."""


class BuildPhase:
    """Builds targets of one run, one after the other."""

    def __init__(
        self,
        *,
        run: RunDirectory,
        cache: Cache,
        events: EventLog,
        execute: Execute,
        promises: Sequence[Fact] = (),
        offline: bool = False,
        as_root: bool = False,
    ) -> None:
        """Take what all builds share; `opened` makes it with everything around it."""
        self.run, self.cache, self.events, self.execute = run, cache, events, execute
        self.promises, self.offline, self.as_root = tuple(promises), offline, as_root

    def build(self, request: Request) -> Built | Missing | Failed:
        """Build one target or say why not; UsageError for a checkout that no tool could build."""
        prepared = prepare(request, work=self.cache.root / "work", as_root=self.as_root)
        self.run.add(findings=prepared.findings, promised={HOST: self.promises})
        if prepared.missing is not None:
            self._refuse(prepared, prepared.missing)
            return prepared.missing
        try:
            built = make(
                prepared,
                cache=self.cache,
                logs=self.run.environment(HOST) / "logs",
                execute=self.execute,
                offline=self.offline,
            )
        except BuildFailedError as error:
            return Failed(
                name=request.name,
                fact=prepared.choice.tool.fact,
                summary=str(error),
                log=error.end.log,
                paragraph=paragraph(error.step, error.end, prepared.checkout.remarks),
            )
        self._introduce(request, built)
        listed = manifest(built.path.parent)
        write(self.run.environment(HOST) / "artefacts" / f"{request.name}{SUFFIX}", listed)
        if built.unchanged:
            node, said = f"build::{request.name}::cached", f"unchanged: build {built.record.key[:12]} serves"
            self._write(request, Ended(node=node, outcome=Outcome.PASSED, message=said))
        return built

    def _introduce(self, request: Request, built: Built) -> None:
        """Note the target with its limits, for the gate that judges what its build took."""
        value = {"name": request.name, "kind": "", "role": "target", "version": "", "path": str(built.path)}
        value |= {"sha256": built.product.sha256}
        self.events.write(Note(name="target", value={**value, "limits": dict(request.profile.limits), "null": False}))

    def _refuse(self, prepared: Prepared, missing: Missing) -> None:
        node = f"build::{prepared.request.name}::{prepared.choice.tool.name}"
        reason, said = f"{MISSING}{missing.fact}", f"{missing.reason}; {missing.remedy}"
        skipped = Ended(node=node, outcome=Outcome.SKIPPED, reason=reason, message=said)
        promised = Ended(
            node=node,
            outcome=Outcome.FAILED,
            reason=reason,
            message=f"{missing.fact} was promised and is missing: {said}",
            expected=f"{missing.fact} as promised",
            actual=missing.reason,
        )
        self._write(prepared.request, promised if missing.fact in self.promises else skipped)

    def _write(self, request: Request, end: Ended) -> None:
        """Write the node of what needed no command."""
        self.events.write(
            Planned(
                node=end.node,
                cases=(),
                target=request.name,
                kind="",
                mode="",
                title=f"{request.name} is built from its checkout",
                file=str(request.directory),
                line=0,
            )
        )
        self.events.write(Started(node=end.node))
        self.events.write(end)


def paragraph(step: Step, end: StepEnd, remarks: Sequence[str] = ()) -> str:
    """Return what a person needs to mend a failed build: what the copy lacked is often the cause."""
    lines = [f"{step.name} failed: {end.detail}", *filter(None, [end.tail.rstrip()]), *remarks]
    return "\n".join([*lines, f"the whole log: {end.log}"])


@contextmanager
def opened(
    run: RunDirectory,
    cache: Cache,
    *,
    promises: Sequence[Fact] = (),
    offline: bool = False,
    as_root: bool = False,
    hooks: Hooks = NO_HOOKS,
) -> Iterator[BuildPhase]:
    """Open the phase's event log; what only a step needs is made when there is one."""
    with ExitStack() as stack:
        events = stack.enter_context(EventLog(run.events(HOST, PHASE, "launcher")))
        events.write(of_launcher(run.path.name, environment=HOST, phase=PHASE))
        runners: list[Runner] = []

        def execute(step: Step, log: Path) -> StepEnd:
            if not runners:
                runners.append(_runner(stack, run, events, hooks))
            if (keeper := runners[0].keeper) is not None:
                keeper.record(scratch=str(step.cwd.parent))
            return runners[0].execute(step, log)

        yield BuildPhase(
            run=run, cache=cache, events=events, execute=execute, promises=promises, offline=offline, as_root=as_root
        )


def _runner(stack: ExitStack, run: RunDirectory, events: EventLog, hooks: Hooks) -> Runner:
    folder = run.environment(HOST)
    keeper = Keeper.start(folder / f"{PHASE}.journal.jsonl")
    stack.callback(keeper.finish)
    metrics = stack.enter_context(MetricsFile(folder / "metrics" / f"{PHASE}.jsonl"))
    return Runner(events=events, run=run.path, environment=HOST, metrics=metrics, hooks=hooks, keeper=keeper)
