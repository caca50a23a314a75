"""Runtimes that bring a shim of their own: how an engine finds it, and what it is started with (layer 1).

An engine knows a shim by a runtime type, ``io.containerd.NAME.VERSION``, and looks for ``containerd-shim-NAME-VERSION``
on its PATH (containerd, docs/runtime-v2.md). There it finds a script of ours, which sets the target's variables, takes
what a case has changed about them, and becomes the target.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from suites.framework.calls import interpreted
from suites.framework.model import Target
from suites.framework.pod.config import RUNC_SHIM, Handler

FOLDER = "shims"
"""Below the engine's own; first on its PATH."""
PREFIX = "io.containerd"
_PROGRAM = re.compile(r"containerd-shim-(?P<name>[^./]+)-(?P<version>[^-./]+)")
_STAGED = "{folder}"
"""In a variable's value: where the target's program and its siblings are."""


def runtime_type(target: Target) -> str:
    """Return the type of a target's shim: its profile's, or what the name of its program says; empty for no shim."""
    if target.call.pod.runtime_type:
        return target.call.pod.runtime_type
    found = _PROGRAM.fullmatch(_program(target).name)
    return f"{PREFIX}.{found['name']}.{found['version']}" if found else ""


def handler(target: Target, name: str, *, folder: Path, python: str, taken: Collection[str]) -> Handler:
    """Return the handler for a target that is a shim, and write the script that an engine finds as it.

    Where the type is another target's already, or the engine's own, it is one with the handler's name.
    """
    wanted = runtime_type(target)
    if wanted in (RUNC_SHIM, *taken):
        wanted = f"{PREFIX}.{name}.{wanted.rpartition('.')[2]}"
    script = folder / FOLDER / f"containerd-shim-{'-'.join(wanted.split('.')[-2:])}"
    words = interpreted((*target.wrap, *target.argv), python)
    lines = [f"export {_assigned(name, value)}" for name, value in variables(target).items()]
    changed = shlex.quote(str(settings(script)))
    write(script, words, *lines, f"[ ! -e {changed} ] || . {changed}")
    return Handler(name=name, runtime_type=wanted, annotations=target.call.pod.annotations, shim=str(script))


def write(script: Path, words: Sequence[str], *lines: str) -> str:
    """Write a script that executes `lines` and becomes `words` with its own behind them; return its path."""
    script.parent.mkdir(exist_ok=True)
    script.write_text("\n".join(("#!/bin/sh", *lines, f'exec {shlex.join(words)} "$@"', "")))
    script.chmod(0o755)
    return str(script)


def variables(target: Target) -> dict[str, str]:
    """Return the variables that a target's shim is started with; those of the user come last."""
    pairs = (word.partition("=") for word in target.call.pod.environment)
    staged = str(_program(target).parent)
    return {name: value.replace(_STAGED, staged) for name, _, value in pairs} | dict(target.environment)


def settings(script: Path) -> Path:
    """Return the file in which a case changes the variables of a shim."""
    return script.with_name(f"{script.name}.settings")


@contextmanager
def changed(handler: Handler, values: Mapping[str, str]) -> Iterator[None]:
    """Have every shim that is started meanwhile begin with these variables too."""
    path = settings(Path(handler.shim))
    path.write_text("".join(f"export {_assigned(name, value)}\n" for name, value in values.items()))
    try:
        yield
    finally:
        path.unlink()


def _assigned(name: str, value: str) -> str:
    return f"{name}={shlex.quote(value)}"


def _program(target: Target) -> Path:
    """Return the program of a target: of its words the last that is a path, what starts a script left out."""
    own = [word for word in target.argv if word.startswith("/")]
    named = [word for word in own if Path(word).name == target.profile.binary]
    return Path((named or own or [*target.argv])[0])
