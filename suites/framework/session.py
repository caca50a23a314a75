"""One session: targets resolved, an environment made, preflight and tests run in it, results derived (layer 2)."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TextIO

from suites.catalog import SUITES, Environment, Place, Privilege
from suites.framework import cases as case_list
from suites.framework import cleanup, codec, crew, delivery
from suites.framework.bench import EVIDENCE
from suites.framework.environments import engine as docker
from suites.framework.environments import image as images
from suites.framework.environments import probe
from suites.framework.environments.container import ContainerDriver
from suites.framework.environments.driver import Driver, Mount
from suites.framework.environments.native import NativeDriver
from suites.framework.environments.run_cgroup import RunCgroup
from suites.framework.environments.user import User, find_user
from suites.framework.errors import CannotRunError, ExitCode, InfrastructureError
from suites.framework.events import EventLog
from suites.framework.facts import Fact, Finding
from suites.framework.keeper import Keeper
from suites.framework.model import SCHEMA, Context, Limits, Note, Paths, Profile, Selection, Target
from suites.framework.options import Options
from suites.framework.progress import Progress, Tail
from suites.framework.provisioning import payload as payloads
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.resolve import Absent, resolve
from suites.framework.results.rundir import RunDirectory, invoking_user
from suites.framework.targets.catalogue import load_catalogue
from suites.framework.targets.profile import check_cases

CHECKOUT = Path(__file__).parents[2]
FIXTURES = CHECKOUT / "fixtures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an environment of this run is made of."""

    here: Environment
    driver: Driver
    python: str
    owner: tuple[int, int] | None
    """Uid and gid under which workers write, where that is not this process's."""
    image: images.Image | None
    engine: docker.Engine | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """The targets of a run, and those that cannot be had."""

    targets: tuple[Target, ...]
    absent: tuple[Absent, ...]
    payload: tuple[str, ...]
    compiler: Finding


def subjects(options: Options) -> Subjects:
    """Resolve and stage the targets, build the payload; UsageError for names, paths and cases that do not exist."""
    cache = Cache(options.cache)
    catalogue = load_catalogue(FIXTURES / "targets")
    known = case_list.load(CHECKOUT)
    for word in options.cases:
        case_list.find(known, word)
    targets, absent = resolve(
        options.targets,
        catalogue,
        base=options.base,
        cache=cache,
        fixtures=FIXTURES,
        offline=options.offline,
        profile_file=options.profile or own_profile(options, catalogue),
        target_env=options.target_env,
        wrap=options.wrap,
    )
    ids = {case.id for case in known} | {f"{case.kind}:{case.id}" for case in known}
    for target in targets:
        check_cases(target.profile, ids)
    compiler = payloads.probe_compiler()
    return Subjects(targets=targets, absent=absent, payload=payloads.payload(FIXTURES, cache=cache), compiler=compiler)


def own_profile(options: Options, catalogue: Mapping[str, Profile]) -> Path | None:
    """Return the user's own seatrial.toml, where there is one beside a target that the catalogue does not know."""
    path = options.base / "seatrial.toml"
    names = (re.split(r"[=+]", word, maxsplit=1)[0] for word in options.targets)
    return path if path.is_file() and any(name not in catalogue for name in names) else None


