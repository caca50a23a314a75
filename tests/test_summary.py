"""summary.md: complete, and whatever a target printed stays text."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from suites.framework.errors import ExitCode
from suites.framework.facts import Fact, Finding
from suites.framework.model import Evidence, Outcome
from suites.framework.results import escaping, summary
from suites.framework.results.verdict import judge
from suites.framework.results.view import counts, pace_lines
from tests.fake_run import HOSTILE, FakeRun, failed, passed, skipped


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    made = FakeRun(tmp_path / "runs")
    made.target("tini")
    return made


def rendered(fake: FakeRun) -> str:
    view = fake.view()
    return summary.render(view, judge(view), howto=lambda _: "look here")


def test_matrix_skips_failures_gates_and_leaks(fake: FakeRun) -> None:
    absent = {"present": False, "probe": "GET /version", "detail": "refused", "remedy": "start dockerd"}
    fake.run.add(findings=[Finding(fact=Fact.DOCKER, **absent)])  # type: ignore[arg-type]
    fake.case("a", passed("a"))
    fake.case("b", failed("b", evidence=(Evidence(title="log", text="last words"),)))
    fake.case("c", skipped("c", "missing:docker"))
    fake.case("d", skipped("d", "whim", "just so"))
    fake.run.conclude("root-container", ExitCode.CANNOT_RUN, "no Docker")
    fake.finish()
    text = rendered(fake)
    for expected in (
        "# Seatrial: failed (exit 1)\n",
        "| target | root-native |\n| --- | --- |\n| tini | 1 passed, 1 failed, 2 skipped |\n",
        "| root-container | 0 | 0 | no Docker |\n",
        "| root-native | 2 | 4 |  |\n",
        "| missing\\:docker | 1 | root-native | GET /version\\: refused | start dockerd |\n",
        "| whim **not explained** | 1 | root-native | just so |  |\n",
        "<details><summary>failed · SG-01 · TERM reaches the child · tini 0.19.0 · root-native pid1</summary>\n\n",
        "expected\n\n```text\nexit 0\n```\n",
        "actual\n\n```text\nkilled by TERM\n```\n",
        "log\n\n```text\nlast words\n```\n",
        "by hand\n\n```text\nlook here\n```\n",
        "| completed | green |  |\n",
        "| skips | **red** | root-native d\\: skipped, not explained\\: whim |\n",
        "\nleaks\\: 0 processes, 0 mounts, 0 containers, 0 files\n",
    ):
        assert expected in text


def test_targets_that_could_not_be_had_are_named(fake: FakeRun) -> None:
    fake.launcher("absent", {"name": "crun", "fact": "packages", "reason": "no | network", "remedy": "go online"})
    assert "| crun | root-native | no \\| network | go online |\n" in rendered(fake)


def test_every_result_is_in_the_matrix(fake: FakeRun) -> None:
    fake.target("runc", role="standby")
    for outcome in Outcome:
        fake.case(outcome.value, failed(outcome.value, outcome=outcome))
    fake.case("ref", failed("ref"), target="runc", standby=True)
    fake.case("probe", passed("probe"), phase="preflight", target="")
    fake.finish()
    view = fake.view()
    table = rendered(fake).split("\n\n")[1]
    assert sum(map(int, re.findall(r"(\d+) [a-z]", table))) == len(view.results)
    assert counts(view.results).standby == 1


def test_hostile_text_stays_in_its_cell_and_block(fake: FakeRun) -> None:
    nasty = HOSTILE + "\n```\n</details>\n| a | b |\n# big\n````\n@somebody #1 https://example.org"
    end = failed("n", reason=nasty, message=nasty, expected=nasty, actual=nasty)
    fake.target("t" + nasty, version=nasty)
    fake.case("n", end, title=nasty, target="t" + nasty, parameter=nasty)
    fake.case("s", skipped("s", nasty, nasty))
    fake.finish()
    outside = without_blocks(rendered(fake))
    assert outside.count("<details>") == outside.count("</details>") == 1
    assert "<b>" not in outside
    assert not re.search(r"(?<!\\)@somebody|(?<![\\&])#1\b|https://", outside)
    assert not set(rendered(fake)) & set("\x00\x1b\u202e\udcff")
    for table in re.findall(r"(?:^\|.*\n)+", outside, re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1, table


def without_blocks(text: str) -> str:
    """Return the text as Markdown reads it, fenced blocks taken out by CommonMark's rule."""
    kept, fence = [], ""
    for line in text.splitlines(keepends=True):
        opening = re.match(r"(`{3,})", line)
        if fence:
            fence = "" if opening and len(opening[1]) >= len(fence) and line.strip("`\n") == "" else fence
        elif opening:
            fence = opening[1]
        else:
            kept.append(line)
    assert not fence, "a block was never closed"
    return "".join(kept)


@pytest.mark.parametrize(
    ("text", "longest"), [("plain", 3), ("``` x", 4), ("a ```` b", 5), ("", 3), ("`", 3), ("`` `` ```````", 8)]
)
def test_fence_is_longer_than_any_in_the_text(text: str, longest: int) -> None:
    assert escaping.fenced(text).split("\n")[0] == "`" * longest + "text"


def test_it_stays_small_enough_for_a_step_summary(fake: FakeRun) -> None:
    for number in range(300):
        node = f"n{number}"
        fake.case(node, failed(node, evidence=(Evidence(title="log", text="x" * 65536),)))
    fake.finish()
    text = rendered(fake)
    assert len(text.encode()) < 1024**2
    assert text.count("<details>") == summary.FULL
    assert text.count("- failed · SG-01") == 300 - summary.FULL


def test_characters_that_act_are_written_out() -> None:
    assert escaping.visible("a\tb\nc\r\nd\re\x7f\x9b\u2066") == "a\tb\nc\nd\\x0de\\x7f\\x9b\\u2066"
    assert escaping.one_line(" a\n\tb\x00 ") == "a b\\x00"
    assert escaping.tail("1\n2\n3\n", lines=2) == "(1 lines before)\n2\n3"


def test_pace_is_that_of_passed_cases(fake: FakeRun) -> None:
    """Medians of the wall time and of what the target did not take; failures wait for deadlines and are left out."""
    for node, target_s in (("a", 0.002), ("b", 0.004), ("c", 0.009)):
        fake.case(node, replace(passed(node), target_s=target_s))
    fake.case("d", failed("d", wall_s=5.0))
    fake.finish()
    assert (
        "half of the passed cases in root-native took at most 5.0 ms, the harness's own part of it 1.0 ms",
    ) == pace_lines(fake.view())


def test_pace_of_nothing_is_not_told(fake: FakeRun) -> None:
    """Where nothing passed there is no line."""
    fake.case("d", failed("d", wall_s=5.0))
    fake.finish()
    assert () == pace_lines(fake.view())


def test_expected_failures_are_explained(fake: FakeRun) -> None:
    """Their reasons stand in the summary with the cases and what was seen."""
    fake.case("a", failed("a", outcome=Outcome.XFAILED, message="tini does so"))
    fake.finish()
    assert "| tini | SG-01 | killed by TERM | tini does so | root-native |" in rendered(fake)
