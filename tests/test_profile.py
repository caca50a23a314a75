"""Profiles, deviations and the catalogue."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from suites.catalog import Kind
from suites.framework.errors import UsageError
from suites.framework.model import Deviation, Profile
from suites.framework.targets.catalogue import load_catalogue
from suites.framework.targets.deviations import UNWRITTEN, dump, match
from suites.framework.targets.profile import check_cases, load, overlay

CATALOGUE = Path(__file__).parent.parent / "fixtures/targets"
WHOLE = """
schema = 1
title = "t"
kinds = ["init"]
reference-for = ["init"]
binary = "tini"
package.debian = "tini"
package.fedora = "tini-static"
version = ["--version"]
siblings = ["lib/x"]
limits.start-ms = 3

[call.init]
separator = "--"
subreaper = ["-s"]

[variant.g]
arguments = ["-g"]
call.init.delivery = "group"

[[deviation]]
case = "FD-06"
observed = "LISTEN_PID still names tini"
reason = "r"
mode = "pid1"

[[deviation]]
case = "SG-09"
observed = "o"
reason = "r"
environment = ["root-native", "rootless-native"]
variant = "-"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_key_of_a_profile_arrives(tmp_path: Path) -> None:
    """The documented keys, with dashes and dots, become fields; scopes may be a word or a list; order is kept."""
    profile = load(written(tmp_path, WHOLE))
    assert (profile.name, profile.binary, profile.reference_for) == ("mine", "tini", (Kind.INIT,))
    assert profile.package == {"debian": "tini", "fedora": "tini-static"}
    assert profile.limits == {"start-ms": 3.0}
    assert (profile.call.init.separator, profile.call.init.subreaper) == ("--", ("-s",))
    assert [deviation.case for deviation in profile.deviation] == [("FD-06",), ("SG-09",)]
    assert profile.deviation[0].mode == ("pid1",)
    assert profile.deviation[1].environment == ("root-native", "rootless-native")


def test_variant_lays_its_call_over_the_targets(tmp_path: Path) -> None:
    """A variant changes what it names and keeps the rest."""
    profile = load(written(tmp_path, WHOLE))
    call = overlay(profile.call, profile.variant["g"])
    assert (call.init.delivery, call.init.separator, call.init.subreaper) == ("group", "--", ("-s",))
    assert profile.call.init.delivery == "child"


