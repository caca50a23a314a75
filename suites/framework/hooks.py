"""Loading and calling hooks: every one is called, and none of them can end the launcher (layer 2)."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType

import pluggy

from suites.framework import framework_log, hookspecs
from suites.framework.errors import UsageError
from suites.framework.hookspecs import PROJECT, HookStep, hookimpl
from suites.framework.provisioning.command import Run, run

PYTHON_S = 60.0
"""How long a hook in Python may take."""
EXECUTABLE_S = 30.0
"""How long an executable may take."""


class _HungError(BaseException):
    """The watchdog's own: no ``except Exception`` of a hook swallows it."""


class Executable:
    """The built-in plugin: calls ``FILE start|end STEP TARGET`` around every step."""

    def __init__(self, path: Path, *, run: Run = run, deadline_s: float = EXECUTABLE_S) -> None:
        """Take the program; its deadline is in seconds."""
        self.path, self._run, self._deadline_s = path, run, deadline_s

    @hookimpl
    def seatrial_before(self, step: HookStep) -> None:
        """Call it with ``start``."""
        self._call("start", step)

    @hookimpl
    def seatrial_after(self, step: HookStep, outcome: str) -> None:  # noqa: ARG002 - of the specification
        """Call it with ``end``."""
        self._call("end", step)

    def _call(self, word: str, step: HookStep) -> None:
        done = self._run((str(self.path), word, step.name, step.target), deadline_s=self._deadline_s)
        output = f"{done.stdout}{done.stderr}".strip()
        framework_log.write(step.run, "info", f"{self.path.name} {word} {step.name}", code=done.code, output=output)
        if not done.ok:
            ending = f"no end within {self._deadline_s} s" if done.late else f"exit status {done.code}"
            raise RuntimeError(f"{ending}: {done.complaint}" if output else ending)


class Hooks:
    """The plugins of a run."""

    def __init__(self, plugins: Sequence[object] = (), *, deadline_s: float = PYTHON_S) -> None:
        """Register plugins; UsageError for one that hooks nothing or something unknown."""
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._deadline_s = deadline_s
        for plugin in plugins:
            self._register(plugin)

    @classmethod
    def load(cls, modules: Sequence[str] = (), executables: Sequence[Path] = (), *, base: Path) -> Hooks:
        """Import ``--plugin MODULE`` (a dotted name, or a file ending in .py) and take ``--hook FILE``.

        Both count from `base`. Raises UsageError for what cannot be imported, has no hook, or cannot be executed.
        """
        return cls([*(_imported(name, base) for name in modules), *(_executable(path) for path in executables)])

    def _register(self, plugin: object) -> None:
        name = _name(plugin)
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except (ValueError, pluggy.PluginValidationError) as error:
            raise UsageError(f"--plugin {name}", why=str(error), remedy="see suites/framework/hookspecs.py") from error
        if not self._manager.get_hookcallers(plugin):
            raise UsageError(
                f"--plugin {name} hooks nothing",
                why="it defines no function seatrial_before, seatrial_during or seatrial_after marked with hookimpl",
                remedy="see suites/framework/hookspecs.py",
            )

    def before(self, step: HookStep) -> str:
        """Call the hooks of a step that is about to start; return what went wrong, or an empty text."""
        return self._call(self._manager.hook.seatrial_before, {"step": step})

    def during(self, step: HookStep) -> str:
        """Call the hooks of a step that runs."""
        return self._call(self._manager.hook.seatrial_during, {"step": step})

    def after(self, step: HookStep, outcome: str) -> str:
        """Call the hooks of a step that has ended."""
        return self._call(self._manager.hook.seatrial_after, {"step": step, "outcome": outcome})

    def _call(self, hook: pluggy.HookCaller, arguments: dict[str, object]) -> str:
        """Call every implementation by itself, so that one's exception does not silence the others."""
        problems = []
        for found in reversed(hook.get_hookimpls()):
            given = {name: arguments[name] for name in found.argnames}
            if problem := self._attempt(partial(found.function, **given)):
                problems.append(f"hook {hook.name} of {found.plugin_name}: {problem}")
        return "; ".join(problems)

    def _attempt(self, act: Callable[[], object]) -> str:
        try:
            with _watchdog(self._deadline_s):
                act()
        except _HungError:
            return f"no end within {self._deadline_s} s"
        except (Exception, SystemExit) as error:
            return f"{type(error).__name__}: {error}"
        return ""


NO_HOOKS = Hooks()


@contextmanager
def _watchdog(seconds: float) -> Iterator[None]:
    """Raise in this thread, which must be the main one, when the time is over."""

    def hang(_number: int, _frame: FrameType | None) -> None:
        raise _HungError

    previous = signal.signal(signal.SIGALRM, hang)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _name(plugin: object) -> str:
    return str(plugin.path) if isinstance(plugin, Executable) else getattr(plugin, "__name__", repr(plugin))


def _imported(name: str, base: Path) -> ModuleType:
    file = base / Path(name).expanduser()
    try:
        if name.endswith(".py"):
            return _from_file(file)
        sys.path.insert(0, str(base))
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(str(base))
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"--plugin {name} cannot be imported",
            why=f"{type(error).__name__}: {error}",
            remedy=f"give a module below {base}, or a file ending in .py",
        ) from error


def _from_file(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _executable(path: Path) -> Executable:
    if not path.is_file() or not os.access(path, os.X_OK):
        why = "it is not executable" if path.is_file() else "there is no such file"
        raise UsageError(
            f"--hook {path}", why=why, remedy="give an executable file; it is called with start|end STEP TARGET"
        )
    return Executable(path)
