"""The command that runs just one case again (layer 2; pure)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

from suites.framework.results.result import Result

CARRIED = ("--profile", "--target-env", "--wrap", "--image", "--as-user", "--plugin", "--hook")
"""Options of the run without which a case may end differently."""
FLAGS = ("--build-as-root", "--offline")
"""The same, without a value."""
_EXPRESSION = re.compile(r"[\w:+.\[\]\\/-]+")
_WORDS = re.compile(r"[\w:+.\\/-]+")
_KEYWORDS = frozenset({"and", "or", "not", "None", "True", "False"})


def command(result: Result, *, argv: Sequence[str] = ()) -> str:
    """Return the quoted nox command for a result; `argv` are the words of the run, which say how targets were given."""
    if not result.cases:
        return ""
    words = ["--target", _target(result.target, argv)] if result.target else []
    words += ["--case", result.cases[0]]
    if expression := selecting(result.node):
        words += ["-k", expression]
    line = f'nox -s "{session(result.environment)}" -- {shlex.join(words)}'
    return " ".join((line, *_carried(argv)))


def session(environment: str) -> str:
    """Return the nox session of an environment, such as ``acceptance-root(native)`` for ``root-native``."""
    privilege, _, place = environment.rpartition("-")
    return f"acceptance-{privilege}({place})"


def selecting(node: str) -> str:
    """Return an expression for ``-k`` that matches this node: its name, or the words of it that ``-k`` can read."""
    path, bracket, parameters = node.partition("[")
    name = path.rpartition("::")[2] + bracket + parameters
    if _EXPRESSION.fullmatch(name):
        return name
    return " and ".join(word for word in dict.fromkeys(_WORDS.findall(name)) if word not in _KEYWORDS)


def _target(name: str, argv: Sequence[str]) -> str:
    """Return the words of the run that named this target, its path included, else its name."""
    for given in _values(argv, "--target"):
        bare, equals, place = given.partition("=")
        if name.partition("+")[0] == bare.partition("+")[0] and equals:
            return f"{name}={place}"
    return name


def _carried(argv: Sequence[str]) -> Iterator[str]:
    yield from (flag for flag in FLAGS if flag in argv)
    for option in CARRIED:
        for value in _values(argv, option):
            if option == "--target-env":
                # no report prints the value of a variable: the reader's shell has to know it
                name = value.partition("=")[0]
                yield f'--target-env {shlex.quote(name)}="${{{name}}}"' if name.isidentifier() else ""
            else:
                yield shlex.join((option, value))


def _values(argv: Sequence[str], option: str) -> Iterator[str]:
    for word, following in zip(argv, (*argv[1:], ""), strict=False):
        if word == option and following:
            yield following
        elif word.startswith(f"{option}="):
            yield word.partition("=")[2]
