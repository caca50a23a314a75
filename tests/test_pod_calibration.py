"""What an engine is found to keep of the output of programs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suites.catalog import Kind
from suites.framework.facts import Fact, Finding
from suites.framework.pod import calibration
from suites.framework.pod.cri import Refused
from suites.framework.pod.driver import Program, Request, State, Status
from tests.contexts import target

WHOLE = b"1\n2\n3\n"


class Driver:
    """Pods of which some logs are not whole."""

    def __init__(self, cut: int, text: bytes, refusal: Refused | None) -> None:
        """Take how many, and what stands in those."""
        self.cut, self.text, self.refusal = cut, text, refusal
        self.names: list[str] = []
        self.done: list[str] = []

    def run(self, request: Request) -> str:
        """Answer."""
        if self.refusal:
            raise self.refusal
        return request.name

    def add(self, pod: str, program: Program) -> None:
        """Remember."""
        assert ("calibration", calibration.FLOOD) == (pod, program.command[-1])
        self.names.append(program.name)

    def status(self, pod: str, name: str) -> Status:
        """Answer."""
        assert (pod, True) == ("calibration", name in self.names)
        return Status(state=State.EXITED, code=0)

    def complete(self, pod: str, name: str) -> bool:
        """Answer."""
        return bool(pod and name)

    def log(self, pod: str, name: str) -> bytes:
        """Answer."""
        assert pod
        lines = (b"2026-11-22T00:00:00Z stdout F %d\n" % number for number in (1, 2, 3))
        return self.text if name in [f"c{number}" for number in range(self.cut)] else b"".join(lines)

    def close(self) -> None:
        """Remember."""
        self.done.append("close")

    def leaks(self) -> None:
        """Remember."""
        self.done.append("leaks")


def found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, cut: int, text: bytes = b"", refusal: Refused | None = None
) -> tuple[Finding, Driver]:
    """Calibrate an engine that cuts so many logs to a text."""
    driver = Driver(cut, text, refusal)
    monkeypatch.setattr(calibration, "NUMBERS", WHOLE)
    monkeypatch.setattr(calibration, "EngineDriver", lambda *_, **__: driver)
    engine: Any = SimpleNamespace(handlers={"runc": SimpleNamespace(name="runc")})
    made = calibration.output(engine, target("runc", kind=Kind.POD), folder=folder / "c", cgroup="")
    assert (["close", "leaks"], False) == (driver.done, (folder / "c").exists())
    return made, driver


def test_an_engine_that_keeps_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is found to, when all of so many programs were tried."""
    finding, driver = found(tmp_path, monkeypatch, 0)
    assert (Fact.ENGINE_OUTPUT, True, calibration.ROUNDS + calibration.ALONE) == (
        finding.fact,
        finding.present,
        len(set(driver.names)),
    )


@pytest.mark.parametrize(
    "text", [b"", b"2026-11-22T00:00:00Z stdout F 1\n", b"no line of a log\n"], ids=["empty", "cut", "broken"]
)
def test_an_engine_that_cuts(text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One log of many is enough; how many there were is said, and what helps."""
    finding, _ = found(tmp_path, monkeypatch, 1, text)
    assert (False, f"1 of {calibration.ROUNDS + calibration.ALONE} logs were not complete") == (
        finding.present,
        finding.detail,
    )
    assert "1.6.22" in finding.remedy


def test_an_engine_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is not known to keep anything."""
    finding, _ = found(tmp_path, monkeypatch, 0, refusal=Refused("RunPodSandbox", "UNKNOWN", "no"))
    assert (False, "RunPodSandbox: no") == (finding.present, finding.detail)
