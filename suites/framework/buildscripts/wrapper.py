"""How the suites call a wrapper of build scripts, as its profile says (layer 1)."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from suites.framework.bench import Bench
from suites.framework.buildscripts.build import Build, Ended
from suites.framework.buildscripts.enclosure import Enclosure
from suites.framework.buildscripts.gate import Gate, Gatehouse
from suites.framework.buildscripts.workload import Place, Step, filled, ordered
from suites.framework.leaks import Leak, Owner
from suites.framework.model import Evidence, Reason, Target
from suites.framework.observation import Unmet
from suites.framework.oci import place
from suites.framework.oci.orphan import Orphans
from suites.framework.process import Status, exited, killed
from suites.framework.waiting import Deadline, Waiter

GRACE_S = 1.0
"""What processes that a call has left get to end by themselves, when a test is over."""
PATIENCE_S = 10.0
"""Least liveness deadline of one call: a shell with dozens of children on a busy machine."""
_SHOWN = 4096
"""Bytes of a log's end that are evidence."""
OPTIONS = (
    *("dry_run", "jobs", "timeout", "silence", "log_cap"),
    *("memory", "processes", "disk", "ram", "tool", "chroot", "isolated"),
)
"""Fields of `BuildscriptsCall` that are options of ``run``."""
UNTOLD = "not told"
"""How a step stands where the wrapper has neither state nor stamp."""
ARGUMENTS, CHOSEN = "{arguments}", "{options}"


