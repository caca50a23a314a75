"""How the suites call an OCI runtime, as its profile says (layer 1)."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

from suites.catalog import Privilege
from suites.framework.bench import Bench, as_made, slowness
from suites.framework.leaks import Leak, Owner
from suites.framework.model import Evidence, Reason, Target
from suites.framework.observation import Unmet
from suites.framework.oci import cgroup, place
from suites.framework.oci.caller import Caller
from suites.framework.oci.container import Container
from suites.framework.oci.orphan import Orphans
from suites.framework.oci.result import Call, Result
from suites.framework.oci.spec import Spec
from suites.framework.process import covered
from suites.framework.waiting import Waiter

GRACE_S = 1.0
"""What processes that a call has left get to end by themselves, when a test is over."""
SLACK_S = 2.0
"""What a call may take beyond its runtime's own longest wait."""
_SHOWN = 4096
_FILES = 5
"""Of what is left in the state roots: the first ones are named."""
_MOST = 12
"""Of the different things that calls said: the last ones are shown."""


class Runtime:
    """An OCI runtime with state roots of the test's own."""

    def __init__(self, bench: Bench, target: Target) -> None:
        """Bind a target to a test's bench."""
        self.bench, self.target, self.call = bench, target, target.call.oci
        self.waiter = Waiter()
        self.seconds = bench.patience(target)
        self.containers: list[Container] = []
        self._calls: list[Call] = []
        self._results: list[tuple[Call, Result]] = []
        self.orphans = Orphans(self._held)
        self._caller, self._closing = Caller(bench.home), False
        bench.own(self._caller.close)
        bench.launches.append(self)
        bench.own(self._look_for_state)
        self.roots = _roots(Path(bench.context.paths.scratch))

    @staticmethod
    def offers(target: Target) -> frozenset[str]:
        """Return what a target's profile offers: its further verbs, ``force``, ``console``, what it supports."""
        call = target.call.oci
        options = {"force": call.force, "console": call.console, "pid-file": call.pid_file, "log": call.log}
        named = (name for name, option in options.items() if option)
        return frozenset((*call.verbs, *named, *_supported(call.supports, target.version)))

    @property
    def rootless(self) -> tuple[int, int] | None:
        """Return the uid and gid of a caller without privilege, None for root."""
        return None if self.bench.privilege is Privilege.ROOT else (os.getuid(), os.getgid())

    @property
    def cgroup(self) -> str:
        """Return the cgroupsPath below which this worker's containers belong; empty where it may make none."""
        return cgroup.parent() if self.rootless is None else ""

    def container(self, spec: Spec | None = None, *, name: str = "") -> Container:
        """Return a container with a bundle of its own, not yet created; its program records."""
        made = Container(self, number=len(self.containers), spec=spec, name=name)
        self.containers.append(made)
        return made

    # -- calling

    def words(self, verb: str, *words: str, values: Mapping[str, str] | None = None) -> list[str]:
        """Return the words of one call with the values of the profile's placeholders filled in."""
        call = (*self.call.options, *([verb] if verb else []), *words)
        return [
            *self.bench.wrapping(self.target),
            *self.bench.words(self.target.argv),
            *(self.filled(word, **(values or {})) for word in call),
        ]

    def begin(
        self,
        verb: str,
        *words: str,
        values: Mapping[str, str] | None = None,
        fds: Mapping[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
        through: Sequence[str] = (),
    ) -> Call:
        """Start a verb and return the running call; `through` are words in front that become the runtime."""
        line = self.words(verb, *words, values=values)
        call = Call(
            verb or "the runtime",
            [*through, *line],
            environment={**self.environment, **(environment or {})},
            fds=fds or {},
            waiter=self.waiter,
            shown=shlex.join(line[len(self.target.wrap) + len(self.target.argv) :]),
        )
        self._calls.append(call)
        return call

    def end(self, call: Call, *, within: float | None = None, hangs: bool = False) -> Result:
        """Return how a call ended; Unmet where it did not within its deadline, unless it may hang (`hangs`)."""
        result = call.end(self.deadline_s if within is None else within)
        self._results.append((call, result))
        if (harm := self._caller.undo()) and not self._closing:
            raise Unmet(f"{result.verb} leaves its caller as it was", f"it gave its caller {harm}")
        if result.status is None and not hangs:
            raise Unmet(f"{result.verb} ended", "it was still running at the deadline", reason=Reason.TIMEOUT)
        return result

    def run(
        self,
        verb: str,
        *words: str,
        values: Mapping[str, str] | None = None,
        fds: Mapping[int, int] | None = None,
        environment: Mapping[str, str] | None = None,
        through: Sequence[str] = (),
        hangs: bool = False,
    ) -> Result:
        """Call a verb and return how it ended, as `end` does; its streams are closed then."""
        call = self.begin(verb, *words, values=values, fds=fds, environment=environment, through=through)
        result = self.end(call, hangs=hangs)
        call.close()
        return result

    @property
    def deadline_s(self) -> float:
        """Return the seconds that one call may take."""
        return (self.call.handshake_s + SLACK_S) * slowness(self.target)

    @property
    def patience_s(self) -> float:
        """Return the seconds in which a program must come: those of a call too, while one still runs."""
        return self.deadline_s if any(call.child.status is None for call in self._calls) else self.seconds

    @cached_property
    def environment(self) -> dict[str, str]:
        """Return the environment of the runtime: nothing of the harness's."""
        state = self.roots["state"]
        xdg = {"XDG_STATE_HOME": str(state), "XDG_RUNTIME_DIR": str(self.roots["runtime"])}
        xdg |= {f"XDG_{name}_HOME": str(state / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        if self.call.scratch:
            xdg[self.call.scratch] = str(self.bench.home)
        xdg["PATH"] = os.environ.get("PATH", self.bench.environment["PATH"])  # newuidmap may be elsewhere in an image
        return {**self.bench.environment, **xdg, **self.target.environment}

    def _held(self) -> Iterator[int]:
        """Yield the children of the worker that are known: calls that run, and inits."""
        yield from (call.child.pid for call in self._calls if call.child.status is None)
        yield from (each.init.pid for each in self.containers if each.init is not None and each.init.status is None)

    def filled(self, word: str, **values: str) -> str:
        """Return a word of the profile with the state roots, and these values, in the place of what stands for them."""
        for name, value in {**self.roots, **values}.items() if "{" in word else ():
            word = word.replace(f"{{{name}}}", str(value))
        return word

    @property
    def state_root(self) -> Path:
        """Return which of the state roots holds the state of containers."""
        file = Path(self.filled(self.call.state_file, id="ID"))
        return next(root for root in self.roots.values() if file.is_relative_to(root))

    # -- a launch of the bench

    @property
    def proven(self) -> bool:
        """Return whether a record with this test's nonce came out of a container."""
        return any(container.proven for container in self.containers)

    @property
    def cut_short(self) -> bool:
        """Return False: what a killed runtime leaves running is its own affair."""
        return False

    @property
    def cost(self) -> tuple[float, float, int]:
        """Return the seconds in which a call or an init lived, CPU seconds of all calls, and the most memory of one."""
        children = [call.child for call in self._calls]
        inits = (each.init for each in self.containers if each.init is not None)
        waits = (wait for each in self.containers for wait in each.waits)
        return (
            covered((*(child.life for child in (*children, *inits)), *waits)),
            sum(child.cpu_s for child in children),
            max((child.rss_bytes for child in children), default=0),
        )

    def evidence(self) -> Sequence[Evidence]:
        """Return what every call said, what the runtime logged, and how each container stands."""
        ended = self._results[-40:]
        calls = [f"{call.shown}: {result.status or 'killed at the deadline'}" for call, result in ended]
        shown = [Evidence(title="calls", text="\n".join(calls) or "none")]
        said = ((f"{call.verb}: {title}", call.output(title)) for call in self._calls for title in call.streams)
        last = {(title, text): None for title, text in said if text}  # who polls asks the same a hundred times
        shown += [Evidence(title=title, text=_tail(text)) for title, text in list(last)[-_MOST:]]
        log = Path(self.filled(self.call.log))
        if self.call.log and log.is_file():
            shown.append(Evidence(title="log", text=_tail(log.read_bytes())))
        return (*shown, *(piece for container in self.containers for piece in container.evidence()))

    def close(self) -> None:
        """Remove every container, as the runtime does it and then by force; safe to repeat."""
        self._closing = True
        for container in self.containers:
            container.close()
        for call in self._calls:
            call.close()
        self._end_orphans()
        self.waiter.finish()

    def _end_orphans(self) -> None:
        """Kill what calls have left running, and remove the cgroups that stood for it."""
        for name in self.orphans.remain(GRACE_S):
            self.bench.found(Leak(owner=Owner.TARGET, kind="processes", what=name))
            self.orphans.remove()
            for container in self.containers:
                cgroup.remove(container.cgroup)

    def _look_for_state(self) -> None:
        """Empty the state roots; what a runtime still keeps there of its containers is a leak."""
        used = [folder for folder in self.roots.values() if not as_made(folder, 0o700)]
        left = self.left() if used else []
        for name in (*left[:_FILES], *([f"among {len(left)}"] if len(left) > _FILES else [])):
            self.bench.found(Leak(owner=Owner.TARGET, kind="files", what=name))
        place.detach(self.bench, {f"{name} root": folder for name, folder in self.roots.items()})
        for folder in used:
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder)

    def left(self) -> list[str]:
        """Return what is left of containers in the state roots: files, and what is named after a container."""
        return sorted(self._kept())

    def _kept(self) -> Iterator[str]:
        log = self.filled(self.call.log)
        for name, root in self.roots.items():
            for folder, folders, files in os.walk(root):
                for entry in (*files, *(below for below in folders if self._anonymous(below) != below)):
                    path = Path(folder, entry)
                    if str(path) != log:
                        yield self._anonymous(f"{name}/{path.relative_to(root)}")

    def _anonymous(self, text: str) -> str:
        for container in self.containers:
            text = text.replace(container.id, "ID")
        return text


@cache
def _roots(scratch: Path) -> Mapping[str, Path]:
    """Make the state roots of a worker, which are empty again after each test; return name: folder."""
    roots = {name: scratch / "oci" / name for name in ("root", "state")}
    roots["runtime"] = scratch / "x"  # short: the path of a socket has 107 bytes (unix(7))
    for folder in roots.values():
        _make(folder)
    return roots


def _make(folder: Path) -> None:
    """Make a state root, and what is above it where a target has taken that away."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _supported(entries: Sequence[str], version: str) -> Iterator[str]:
    """Yield the words of ``supports`` that hold in a version; one that is unknown is older than all."""
    for word, _, since in (entry.partition(" ") for entry in entries):
        if _numbers(version) >= _numbers(since):
            yield word


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _tail(text: bytes) -> str:
    return text[-_SHOWN:].decode(errors="backslashreplace")
