"""The words of the command line, as typed data (layer 2).

The same options serve every session that runs cases. Wrong words raise UsageError: one line, code 64.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from suites.catalog import TIERS, Kind, Place, Privilege
from suites.framework.errors import UsageError
from suites.framework.facts import Fact
from suites.framework.targets.profile import suggestion

LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a command was asked to do."""

    command: str
    base: Path
    """Where nox was invoked: relative paths count from here."""
    runs: Path
    cache: Path | None = None
    privilege: Privilege = Privilege.ROOT
    place: Place = Place.NATIVE
    targets: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = tuple(Kind)
    cases: tuple[str, ...] = ()
    expression: str = ""
    tier: int = 3
    pod_tier: int = 3
    """That of kind pod: lower where nothing was chosen, and it is one kind of all."""
    rootfs: str = "busybox"
    """What containers run in: a source of ``rootfs fetch``."""
    profile: Path | None = None
    target_env: dict[str, str] = field(default_factory=dict)
    wrap: tuple[str, ...] = ()
    promises: tuple[Fact, ...] = ()
    failed: str | None = None
    repeat: int = 1
    exitfirst: bool = False
    workers: int | None = None
    shard: tuple[int, int] = (1, 1)
    as_user: str | None = None
    image: str | None = None
    keep: bool = False
    offline: bool = False
    json: bool = False
    explain: str | None = None
    run_directories: tuple[Path, ...] = ()
    write_profile: Path | None = None
    apply: bool = False
    everything: bool = False
    checkouts: tuple[str, ...] = ()
    """The words NAME=DIR of `build`."""
    as_root: bool = False
    """Whether `build` may run a checkout's build as root."""
    plugins: tuple[str, ...] = ()
    hooks: tuple[Path, ...] = ()
    against: Path | None = None
    golden: Path | None = None
    strict: bool = False
    action: str = ""
    """What `rootfs` does: list, fetch, verify or clean."""
    source: str | None = None
    """Where a root file system comes from."""
    sha256: str | None = None
    words: tuple[str, ...] = ()
    """The words as given after the command, for the command that reproduces a failure."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Raise instead of printing a usage of many lines."""
        raise UsageError(message, remedy=f"see {self.prog} --help")


