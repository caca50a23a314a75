"""What wrappers took to build packages, as the reports and gates see it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from suites.framework.model import PACKAGE_TESTS, Note, Sample, Total
from suites.framework.results import packages
from suites.framework.results.derive import derive
from suites.framework.results.metrics import Metrics, load
from suites.framework.sampler import MetricsFile
from tests.fake_result import result
from tests.fake_run import HOSTILE, FakeRun, passed

NODE = "suites/buildscripts/test_packages.py::test_own_tests[w-ed]"


def total(package: str, step: str, cpu_s: float, *, t: float = 10.0, wrapper: str = "w", wall_s: float = 2.0) -> Total:
    """Return a total of a step of a package."""
    name = f"package::{wrapper}::{package}::{step}"
    return Total(t=t, step=name, wall_s=wall_s, cpu_s=cpu_s, rss_bytes=40_000_000, source="wait4")


def measured(*totals: Total, samples: Sequence[Sample] = (), source: str = "") -> dict[str, Metrics]:
    """Return what was measured in one environment, by one run."""
    return {"root-native": Metrics(samples=tuple(samples), totals=totals, sources={source: totals})}


def test_sbu_is_the_time_of_ed_in_the_same_run() -> None:
    """The median of all builds of ed is one; steps stand in the order in which they ended."""
    found = packages.steps(
        measured(
            total("lzip", "build", 4.0, t=30.0),
            total("lzip", "unpack", 0.5, t=20.0),
            total("ed", "check", 1.0, t=12.0),
            *(total("ed", "build", cpu_s, t=11.0) for cpu_s in (0.8, 1.0, 9.0)),
        )
    )
    told = [(step.package, step.step, step.cpu_s, packages.sbu(step)) for step in found]
    assert told == [
        ("ed", "build", 1.0, "1.00"),
        ("ed", "check", 1.0, "1.00"),
        ("lzip", "unpack", 0.5, "0.50"),
        ("lzip", "build", 4.0, "4.00"),
    ]


def test_without_ed_there_is_no_sbu() -> None:
    """A dash, and no limit in SBU is judged; one that took nothing is no unit."""
    for unit in ((), (total("ed", "build", 0.0),)):
        *_, step = packages.steps(measured(*unit, total("lzip", "build", 4.0)))
        assert ("-", None, 4.0) == (packages.sbu(step), step.measured("step_sbu"), step.measured("step_cpu_s"))


def test_machines_that_were_merged_have_units_of_their_own() -> None:
    """Seconds of one are not measured with the ed of the other."""
    found = {
        "root-native": Metrics(
            sources={
                "one": (total("ed", "build", 1.0), total("lzip", "build", 4.0)),
                "two": (total("ed", "build", 2.0), total("lzip", "build", 8.0)),
            }
        )
    }
    assert ["1.00", "4.00", "1.00", "4.00"] == [packages.sbu(step) for step in packages.steps(found)]
    assert {"root-native one", "root-native two"} == {step.place for step in packages.steps(found)}


def test_samples_are_those_of_the_build_that_is_shown() -> None:
    """Of several builds of a package the first; what stands in other words is nobody's step."""
    name = total("ed", "build", 1.0).step
    samples = [Sample(t=t, step=name, cpu_s=t, rss_bytes=1, processes=1) for t in (30.5, 9.5, 8.5)]
    other = Total(t=1, step="package::odd", wall_s=1, cpu_s=1, rss_bytes=1, source="wait4")
    totals = (total("ed", "build", 1.0, t=31.0), total("ed", "build", 1.0, t=10.0), other)
    (step,) = packages.steps(measured(*totals, samples=samples))
    assert [8.5, 9.5] == [sample.t for sample in step.samples]


def test_other_steps_are_left_to_their_table() -> None:
    """No step is in two tables."""
    worker = Total(t=1, step="test.1", wall_s=1, cpu_s=1, rss_bytes=1, source="wait4")
    assert (worker,) == packages.others(measured(total("ed", "build", 1.0), worker)["root-native"]).totals


