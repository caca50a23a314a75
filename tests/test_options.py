"""The words of the command line: good ones become typed data, bad ones one line and code 64."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.catalog import Kind, Place, Privilege
from suites.framework.errors import ExitCode, UsageError
from suites.framework.facts import Fact
from suites.framework.options import LATEST, Options, parse

CHECKOUT = Path("/checkout")


def words(text: str) -> Options:
    return parse(text.split(), checkout=CHECKOUT)


def test_defaults_try_everything_once() -> None:
    """Without words: root on this machine, all kinds, tier 3, runs beside the checkout."""
    found = words("run")
    assert ("run", Privilege.ROOT, Place.NATIVE) == (found.command, found.privilege, found.place)
    assert (tuple(Kind), 3, 1, (1, 1)) == (found.kinds, found.tier, found.repeat, found.shard)
    assert CHECKOUT / "runs" == found.runs
    assert (None, (), ()) == (found.failed, found.targets, found.words)


def test_all_words_of_a_run() -> None:
    """Each word ends up in its field, with its type."""
    found = words(
        "run --base /b --privilege rootless --place container --target tini --target mine=init:./m --suite init"
        " --case SG-01 --case init:TM-01 -k lifecycle --tier smoke --target-env A=1 --target-env B=x=y --wrap strace"
        " --promise overlay --promise setuid --failed --repeat 5 --exitfirst --workers 3 --shard 2/4 --as-user nobody"
        " --image i --keep --offline --profile p.toml --cache c --runs r"
    )
    assert (Privilege.ROOTLESS, Place.CONTAINER) == (found.privilege, found.place)
    assert (("tini", "mine=init:./m"), (Kind.INIT,)) == (found.targets, found.kinds)
    assert (("SG-01", "init:TM-01"), "lifecycle", 1) == (found.cases, found.expression, found.tier)
    assert ({"A": "1", "B": "x=y"}, ("strace",)) == (found.target_env, found.wrap)
    assert ((Fact.OVERLAY, Fact.SETUID), LATEST) == (found.promises, found.failed)
    assert (5, True, 3, (2, 4)) == (found.repeat, found.exitfirst, found.workers, found.shard)
    assert ("nobody", "i", True, True) == (found.as_user, found.image, found.keep, found.offline)
    assert [Path("/b") / name for name in ("p.toml", "c", "r")] == [found.profile, found.cache, found.runs]
    assert "--privilege" == found.words[2]


@pytest.mark.parametrize(
    ("text", "tiers"),
    [
        ("run", (3, 2)),
        ("run --shard 1/2 --workers 2 --offline", (3, 2)),
        ("run --tier full", (3, 3)),
        ("run --tier 4", (4, 4)),
        ("run --tier smoke", (1, 1)),
        ("run --suite oci", (3, 3)),
        ("run --target runc", (3, 3)),
        ("run --case A1", (3, 3)),
        ("run -k exit", (3, 3)),
        ("run --failed", (3, 3)),
        ("mutants", (3, 3)),
    ],
)
def test_pods_are_planned_in_full_by_those_who_chose(text: str, tiers: tuple[int, int]) -> None:
    """Where everything is planned the long part of pods is left out; a tier that is given holds for all kinds."""
    found = words(text)
    assert tiers == (found.tier, found.pod_tier)


def test_a_command_to_wrap_is_split_as_a_shell_would() -> None:
    """Quotes keep words together."""
    found = parse(["run", "--wrap", "strace -o '{evidence}/a b' -f"], checkout=CHECKOUT)
    assert ("strace", "-o", "{evidence}/a b", "-f") == found.wrap


def test_the_words_of_the_other_commands() -> None:
    """Reports, cases, mutants and clean have words of their own."""
    report = words("report --base /b one /two --write-profile p.toml")
    assert (Path("/b/one"), Path("/two")) == report.run_directories
    assert Path("/b/p.toml") == report.write_profile
    assert ("SG-01", True) == (words("cases --explain SG-01").explain, words("cases --json").json)
    assert (True, False) == (words("clean --apply").apply, words("clean").apply)
    assert words("mutants --all").everything
    assert ("tini",) == words("doctor --target tini").targets
    assert "r1" == words("run --failed r1").failed


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "COMMAND"),
        ("dance", "invalid choice: 'dance'"),
        ("run --colour", "unrecognized arguments: --colour"),
        ("run extra", "unrecognized arguments: extra"),
        ("run --targ tini", "unrecognized arguments"),
        ("run --privilege king", "privilege"),
        ("run --place moon", "place"),
        ("run --suite pods", "'pods' is not a suite; there is: init"),
        ("run --tier 5", "'5' is not a tier: 1 to 4, or smoke"),
        ("run --tier 0", "is not a tier"),
        ("run --tier soon", "is not a tier"),
        ("run --repeat 0", "'0' is not a whole number from 1"),
        ("run --workers -1", "is not a whole number from 1"),
        ("run --workers many", "'many' is not a whole number from 1"),
        ("run --shard 2", "is not I/N"),
        ("run --shard 0/2", "is not I/N"),
        ("run --shard 3/2", "is not I/N"),
        ("run --shard a/b", "is not I/N"),
        ("run --target-env A", "'A' is not NAME=VALUE"),
        ("run --target-env =1", "is not NAME=VALUE"),
        ("run --target-env 1A=1", "is not NAME=VALUE"),
        ("run --promise overlai", "did you mean overlay"),
        ("run --promise x", "see nox -s doctor"),
        ("run --wrap '", "cannot be split into words: No closing quotation"),
        ("run --case", "expected one argument"),
        ("cases --apply", "unrecognized arguments"),
    ],
)
def test_a_wrong_word_is_a_usage_error(text: str, about: str) -> None:
    """The message names the word and what would be right; nothing is printed, nothing exits."""
    with pytest.raises(UsageError) as caught:
        words(text)
    assert about in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "--help" in caught.value.remedy
    assert ExitCode.USAGE == caught.value.exit_code
