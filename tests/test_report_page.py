"""report.html: complete, well-formed, small, the same twice, and whatever a target printed stays text."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from suites.framework.commands.report import report
from suites.framework.errors import ExitCode, UsageError
from suites.framework.facts import Fact, Finding
from suites.framework.model import Evidence, Outcome, Sample, Total
from suites.framework.options import parse
from suites.framework.report import against, failure, grid, page, plots, words
from suites.framework.results.derive import derive
from suites.framework.results.metrics import Metrics
from suites.framework.results.result import Result, Subject
from suites.framework.results.verdict import judge
from suites.framework.results.view import View
from tests.fake_run import HOSTILE, FakeRun, failed, passed, skipped

MIB = 1_000_000
TEXTS = ("node", "target", "mode", "parameter", "title", "file", "kind", "reason", "message", "expected", "actual")


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    made = FakeRun(tmp_path / "runs")
    made.target("tini")
    return made


def rendered(view: View, **more: Any) -> str:
    return page.render(view, judge(view), **more)


def parsed(text: str) -> ET.Element:
    """Return the page read by a strict parser: a tag that is not closed or a stray ``<`` is an error."""
    return ET.fromstring(text.removeprefix("<!DOCTYPE html>"))


def said(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def result(node: str, **more: Any) -> Result:
    plain: dict[str, Any] = {"environment": "root-native", "phase": "test", "worker": "1", "node": node}
    plain |= {"cases": ("SG-01",), "target": "tini", "kind": "init", "mode": "pid1", "outcome": Outcome.PASSED}
    return Result(**plain | more)


def whole(fake: FakeRun) -> View:
    """Return a view in which every section of the page has something to show."""
    absent = {"present": False, "probe": "GET /version", "detail": "refused", "remedy": "start dockerd"}
    fake.run.add(findings=[Finding(fact=Fact.DOCKER, **absent)])  # type: ignore[arg-type]
    fake.case("a", passed("a"))
    fake.case("b", failed("b", evidence=(Evidence(title="log", text="last words"),)))
    fake.case("c", skipped("c", "missing:docker"))
    fake.case("d", failed("d", reason="leak", message="1 process"))
    fake.launcher("absent", {"name": "crun", "fact": "packages", "reason": "no network", "remedy": "go online"})
    fake.run.conclude("root-container", ExitCode.CANNOT_RUN, "no Docker")
    fake.finish()
    samples = [Sample(t=t, step="test.1", cpu_s=t / 2, rss_bytes=t * 2**20, processes=1) for t in range(1, 300)]
    total = Total(t=300, step="test.1", wall_s=300, cpu_s=150, rss_bytes=2**30, source="wait4")
    return replace(fake.view(), metrics={"root-native": Metrics(samples=tuple(samples), totals=(total,))})


def test_everything_a_reader_looks_for_is_there_in_this_order(fake: FakeRun) -> None:
    text = said(parsed(rendered(whole(fake), howto=lambda _: "look here")))
    at = 0
    for expected in (
        "FAILED exit 1",
        "1 passed, 2 failed, 1 skipped",
        "root-container cannot run here (exit 77): no Docker",
        "First failure SG-01 TERM reaches the child",
        "expected exit 0 actual killed by TERM",
        "✗ passed red, 2",
        "Target root-container root-native",
        "crun root-native no network go online",
        "Failures 2",
        'nox -s "acceptance-root(native)" -- --target tini --case SG-01',
        "log last words",
        "See it by hand look here",
        "Skipped",
        "missing:docker 1 root-native GET /version: refused start dockerd",
        "Leaks 0 processes, 0 mounts, 0 containers, 0 files; 1 cases failed",
        "Metrics",
        "Memory of test.1: at most 1024.0 MiB",
        "CPU of test.1: 0.5 to 0.5 cores",
        "Facts",
        "docker ○ absent GET /version refused start dockerd",
        "Every case",
        "SG-01 TERM reaches the child ✗ pid1: 2 failed, 1 skipped, 1 passed",
        "This run",
    ):
        assert expected in text[at:], f"{expected!r} is not after {text[max(0, at - 80) : at]!r}"
        at = text.index(expected, at)


def test_what_was_promised_is_said_for_its_environment(fake: FakeRun) -> None:
    fake.run.add(promised={"root-native": [Fact.DOCKER], "rootless-native": [Fact.OVERLAY]})
    view = whole(fake)
    fake.run.write_facts("root-native", [Finding(fact=Fact.OVERLAY, present=True, probe="mount")])
    fake.run.write_facts("rootless-native", [Finding(fact=Fact.OVERLAY, present=True, probe="mount")])
    page = rendered(replace(view, facts={name: fake.run.facts(name) for name in ("root-native", "rootless-native")}))
    text = said(parsed(page))
    assert "promised in root-native docker" in text
    assert "promised in rootless-native overlay" in text
    assert page.count('overlay <span class="tag">promised</span>') == 1


def test_links_lead_somewhere_ids_are_unique_and_nothing_is_loaded(fake: FakeRun) -> None:
    view = whole(fake)
    text = rendered(view, against=replace(view, results=view.results[1:3]))
    tree = parsed(text)
    ids = [found for element in tree.iter() if (found := element.get("id"))]
    assert len(ids) == len(set(ids))
    links = [element.get("href", "") for element in tree.iter("a")]
    assert len(links) > 12
    assert [link for link in links if link[:1] != "#" or link[1:] not in ids] == []
    named = [element.get("aria-labelledby") for element in tree.iter()]
    assert {found for found in named if found} <= set(ids)
    assert not {element.tag for element in tree.iter()} & {"script", "link", "img", "iframe", "object", "base"}
    assert not re.search(r"https?://|url\(|@import|\bon\w+=", text)


def test_tables_and_pictures_say_what_they_are(fake: FakeRun) -> None:
    tree = parsed(rendered(whole(fake)))
    assert tree.get("lang") == "en"
    for table in tree.iter("table"):
        assert said(table.find("caption") or ET.Element("none")) or table.find("caption") is not None
        assert all(cell.get("scope") for cell in table.iter("th"))
    pictures = list(tree.iter("svg"))
    assert len(pictures) == 3
    assert all(found.get("role") == "img" and found.findtext("title") for found in pictures)
    levels = [int(found.tag[1]) for found in tree.iter() if re.fullmatch(r"h\d", found.tag)]
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.PASSED, Outcome.SKIPPED])
def test_hostile_text_in_a_field_stays_text(fake: FakeRun, field: str, outcome: Outcome) -> None:
    """Each field of a result alone: a page that breaks does so in the field that is not escaped."""
    changes: dict[str, Any] = {field: HOSTILE}
    check_hostile(fake.view(), replace(result("n", outcome=outcome), **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"cases": (HOSTILE,)},
        {"requires": (HOSTILE,)},
        {"environment": HOSTILE},
        {"phase": HOSTILE},
        {"measured": ((HOSTILE, HOSTILE),)},
        {"evidence": (Evidence(title=HOSTILE, text=HOSTILE),)},
        {"subject": Subject(name=HOSTILE, kind=HOSTILE, version=HOSTILE, sha256=HOSTILE, path=HOSTILE)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_hostile_structures_stay_text(fake: FakeRun, changes: dict[str, Any]) -> None:
    check_hostile(fake.view(), result("n", **{"outcome": Outcome.FAILED} | changes))


def check_hostile(view: View, found: Result) -> None:
    sample = Sample(t=1, step=HOSTILE, cpu_s=0, rss_bytes=1, processes=1)
    run = replace(view.run, argv=(HOSTILE,), versions={HOSTILE: HOSTILE})
    measured = {found.environment: Metrics(samples=(sample,))}
    text = rendered(replace(view, run=run, results=(found,), metrics=measured), howto=lambda _: HOSTILE)
    tree = parsed(text)
    text.encode()
    assert not set(text) & set("\x00\x1b\u202e\udcff")
    assert not list(tree.iter("b"))
    assert "\\x1b[31m\\x00\\udcff\\u202e" in said(tree)


def test_two_pages_of_one_run_are_the_same_bytes(fake: FakeRun) -> None:
    whole(fake)
    derive(fake.run)
    first = (fake.run.path / "report.html").read_bytes()
    derive(fake.run)
    assert (fake.run.path / "report.html").read_bytes() == first


def synthetic(environments: int, each: int, *, parameters: int = 1, failing: int = 0) -> tuple[Result, ...]:
    title = "A child that catches TERM, works 300 ms and exits 3 is not killed: the init exits 3 (wait(2), n. {})."
    names = ("root-native", "root-container", "rootless-native", "rootless-container")[:environments]
    evidence = (Evidence(title="stderr", text="<&>\x1b" * 5000),)
    return tuple(
        result(
            f"test_{number}[{name}]",
            environment=name,
            cases=(f"{chr(65 + number // parameters % 20)}X-{number // parameters}",),
            title=title.format(number // parameters),
            wall_s=0.01 * (number % 97),
            **({"outcome": Outcome.FAILED, "evidence": evidence, "actual": "y" * 9000} if number < failing else {}),
        )
        for name in names
        for number in range(each)
    )


@pytest.mark.parametrize(
    ("environments", "each", "parameters", "failing"),
    [(1, 5000, 1, 0), (1, 5000, 1, 5000), (4, 2400, 8, 0), (4, 2400, 1, 300), (4, 2400, 8, 2400), (4, 5000, 1, 0)],
)
def test_the_page_of_a_big_run_is_small(
    fake: FakeRun, environments: int, each: int, parameters: int, failing: int, record_property: Any
) -> None:
    """Under 1 MB whatever failed, every case named; the time is recorded, not judged."""
    view = replace(fake.view(), results=synthetic(environments, each, parameters=parameters, failing=failing))
    began = time.perf_counter()
    text = rendered(view)
    record_property("seconds", round(time.perf_counter() - began, 3))
    record_property("bytes", len(text.encode()))
    assert len(text.encode()) < MIB
    parsed(text)
    if not failing:
        assert all(f">{found.cases[0]}<" in text or f"{found.cases[0]} (" in text for found in view.results)


def test_without_room_a_failure_still_has_a_line_and_a_place() -> None:
    found = [result(f"n{n}", cases=(f"SG-{n}",), outcome=Outcome.FAILED, actual="gone") for n in range(9)]
    got = failure.failures(found, command=lambda _: "", howto=lambda _: "", left=1)
    assert len(got.cards) == 1
    assert len(got.lines) == 8
    assert got.lines[0] == "✗ failed · SG-1 · tini · root-native · pid1: gone"
    assert [got.anchors[id(one)] for one in found] == ["f1"] + ["more-failures"] * 8


def test_a_case_of_many_parameters_is_one_row() -> None:
    results = [result(f"n[{n}]", parameter=str(n)) for n in range(9)]
    results += [result(f"p[{n}]", mode="plain", environment="root-container") for n in range(2)]
    (group,) = grid.groups(results, {})
    assert [row.whole for row in group.rows] == ["✓ all 11 passed"]
    results.append(result("bad", outcome=Outcome.FAILED))
    (group,) = grid.groups(results, {id(results[-1]): "f1"})
    assert [[line.text for line in cell] for cell in group.rows[0].cells] == [
        ["✓ plain: 2 passed"],
        ["✗ pid1: 1 failed, 9 passed"],
    ]
    assert group.rows[0].cells[1][0].anchor == "f1"


def test_case_ids_are_in_the_order_of_their_numbers() -> None:
    assert sorted(["SG-10", "SG-2", "EX-1", "²"], key=grid.natural) == ["EX-1", "SG-2", "SG-10", "²"]


# ---- against ---------------------------------------------------------------------------------------------------------

RED = {"outcome": Outcome.FAILED}
IDLE = {"outcome": Outcome.SKIPPED, "reason": "missing:docker"}


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        ({}, {}, set()),
        ({}, RED, {"failing"}),
        (IDLE, RED, {"failing"}),
        (RED, {}, {"passing"}),
        (RED, RED, set()),
        (RED, IDLE, {"idle"}),
        ({}, IDLE, {"idle"}),
        (None, {}, {"new"}),
        (None, RED, {"new"}),
        ({}, None, {"gone"}),
        ({"wall_s": 0.05}, {"wall_s": 0.11}, {"slower"}),
        ({"wall_s": 0.05}, {"wall_s": 0.1}, set()),
        ({"wall_s": 0.01}, {"wall_s": 0.05}, set()),
        ({"wall_s": 1.0}, {"wall_s": 1.9}, set()),
        ({"wall_s": 0.05}, {"wall_s": 0.2} | RED, {"failing"}),
    ],
)
def test_what_changed(
    fake: FakeRun, then: dict[str, Any] | None, now: dict[str, Any] | None, expected: set[str]
) -> None:
    """The table of two results of one node and the list that it stands in."""
    view = fake.view()
    before, after = (replace(view, results=(result("n", **plan),) if plan is not None else ()) for plan in (then, now))
    found = against.compare(after, before)
    lists = ("failing", "passing", "idle", "slower", "new", "gone")
    assert {name for name in lists if getattr(found, name)} == expected
    assert found.nothing is not bool(expected)
    parsed(rendered(after, against=before))


@pytest.mark.parametrize("what", ["absent", "empty", "damaged", "newer", "newer-events"])
def test_an_earlier_run_that_cannot_be_read_is_one_clear_error(fake: FakeRun, tmp_path: Path, what: str) -> None:
    fake.case("a", passed("a"))
    other = tmp_path / "other"
    if what != "absent":
        other.mkdir()
    match what:
        case "damaged":
            (other / "run.json").write_text("{")
        case "newer":
            (other / "run.json").write_text('{"schema": 99}')
        case "newer-events":
            (other / "run.json").write_bytes((fake.run.path / "run.json").read_bytes())
            (other / "root-native/events").mkdir(parents=True)
            (other / "root-native/events/test.1.jsonl").write_text(
                '{"event": "begun", "schema": 99, "seq": 0, "t": 1}\n'
            )
        case _:
            pass
    options = parse(["report", str(fake.run.path), "--against", str(other)], checkout=tmp_path)
    with pytest.raises(UsageError, match=str(other)):
        report(options)


# ---- plots and words -------------------------------------------------------------------------------------------------


def test_a_thinned_curve_keeps_its_peak() -> None:
    points = [(float(n), 1000.0 if n == 777 else 1.0) for n in range(5000)]
    thinned = plots.thinned(points)
    assert len(thinned) <= plots.POINTS
    assert max(y for _, y in thinned) == 1000.0
    assert plots.thinned([]) == []


def test_cpu_that_was_lost_is_not_drawn_below_zero() -> None:
    used = [(0, 0.0), (1, 2.0), (2, 0.5), (2, 0.5)]
    samples = tuple(Sample(t=t, step="s", cpu_s=cpu, rss_bytes=1, processes=1) for t, cpu in used)
    (row,) = plots.curves("e", Metrics(samples=samples)).rows
    assert "0 to 2 cores" in row.cpu


def test_a_duration_stands_in_its_class() -> None:
    assert "under 1 ms: 1, 1 ms to 2 ms: 2" in plots.histogram([0.0005, 0.001, 0.0019], label="x")
    assert "over 60 s: 1" in plots.histogram([61.0], label="x")


def test_a_time_of_a_foreign_clock_is_shown() -> None:
    assert words.moment(1e30) == "1e+30 s"
    assert words.moment(0) == "1970-01-01 00:00:00 UTC"


# ---- contrast --------------------------------------------------------------------------------------------------------

STYLE = (Path(page.__file__).parent / "page.css").read_text()
LIGHT, DARK = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in STYLE.split("@media (prefers", 1))


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["ground", "panel", "good-ground", "bad-ground", "unsure-ground"])
@pytest.mark.parametrize("ink", ["ink", "soft", "link", "good", "bad", "unsure", "quiet"])
def test_text_has_the_contrast_that_wcag_asks_for(theme: dict[str, str], ground: str, ink: str) -> None:
    pair = sorted((luminance(theme[ground]), luminance(theme[ink])))
    assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5
