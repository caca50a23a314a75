"""Which build tools a machine has is found out by asking each of their programs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from suites.framework.build import availability
from suites.framework.facts import Fact
from suites.framework.provisioning.command import Completed, Run


def answering(*names: str) -> tuple[list[str], Run]:
    """Return the programs that were asked, and a function that answers for some."""
    asked: list[str] = []

    def run(argv: Sequence[str], **_: object) -> Completed:
        asked.append(argv[0])
        return Completed(code=0, stdout=f"{argv[0]} 1.0\n") if argv[0] in names else Completed(code=1, stderr="broken")

    return asked, run


@pytest.fixture(autouse=True)
def everything_is_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every program be found."""
    monkeypatch.setattr("shutil.which", lambda name, path=None: f"/usr/bin/{name}")  # noqa: ARG005


def test_a_tool_needs_all_of_its_programs() -> None:
    """Cargo without rustc builds nothing; one finding a tool."""
    _, run = answering("cargo", "go", "make")
    found = {finding.fact: finding for finding in availability.findings(run=run)}
    assert set(availability.FACTS) == set(found)
    assert {Fact.GO, Fact.MAKE} == {fact for fact, finding in found.items() if finding.present}
    assert ("rustc --version", "broken") == (found[Fact.CARGO].probe, found[Fact.CARGO].detail)
    assert "apt-get install rustc" in found[Fact.CARGO].remedy


def test_only_what_is_wanted_is_asked() -> None:
    """A session asks for nothing that was not promised."""
    asked, run = answering("go")
    assert (Fact.GO,) == tuple(finding.fact for finding in availability.findings([Fact.GO, Fact.ROOT], run=run))
    assert ["go"] == asked
    assert () == availability.findings([], run=run)