class Wrapper:
    """A wrapper of build scripts with a root folder of the test's own."""

    def __init__(self, bench: Bench, target: Target) -> None:
        """Bind a target to a test's bench."""
        self.bench, self.target, self.call = bench, target, target.call.buildscripts
        self.waiter = Waiter()
        self.seconds = max(PATIENCE_S, bench.patience(target))
        self.builds: list[Build] = []
        self.through: list[str] = []
        """Words in front of every call, which become the wrapper: an `Enclosure`'s."""
        self.inside: Callable[[Path], Path] = lambda path: path
        """How we reach what it has at a path: an `Enclosure`'s, where that holds its stamps."""
        self._steps: dict[Path, tuple[Step, ...]] = {}
        self._orphans = Orphans(self._held)
        self._folder = bench.make_folder()
        self._real = self._folder.resolve()
        self.gatehouse = Gatehouse(
            self._folder / "g", nonce=bench.nonce, waiter=self.waiter, seconds=bench.patience(target)
        )
        bench.own(self.gatehouse.close)
        bench.launches.append(self)
        self.place = self.beside("root")

    @staticmethod
    def offers(target: Target) -> frozenset[str]:
        """Return what a target's profile offers: the names of its calls and options, with dashes, and its own words."""
        call = target.call.buildscripts
        fields = (*OPTIONS, "plan", "state", "state_file", "clean", "log", "help", "environment")
        words = {name.replace("_", "-") for name in fields if getattr(call, name)}
        if ARGUMENTS in call.run:
            words.add("arguments")
        if any("{root}" in word for word in (*call.run, *call.variables.values())):
            words.add("root")
        if any("{need}" in line for line in call.header):
            words.add("needs")
        if target.profile.version:
            words.add("version")
        return frozenset((*words, *call.offers))

    # -- where

    def beside(self, name: str) -> Place:
        """Return another root folder of this name, empty and removed with the test."""
        root = self._folder / name
        root.mkdir()
        self.bench.own(lambda: self._remove(root))
        return Place(root=root, call=self.call)

    @property
    def root(self) -> Path:
        """Return the root folder that calls are given unless they say otherwise."""
        return self.place.root

    @property
    def artefacts(self) -> Path:
        """Return the folder that the scripts of this root fill."""
        return self.place.artefacts

    def write(self, *steps: Step, at: Place | None = None) -> None:
        """Write these steps; others that were written before stay."""
        where = at or self.place
        known = {step.name: step for step in (*self._steps.get(where.root, ()), *steps)}
        self._steps[where.root] = tuple(known.values())
        try:
            self._keep_inside(where.written(steps))
            where.write(steps, recording=self.gatehouse.recording(self.bench.payload))
        except OSError as error:
            if not self.builds:
                raise
            said = f"{where.root.name}: {os.strerror(error.errno or 0)}"
            raise Unmet("a root folder to write scripts to", said) from error

    def _keep_inside(self, folders: Iterable[Path]) -> None:
        """Raise Unmet where a target has put a link in the place of a folder: it may lead to somebody else's."""
        for folder in folders:
            if not folder.resolve().is_relative_to(self._real):
                raise Unmet("folders of its own root", f"{folder.name} leads out of it")

    # -- calling

    @property
    def stepwise(self) -> bool:
        """Return whether one call builds one step, so that it cannot know of others."""
        return any("{step}" in word for word in self.call.run)

    def behind(self, enclosure: Enclosure) -> None:
        """Have every call in an enclosure, and look for its stamps where it has them."""
        self.through, self.inside = list(enclosure.words), enclosure.inside

    def begin(
        self,
        *,
        options: Sequence[str] = (),
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        stdin: int | None = None,
        fds: Mapping[int, int] | None = None,
        through: Sequence[str] = (),
        at: Place | None = None,
    ) -> Build:
        """Start a build of what was written; use the result in a ``with`` statement.

        `options` come from `option`, `arguments` are for the scripts, `environment` is laid over the wrapper's own,
        `through` are words in front that become the wrapper.
        """
        where = at or self.place
        given = {CHOSEN: options, ARGUMENTS: arguments}
        return self._begin(
            [[*through, *words] for words in self._runs(where, given)], where, environment, stdin=stdin, fds=fds
        )

    def build(
        self,
        *,
        options: Sequence[str] = (),
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        at: Place | None = None,
        within: float | None = None,
    ) -> Ended:
        """Build what was written and return how it ended, all gates open."""
        with self.begin(options=options, arguments=arguments, environment=environment, at=at) as build:
            return build.end(within=within)

    def called(self, *words: str, environment: Mapping[str, str] | None = None, at: Place | None = None) -> Ended:
        """Call the wrapper with exactly these words and return how it ended."""
        where = at or self.place
        with self._begin([[*self._front(where), *words]], where, environment) as build:
            return build.end()

    def ask(self, template: Sequence[str], *, at: Place | None = None) -> Ended:
        """Call the wrapper with a command of its profile (``call.plan`` and the like)."""
        root = str((at or self.place).root)
        return self.called(*(filled(word, root=root) for word in template), at=at)

    def misled(self, template: Sequence[str], root: str | None) -> Ended:
        """Call a command of its profile with any words as the root folder, none where that is None."""
        lacking = {CHOSEN, ARGUMENTS} | ({"{root}"} if root is None else set())
        words = [word for word in template if not any(each in word for each in lacking)]
        named = {name: value for name, value in self.call.variables.items() if "{root}" in value}
        unset = [f"--unset={name}" for name in named] if root is None else []
        front, call = self._front(self.place), [filled(word, root=root or "", step="a") for word in words]
        through = [*self.through, "/usr/bin/env", *unset]
        given = {name: filled(value, root=root or "") for name, value in named.items()}
        with self._begin([[*through, *front[len(self.through) :], *call]], self.place, given) as build:
            return build.end()

    def option(self, name: str, **values: object) -> tuple[str, ...]:
        """Return the words of an option of the profile (a field of `BuildscriptsCall`) with its value."""
        words: tuple[str, ...] = getattr(self.call, name)
        return tuple(filled(word, **{key: str(value) for key, value in values.items()}) for word in words)

    def _runs(self, where: Place, given: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
        """Yield the words of each call that a build is."""
        steps = self._steps.get(where.root) or self._steps.get(self.root, ())
        for step in [step.name for step in ordered(steps)] if self.stepwise else [""]:
            words = (given.get(word, (filled(word, root=str(where.root), step=step),)) for word in self.call.run)
            yield [*self._front(where), *(word for several in words for word in several)]

    def _front(self, where: Place) -> list[str]:
        """Return the words that start the wrapper, of its copy in the root where its profile wants one."""
        words = self.bench.words(self.target.argv)
        if self.call.install:
            program = next(word for word in words if word.startswith("/") and not word.startswith("/usr/"))
            copy = where.path(self.call.install) / Path(program).name
            if not copy.exists():
                shutil.copytree(Path(program).parent, copy.parent, symlinks=True, dirs_exist_ok=True)
            words = [str(copy) if word == program else word for word in words]
        return [*self.through, *self.bench.wrapping(self.target), *words]

    def _begin(
        self,
        calls: Sequence[Sequence[str]],
        where: Place,
        environment: Mapping[str, str] | None,
        *,
        stdin: int | None = None,
        fds: Mapping[int, int] | None = None,
    ) -> Build:
        own = {name: filled(value, root=str(where.root)) for name, value in self.call.variables.items()}
        build = Build(
            calls,
            environment={**self.bench.environment, **own, **self.target.environment, **(environment or {})},
            stdin=stdin,
            fds=fds or {},
            waiter=self.waiter,
            gatehouse=self.gatehouse,
            seconds=self.seconds,
            failing=self.bench.record_failure,
            race=self.call.race,
        )
        self.builds.append(build)
        return build

    # -- what is left of it

    def plan(self, *, at: Place | None = None) -> tuple[str, ...]:
        """Return the steps in the order that the wrapper says."""
        return tuple(self.ask(self.call.plan, at=at).stdout.decode(errors="backslashreplace").split())

    def states(self, *, at: Place | None = None) -> dict[str, str]:
        """Return step: how it stands, in our words (`BuildscriptsCall.states`), for all that the wrapper tells of."""
        rows = self.ask(self.call.state, at=at).stdout.decode(errors="backslashreplace").splitlines()
        pairs = (row.split() for row in rows)
        return {pair[0]: self.call.states.get(pair[1], pair[1]) for pair in pairs if len(pair) > 1}

    def standing(self, step: str, *, at: Place | None = None) -> str:
        """Return how a step stands, as far as the wrapper tells it: see `told`."""
        if self.call.state:
            return self.states(at=at).get(step, "unknown")
        if not self.call.stamp:
            return UNTOLD
        stamp = self.inside((at or self.place).path(self.call.stamp, step=step))
        if not stamp.is_file():
            return "pending"
        word = next(iter(stamp.read_text(errors="backslashreplace").split()), "")
        return self.call.states.get(word, "unknown") if self.call.states else "done"

    def logs(self, step: str, *, at: Place | None = None) -> list[Path]:
        """Return the logs of a step, the oldest first."""
        where = at or self.place
        pattern = filled(self.call.log, root=glob.escape(str(where.root)), step=glob.escape(step))
        return sorted(map(Path, glob.glob(pattern)))  # noqa: PTH207 -- the pattern is a whole path

    def meet(self, step: str, label: str = "ran") -> Gate:
        """Wait until a script whose wrapper is gone stands at a gate, opening others; Unmet where it does not come."""
        deadline = Deadline(self.seconds)
        while self.waiter.wait((self.gatehouse.fileno(),), deadline):
            gate = self.gatehouse.take(self.builds[-1])
            if gate is not None and (gate.step, gate.label) == (step, label):
                return gate
            if gate is not None:
                gate.open()
        raise Unmet(f"step {step} at its gate {label}", "it did not come", reason=Reason.TIMEOUT)

    def ran(self) -> list[str]:
        """Return the step of each gate that was reached, in order."""
        return [gate.step for gate in self.gatehouse.seen]

    def labels(self, step: str) -> list[str]:
        """Return the label of each gate that a step's script has reached, in order."""
        return [gate.label for gate in self.gatehouse.seen if gate.step == step]

    def told(self, word: str) -> str:
        """Return `word` as `standing` gives it: a stamp only tells what is done from what is not, or has few words."""
        if self.call.state or not self.call.stamp:
            return word if self.call.state else UNTOLD
        if word in ("pending", "done", *self.call.states.values()):
            return word
        return "failed" if "failed" in self.call.states.values() else "pending"

    def ended_by(self, number: int) -> Status:
        """Return how the wrapper ends where a signal ended its script, as its profile says."""
        ways = {"-n": exited(256 - number), "n": killed(number)}
        return ways.get(self.call.signals, exited(128 + number))

    def note(self, name: str, value: object) -> None:
        """Keep a measured value for the report."""
        self.bench.note(name, value)

    # -- a launch of the bench

    @property
    def proven(self) -> bool:
        """Return whether a script recorded this test's nonce."""
        return bool(self.gatehouse.seen)

    @property
    def cut_short(self) -> bool:
        """Return whether closing killed a wrapper."""
        return any(build.cut_short for build in self.builds)

    @property
    def cost(self) -> tuple[float, float, int]:
        """Return seconds and CPU seconds of all calls, and the most memory that one process of them took."""
        children = [child for build in self.builds for child in build.children]
        return (
            sum(child.alive_s for child in children),
            sum(child.cpu_s for child in children),
            max((child.rss_bytes for child in children), default=0),
        )

    def evidence(self) -> Sequence[Evidence]:
        """Return what there is to see of every call, and the ends of the latest logs."""
        shown = [piece for build in self.builds for piece in build.evidence()]
        for step in self._steps.get(self.root, ()):
            logs = [log for log in self.logs(step.name)[-1:] if log.is_file()] if self.call.log else []
            shown += [Evidence(title=f"log of {step.name}", text=_end_of(log)) for log in logs]
        return shown

    def close(self) -> None:
        """End every call and what they have left running; safe to repeat."""
        for build in self.builds:
            build.close()
        if not self.cut_short:
            for name in self._orphans.remain(GRACE_S if self._orphans.alive() else 0):
                self.bench.found(Leak(owner=Owner.TARGET, kind="processes", what=name))
        self._orphans.remove()
        self.gatehouse.close()
        self.waiter.finish()

    def _held(self) -> Iterator[int]:
        """Yield the children of the worker that are known."""
        yield from (child.pid for build in self.builds for child in build.children if child.status is None)

    def _remove(self, root: Path) -> None:
        if root.is_symlink() or not root.is_dir():  # a target has taken it away, or put something in its place
            root.unlink(missing_ok=True)
            return
        place.detach(self.bench, {root.name: root})
        root.chmod(0o700)
        for folder, below, _ in os.walk(root):
            for path in (Path(folder, name) for name in below):
                if not path.is_symlink():  # what it points to is not ours
                    path.chmod(0o700)
        shutil.rmtree(root)


def _end_of(log: Path) -> str:
    """Return the end of a log, however long it is; why there is none where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _SHOWN))
            return file.read(_SHOWN).decode(errors="backslashreplace")
    except OSError as error:
        return f"cannot be read: {error.strerror}"
