"""One container of an OCI runtime, from its bundle to its removal (layer 1)."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import TYPE_CHECKING, Any

from suites.framework import proc
from suites.framework.leaks import Leak, Owner
from suites.framework.model import Evidence, Reason
from suites.framework.observation import Unmet
from suites.framework.oci import cgroup, config, state
from suites.framework.oci.bundle import Bundle
from suites.framework.oci.result import Call, Result
from suites.framework.oci.spec import Spec
from suites.framework.process import Child, Status, exited, killed
from suites.framework.recorder import Recorder
from suites.framework.waiting import Deadline, ticks

if TYPE_CHECKING:
    from suites.framework.oci.runtime import Runtime

SILENCE_S = 0.1
"""How long nothing must come before absence is believed."""
NO_STATE = "no such container"


class Container:
    """A container with a bundle of its own. Verbs return what came of them; `Result.ok` insists on success."""

    def __init__(self, runtime: Runtime, *, number: int, spec: Spec | None = None, name: str = "") -> None:
        """Make the bundle; `spec` replaces the least configuration, whose program is the recorder."""
        self._runtime, self._bench = runtime, runtime.bench
        self.id = name or f"st-{self._bench.nonce[:8]}-{number}"
        self.bundle = Bundle(self._bench, f"b{number}")
        self.cgroup = f"{runtime.cgroup}/{self.id}" if runtime.rootless is None else ""
        self.spec: Spec = spec or config.minimal(self.bundle.recorder(), rootless=runtime.rootless, cgroup=self.cgroup)
        self.pid_file = self.bundle.path / "pid"
        self.init: Child | None = None
        """The container's init, once create has succeeded: a child of the worker, held by its pidfd."""
        self.creation: Call | None = None
        self.waits: list[tuple[float, float]] = []
        """When it was waited for the program, each by its beginning and its end on the monotonic clock."""
        self._recorders: list[Recorder] = []
        self._deleted = False
        self._creation = ""
        """How the last create ended; empty while that is not known."""

    # -- the five verbs

    def create(
        self,
        *options: str,
        fds: Mapping[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
        write: bool = True,
    ) -> Result:
        """Write config.json and call create; take hold of the init where that succeeds."""
        return self.created(self.begin_create(*options, fds=fds, environment=environment, write=write))

    def begin_create(
        self,
        *options: str,
        fds: Mapping[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
        write: bool = True,
        bundle: str | None = None,
        through: Sequence[str] = (),
    ) -> Call:
        """Start create and return the running call. `bundle` replaces the bundle's path, empty for no such option."""
        if write:
            self.bundle.write(self.spec)
        call = self._runtime.call
        place = str(self.bundle.path) if bundle is None else bundle
        words = [*(call.bundle if place else ()), *call.pid_file, *options, self.id]
        values = {"bundle": place, "pid_file": str(self.pid_file)}
        self._deleted, self._creation = False, ""
        self.creation = self._runtime.begin(
            "create", *words, values=values, fds=fds, environment=environment, through=through
        )
        return self.creation

    def created(self, call: Call, *, within: float | None = None, hangs: bool = False, waits: bool = True) -> Result:
        """Return how a create ended; take hold of the init where it succeeded, and wait until it listens for start."""
        result = self._runtime.end(call, within=within, hangs=hangs)
        self._creation = result.outcome
        if result.outcome == "done":
            self.init = self._hold()
            if waits and self._runtime.call.listens:
                self._listens(self._runtime.filled(self._runtime.call.listens, id=self.id))
        return result

    def _listens(self, end: str) -> None:
        """Wait until a socket whose path has this end listens in the init's namespace, or the init has ended."""
        for _ in ticks(Deadline(self._runtime.seconds)):
            if not self.lives() or proc.listens(self._held().pid, end):
                break

    def crash_create(self, seconds: float) -> bool:
        """Call create and kill it with its process group after this time; return False where it was done by then."""
        crashed = self.begin_create().crash(seconds)
        assert self.creation is not None
        self.creation.close()
        return crashed

    def start(self) -> Result:
        """Call start."""
        return self._runtime.run("start", self.id)

    def kill(self, signal: str | int = "TERM") -> Result:
        """Call kill with this signal; an empty one is left out."""
        return self._kill(signal)

    def _kill(self, signal: str | int, *, hangs: bool = False) -> Result:
        words = [word for word in self._runtime.call.kill if signal != "" or "{signal}" not in word]
        return self._runtime.run("kill", *words, values={"id": self.id, "signal": str(signal)}, hangs=hangs)

    def delete(self, *, force: bool = False) -> Result:
        """Call delete."""
        result = self._runtime.run("delete", *(self._runtime.call.force if force else ()), self.id)
        self._deleted = self._deleted or result.outcome == "done"
        return result

    def query(self) -> Result:
        """Call state and return how that ended."""
        return self._runtime.run("state", self.id)

    def verb(self, verb: str, *words: str, fds: Mapping[int, int] | None = None) -> Result:
        """Call a further verb with the container's id in front of the words."""
        return self._runtime.run(verb, self.id, *words, fds=fds)

    # -- what state says

    def state(self) -> dict[str, Any]:
        """Return the state as the runtime prints it; Unmet unless that is one JSON object."""
        return state.parsed(self.query().ok().stdout)

    def status(self) -> str:
        """Return the status that state prints, or ``no such container`` where state is refused."""
        result = self.query()
        if result.outcome == "refused":
            return NO_STATE
        return str(state.parsed(result.ok().stdout).get("status"))

    def becomes(self, wanted: str) -> str:
        """Return the status, waiting for `wanted` until the deadline."""
        status = ""
        for _ in ticks(Deadline(self._runtime.seconds), every=0.02):
            if (status := self.status()) == wanted:
                break
        return status

    # -- the program

    def recorder(self) -> Recorder:
        """Return the next recording process that connects from the container; Unmet when none does."""
        listener, began = self.bundle.listener, time.monotonic()
        ready = self._runtime.waiter.wait((listener.fileno(), *self.watch()), Deadline(self._runtime.patience_s))
        self.waits.append((began, time.monotonic()))
        if listener.fileno() not in ready and not self._runtime.waiter.wait((listener.fileno(),), Deadline(0)):
            words, crash = self.fate()
            raise Unmet("the payload ready in the container", words, reason=crash or Reason.TIMEOUT)
        recorder = Recorder(
            listener.accept()[0],
            nonce=self._bench.nonce,
            waiter=self._runtime.waiter,
            seconds=self._runtime.seconds,
            supervisor=self,
        )
        self._recorders.append(recorder)
        return recorder

    def running(self) -> Recorder:
        """Create and start; return the recording program once it is ready."""
        self.create().ok()
        self.start().ok()
        recorder = self.recorder()
        recorder.ready()
        return recorder

    def cycle(self, *, force: bool = False, waits: bool = True) -> None:
        """Create, start and delete it; its program must be one that records once and exits with 0."""
        self.created(self.begin_create(), waits=waits).ok()
        self.start().ok()
        recorder = self.recorder()
        recorder.next("once", what="the program executed")
        if (status := self.ended()) != exited(0):
            raise Unmet("the program: exit 0", str(status))
        recorder.close()
        if not force and (said := self.becomes("stopped")) != "stopped":
            raise Unmet("stopped", said)
        self.delete(force=force).ok()
        if self.creation is not None:
            self.creation.close()

    def stop(self) -> None:
        """Kill it as an engine does, and see it end and be stopped: whether an end by itself is noticed is A03's."""
        self.kill("KILL").ok()
        if (status := self.ended()) != killed(SIGKILL):
            raise Unmet("the program: killed by KILL", f"the program: {status}")
        if (said := self.becomes("stopped")) != "stopped":
            raise Unmet("stopped", said)

    def executed(self) -> str:
        """Return ``executed`` where a program of the container came to report, ``not executed`` after a silence."""
        began = time.monotonic()
        heard = self._runtime.waiter.wait((self.bundle.listener.fileno(),), Deadline(SILENCE_S))
        self.waits.append((began, time.monotonic()))
        return "executed" if heard else "not executed"

    def ended(self) -> Status:
        """Return the init's wait status, waiting for its end."""
        status = self._held().wait(Deadline(self._runtime.seconds), self._runtime.waiter)
        if status is None:
            raise Unmet("the container's init ended", "it was still running at the deadline", reason=Reason.TIMEOUT)
        return status

    def lives(self) -> bool:
        """Return whether the init has not ended."""
        return self._held().wait(Deadline(0), self._runtime.waiter) is None

    def output(self, title: str) -> bytes:
        """Return what the container wrote to ``stdout`` or ``stderr`` so far, create's own words in front."""
        assert self.creation is not None
        return self.creation.output(title)

    # -- the init

    def _held(self) -> Child:
        if self.init is None:
            raise Unmet("a container that was created", "there is none")
        return self.init

    def _hold(self) -> Child:
        """Return the init that create has left, which must be a child of the worker now: no other may be signalled."""
        pid = self._pid()
        if (found := proc.stat(pid)) is None or found.parent != os.getpid():
            raise Unmet("create leaves an init to its parent", "the pid it tells is no such process")
        held = (each.init for each in self._runtime.containers if each.init is not None and each.init.status is None)
        if any(pid == init.pid for init in held):
            raise Unmet("create leaves an init of its own", "the pid it tells is another container's")
        return Child.adopt(pid)

    def _pid(self) -> int:
        """Return what the pid file says, or state where the runtime writes none."""
        if not self._runtime.call.pid_file:
            return state.pid(self.state())
        try:
            with open(self.pid_file, "rb") as file:  # noqa: PTH123 -- once a case
                return int(file.read())
        except (OSError, ValueError):
            raise Unmet("create writes the pid file", "it holds no number") from None

    # -- looking

    def watch(self) -> tuple[int, ...]:
        """Return the init's pidfd while it is not known to have ended."""
        return (self.init.pidfd,) if self.init is not None and self.init.status is None else ()

    def fate(self) -> tuple[str, Reason | None]:
        """Return how the init stands."""
        if self.init is None:
            return "there is no container", None
        status = self.init.wait(Deadline(0), self._runtime.waiter)
        return ("the container is running" if status is None else f"the container ended: {status}"), None

    @property
    def proven(self) -> bool:
        """Return whether a record with this test's nonce came."""
        return any(recorder.log for recorder in self._recorders)

    def evidence(self) -> Sequence[Evidence]:
        """Return the configuration, the records and how the init stands."""
        log = "\n".join(str(record) for recorder in self._recorders for record in recorder.history())
        config_json = self.bundle.path / "config.json"
        text = config_json.read_text(errors="backslashreplace") if config_json.is_file() else "none"
        return (
            Evidence(title=f"container {self.id}", text=self.fate()[0]),
            Evidence(title="records", text=log or "nothing was recorded"),
            Evidence(title="config.json", text=text),
        )

    # -- the end

    def close(self) -> None:
        """Have the runtime delete it, then see to it that nothing of it is left; safe to repeat."""
        for recorder in self._recorders:
            recorder.close()
        if self.creation is not None and not self._deleted and self._creation != "refused":
            with contextlib.suppress(Unmet):  # a target that cannot be executed any more must not keep us from the rest
                self._delete()
        self._end_init()
        if self.init is not None:
            self.init.kill()
        if cgroup.remove(self.cgroup) and self.creation is not None:
            self._bench.found(Leak(owner=Owner.TARGET, kind="cgroups", what="of the container"))
        self.creation = None

    def _delete(self) -> None:
        """Delete it as its author would; what then still stands in the state root is found by the runtime's census."""
        if not self._runtime.call.force:
            self._kill("KILL", hangs=True)
        self._end_init()
        result = self._runtime.run("delete", *self._runtime.call.force, self.id, hangs=True)
        self._deleted = result.outcome == "done"

    def _end_init(self) -> None:
        """Kill the init and wait for its end, which comes when the last of its pid namespace is reaped.

        Processes that exec has left there are the worker's children (pid_namespaces(7)).
        """
        if self.init is None:
            cgroup.thaw(self.cgroup)
            return
        deadline = Deadline(self._runtime.seconds)
        self.init.send(SIGKILL)
        while self.init.wait(Deadline(SILENCE_S), self._runtime.waiter) is None and not deadline.passed:
            cgroup.thaw(self.cgroup)  # no signal ends what is frozen
            self._runtime.orphans.alive()

    @property
    def state_file(self) -> Path:
        """Return where the runtime keeps this container's state, as its profile says."""
        return Path(self._runtime.filled(self._runtime.call.state_file, id=self.id))

    @property
    def folder(self) -> Path:
        """Return the bundle's folder."""
        return self.bundle.path
