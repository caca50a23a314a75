"""How the suites call a container init, as its profile says (layer 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from suites.catalog import Kind, Mode
from suites.framework.bench import Bench
from suites.framework.model import Role, Target
from suites.framework.targets.profile import BINARY, load
from suites.framework.targets.run import CHANNEL, Run
from suites.framework.terminal import Terminal


class Init:
    """A container init in one mode, ready to be started as often as a test likes."""

    def __init__(self, bench: Bench, target: Target, mode: Mode) -> None:
        """Bind a target to a test's bench."""
        self.bench, self.target, self.mode = bench, target, mode
        self.call = target.call.init
        self.seconds = bench.patience(target)

    @staticmethod
    def offers(target: Target, mode: Mode) -> frozenset[str]:
        """Return what a target's profile offers in a mode: ``child`` or ``group``, ``adopts``, and an option's name."""
        call = target.call.init
        options = {"graceful": call.graceful, "rewrite": call.rewrite, "remap": call.remap, "help": call.help}
        options["version"] = target.profile.version
        options |= {"ports": call.ports, "listen-fds": call.listen_fds, "reload": call.reload, "watch": call.watch}
        options["sockets"] = call.ports or call.listen_fds
        words = {call.delivery, *(name for name, option in options.items() if option)}
        if call.adopts or mode is not Mode.PLAIN:
            words.add("adopts")
        return frozenset(words)

    @property
    def fence(self) -> int:
        """Return the highest signal this init is known to forward."""
        return self.call.fence

    def recorder_words(self, *words: str) -> list[str]:
        """Return the command of a recording child."""
        return [*self.bench.payload, "agent", str(CHANNEL), self.bench.nonce, *words]

    def once(self, code: int) -> list[str]:
        """Return the command of the fastest child: it records that it ran and exits with `code`."""
        return [*self.bench.payload, "once", str(CHANNEL), self.bench.nonce, str(code)]

    def command(
        self, command: Sequence[str | bytes], *, options: Sequence[str] = (), adopting: bool = True
    ) -> list[str | bytes]:
        """Return the words that call the init with this command, as its profile says.

        `adopting` asks an init that is not PID 1 to become a subreaper, where that is an option of it.
        """
        adopt = self.call.subreaper if adopting and self.mode is Mode.PLAIN else ()
        separator = (self.call.separator,) if self.call.separator else ()
        return [*self.bench.words(self.target.argv), *adopt, *options, *separator, *command]

    def budget(self, name: str) -> float | None:
        """Return the target's declared limit of this name; None: the value is recorded, not judged."""
        return self.target.profile.limits.get(name)

    def yardstick(self, name: str) -> Init:
        """Return an embedded target (``reference``, ``control-none``) in the same mode, to compare this one with."""
        fixtures = Path(self.bench.context.paths.suites) / "fixtures"
        profile = load(fixtures / "targets" / f"{name}.toml")
        path = str(fixtures / profile.binary) if profile.binary else profile.command[0]
        target = Target(
            name=name,
            kind=Kind.INIT,
            role=Role.STANDBY,
            argv=tuple(path if word == BINARY else word for word in profile.command),
            path=path,
            sha256="",
            version="",
            profile=profile,
            call=profile.call,
        )
        return Init(self.bench, target, self.mode)

    def graceful(self, seconds: float) -> tuple[str, ...]:
        """Return the options that set the time from TERM to KILL."""
        return tuple(word.replace("{seconds}", f"{seconds:g}") for word in self.call.graceful)

    def rewrite(self, number: int, other: int) -> tuple[str, ...]:
        """Return the options that forward another signal for this one, or none for 0."""
        return tuple(word.replace("{from}", str(number)).replace("{to}", str(other)) for word in self.call.rewrite)

    def remap(self, code: int) -> tuple[str, ...]:
        """Return the options that make a child's code a success."""
        return tuple(word.replace("{code}", str(code)) for word in self.call.remap)

    def called(self, *words: str) -> Run:
        """Call the init with exactly these words, in a ``with`` statement: for what is no way to run a command."""
        words = (*self.bench.words(self.target.argv), *words)
        return Run(self, words, terminal=None, fds={}, without=frozenset(), ignore=(), limits={}, environment={})

    def listening(self, *ports: int, named: str = "") -> tuple[str, ...]:
        """Return the options that make it listen; `named` chooses between ``ports`` and ``listen-fds``."""
        either = self.call.ports or self.call.listen_fds
        words = {"ports": self.call.ports, "listen-fds": self.call.listen_fds}.get(named, either)
        return tuple(word.replace("{ports}", ",".join(map(str, ports))) for word in words)

    def reloading(self, *, debounce_ms: int, delay_ms: int = 0, path: Path | None = None) -> tuple[str, ...]:
        """Return the options that make it restart a changed command, or restart it when another file has changed."""
        words = (*self.call.reload, *(self.call.watch if path else ()))
        values = {"{debounce_ms}": str(debounce_ms), "{delay_ms}": str(delay_ms), "{path}": str(path)}
        return tuple(values.get(word, word) for word in words)

    def start(
        self,
        command: Sequence[str | bytes] | None = None,
        *,
        options: Sequence[str] = (),
        adopting: bool = True,
        terminal: Terminal | None = None,
        fds: Mapping[int, int] | None = None,
        without: Iterable[int] = (),
        ignore: Iterable[int] = (),
        limits: Mapping[str, int] | None = None,
        environment: Mapping[bytes, bytes] | None = None,
        through: Sequence[str] = (),
    ) -> Run:
        """Start the init with a command (a recording child by default); use the result in a ``with`` statement.

        `fds` are added and `without` are closed; `limits` are of setrlimit(2) (``{"nofile": 4}``), soft and hard.
        `through` are words in front of all, a program that becomes the init.
        """
        words = self.command(command or self.recorder_words(), options=options, adopting=adopting)
        return Run(
            self,
            [*through, *words],
            terminal=terminal,
            fds=fds or {},
            without=frozenset(without),
            ignore=tuple(ignore),
            limits=limits or {},
            environment=environment or {},
        )
