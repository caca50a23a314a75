"""Pods over an engine's Container Runtime Interface (layer 1)."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suites.framework import cgroups, proc
from suites.framework.calls import PodCall
from suites.framework.facts import Fact, Missing
from suites.framework.leaks import Leak, Owner
from suites.framework.model import Evidence
from suites.framework.observation import Lacking
from suites.framework.oci import cgroup
from suites.framework.pod import image, inventory, network, streaming
from suites.framework.pod.cri import Refused
from suites.framework.pod.driver import Output, Program, Request, Session, State, Status
from suites.framework.pod.engine import Engine

POD, OWN, NODE = 0, 1, 2
NAMESPACES = {"network": NODE, "pid": OWN, "ipc": POD}
"""NamespaceMode of each: a kubelet's, but for the network, where that of the node needs no plugin."""
CALL_S = 20.0
"""One call of the interface; a reference takes 0.1 s."""
CLOSE_S = 10.0
"""The same when a test is over: who does not remove his pods by then is ended with the engine."""
STUBBORN_S = 5.0
"""What a sandbox gets to stop whose target is known not to manage that."""
_USUAL = PodCall()
_STATES = (State.CREATED, State.RUNNING, State.EXITED, State.UNKNOWN)


@dataclass(slots=True)
class Made:
    """One pod that was asked for."""

    sandbox: str
    configuration: dict[str, Any]
    containers: dict[str, str] = field(default_factory=dict)
    """Name: id."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Name: what was said where it could not be created or started."""