DEVIATION = '[[deviation]]\ncase = "A"\nobserved = "o"\nreason = "r"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("kinds = [", ["not TOML", "end of document"], id="malformed"),
        pytest.param("a = 1\nb = = 2\n", ["line 2"], id="malformed-line"),
        pytest.param("schema = 2", ["schema", "2 is newer than 1"], id="newer-schema"),
        pytest.param('schema = "1"', ["schema: expected 1"], id="schema-type"),
        pytest.param('separater = "x"', ["separater: unknown key", "allowed are"], id="unknown-key"),
        pytest.param('reference_for = ["init"]', ["did you mean reference-for"], id="underscore"),
        pytest.param('name = "x"', ["name: unknown key"], id="name"),
        pytest.param(
            '[call.init]\nseperator = "--"', ["call.init.seperator", "did you mean separator"], id="nested-key"
        ),
        pytest.param("[call.vm]\nx = 1", ["call.vm: unknown key", "init"], id="call-kind"),
        pytest.param("[variant.g]\ncall.init.speed = 1", ["variant.g.call.init.speed: unknown key"], id="variant-key"),
        pytest.param(
            "[variant.g]\ncall.init.fence = 'x'", ["variant.g.call.init.fence: expected int"], id="variant-type"
        ),
        pytest.param("[call.init]\nfence = '31'", ["call.init.fence: expected int"], id="type"),
        pytest.param("[call.init]\nfence = 65", ["call.init.fence: 65", "1 to 64"], id="fence"),
        pytest.param("[call.init]\ndelivery = 'all'", ["child, group"], id="delivery"),
        pytest.param("[call.init]\ngraceful = ['-t']", ["graceful", "{seconds}"], id="graceful"),
        pytest.param("[call.init]\nrewrite = ['-r', '{from}']", ["rewrite", "{to}"], id="rewrite"),
        pytest.param("[call.init]\nremap = ['-e']", ["remap", "{code}"], id="remap"),
        pytest.param("[call.init]\ntstp = 'stop'", ["tstp: 'stop'", "forwarded, stopped, ignored"], id="tstp"),
        pytest.param("[call.init]\nusage = 0", ["usage: 0", "1 to 255"], id="usage"),
        pytest.param("[call.init]\nadopts = false\nsubreaper = ['-s']", ["contradicts subreaper"], id="adopts"),
        pytest.param("[call.pod]\nruntime-type = 'mine'", ["runtime-type: 'mine'", "NAME.VERSION"], id="runtime-type"),
        pytest.param("[call.pod]\nenvironment = ['A']", ["environment: 'A'", "NAME=VALUE"], id="pod-variable"),
        pytest.param("[call.pod]\nlacks = ['wheels']", ["lacks: 'wheels'", "pid-namespace"], id="lacks"),
        pytest.param("[call.pod]\nneeds = ['volumes=luck']", ["needs: 'volumes=luck'", "WORD=FACT"], id="needs"),
        pytest.param("[call.pod]\nstate = '/run/mine'", ["state: '/run/mine'", "{id}"], id="pod-state"),
        pytest.param('kinds = "init"', ["kinds: expected a list"], id="string-for-list"),
        pytest.param('kinds = ["disk"]', ["kinds[0]: 'disk' is not one of init"], id="unknown-kind"),
        pytest.param("kinds = []", ["kinds: empty"], id="no-kind"),
        pytest.param('command = ["sh"]\nbinary = "sh"', ["contradicts binary"], id="command-and-binary"),
        pytest.param('command = ["{binary}"]', ["contradicts binary"], id="command-without-binary"),
        pytest.param('binary = "/bin/sh"', ["not a file name"], id="absolute"),
        pytest.param('reference-for = ["init"]\n[control]\nreason = "r"', ["contradicts reference-for"], id="control"),
        pytest.param("[control]\nplain = ['*']", ["control: reason missing"], id="control-reason"),
        pytest.param('[[deviation]]\ncase = "A"\nreason = "r"', ["deviation[0]: observed missing"], id="no-observed"),
        pytest.param('[[deviation]]\ncase = "A"\nobserved = "o"', ["deviation[0]: reason missing"], id="no-reason"),
        pytest.param(
            '[[deviation]]\ncase = "A"\nobserved = "o"\nreason = " "', ["deviation[0].reason: empty"], id="blank"
        ),
        pytest.param(DEVIATION + DEVIATION, ["two entries for A", "same scope"], id="twice"),
        pytest.param(DEVIATION + 'mode = "pid2"', ["deviation[0].mode: 'pid2'", "plain, pid1, docker"], id="mode"),
        pytest.param(DEVIATION + 'environment = "native"', ["root-native"], id="environment"),
        pytest.param(DEVIATION + 'variant = "h"', ["'h' is not one of -"], id="scope-variant"),
    ],
)
def test_a_wrong_profile_is_refused_with_file_key_and_choice(tmp_path: Path, text: str, words: list[str]) -> None:
    """Whatever is wrong, one line names the file, the key and what is allowed."""
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert [word for word in words if word not in message] == [], message
    assert "\n" not in message


def test_two_deviations_of_one_case_with_different_scopes_are_fine(tmp_path: Path) -> None:
    """Positive control of the entry above."""
    profile = load(written(tmp_path, DEVIATION + DEVIATION + 'mode = "pid1"'))
    assert len(profile.deviation) == 2


def test_a_deviation_of_several_cases_holds_for_each(tmp_path: Path) -> None:
    """A list of cases stands for one entry each, alike in all else; a case is not named twice in one scope."""
    several = DEVIATION.replace('"A"', '["A", "init:B"]') + 'mode = "pid1"\n'
    (one,) = load(written(tmp_path, several)).deviation
    assert ("A", "init:B") == one.case
    for case in ("A", "init:B"):
        assert one == match([one], cases=(case,), environment="root-native", mode="pid1")
    assert match([one], cases=("B",), environment="root-native", mode="pid1") is None
    for wrong, said in {
        several * 2: "two entries for A",
        several + DEVIATION.replace('"A"', "[]"): r"\[1\]\.case: empty",
    }.items():
        with pytest.raises(UsageError, match=said):
            load(written(tmp_path, wrong))


@pytest.mark.parametrize("content", [None, b"title = '\xff'"])
def test_an_unreadable_profile_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """No file, or bytes that are not UTF-8."""
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"mine\.toml (cannot be read|is not UTF-8)"):
        load(path)


def test_unknown_cases_are_refused(tmp_path: Path) -> None:
    """A deviation and a control may name known cases, KIND:ID and ``*`` only."""
    check_cases(load(written(tmp_path, DEVIATION.replace('"A"', '"init:A"'))), {"A"})
    with pytest.raises(UsageError, match="unknown case 'A', did you mean A1"):
        check_cases(load(written(tmp_path, DEVIATION)), {"A1"})
    control = load(written(tmp_path, "[control]\nreason = 'r'\nplain = ['*']\npid1 = ['ZZ-1']"))
    with pytest.raises(UsageError, match=r"control\.pid1: unknown case 'ZZ-1'"):
        check_cases(control, {"A1"})


