"""What the workers of a session run in: driver, interpreter, image, and the facts of the host (layer 2)."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from suites.catalog import Environment, Kind, Place, Privilege
from suites.framework import cleanup, crew, delivery
from suites.framework.environments import engine as docker
from suites.framework.environments import image as images
from suites.framework.environments import probe
from suites.framework.environments.container import ContainerDriver
from suites.framework.environments.driver import Driver, Mount
from suites.framework.environments.native import NativeDriver
from suites.framework.environments.run_cgroup import RunCgroup
from suites.framework.environments.user import User, find_user
from suites.framework.errors import CannotRunError, InfrastructureError
from suites.framework.facts import Fact, Finding
from suites.framework.keeper import Keeper
from suites.framework.model import Limits
from suites.framework.options import Options
from suites.framework.subjects import Subjects


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
    workers: int
    """How many run side by side."""


class Builder:
    """Makes the surroundings of one session and takes them away again."""

    def __init__(
        self,
        options: Options,
        here: Environment,
        *,
        run: str,
        folder: Path,
        scratch: Path,
        work: Path,
        limits: Limits,
        keeper: Keeper,
    ) -> None:
        """Take the session's names and places; nothing is made before `build`."""
        self.options, self.here, self.run, self.limits, self.keeper = options, here, run, limits, keeper
        self.folder, self.scratch, self.work = folder, scratch, work
        self.seen: tuple[Finding, ...] = ()
        """Host findings so far, for a reader of a refusal."""

    @contextmanager
    def build(self, found: Subjects) -> Iterator[Surroundings]:
        """Make the environment's driver; CannotRunError with the remedy where a host fact is missing."""
        with ExitStack() as stack:
            engine, image, dockers = self._docker(stack)
            if self.here.place is Place.NATIVE:
                yield self._native(stack, engine, image, dockers, found)
            else:
                yield self._container(stack, engine, image, dockers, found)

    def _docker(self, stack: ExitStack) -> tuple[docker.Engine | None, images.Image | None, tuple[Finding, ...]]:
        """Connect to the engine and choose the image; without either say why as findings."""
        chosen: list[images.Image] = []

        def choose(engine: docker.Engine) -> images.Image:
            chosen.append(images.choose(engine, name=self.options.image, offline=self.options.offline))
            return chosen[-1]

        try:
            engine = stack.enter_context(docker.connect())
            findings = (probe.docker_finding(engine), *self._container_findings(engine, choose))
        except docker.EngineError as error:
            return None, None, probe.docker_absent(error)
        return engine, chosen[-1] if chosen else None, findings

    def _container_findings(self, engine: docker.Engine, choose: probe.Choose) -> tuple[Finding, ...]:
        """Try the engine where it is needed, with containers that the keeper knows before they are made."""
        if self.here.place is Place.NATIVE:
            choose(engine)
            return ()
        run = f"{self.run}-probe-{secrets.token_hex(4)}"
        self.keeper.record(containers=run)
        return probe.container_findings(engine, choose, run=run, folder=self._probes())

    def _probes(self) -> Path:
        """Return the folder for what probes write, which goes with the session's."""
        folder = self.scratch / "probes"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _native(
        self,
        stack: ExitStack,
        engine: docker.Engine | None,
        image: images.Image | None,
        dockers: tuple[Finding, ...],
        found: Subjects,
    ) -> Surroundings:
        root = self.here.privilege is Privilege.ROOT
        user = find_user(self.options.as_user)
        account = user if isinstance(user, User) else None
        findings = (probe.root_finding(self._sudo()), probe.user_finding(user), *dockers)
        self._need(findings, Fact.ROOT if root else Fact.ORDINARY_USER)
        wall = probe.wall_finding(None if root else account, folder=self._probes())
        self._need((wall,), Fact.NAMESPACE_WALL)
        workers = self._workers(found)
        together = replace(self.limits, processes=(workers + 1) * self.limits.processes)
        cgroup = RunCgroup.create(f"{self.run}-{self.here.name}", together)
        for path in cgroup.everywhere:
            self.keeper.record(cgroup=str(path))
        stack.callback(cgroup.remove)
        self._containers(stack, engine)
        places = partial(cgroup.worker, processes=self.limits.processes)
        driver = NativeDriver(
            self.here.privilege,
            limits=self.limits,
            user=account,
            cgroups=places,
            workers=workers,
            memory_kills=cgroup.memory_kills,
        )
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
            workers=workers,
        )

    def _container(
        self,
        stack: ExitStack,
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
        self._containers(stack, engine)
        readable = {str(self.scratch), *found.folders}
        mounts = [Mount(path=path) for path in sorted(readable)]
        mounts += [Mount(path=str(self.work), writable=True), Mount(path=str(self.folder), writable=True)]
        driver = ContainerDriver(
            self.here.privilege, engine=engine, image=image, run=self.run, limits=self.limits, mounts=mounts
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
            workers=self._workers(found),
        )

    def _workers(self, found: Subjects) -> int:
        pods = {target.kind for target in found.targets} == {Kind.POD}
        return self.options.workers or crew.default_workers(found.work(self.options.cases), pods=pods)

    def _containers(self, stack: ExitStack, engine: docker.Engine | None) -> None:
        """See to it that no container of this session outlives it."""
        if engine is not None:
            self.keeper.record(containers=self.run, environment=self.here.name)
            stack.callback(lambda: engine.remove_labelled(self.labels))

    @property
    def labels(self) -> dict[str, str]:
        """Return what every container of this session is labelled with."""
        return {cleanup.RUN_LABEL: self.run, cleanup.ENVIRONMENT_LABEL: self.here.name}

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