class EngineDriver:
    """Pods of one test on the worker's engine, all with one handler."""

    def __init__(
        self,
        engine: Engine,
        *,
        handler: str,
        folder: Path,
        tag: str,
        cgroup: str = "",
        conventions: PodCall = _USUAL,
    ) -> None:
        """Keep logs below `folder`; `tag` is in every name, `cgroup` is where the pods' cgroups belong."""
        self.engine = engine
        self._handler, self._folder, self._tag, self._cgroup = handler, folder, tag, cgroup
        self.design = inventory.Design(conventions)
        self._before = inventory.take(engine, self.design)
        self._pods: dict[str, Made] = {}
        self.forced: list[Leak] = []
        """Shims that were ended in place of a sandbox that did not stop."""
        self.calls: list[str] = []
        """What was called and what came of it, for a report."""
        self.spans: list[tuple[float, float]] = []
        """When a call was under way, each by its beginning and its end on the monotonic clock."""

    # -- pods

    def run(self, request: Request) -> str:
        """Have a pod run. See `Driver.run`; Refused where there is no sandbox for it, Lacking without a network."""
        if request.isolated and (why := self.engine.networks):
            raise Lacking(Missing(fact=Fact.POD_NETWORK, reason=why, remedy=f"sudo mkdir -p {network.STATE}"))
        configuration = self._sandbox(request)
        self._logs(request.name).mkdir(parents=True, exist_ok=True)
        # One that is not told of in time may be there all the same: `close` asks the engine for what it has.
        sandbox = self.call("RunPodSandbox", config=configuration, runtime_handler=self._handler).pod_sandbox_id
        self._pods[request.name] = Made(sandbox=sandbox, configuration=configuration)
        for program in request.programs:
            self.add(request.name, program)
        return request.name

    def add(self, pod: str, program: Program, *, attempt: int = 0) -> None:
        """Create and start a container in a pod that runs; what is said against that is kept for its status."""
        made = self._pods[pod]
        try:
            made.containers[program.name] = self.call(
                "CreateContainer",
                pod_sandbox_id=made.sandbox,
                config=self._container(program, attempt, made.configuration),
                sandbox_config=made.configuration,
            ).container_id
            self.call("StartContainer", container_id=made.containers[program.name])
        except Refused as refusal:
            made.refusals[program.name] = refusal.words

    def _sandbox(self, request: Request) -> dict[str, Any]:
        space = "-".join(filter(None, ("seatrial", self._tag, request.apart)))  # of the test's own, as on a cluster
        self.design.add(space, request.annotations)
        named = {"name": request.name, "uid": f"{self._tag}-{request.name}", "namespace": space, "attempt": 0}
        return {
            "metadata": named,
            "hostname": request.hostname,
            "log_directory": str(self._logs(request.name)),
            "dns_config": {"servers": ["127.0.0.1"]},  # without it the engine reads the machine's
            "labels": {"seatrial": self._tag},
            "annotations": dict(request.annotations),
            "linux": {
                "cgroup_parent": self._cgroup,
                "security_context": {"namespace_options": NAMESPACES | {"network": POD if request.isolated else NODE}},
            },
        }

    @staticmethod
    def _container(program: Program, attempt: int, sandbox: Mapping[str, Any]) -> dict[str, Any]:
        namespaces = dict(sandbox["linux"]["security_context"]["namespace_options"])
        security: dict[str, Any] = {"namespace_options": namespaces, "readonly_rootfs": program.read_only}
        if program.user is not None:
            security["run_as_user"] = {"value": program.user}
        if program.group is not None:
            security["run_as_group"] = {"value": program.group}
        security["supplemental_groups"] = list(program.groups)
        capabilities = {"add_capabilities": list(program.added), "drop_capabilities": list(program.dropped)}
        security |= {"capabilities": capabilities, "no_new_privs": program.no_new_privileges}
        return {
            "metadata": {"name": program.name, "attempt": attempt},
            "image": {"image": image.TOOLS.format(program.image)},
            "command": list(program.command),
            "args": list(program.arguments),
            "working_dir": program.directory,
            "envs": [{"key": key, "value": value} for key, value in program.environment.items()],
            "mounts": [
                {"container_path": each.path, "host_path": str(each.source), "readonly": each.read_only}
                for each in program.volumes
            ],
            "log_path": f"{program.name}.log",
            "linux": {"resources": {"memory_limit_in_bytes": program.memory}, "security_context": security},
        }

    def status(self, pod: str, name: str) -> Status:
        """Return how a container stands."""
        made = self._pods[pod]
        refusal = made.refusals.get(name, "")
        if name not in made.containers:
            return Status(state=State.CREATED, refusal=refusal)
        said = self.call("ContainerStatus", container_id=made.containers[name]).status
        state = _STATES[said.state]
        return Status(
            state=state,
            code=said.exit_code if state is State.EXITED else None,
            reason=said.reason,
            message=said.message,
            started_at=said.started_at / 1e9,
            finished_at=said.finished_at / 1e9,
            refusal=refusal,
        )

    def log(self, pod: str, name: str) -> bytes:
        """Return the log of a container so far; nothing before there is one."""
        try:
            return (self._logs(pod) / f"{name}.log").read_bytes()
        except FileNotFoundError:
            return b""

    def complete(self, pod: str, name: str) -> bool:
        """Return whether the engine has closed the log of a container that has ended."""
        path = str(self._logs(pod) / f"{name}.log")
        return path not in proc.opened(self.engine.pid)

    def execute(self, pod: str, name: str, words: Sequence[str], *, seconds: int) -> Output:
        """Run a command in a container."""
        container = self._pods[pod].containers[name]
        try:
            said = self.call(
                "ExecSync", within=seconds + CALL_S, container_id=container, cmd=list(words), timeout=seconds
            )
        except Refused as refusal:
            return Output(code=None, refusal=refusal.words)
        return Output(code=said.exit_code, stdout=said.stdout, stderr=said.stderr)

    def attend(
        self, pod: str, name: str, words: Sequence[str], *, seconds: float, stdin: bool = False, tty: bool = False
    ) -> Session:
        """Begin a command in a container with its streams connected. See `Driver.attend`."""
        container = self._pods[pod].containers[name]
        asked = {"stdin": stdin, "stdout": True, "stderr": not tty, "tty": tty}
        url = self.call("Exec", within=seconds, container_id=container, cmd=list(words), **asked).url
        return streaming.begun(url, connect=self.engine.connect, seconds=seconds, stdin=stdin, tty=tty)

    def stop(self, pod: str, name: str, *, grace: int) -> None:
        """Ask a container to end, and have it killed when `grace` seconds are over."""
        container = self._pods[pod].containers[name]
        self.call("StopContainer", within=grace + CALL_S, container_id=container, timeout=grace)

    def remove(self, pod: str, name: str) -> None:
        """Remove a container of a pod that stays."""
        self.call("RemoveContainer", container_id=self._pods[pod].containers.pop(name))

    def halt(self, pod: str) -> None:
        """Stop a pod with all that runs in it; it can still be asked for."""
        self._end("StopPodSandbox", self._pods[pod].sandbox)

    def _end(self, verb: str, sandbox: str, *, within: float = CALL_S) -> None:
        """Stop or remove a sandbox; the shim of one whose target is known not to manage that is ended in its place."""
        if self.design.call.stubborn:
            try:
                self.call(verb, within=STUBBORN_S, pod_sandbox_id=sandbox)
            except Refused:
                self.forced += inventory.end_shim(sandbox)
            else:
                return
        self.call(verb, within=within, pod_sandbox_id=sandbox)

    def delete(self, pod: str) -> None:
        """Stop and remove a pod with all that is in it; Refused where that is not done."""
        made = self._pods[pod]
        for container in made.containers.values():
            self.call("RemoveContainer", container_id=container)
        self.halt(pod)
        self._end("RemovePodSandbox", made.sandbox)
        del self._pods[pod]
        shutil.rmtree(self._logs(pod))

    # -- what is left

    def leaks(self) -> list[Leak]:
        """Return what the engine and its machine have of pods that were deleted, when they had time to settle."""
        left = inventory.left(self.engine, self._before, self.design)
        self.engine.spoilt = self.engine.spoilt or bool(left)
        return [Leak(owner=Owner.TARGET, kind=kind, what=what) for kind, what in left]

    def node(self, *folders: str) -> dict[str, Path]:
        """Return what to call folders of the node, as the worker and as the engine have them, and where they are."""
        roots = {"": Path("/"), " of the engine": Path(f"/proc/{self.engine.pid}/root")}
        return {f"/{folder}{whose}": root / folder for whose, root in roots.items() for folder in folders}

    def evidence(self) -> list[Evidence]:
        """Return the calls, the logs of containers, and the last lines of the engine."""
        shown = [Evidence(title="calls", text="\n".join(self.calls[-40:]) or "none")]
        for name, made in self._pods.items():
            for container in made.containers:
                text = self.log(name, container)[-4096:].decode(errors="backslashreplace")
                shown.append(Evidence(title=f"log of {name}/{container}", text=text))
        return [*shown, Evidence(title="engine", text=self.engine.said().replace(" | ", "\n"))]

    def close(self) -> None:
        """Remove every pod of this test, those too of which the call that made them was not answered."""
        try:
            for sandbox in self.call("ListPodSandbox", within=CLOSE_S).items:
                for verb in ("StopPodSandbox", "RemovePodSandbox"):
                    self._end(verb, sandbox.id, within=CLOSE_S)
        except Refused:
            self.engine.spoilt = True  # what could not be removed is a leak, and nobody's beginning
        self._pods.clear()
        shutil.rmtree(self._folder / "logs", ignore_errors=True)

    def let_go(self) -> None:
        """End what is left, once it was looked at, and what the target keeps by design: neither serves another test."""
        inventory.end(self.engine, self._before)

    def call(self, verb: str, *, within: float = CALL_S, **fields: Any) -> Any:
        """Call a verb of the interface and remember what came of it; Refused as the engine says."""
        began = time.monotonic()
        try:
            assert self.engine.client is not None
            said = self.engine.client.call(verb, seconds=within, **fields)
        except Refused as refusal:
            self.calls.append(str(refusal))
            raise
        finally:
            self.spans.append((began, time.monotonic()))
        self.calls.append(f"{verb}: done")
        return said

    def _logs(self, pod: str) -> Path:
        return self._folder / "logs" / pod

    def identifiers(self, pod: str) -> Iterator[str]:
        """Yield the ids of a pod's sandbox and containers."""
        made = self._pods[pod]
        yield made.sandbox
        yield from made.containers.values()


def place_of_pods(*, uid: int | None = None) -> str:
    """Return below which cgroup pods belong: this worker's own, or one of ours where it sees that as the top.

    An ordinary user's engine has none, and says nothing of them; `uid` is this process's.
    """
    if (os.geteuid() if uid is None else uid) != 0:
        return ""
    return cgroup.parent() or f"/{cgroups.LIMITING}pods"