@pytest.mark.parametrize("value", [3, None, {}, {"package": "ed", "passed": "many"}, [["passed", 3]]])
def test_note_of_another_form_is_no_number(value: Any) -> None:
    """What a worker wrote is read with care: a wrong note counts nothing, and ends nothing."""
    found = packages.tests([result("W31", measured=((PACKAGE_TESTS, value),))])
    assert {"none"} >= {str(tests) for tests in found}


def build(run: FakeRun, *, cpu_s: float = 4.0, wrapper: str = "w", limits: dict[str, float] | None = None) -> None:
    """Make a run in which a wrapper with limits has built ed and lzip."""
    run.target(wrapper, kind="buildscripts", limits=limits or {})
    counts = {"package": "ed", "passed": 3, "failed": 1, "skipped": 2}
    run.case(NODE, passed(NODE), target=wrapper)
    run.write(Note(node=NODE, name=PACKAGE_TESTS, value=counts))
    with MetricsFile(run.run.environment("root-native") / "metrics/test.1.jsonl") as file:
        for step in (total("ed", "build", 1.0, wrapper=wrapper), total("lzip", "build", cpu_s, wrapper=wrapper)):
            file.write(step)
        for t in range(4):
            name = f"package::{wrapper}::lzip::build"
            file.write(Sample(t=8 + t / 2, step=name, cpu_s=float(t), rss_bytes=t << 20, processes=2))


@pytest.mark.parametrize(
    ("limits", "offences"),
    [
        ({"step_sbu": 4.0, "step_wall_s": 2.0, "step_rss_bytes": 4e7}, []),
        ({"step_sbu": 3.9}, ["step_sbu is 4.0, the limit is 3.9"]),
        ({"step_cpu_s": 3.0}, ["step_cpu_s is 4.0, the limit is 3"]),
        ({"step_rss_bytes": 3e7}, ["step_rss_bytes is 40000000, the limit is 3e+07"] * 2),
        ({"build_cpu_s": 0.1}, []),
    ],
)
def test_limits_of_a_wrapper_are_judged_step_by_step(
    tmp_path: Path, limits: dict[str, float], offences: list[str]
) -> None:
    """The gate names the step; limits on the build of the wrapper itself are another thing."""
    run = FakeRun(tmp_path)
    build(run, limits=limits)
    found = derive(run.run).summary.gates["limits"].offences
    assert offences == [offence.why for offence in found]
    assert {"package::w::lzip::build"} >= {each.node for each in found} - {"package::w::ed::build"}


def test_reports_show_steps_and_counts(tmp_path: Path) -> None:
    """The page, the summary and JUnit tell the same; the curves are drawn."""
    run = FakeRun(tmp_path)
    build(run)
    derive(run.run)
    page, summary = ((run.run.path / name).read_text() for name in ("report.html", "summary.md"))
    assert "3 passed, 1 failed, 2 skipped" in page
    assert "<title>CPU of lzip build in 1.5 s: 2 to 2 cores</title>" in page
    assert "| w | lzip | build | root-native | 2.00 | 4.00 | 4.00 | 40.0 |" in summary
    assert "3 passed, 1 failed, 2 skipped" in summary
    junit = ET.parse(run.run.path / "results/junit.xml")
    found = {each.get("name"): each.get("value") for each in junit.iter("property")}
    assert ("ed", "3", "1", "2") == tuple(
        found[name] for name in ("package", "tests.passed", "tests.failed", "tests.skipped")
    )


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """A wrapper may be called anything."""
    run = FakeRun(tmp_path)
    build(run, wrapper=HOSTILE.replace("\n", " "))
    derive(run.run)
    assert "<b>" not in (run.run.path / "report.html").read_text()
    ET.parse(run.run.path / "report.html")
    assert 2 == len(packages.steps(load(run.run)))
