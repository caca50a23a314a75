"""Hooks are all called, cannot end the launcher, and are refused with a reason where they cannot work."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from suites.framework.errors import UsageError
from suites.framework.hooks import Executable, Hooks
from suites.framework.hookspecs import HookStep, hookimpl

MODULE = """
from suites.framework.hookspecs import hookimpl

@hookimpl
def seatrial_before(step):
    {body}
"""


@pytest.fixture
def step(tmp_path: Path) -> HookStep:
    """Return a step of a run directory."""
    return HookStep(kind="step", name="build::x::make", environment="host", target="x", run=tmp_path)


def program(folder: Path, script: str) -> Path:
    path = folder / "hook"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("word", ["notes", "notes.py", "./notes.py"])
def test_a_module_is_found_where_nox_was_called(tmp_path: Path, step: HookStep, word: str) -> None:
    """By its name, or as a file."""
    (tmp_path / "notes.py").write_text(MODULE.format(body="(step.run / 'called').write_text(step.name)"))
    assert "" == Hooks.load([word], base=tmp_path).before(step)
    assert "build::x::make" == (tmp_path / "called").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be imported"),
        ("raise KeyError('no')", "KeyError: 'no'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("x = (", "SyntaxError"),
        ("def seatrial_before(step): pass", "hooks nothing"),
        (
            "from suites.framework.hookspecs import hookimpl\n@hookimpl\ndef seatrial_never(step): pass",
            "seatrial_never",
        ),
        ("from suites.framework.hookspecs import hookimpl\n@hookimpl\ndef seatrial_before(no): pass", "no"),
    ],
)
def test_a_plugin_that_cannot_work_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    """One line with the reason."""
    if text is not None:
        (tmp_path / "plugin.py").write_text(text)
    with pytest.raises(UsageError, match="--plugin") as caught:
        Hooks.load(["plugin.py"], base=tmp_path)
    assert said in str(caught.value)


def test_an_executable_must_be_one(tmp_path: Path) -> None:
    """A file that is missing or not executable is refused."""
    (tmp_path / "plain").touch()
    for name, said in (("plain", "not executable"), ("gone", "no such file"), (".", "no such file")):
        with pytest.raises(UsageError, match=said):
            Hooks.load(executables=[tmp_path / name], base=tmp_path)


def test_an_executable_is_called_around_a_step(tmp_path: Path, step: HookStep) -> None:
    """With start or end, step and target; what it says is in the framework's log."""
    hooks = Hooks.load(executables=[program(tmp_path, f'echo "$@" | tee -a {tmp_path}/calls')], base=tmp_path)
    assert ["", "", ""] == [hooks.before(step), hooks.during(step), hooks.after(step, "passed")]
    assert "start build::x::make x\nend build::x::make x\n" == (tmp_path / "calls").read_text()
    lines = [json.loads(line) for line in (tmp_path / "framework.jsonl").read_text().splitlines()]
    assert ["start build::x::make x", "end build::x::make x"] == [line["output"] for line in lines]


def test_an_executable_that_fails_or_hangs_is_told(tmp_path: Path, step: HookStep) -> None:
    """By its status and last words, or by its deadline."""
    failing = Hooks([Executable(program(tmp_path, "echo broken >&2; exit 3"))])
    assert failing.before(step).endswith("exit status 3: broken")
    hanging = Hooks([Executable(program(tmp_path, "exec sleep 1000"), deadline_s=0.2)])
    assert hanging.before(step).endswith("no end within 0.2 s")


class Plugin:
    """Does something before a step."""

    def __init__(self, act: object) -> None:
        """Take what it does."""
        self.act, self.called = act, False

    @hookimpl
    def seatrial_before(self) -> None:
        """Do it."""
        self.called = True
        if isinstance(self.act, BaseException):
            raise self.act
        if self.act == "hang":
            while True:
                signal.pause()


@pytest.mark.parametrize(
    ("act", "said"),
    [(ValueError("no"), "ValueError: no"), (SystemExit(3), "SystemExit: 3"), ("hang", "no end within 0.2 s")],
)
def test_a_bad_hook_silences_no_other(step: HookStep, act: object, said: str) -> None:
    """What one raises is told with its name; those beside it are called, before and after it in order."""
    plugins = [Plugin(None), Plugin(act), Plugin(None)]
    problem = Hooks(plugins, deadline_s=0.2).before(step)
    assert said in problem
    assert problem.startswith("hook seatrial_before of ")
    assert [True, True, True] == [plugin.called for plugin in plugins]


def test_ctrl_c_passes_through_a_hook(step: HookStep) -> None:
    """An interruption is the user's and not a hook's failure; the alarm is put back."""
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt):
        Hooks([Plugin(KeyboardInterrupt())]).before(step)
    assert (before, (0.0, 0.0)) == (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL))


def test_two_bad_hooks_are_both_told(step: HookStep) -> None:
    """None hides the other."""
    problem = Hooks([Plugin(ValueError("one")), Plugin(ValueError("two"))]).before(step)
    assert "one" in problem
    assert "two" in problem
