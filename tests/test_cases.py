"""The list of cases: read from the suites themselves, found by id, explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from suites.catalog import Kind, Mode
from suites.framework import cases
from suites.framework.cases import Case
from suites.framework.errors import UsageError
from suites.framework.facts import Fact

ROOT = Path(__file__).parents[1]
PROMISED = """
SG-01 SG-02 SG-03 SG-04 SG-05 SG-06 SG-07 SG-08 SG-09 SG-10 SG-11 SG-12 SG-13 SG-15 SG-17 SG-17p SG-18 SG-19 SG-20
SG-21; TM-01 TM-02 TM-03 TM-04 TM-05 TM-06 TM-07 TM-08 TM-09 TM-10 TM-11 TM-12 TM-13 TM-14 TM-15; EX-01 EX-02 EX-03
EX-04 EX-05 EX-06 EX-07 EX-09 EX-10 EX-11 EX-12 EX-13 EX-14; RP-01 RP-02 RP-03 RP-04 RP-05 RP-06 RP-07 RP-08 RP-09
RP-10 RP-11 RP-12; TT-01 TT-02 TT-03 TT-04 TT-05 TT-06 TT-07 TT-08 TT-09 TT-10 TT-11 TT-12 TT-13; FD-01 FD-02 FD-03
FD-04 FD-05 FD-06 FD-07 FD-08 FD-09 FD-10 FD-11 FD-13 FD-14; ZD-01 ZD-02 ZD-03 ZD-04 ZD-05 ZD-06; LR-01 LR-02 LR-03
LR-04 LR-05 LR-06 LR-07 LR-08 LR-09 LR-10; FA-01 FA-02 FA-03 FA-04 FA-05 FA-06 FA-07 FA-08 FA-09; RS-01 RS-02 RS-03
RS-04 RS-05 RS-06
"""
"""The cases of kind init, as they were asked for."""
RUNTIMES = """
A01 A02 A03 A04 A05 A06 A07 A08 A09 A10 A11 A12; B01 B02 B03 B04 B05 B06 B07 B08 B09 B10 B11 B12 B13 B14 B15 B16 B17
B18 B19 B20 B21 B23 B24 B25 B26 B27; C01 C02 C03 C04 C05 C06 C07 C08; D01 D02 D03 D04 D05 D06 D07 D09 D10 D11 D12 D13
D14 D15 D16 D17 D18 D19 D20 D21 D22 D23 D24 D25 D26 D27 D28 D29; E01 E02 E03 E04 E05 E06 E07; F01 F02 F03 F04 F05 F06
F07 F08 F09 F10 F11 F12 F13 F15 F17 F18 F19 F20; G01 G02 G03 G04 G05 G06 G07; H01 H02 H03 H04 H05 H06 H07 H08 H09 H11;
I01 I02 I03 I04 I05 I07; J01 J02 J03 J04 J05 J06 J07 J08 J09; K01 K02 K03 K05 K06 K07 K08 K09 K10 K11 K12; L01 L02 L03
"""
"""The cases of kind oci, as they were asked for; more were added."""
EVERYWHERE = ("root-native", "root-container", "rootless-native", "rootless-container")


@pytest.fixture(scope="module")
def known() -> tuple[Case, ...]:
    """Return the cases of this checkout."""
    return cases.load(ROOT)


def one(known: tuple[Case, ...], identifier: str) -> Case:
    (found,) = cases.find(known, identifier)
    return found


def test_the_cases_are_those_that_were_promised(known: tuple[Case, ...]) -> None:
    """All 117 for inits are there, and no other, and all for runtimes; two tests may answer one row."""
    promised = PROMISED.replace(";", " ").split()
    assert 117 == len(promised)
    assert sorted(promised) == sorted({case.id for case in known if case.kind is Kind.INIT})
    assert set() == set(RUNTIMES.replace(";", " ").split()) - {case.id for case in known if case.kind is Kind.OCI}


def test_every_case_explains_itself(known: tuple[Case, ...]) -> None:
    """Each has a title with its contract, a reason, and instructions."""
    for case in known:
        assert case.title.endswith("."), case.id
        assert case.why, case.id
        assert case.by_hand, case.id
        assert (ROOT / case.node.partition("::")[0]).is_file(), case.id


def test_modes_environments_and_facts_come_from_the_marks(known: tuple[Case, ...]) -> None:
    """A case limited to a mode, a privilege or a terminal says so."""
    assert ((Mode.PLAIN, Mode.PID1), EVERYWHERE) == (one(known, "SG-01").modes, one(known, "SG-01").environments)
    assert ("rootless-native", "rootless-container") == one(known, "FA-07").environments
    assert ("root-native", "rootless-native") == one(known, "TM-14").environments
    assert Fact.DOCKER_COMMAND in one(known, "TM-14").requires
    assert Fact.PSEUDO_TERMINAL in one(known, "TT-03").requires
    assert Fact.PID_NAMESPACE in one(known, "TM-10").requires
    assert (Fact.BASH,) == one(known, "W2").requires


def test_a_tier_is_read(tmp_path: Path) -> None:
    """A case without the mark is in the first tier, one with several is in the highest."""
    folder = tmp_path / "suites/init"
    folder.mkdir(parents=True)
    marked = ["@case('A')\ndef test_a(): pass", "@tier(2)\n@tier(4)\n@case('B')\ndef test_b(): pass"]
    (folder / "test_x.py").write_text("\n".join(["from suites.framework.marks import case, tier", *marked]))
    assert [("A", 1), ("B", 4)] == [(found.id, found.tier) for found in cases.load(tmp_path)]


def test_a_case_is_found_by_id_and_by_kind(known: tuple[Case, ...]) -> None:
    """Both words name the same case."""
    assert cases.find(known, "SG-01") == cases.find(known, "init:SG-01")


@pytest.mark.parametrize(
    ("word", "remedy"), [("sg-01", "did you mean SG-01"), ("SG-99", "did you mean"), ("qqq", "nox -s cases")]
)
def test_an_unknown_case_is_a_usage_error(word: str, remedy: str, known: tuple[Case, ...]) -> None:
    """The message names close ones, or where they are listed."""
    with pytest.raises(UsageError, match=f"unknown case {word}") as caught:
        cases.find(known, word)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("documentation", "expected"),
    [
        ("", ("", "", "")),
        ("Title.", ("Title.", "", "")),
        ("Title.\n\nWhy: because\nit is so.\nBy hand:\n    a\n      b\n", ("Title.", "because\nit is so.", "a\n  b")),
        ("Title.\nBy hand:\n    a", ("Title.", "", "a")),
    ],
)
def test_a_docstring_is_taken_apart(documentation: str, expected: tuple[str, str, str]) -> None:
    """Title, reason and instructions, whichever of them are there."""
    assert expected == cases.described(documentation)


def test_the_list_is_one_json_document(known: tuple[Case, ...]) -> None:
    """With a schema number, and each case's fields."""
    document = json.loads(cases.as_json(known))
    assert (1, len(known)) == (document["schema"], len(document["cases"]))
    assert {"id", "kind", "title", "node", "requires", "environments"} <= document["cases"][0].keys()


def test_the_table_has_a_line_for_each(known: tuple[Case, ...]) -> None:
    """Kind, id, modes and title."""
    lines = cases.as_table(known).splitlines()
    assert len(known) == len(lines)
    assert any(line.split()[:3] == ["init", "SG-01", "plain/pid1"] for line in lines)


def test_an_explanation_has_everything(known: tuple[Case, ...]) -> None:
    """Reason, instructions, needs and the test that shows it."""
    text = cases.explained(one(known, "TT-03"))
    for words in (
        "init TT-03: ",
        "Why: ",
        "By hand:",
        "Modes: plain, pid1.",
        "Needs: pseudo-terminal",
        "test_terminal.py::",
    ):
        assert words in text
    assert "Needs: nothing special" in cases.explained(one(known, "TT-01"))