def _number(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return int(text)

    return number


def _tier(text: str) -> int:
    value = TIERS.get(text) or (int(text) if text.isdigit() else 0)
    if value not in TIERS.values():
        raise argparse.ArgumentTypeError(f"{text!r} is not a tier: 1 to 4, or {', '.join(TIERS)}")
    return value


def _shard(text: str) -> tuple[int, int]:
    part, slash, whole = text.partition("/")
    if not (slash and part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 1 <= I <= N, such as 2/4")
    return int(part), int(whole)


def _expression(text: str) -> str:
    from _pytest.mark.expression import Expression  # here, because only commands that run cases have pytest

    try:
        Expression.compile(text)
    except SyntaxError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no expression such as 'exit and not plain': {error}") from None
    return text


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _fact(text: str) -> Fact:
    try:
        return Fact(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a fact{suggestion(text, list(Fact))}; see nox -s doctor"
        ) from None


def _kind(text: str) -> Kind:
    try:
        return Kind(text)
    except ValueError:
        known = ", ".join(Kind)
        raise argparse.ArgumentTypeError(f"{text!r} is not a suite; there is: {known}") from None


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be split into words: {error}") from None


def _sha256(text: str) -> str:
    if len(text) != 64 or set(text.lower()) - set("0123456789abcdef"):
        raise argparse.ArgumentTypeError(f"{text!r} is no SHA-256: 64 hexadecimal digits")
    return text.lower()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the launcher."""
    top = _Parser(prog="python -m suites.framework", allow_abbrev=False, description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.add_argument("--base", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
        added.add_argument(
            "--runs", type=Path, metavar="DIR", help="where run directories are (default: runs/ of the checkout)"
        )
        added.add_argument("--cache", type=Path, metavar="DIR", help="what was built and downloaded")
        return added

    run = command("run", "try targets in one environment")
    run.add_argument("--privilege", type=Privilege, choices=list(Privilege), default=Privilege.ROOT)
    run.add_argument("--place", type=Place, choices=list(Place), default=Place.NATIVE)
    doctor = command("doctor", "what this machine has, per environment, and what each fact unlocks")
    mutants = command("mutants", "prove that the suites catch seeded faults")
    mutants.add_argument(
        "--all", dest="everything", action="store_true", help="every case against every mutant, not only those named"
    )
    for with_cases in (run, doctor, mutants):
        _selection(with_cases)
    build = command("build", "build targets from their checkouts")
    build.add_argument("checkouts", nargs="+", metavar="NAME=DIR[#EXECUTABLE]")
    build.add_argument("--profile", type=Path, metavar="FILE", help="with the [build] table of one's own target")
    build.add_argument("--offline", action="store_true", help="never ask a registry")
    build.add_argument(
        "--promise", dest="promises", action="append", type=_fact, default=[], metavar="FACT", help="such as a tool"
    )
    for building in (run, build):
        building.add_argument(
            "--build-as-root", dest="as_root", action="store_true", help="build a checkout that root owns, as root"
        )
        _hooks(building)
    cases = command("cases", "what is tested")
    cases.add_argument("--json", action="store_true", help="as one JSON document")
    cases.add_argument("--explain", metavar="ID", help="what a case checks, why, its source, and how to see it by hand")
    report = command("report", "derive results from run directories; several give a new, merged one")
    report.add_argument("run_directories", type=Path, nargs="*", metavar="RUN", help="default: runs/latest")
    report.add_argument("--target", dest="targets", action="append", default=[], metavar="NAME")
    report.add_argument("--write-profile", type=Path, metavar="FILE", help="pin the failures as known deviations")
    report.add_argument("--against", type=Path, metavar="RUN", help="show what differs from an earlier run")
    gate = command("gate", "judge run directories by every gate; exit 2 when one is red")
    gate.add_argument("run_directories", type=Path, nargs="*", metavar="RUN", help="default: runs/latest")
    gate.add_argument("--golden", type=Path, metavar="DIR", help="manifests that the artefacts must equal")
    gate.add_argument("--strict", action="store_true", help="an inconclusive measurement is red too")
    clean = command("clean", "what earlier runs left; removes it with --apply")
    clean.add_argument("--apply", action="store_true", help="really remove")
    _rootfs(command("rootfs", "root file systems for containers"))
    return top


def _rootfs(added: argparse.ArgumentParser) -> None:
    actions = added.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_Parser)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text, allow_abbrev=False)
        made.add_argument("--cache", type=Path, metavar="DIR", default=argparse.SUPPRESS)
        return made

    action("list", "the sources, and what of them is in the cache")
    fetch = action("fetch", "take a root file system into the cache")
    fetch.add_argument("source", metavar="SOURCE", help="busybox, mmdebstrap, docker:IMAGE, a tar archive or its URL")
    fetch.add_argument("--sha256", type=_sha256, metavar="HEX", help="of the archive; a URL needs it")
    verify = action("verify", "compare what is in the cache with its manifest; what is damaged is made again")
    verify.add_argument("source", metavar="SOURCE", nargs="?", help="default: all")
    for fetching in (fetch, verify):
        fetching.add_argument("--offline", action="store_true", help="fetch nothing")
    action("clean", "the root file systems in the cache; removes them with --apply").add_argument(
        "--apply", action="store_true", help="really remove"
    )


def _selection(added: argparse.ArgumentParser) -> None:
    option = added.add_argument
    option("--target", dest="targets", action="append", default=[], metavar="NAME[=[KIND:]PATH]")
    option("--suite", dest="kinds", action="append", type=_kind, metavar="KIND")
    option("--case", dest="cases", action="append", default=[], metavar="ID")
    option("-k", dest="expression", type=_expression, default="", metavar="EXPR")
    option("--tier", type=_tier, metavar="N", help="tiers 1 to N: 3; of pods 2 where everything is planned")
    option("--profile", type=Path, metavar="FILE", help="conventions and known deviations of one's own target")
    option("--target-env", action="append", type=_variable, default=[], metavar="NAME=VALUE")
    option("--wrap", type=_words, default=(), metavar="COMMAND", help="strace, rr or valgrind in front of the target")
    option("--promise", dest="promises", action="append", type=_fact, default=[], metavar="FACT")
    option("--failed", nargs="?", const=LATEST, metavar="RUN", help="only what failed in a run (default: the latest)")
    option("--repeat", type=_number(1), default=1, metavar="N")
    option("--exitfirst", action="store_true")
    option("--workers", type=_number(1), metavar="N")
    option("--shard", type=_shard, default=(1, 1), metavar="I/N")
    option("--as-user", metavar="NAME")
    option("--image", metavar="NAME")
    option("--rootfs", default="busybox", metavar="SOURCE", help="what containers run in; see `rootfs fetch --help`")
    option("--keep", action="store_true", help="leave the scratch folder for a look")
    option("--offline", action="store_true", help="never ask a registry")


def _hooks(added: argparse.ArgumentParser) -> None:
    option = added.add_argument
    option("--plugin", dest="plugins", action="append", default=[], metavar="MODULE", help="a module with hooks")
    option(
        "--hook",
        dest="hooks",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="FILE start|end STEP TARGET",
    )


def _tiers(found: Mapping[str, Any]) -> tuple[int, int]:
    """Return the tier of all kinds and that of pods, each of which costs several times what another case does."""
    given: int | None = found["tier"]
    chosen = any(found.get(name) for name in ("targets", "kinds", "cases", "expression", "failed"))
    chosen = chosen or found["command"] != "run"  # whose targets name their cases
    whole = given or 3
    return whole, whole if given or chosen else min(whole, TIERS["plan"])


def parse(words: Sequence[str], *, checkout: Path) -> Options:
    """Return the options in `words`; raises UsageError."""
    found: dict[str, Any] = vars(parser().parse_args(words))
    found["words"] = tuple(words[1:])
    found["base"] = found["base"].absolute()
    found["runs"] = found["base"] / found["runs"] if found["runs"] else checkout / "runs"
    for name in ("cache", "profile", "write_profile", "against", "golden"):
        if found.get(name):
            found[name] = found["base"] / found[name]
    if "target_env" in found:
        found["target_env"] = dict(found["target_env"])
    if "tier" in found:
        found["tier"], found["pod_tier"] = _tiers(found)
    found["kinds"] = tuple(found.get("kinds") or Kind)
    for name in ("targets", "cases", "promises", "checkouts", "plugins"):
        found[name] = tuple(found.get(name, ()))
    for name in ("run_directories", "hooks"):
        found[name] = tuple(found["base"] / path for path in found.get(name, ()))
    return Options(**found)
