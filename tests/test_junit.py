"""JUnit: valid XML whatever a target printed, and the table of verdicts can be read back from it alone."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from suites.framework.model import Evidence, Outcome
from suites.framework.results import junit
from suites.framework.results.derive import derive
from suites.framework.results.result import Verdict
from suites.framework.results.view import View
from tests.fake_run import HOSTILE, FakeRun, failed, passed, skipped


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path / "runs")


def every_verdict(fake: FakeRun) -> View:
    fake.target("tini")
    for environment in ("root-native", "rootless-native"):
        for outcome in Outcome:
            fake.case(outcome.value, failed(outcome.value, outcome=outcome, wall_s=0.5), environment=environment)
        fake.case("inconclusive", skipped("inconclusive", "inconclusive", "who knows"), environment=environment)
        fake.case("a.py::b[c]", environment=environment, cases=("SG-01", "SG-02"), parameter="HUP")
        fake.finish(environment=environment)
    return fake.view()


def read_back(case: ET.Element) -> Verdict:
    """Return the verdict as a reader of JUnit would."""
    if (failure := case.find("failure")) is not None:
        return Verdict.XPASSED if failure.get("type") == "xpass" else Verdict.FAILED
    if (skip := case.find("skipped")) is not None:
        known = {"xfail": Verdict.XFAILED, "inconclusive": Verdict.INCONCLUSIVE}
        return known.get(skip.get("type", ""), Verdict.SKIPPED)
    return Verdict.PASSED if case.find("error") is None else Verdict.ERRORED


def property_of(case: ET.Element, name: str) -> list[str]:
    return [found.get("value", "") for found in case.iter("property") if found.get("name") == name]


def test_table_of_verdicts_is_read_back_from_junit_alone(fake: FakeRun) -> None:
    view = every_verdict(fake)
    root = ET.fromstring(junit.documents(view.results)[junit.MERGED])
    found = {
        (*property_of(case, "environment"), *property_of(case, "node")): (
            read_back(case),
            tuple(property_of(case, "case")),
            *property_of(case, "target"),
            *property_of(case, "kind"),
            *property_of(case, "mode"),
            *property_of(case, "parameter"),
            *property_of(case, "reason"),
        )
        for case in root.iter("testcase")
    }
    assert found == {
        (result.environment, result.node): (
            result.verdict,
            result.cases,
            "tini 0.19.0" if result.environment == "root-native" else "tini",
            "init",
            "pid1",
            result.parameter,
            result.reason,
        )
        for result in view.results
    }
    assert {verdict for verdict, *_ in found.values()} == set(Verdict)


def test_one_suite_an_environment_and_phase_with_counts_of_its_own(fake: FakeRun) -> None:
    documents = junit.documents(every_verdict(fake).results)
    assert set(documents) == {"root-native.test", "rootless-native.test", "junit"}
    (suite,) = ET.fromstring(documents["root-native.test"])
    counted = {name: suite.get(name) for name in ("name", "tests", "failures", "errors", "skipped", "time")}
    assert counted == {
        "name": "root-native.test",
        "tests": "8",
        "failures": "2",
        "errors": "2",
        "skipped": "3",
        "time": "3.000000",
    }
    merged = ET.fromstring(documents["junit"])
    assert [found.get("name") for found in merged] == ["root-native.test", "rootless-native.test"]
    assert [merged.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["16", "4", "4", "6"]


def test_name_class_and_place_of_a_case(fake: FakeRun) -> None:
    fake.case("suites/init/test_signals.py::test_term[tini-pid1]", parameter="TERM")
    (case,) = ET.fromstring(junit.documents(fake.view().results)["junit"]).iter("testcase")
    assert (case.get("classname"), case.get("name")) == ("suites.init.test_signals", "test_term[tini-pid1]")
    assert (case.get("file"), case.get("line")) == ("suites/init/test_signals.py", "12")


def test_hostile_text_is_valid_and_visible(fake: FakeRun) -> None:
    end = failed(
        "n", message=HOSTILE, expected=HOSTILE, actual=HOSTILE, evidence=(Evidence(title="log", text=HOSTILE),)
    )
    fake.case("n", end, title=HOSTILE, parameter=HOSTILE, target=HOSTILE, mode="\ufffe")
    fake.finish()
    (case,) = ET.fromstring(junit.documents(fake.view().results)["junit"]).iter("testcase")
    shown = "<b>|`x`|**y**|\\x1b[31m\\x00\\xff\\u202e]]>&\"'\nnext"
    assert case.findtext("system-out") == f"--- log ---\n{shown}"
    assert case.findtext("failure") == f"expected: {shown}\nactual:   {shown}"
    assert property_of(case, "parameter") == [shown]
    assert property_of(case, "mode") == ["\\ufffe"]


def test_every_character_gives_valid_xml(fake: FakeRun) -> None:
    text = "".join(map(chr, (*range(0x300), *range(0x2000, 0x2070), 0xFEFF, *range(0xFFF0, 0x10000), 0x1F600)))
    fake.case("n", failed("n", actual=text))
    document = junit.documents(fake.view().results)["junit"]
    assert ET.fromstring(document.encode()).find(".//failure") is not None


def test_nothing_that_was_announced_is_absent(fake: FakeRun) -> None:
    fake.case("done", passed("done"))
    fake.case("running")
    fake.case("waiting", started=False)
    fake.worker_ended("signal", code=9)
    cases = list(ET.fromstring(junit.documents(fake.view().results)["junit"]).iter("testcase"))
    assert [(case.get("name"), read_back(case)) for case in cases] == [
        ("done", Verdict.PASSED),
        ("running", Verdict.ERRORED),
        ("waiting", Verdict.ERRORED),
    ]
    assert [error.get("type") for case in cases for error in case.iter("error")] == ["crash", "not-started"]


def test_time_that_no_calendar_knows_is_left_out(fake: FakeRun) -> None:
    path = fake.run.events("root-native", "test", "0")
    fake.case("n", passed("n"))
    path.write_bytes(path.read_bytes().replace(b'"t":17', b'"t":9e99,"u":17'))
    (suite,) = ET.fromstring(junit.documents(fake.view().results)["junit"])
    assert suite.get("timestamp") is None


def test_flaky_is_a_property(fake: FakeRun) -> None:
    for worker, end in (("0", passed("n")), ("1", failed("n"))):
        fake.case("n", end, worker=worker)
        fake.finish(worker=worker)
    (case,) = ET.fromstring(junit.documents(fake.view().results)["junit"]).iter("testcase")
    assert property_of(case, "flaky") == ["passed failed"]


def test_a_run_without_results_is_an_empty_document() -> None:
    assert junit.documents(()).keys() == {"junit"}
    assert ET.fromstring(junit.documents(())["junit"]).get("tests") == "0"


def test_files_are_replaced_whole_and_the_same_each_time(fake: FakeRun) -> None:
    every_verdict(fake)

    def written() -> dict[str, bytes]:
        derive(fake.run)
        found = (*fake.run.path.glob("results/*"), fake.run.path / "summary.md", fake.run.path / "verdict.json")
        return {path.name: path.read_bytes() for path in found}

    first = written()
    assert set(first) == {"root-native.test.xml", "rootless-native.test.xml", "junit.xml", "summary.md", "verdict.json"}
    assert written() == first
    assert not list(fake.run.path.rglob(".*.xml.*"))