class Session:
    """The run of one environment within a run directory."""

    def __init__(self, options: Options, here: Environment, run: RunDirectory, *, stream: TextIO = sys.stderr) -> None:
        """Prepare; nothing is started before `execute`."""
        self.options, self.here, self.run, self.stream = options, here, run, stream
        self.limits = Limits()
        self.seen: tuple[Finding, ...] = ()
        """Host findings so far, for a reader of a refusal."""
        self.folder = run.environment(here.name)
        self.scratch = Path(tempfile.gettempdir()) / f"seatrial-{run.path.name}-{here.name}"

    def execute(self, found: Subjects) -> None:
        """Run preflight and tests; CannotRunError where this environment cannot run, KeyboardInterrupt after Ctrl-C."""
        with self._prepared(found) as (around, events, keeper):
            findings = self._preflight(around, found, keeper)
            self._test(around, found, findings, events, keeper)

    def examine(self, found: Subjects) -> tuple[Finding, ...]:
        """Return the facts of this environment and of the host as `execute` meets them; try the targets, if any."""
        with self._prepared(found) as (around, events, keeper):
            findings = self._preflight(around, found, keeper)
            if found.targets:
                self._test(around, found, findings, events, keeper)
        return (*around.findings, *findings)

    @contextmanager
    def _prepared(self, found: Subjects) -> Iterator[tuple[Surroundings, EventLog, Keeper]]:
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
            around = stack.enter_context(self._surroundings(keeper, found))
            delivery.deliver(CHECKOUT, self.scratch)
            events = stack.enter_context(EventLog(self.run.events(self.here.name, "test", "launcher")))
            self._introduce(events, found, around)
            yield around, events, keeper

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

    @contextmanager
    def _surroundings(self, keeper: Keeper, found: Subjects) -> Iterator[Surroundings]:
        """Make the environment's driver; CannotRunError with the remedy where a host fact is missing."""
        with ExitStack() as stack:
            engine, image, dockers = self._docker(stack)
            if self.here.place is Place.NATIVE:
                yield self._native(stack, keeper, engine, image, dockers)
            else:
                yield self._container(stack, keeper, engine, image, dockers, found)

    def _docker(self, stack: ExitStack) -> tuple[docker.Engine | None, images.Image | None, tuple[Finding, ...]]:
        """Connect to the engine and choose the image; without either say why as findings."""
        chosen: list[images.Image] = []

        def choose(engine: docker.Engine) -> images.Image:
            chosen.append(images.choose(engine, name=self.options.image, offline=self.options.offline))
            return chosen[-1]

        try:
            engine = stack.enter_context(docker.connect())
            findings = self._docker_findings(engine, choose)
        except docker.EngineError as error:
            words = error.why or str(error)
            facts = (Fact.DOCKER, Fact.DOCKER_PRIVILEGED, Fact.DOCKER_USER_NAMESPACES)
            remedy = probe.docker_remedy(words)
            return (
                None,
                None,
                tuple(
                    Finding(fact=fact, present=False, probe="connect to the Docker engine", detail=words, remedy=remedy)
                    for fact in facts
                ),
            )
        return engine, chosen[-1] if chosen else None, findings

    def _docker_findings(self, engine: docker.Engine, choose: probe.Choose) -> tuple[Finding, ...]:
        answer = Finding(
            fact=Fact.DOCKER, present=True, probe="connect to the Docker engine", detail=f"Docker {engine.version}"
        )
        if self.here.place is Place.CONTAINER:
            return (answer, *probe.container_findings(engine, choose))
        choose(engine)
        return (answer,)

    def _native(
        self,
        stack: ExitStack,
        keeper: Keeper,
        engine: docker.Engine | None,
        image: images.Image | None,
        dockers: tuple[Finding, ...],
    ) -> Surroundings:
        root = self.here.privilege is Privilege.ROOT
        user = find_user(self.options.as_user)
        account = user if isinstance(user, User) else None
        findings = (probe.root_finding(self._sudo()), probe.user_finding(user), *dockers)
        self._need(findings, Fact.ROOT if root else Fact.ORDINARY_USER)
        wall = probe.wall_finding(None if root else account)
        self._need((wall,), Fact.NAMESPACE_WALL)
        workers = self.options.workers or crew.default_workers()
        together = replace(self.limits, processes=(workers + 1) * self.limits.processes)
        cgroup = RunCgroup.create(f"{self.run.path.name}-{self.here.name}", together)
        for path in cgroup.paths:
            keeper.record(cgroup=str(path))
        stack.callback(cgroup.remove)
        self._containers(stack, keeper, engine)
        places = partial(cgroup.worker, processes=self.limits.processes)
        driver = NativeDriver(self.here.privilege, limits=self.limits, user=account, cgroups=places, workers=workers)
        stack.callback(driver.close)
        other = None if root or account is None or account.uid == os.geteuid() else account
        return Surroundings(
            here=self.here,
            driver=driver,
            python=delivery.interpreter(other),
            owner=(other.uid, other.gid) if other else None,
            image=image,
            engine=engine,
            findings=(*findings, wall, *cgroup.findings),
        )

    def _container(
        self,
        stack: ExitStack,
        keeper: Keeper,
        engine: docker.Engine | None,
        image: images.Image | None,
        findings: tuple[Finding, ...],
        found: Subjects,
    ) -> Surroundings:
        root = self.here.privilege is Privilege.ROOT
        self._need(findings, Fact.DOCKER)
        self._need(findings, Fact.DOCKER_PRIVILEGED if root else Fact.DOCKER_USER_NAMESPACES)
        if engine is None or image is None:
            raise InfrastructureError("no container image", remedy="use --image NAME")
        self._containers(stack, keeper, engine)
        readable = {str(self.scratch), *staged(found)}
        mounts = [Mount(path=path) for path in sorted(readable)]
        mounts += [Mount(path=str(self.scratch / "work"), writable=True), Mount(path=str(self.folder), writable=True)]
        driver = ContainerDriver(
            self.here.privilege, engine=engine, image=image, run=self.run.path.name, limits=self.limits, mounts=mounts
        )
        stack.callback(driver.close)
        uid, _, gid = image.user.partition(":")
        owner = None if root else (int(uid), int(gid or uid))
        return Surroundings(
            here=self.here,
            driver=driver,
            python=image.python,
            owner=owner,
            image=image,
            engine=engine,
            findings=findings,
        )

    def _containers(self, stack: ExitStack, keeper: Keeper, engine: docker.Engine | None) -> None:
        """See to it that no container of this session outlives it."""
        if engine is not None:
            keeper.record(containers=self.run.path.name, environment=self.here.name)
            stack.callback(lambda: engine.remove_labelled(self._labels))

    @property
    def _labels(self) -> dict[str, str]:
        """Return what every container of this session is labelled with."""
        return {cleanup.RUN_LABEL: self.run.path.name, cleanup.ENVIRONMENT_LABEL: self.here.name}

    def _need(self, findings: Sequence[Finding], fact: Fact) -> None:
        """Raise where a host fact that this environment needs is missing: as a failure if it was promised."""
        self.seen = tuple(dict.fromkeys((*self.seen, *findings)))
        missing = next((finding.missing for finding in findings if finding.fact is fact and finding.missing), None)
        if missing is None:
            return
        what = f"{self.here.name} cannot run here"
        if fact in self.options.promises:
            raise InfrastructureError(f"{fact} was promised and is missing", why=missing.reason, remedy=missing.remedy)
        raise CannotRunError(what, why=missing.reason, remedy=missing.remedy)

    def _sudo(self) -> str:
        """Return the line that starts the same session as root."""
        words = ["sudo", sys.executable, "-m", "nox", "-s", f"acceptance-{self.here.privilege}({self.here.place})"]
        given = shlex.split(os.environ.get("SEATRIAL_WORDS", ""))
        return shlex.join([*words, *(["--", *given] if given else [])])

    # -- phases

    def _preflight(self, around: Surroundings, found: Subjects, keeper: Keeper) -> tuple[Finding, ...]:
        """Run the preflight phase; return the findings inside the environment."""
        selection = Selection()
        with EventLog(self.run.events(self.here.name, "preflight", "launcher")) as own:
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

    def _test(
        self, around: Surroundings, found: Subjects, findings: tuple[Finding, ...], events: EventLog, keeper: Keeper
    ) -> None:
        options = self.options
        selection = Selection(
            kinds=options.kinds,
            cases=options.cases,
            expression=options.expression,
            tier=options.tier,
            nodes=failed_nodes(options, self.here),
            repeat=options.repeat,
            exitfirst=options.exitfirst,
            shard=options.shard,
        )
        folders = [SUITES[kind] for kind in options.kinds]
        workers = options.workers or crew.default_workers()
        self._phase("test", folders, selection, around, found, (*around.findings, *findings), workers, events, keeper)
        self._keep_evidence()
        if around.engine is not None:
            left = around.engine.list_labelled(self._labels)
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
    ) -> Context:
        work = self.scratch / "work" / f"{phase[0]}{number}"
        work.mkdir(parents=True, exist_ok=True)
        if around.owner:
            os.chown(work, *around.owner)
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
            limits=self.limits,
            paths=Paths(
                suites=str(self.scratch / "code"),
                run=str(self.folder),
                scratch=str(work),
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
        words += ["--capture=no", "-p", "no:cacheprovider", f"--context={context_file}"]
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


def staged(found: Subjects) -> set[str]:
    """Return the folders outside /usr that hold targets, their libraries and the payload."""
    words = [word for target in found.targets for word in target.argv] + list(found.payload)
    folders = {str(Path(word).parent) for word in words if word.startswith("/") and not word.startswith("/usr/")}
    for target in found.targets:
        folders.update(filter(None, target.environment.get("LD_LIBRARY_PATH", "").split(":")))
    return {folder for folder in folders if Path(folder).is_dir()}


def failed_nodes(options: Options, here: Environment) -> tuple[str, ...]:
    """Return the nodes of an earlier run that ``--failed`` asks for; CannotRunError where nothing failed."""
    if options.failed is None:
        return ()
    from suites.framework.plugin import bare
    from suites.framework.results.view import load

    run = RunDirectory.open(
        options.runs / options.failed if "/" not in options.failed else options.base / options.failed
    )
    view = load(run).only(here.name)
    nodes = tuple(dict.fromkeys(bare(result.node) for result in view.problems if result.phase == "test"))
    if not nodes:
        raise CannotRunError(
            f"nothing failed in {here.name} of {run.path.name}", remedy="leave out --failed to run everything"
        )
    return nodes


def conclude(run: RunDirectory, here: Environment, code: ExitCode, reason: str = "") -> None:
    """Write how an environment's session ended, for the noxfile and for `derive`."""
    run.conclude(here.name, code, reason)