def deviation(observed: str, **scope: tuple[str, ...]) -> Deviation:
    return dataclasses.replace(Deviation(case=("A",), observed=observed, reason="r"), **scope)  # type: ignore[arg-type]


def found(entries: list[Deviation], **here: str) -> str | None:
    place = {"environment": "root-native", "mode": "plain", **here}
    chosen = match(entries, cases=("A", "init:A"), **place)
    return chosen.observed if chosen else None


def test_the_most_specific_deviation_wins() -> None:
    """More scope keys beat fewer, whatever the order; a key that does not hold excludes."""
    entries = [deviation("all"), deviation("two", mode=("pid1",), variant=("g",)), deviation("one", mode=("pid1",))]
    assert found(entries) == "all"
    assert found(entries, mode="pid1") == "one"
    assert found(entries, mode="pid1", variant="g") == "two"
    assert found(entries[1:], mode="plain") is None
    assert match(entries, cases=("B",), environment="root-native", mode="plain") is None


def test_the_bare_target_is_a_scope() -> None:
    """``-`` excludes the variants."""
    assert found([deviation("bare", variant=("-",))]) == "bare"
    assert found([deviation("bare", variant=("-",))], variant="g") is None


def test_a_test_is_a_scope() -> None:
    """Of two tests of one case each can deviate in its own way, or one alone."""
    entries = [deviation("one", test=("test_one",)), deviation("two", test=("test_two",))]
    assert ["one", "two", None] == [found(entries, test=f"test_{name}") for name in ("one", "two", "three")]


@pytest.mark.parametrize(
    ("prefix", "version", "fits"),
    [
        ("0.19", "tini version 0.19.0", True),
        ("tini version 0.19", "tini version 0.19.0", True),
        ("0.1", "tini version 0.19.0", False),
        ("1.2", "dumb-init v1.2.5", True),
        ("0.19", "unknown", False),
    ],
)
def test_version_scope_is_a_prefix_of_line_or_number(prefix: str, version: str, fits: bool) -> None:
    """A prefix ends at a component: 0.1 is not 0.19."""
    assert (found([deviation("v", version=(prefix,))], version=version) == "v") is fits


def test_dumped_deviations_are_read_back(tmp_path: Path) -> None:
    """What `report --write-profile` writes is a profile, whatever was observed."""
    strange = 'a "quoted" \\ line\nnext\ttab \x07\x7f ü \u2028'
    entries = [
        Deviation(case=("A",), observed=strange, reason="", mode=("pid1",), version=("1", "2")),
        Deviation(case=("B",), observed="o", reason="known", source="x.c"),
    ]
    read = load(written(tmp_path, dump(entries))).deviation
    assert [entry.reason for entry in read] == [UNWRITTEN, "known"]
    assert (read[0].observed, read[0].mode, read[0].version, read[1].source) == (strange, ("pid1",), ("1", "2"), "x.c")


def test_dump_survives_bytes_that_are_not_text(tmp_path: Path) -> None:
    """Lone surrogates (a target's non-UTF-8 output) become escapes instead of a traceback."""
    text = dump([Deviation(case=("A",), observed="\udcff", reason="r")])
    assert load(written(tmp_path, text)).deviation[0].observed == "\\udcff"


def test_catalogue_is_sound() -> None:
    """Every shipped profile loads; controls are shown as control:NAME; the null ones must fail everything."""
    catalogue = load_catalogue(CATALOGUE)
    controls = {name for name, profile in catalogue.items() if profile.control}
    assert controls == {
        f"control:{name}" for name in ("none", "shell", "python", "true", "false", "json", "touch", "success")
    }
    assert {"reference", "tini", "dumb-init", "catatonit"} <= set(catalogue)
    assert catalogue["reference"].deviation == ()
    for name in ("control:true", "control:false"):
        control = catalogue[name].control
        assert control is not None
        assert {control.plain, control.pid1, control.docker} == {("*",)}


def test_docker_init_is_tini() -> None:
    """The same program under its other name is called in the same way and deviates in the same cases."""
    catalogue = load_catalogue(CATALOGUE)
    tini, same = catalogue["tini"], catalogue["docker-init"]
    without_variants = [dataclasses.replace(found, variant=()) for found in tini.deviation if found.variant != ("g",)]
    assert (tini.call, without_variants) == (same.call, list(same.deviation))


def test_shipped_profiles_have_at_most_thirty_lines_beside_deviations() -> None:
    """Adding a target stays small."""
    for path in CATALOGUE.glob("*.toml"):
        head = path.read_text(encoding="utf-8").split("[[deviation]]")[0]
        assert len(head.splitlines()) <= 30, path.name


def test_profile_defaults_need_no_file() -> None:
    """A target without a profile is an init called directly."""
    assert Profile().kinds == (Kind.INIT,)
