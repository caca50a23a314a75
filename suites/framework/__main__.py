"""The launcher: ``python -m suites.framework COMMAND`` (layer 2).

Every session of the noxfile is one call of it. A condition that a user can mend is one line and an exit code,
never a traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # there is nothing to clean up before `main`, and nothing to trace

from suites.framework.errors import ExitCode, SeatrialError
from suites.framework.interruption import Interruption
from suites.framework.options import Options, parse

CHECKOUT = Path(__file__).parents[2]


def _run(options: Options) -> ExitCode:
    from suites.framework.commands.run import run

    return run(options)


def _build(options: Options) -> ExitCode:
    from suites.framework.commands.build import build

    return build(options)


def _gate(options: Options) -> ExitCode:
    from suites.framework.commands.gate import gate

    return gate(options)


def _doctor(options: Options) -> ExitCode:
    from suites.framework.commands.doctor import doctor

    return doctor(options)


def _cases(options: Options) -> ExitCode:
    from suites.framework.commands.cases import cases

    return cases(options)


def _report(options: Options) -> ExitCode:
    from suites.framework.commands.report import report

    return report(options)


def _mutants(options: Options) -> ExitCode:
    from suites.framework.commands.mutants import mutants

    return mutants(options)


def _clean(options: Options) -> ExitCode:
    from suites.framework.commands.clean import clean

    return clean(options)


def _rootfs(options: Options) -> ExitCode:
    from suites.framework.commands.rootfs import rootfs

    return rootfs(options)


COMMANDS: dict[str, Callable[[Options], ExitCode]] = {
    "run": _run,
    "build": _build,
    "doctor": _doctor,
    "cases": _cases,
    "report": _report,
    "gate": _gate,
    "mutants": _mutants,
    "clean": _clean,
    "rootfs": _rootfs,
}
"""Each command imports only what it needs: `cases` works where no Docker SDK is."""


def main(words: Sequence[str]) -> int:
    """Execute one command and return its exit code."""
    with Interruption():
        try:
            options = parse(words, checkout=CHECKOUT)
            return COMMANDS[options.command](options)
        except SeatrialError as error:
            print(f"seatrial: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print("seatrial: interrupted", file=sys.stderr)
            return ExitCode.INTERRUPTED
        except BrokenPipeError:
            return ExitCode.INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
