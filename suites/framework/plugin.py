"""The pytest plugin of a worker: options, parametrisation, fixtures, and the event log (layer 1).

A worker is one pytest process of a run, with a share of the cases and an event file of its own. Everything that
anybody reads later comes from these events; pytest's own terminal output is only a log.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import ENVIRONMENTS, Environment, Kind
from suites.framework import judgement, leaks, marks, planning, probes
from suites.framework.bench import Bench, census_of
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.codec import decode, encode
from suites.framework.events import EventLog
from suites.framework.facts import Fact, Finding, Missing
from suites.framework.identity import identity, keep_to_ourselves
from suites.framework.judgement import Sight, Verdict
from suites.framework.leaks import Leak
from suites.framework.lifeline import Lifeline
from suites.framework.linkage import unloadable
from suites.framework.model import (
    Context,
    Ended,
    Evidence,
    Finished,
    Note,
    Outcome,
    Planned,
    Role,
    Started,
    Target,
)
from suites.framework.observation import Lacking, NotOffered, Unmet
from suites.framework.oci import caller
from suites.framework.oci.runtime import Runtime
from suites.framework.offers import unoffered
from suites.framework.planning import Node, Pairing
from suites.framework.pod.engine import Engine
from suites.framework.pod.engines import Engines
from suites.framework.pod.pods import Pods
from suites.framework.secrecy import Secrets
from suites.framework.targets.contained import ContainedInit
from suites.framework.targets.deviations import match
from suites.framework.targets.init import Init
from suites.framework.terminal import Terminal

NODE = pytest.StashKey[Node]()
CASE_FIXTURES: dict[str, Kind] = {
    "init": Kind.INIT,
    "contained": Kind.INIT,
    "runtime": Kind.OCI,
    "wrapper": Kind.BUILDSCRIPTS,
    "pods": Kind.POD,
}
"""Fixtures that are a target in a mode, and the kind they draw from."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--context``, the one option of a worker."""
    parser.getgroup("seatrial").addoption("--context", metavar="FILE", help="context.json of this worker")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks; with a context, become a worker."""
    for name, meaning in marks.MARKS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")
    if path := config.getoption("--context"):
        context = decode(Context, json.loads(Path(path).read_text()))
        config.pluginmanager.register(Worker(context), "seatrial-worker")


class Worker:
    """The hooks of one worker; its state lives as long as the pytest session."""

    def __init__(self, context: Context) -> None:
        """Open the event log and say who this worker is."""
        self._context = context
        self._here: Environment = next(e for e in ENVIRONMENTS if e.name == context.environment)
        self.name = f"{context.phase}.{context.worker}"
        self._counts: Counter[str] = Counter()
        self._leaks: Counter[str] = Counter()
        self._failed: set[tuple[Any, ...]] = set()
        self._number = 0
        self._compared: tuple[object, object] | None = None
        self._secrets = Secrets(context.targets)
        self._loadable: dict[str, Missing | None] = {}
        self._calibration: tuple[Finding, ...] = ()
        self._engines = Engines(context, python=sys.executable)
        self._lifeline = Lifeline(0)
        self._lifeline.start()
        self.log = EventLog(Path(context.paths.events))
        caller.spare()
        keep_to_ourselves()
        self.log.write(identity(context, self.name))

    # -- collection

    @property
    def _facts(self) -> tuple[Fact, ...]:
        """Return the facts that preflight probes here."""
        return probes.applicable(self._here.place, pods=self._context.paths.engine is not None)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrise the fixture that is a target with every target and mode that makes sense here."""
        if "fact" in metafunc.fixturenames:
            metafunc.parametrize("fact", self._facts, ids=str)
        for fixture, kind in CASE_FIXTURES.items():
            if fixture in metafunc.fixturenames:
                found = planning.pairings(list(metafunc.definition.iter_markers()), self._context, self._here, kind)
                metafunc.parametrize(fixture, found, ids=[pairing.id for pairing in found], indirect=True)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep this worker's share: all targets of a case and parameter together, references first."""
        for item in items:
            item.stash[NODE] = planning.node(item, self._here)
        chosen = [item for item in items if planning.wanted(item.stash[NODE], self._context, item.nodeid)]
        shares = self._shares(chosen)
        kept = [item for item in chosen if self._mine(item, shares)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        kept.sort(key=lambda item: self._rank(item.stash[NODE]))
        items[:] = kept

    @staticmethod
    def _group(item: pytest.Item) -> str:
        node = item.stash[NODE]
        return f"{' '.join(node.cases)} {node.parameter}" if node.cases else item.nodeid

    def _shares(self, items: list[pytest.Item]) -> dict[str, int]:
        """Return which worker of the whole (shard and worker together) runs each group."""
        _, shards = self._context.selection.shard
        weights = Counter[str]()
        for item in items:
            weights[self._group(item)] += planning.weighed(item.stash[NODE])
        pods = {self._group(item) for item in items if self._of_pods(item)}
        places = planning.with_engines(self._context.workers, shards)
        few = dict.fromkeys(pods, places) if pods != weights.keys() else {}
        return planning.share(weights, shards * self._context.workers, few=few)

    def _mine(self, item: pytest.Item, shares: dict[str, int]) -> bool:
        shard, _ = self._context.selection.shard
        return shares[self._group(item)] == (shard - 1) * self._context.workers + self._context.worker - 1

    @staticmethod
    def _rank(node: Node) -> tuple[Any, ...]:
        role = node.pairing.target.role if node.pairing else Role.TARGET
        order = {Role.REFERENCE: 0, Role.TARGET: 1, Role.CONTROL: 2, Role.STANDBY: 3}
        return (*node.key, order[role])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Announce every node: one that is announced and never ends is an error."""
        for item in session.items:
            if not self._stands_by(item):
                self._announce(item)
        if any(self._of_pods(item) and not self._lacks(item) for item in session.items):
            self._engines.prepare()  # no case's time
        if any(Fact.ENGINE_OUTPUT in item.stash[NODE].requires for item in session.items):
            self._calibration = (self._engines.calibrate(),)
            self.log.write(Note(name="finding", value=encode(self._calibration[0])))
        gc.collect()
        gc.freeze()

    @staticmethod
    def _of_pods(item: pytest.Item) -> bool:
        pairing = item.stash[NODE].pairing
        return pairing is not None and pairing.target.kind is Kind.POD

    def _lacks(self, item: pytest.Item) -> bool:
        facts = (fact for fact in item.stash[NODE].requires if fact is not Fact.ENGINE_OUTPUT)
        return planning.absence(facts, self._context.findings) is not None

    @staticmethod
    def _stands_by(item: pytest.Item) -> bool:
        pairing = item.stash[NODE].pairing
        return pairing is not None and pairing.target.role is Role.STANDBY

    def _announce(self, item: pytest.Item) -> None:
        node, (file, line, _) = item.stash[NODE], item.location
        pairing = node.pairing
        self.log.write(
            Planned(
                node=item.nodeid,
                cases=node.cases,
                target=pairing.target.name if pairing else "",
                kind=pairing.target.kind if pairing else "",
                mode=pairing.mode if pairing else "",
                title=title(item),
                file=file,
                line=(line or 0) + 1,
                requires=tuple(map(str, node.requires)),
                parameter=node.parameter,
                standby=self._stands_by(item),
                weight=node.weight,
                tier=node.tier,
            )
        )

    # -- running

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Write ``started`` and ``ended`` around a node."""
        node, self._current = item.stash[NODE], Progress()
        if self._stands_by(item):
            self._current.idle = node.key not in self._failed
            if not self._current.idle:
                self._announce(item)
        if not self._current.idle:
            self.log.write(Started(node=item.nodeid))
        result = yield
        if not self._current.idle:
            self._finish(item, node)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Stop a case before it starts where the target does not offer it or the environment cannot run it."""
        node = item.stash[NODE]
        if self._current.idle:
            pytest.skip("a reference that no failure asked for")
        known = (*self._context.findings, *self._calibration, *planning.of_target(node.pairing))
        if missing := planning.absence(node.requires, known):
            raise Lacking(missing)
        if node.pairing and (missing := self._unloadable(node.pairing.target)):
            raise Lacking(missing)
        if node.pairing and (lacking := unoffered(node)):
            raise NotOffered(f"{node.pairing.target.name} does not offer: {lacking}")

    def _unloadable(self, target: Target) -> Missing | None:
        """Return why a target cannot be loaded in this environment; each is looked at once."""
        if target.name not in self._loadable:
            self._loadable[target.name] = unloadable(target, environment=os.environ)
        return self._loadable[target.name]

    def pytest_assertrepr_compare(self, left: object, right: object) -> None:
        """Remember what a failing comparison compared: ``expected == actual`` is the style of the suites."""
        self._compared = (left, right)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Note what went wrong in each phase; show an expected failure as such in the log too."""
        report = yield
        current, error = self._current, call.excinfo.value if call.excinfo else None
        if error is not None and current.decided is None and not current.idle:
            current.decided = judgement.decided(error, promises=self._context.promises)
            if current.decided is None:
                self._look(item.stash[NODE], call, error, report)
            elif current.decided.outcome is Outcome.SKIPPED:
                report.outcome, report.longrepr = (
                    "skipped",
                    (item.location[0], item.location[1] or 0, current.decided.message),
                )
        self._compared = None
        return report

    def _look(self, node: Node, call: pytest.CallInfo[None], error: BaseException, report: Any) -> None:
        """Keep what an exception says; show an expected failure as such in the log too."""
        seen = judgement.sight(error, compared=self._compared)
        if self._current.bench is not None:
            seen = judgement.without(seen, self._current.bench.nonce)
        if call.when != "call" and not isinstance(error, Unmet):
            seen = Sight(message=seen.message, blame=False)
        self._current.seen = self._current.seen or seen
        if not seen.blame and call.excinfo is not None:
            trace = str(call.excinfo.getrepr(style="short"))
            self._current.evidence.append(Evidence(title=f"traceback of {call.when}", text=trace))
        if call.when == "call" and self._judge(node, seen).outcome is Outcome.XFAILED:
            report.outcome, report.wasxfail = "skipped", seen.message

    def _judge(self, node: Node, seen: Sight | None) -> Verdict:
        pairing = node.pairing
        if pairing is None:
            return judgement.judge(seen, deviation=None, control=None, declared=False)
        target = pairing.target
        deviation = match(
            target.profile.deviation,
            cases=planning.named(target.kind, node.cases),
            environment=self._here.name,
            mode=pairing.mode,
            parameter=node.parameter,
            version=target.version,
            variant=target.variant,
            test=node.test,
        )
        if deviation is not None:
            deviation = judgement.concerning(deviation, node.parameter)
        control = target.profile.control
        declared = judgement.must_fail(control, pairing.mode, node.cases)
        return judgement.judge(seen, deviation=deviation, control=control, declared=declared)

    def _finish(self, item: pytest.Item, node: Node) -> None:
        current = self._current
        verdict = current.decided or self._judge(node, current.seen)
        if verdict.outcome in (Outcome.FAILED, Outcome.ERRORED, Outcome.XPASSED):
            if node.pairing and node.pairing.target.role is not Role.REFERENCE:
                self._failed.add(node.key)
            if self._context.selection.exitfirst:
                item.session.shouldstop = "--exitfirst"
        self._counts[verdict.outcome] += 1
        if verdict.outcome is not Outcome.XFAILED:  # what a control leaves when it fails as declared proves nothing
            self._leaks.update(leak.kind for leak in current.left)
        interesting = verdict.outcome in (Outcome.FAILED, Outcome.ERRORED)
        bench = current.bench
        target_s, cpu_s, rss_bytes = bench.cost if bench else (0.0, 0.0, 0)
        evidence = (*(bench.failure_evidence if bench else ()), *current.evidence) if interesting else ()
        for name, value in bench.notes if bench else ():
            self.log.write(self._secrets.hidden(Note(node=item.nodeid, name=name, value=value)))
        ended = Ended(
            node=item.nodeid,
            outcome=verdict.outcome,
            reason=str(verdict.reason),
            message=verdict.message,
            expected=verdict.expected,
            actual=verdict.actual,
            evidence=evidence,
            wall_s=time.monotonic() - current.began,
            target_s=target_s,
            cpu_s=cpu_s,
            rss_bytes=rss_bytes,
        )
        self.log.write(self._secrets.hidden(ended))

    def pytest_sessionfinish(self) -> None:
        """Write the last event, unless the worker was interrupted."""
        self._engines.close()
        self.log.write(Note(name="leaks", value={kind: self._leaks[kind] for kind in leaks.KINDS}))
        if not self._lifeline.stopping:
            self.log.write(Finished(counts=dict(self._counts)))

    # -- fixtures

    @cached_property
    def _census(self) -> leaks.Census:
        return census_of(self._context, self._here)

    @pytest.fixture
    def engine(self) -> Engine:
        """Return the worker's engine (kind pod); what it has of its own is counted before a test counts."""
        engine, started = self._engines.take()
        if started and "_census" in self.__dict__:
            self._census.close()
            del self._census
        return engine

    @pytest.fixture
    def context(self) -> Context:
        """Return everything that crossed the boundary into this environment."""
        return self._context

    @pytest.fixture
    def here(self) -> Environment:
        """Return the environment this worker runs in."""
        return self._here

    @pytest.fixture
    def bench(self, request: pytest.FixtureRequest) -> Iterator[Bench]:
        """Yield one test's nonce, scratch folder and census of leaks; settle it afterwards."""
        self._number += 1
        current = self._current
        bench = Bench(
            self._context,
            here=self._here,
            python=sys.executable,
            node=request.node.nodeid.rpartition("::")[2],
            number=self._number,
            census=self._census,
        )
        current.bench = bench
        yield bench
        if current.seen is not None and not bench.failure_evidence:
            bench.record_failure()
        left = bench.settle()
        current.left = left
        if seen := judgement.leaked(left):
            current.seen = current.seen or seen
            current.evidence.append(Evidence(title="left behind", text="\n".join(map(str, left))))
        elif current.seen is None and CASE_FIXTURES.keys() & set(request.fixturenames) and not bench.proven:
            words = "a record with this test's nonce from below the target"
            current.seen = Sight(message=f"expected {words}, but none came", expected=words, actual="none came")

    @pytest.fixture
    def init(self, request: pytest.FixtureRequest, bench: Bench) -> Init:
        """Return a container init in one mode (kind init)."""
        pairing: Pairing = request.param
        return Init(bench, pairing.target, pairing.mode)

    @pytest.fixture
    def contained(self, request: pytest.FixtureRequest, bench: Bench) -> ContainedInit:
        """Return a container init that is started by the docker command (kind init)."""
        pairing: Pairing = request.param
        return ContainedInit(bench, pairing.target)

    @pytest.fixture
    def runtime(self, request: pytest.FixtureRequest, bench: Bench) -> Runtime:
        """Return an OCI runtime with state roots of the test's own (kind oci)."""
        pairing: Pairing = request.param
        return Runtime(bench, pairing.target)

    @pytest.fixture
    def wrapper(self, request: pytest.FixtureRequest, bench: Bench) -> Wrapper:
        """Return a wrapper of build scripts with a root folder of the test's own (kind buildscripts)."""
        pairing: Pairing = request.param
        return Wrapper(bench, pairing.target)

    @pytest.fixture
    def pods(self, request: pytest.FixtureRequest, engine: Engine, bench: Bench) -> Pods:
        """Return a runtime handler behind the worker's engine (kind pod)."""
        pairing: Pairing = request.param
        return Pods(bench, pairing.target, engine)

    @pytest.fixture
    def terminal(self, bench: Bench) -> Terminal:
        """Return a pseudo-terminal of the test's own."""
        opened = Terminal()
        bench.own(opened.close)
        return opened


class Progress:
    """What is known so far of the node that is running."""

    def __init__(self) -> None:
        """Start the node's clock."""
        self.began = time.monotonic()
        self.idle = False
        """True for a reference on standby whose case nobody failed: it leaves no trace."""
        self.decided: Verdict | None = None
        self.seen: Sight | None = None
        self.evidence: list[Evidence] = []
        self.left: tuple[Leak, ...] = ()
        self.bench: Bench | None = None


def title(item: pytest.Item) -> str:
    """Return the first line of the test's docstring."""
    documentation = getattr(getattr(item, "obj", None), "__doc__", None) or item.name
    return str(documentation).strip().splitlines()[0]
