"""Announced = events = JUnit = summary, and every persisted file as its schema says: on real runs, however spoilt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suites.framework import __main__ as launcher
from suites.framework.errors import ExitCode
from suites.framework.events import format_line
from suites.framework.manifest import manifest
from suites.framework.model import SCHEMA, Event, Note, Outcome, Started
from suites.framework.results.derive import derive
from suites.framework.results.manifest import write
from suites.framework.results.rundir import RunDirectory
from tests.accounting import VALIDATORS, disagreements, invalid, told
from tests.fake_run import HOSTILE, START, FakeRun, failed, passed, planned, skipped
from tests.test_bad_input import NATIVE, QUICK

ROOT = Path(__file__).parents[1]
SECONDS = 120


@pytest.fixture(scope="module")
def real() -> Iterator[Path]:
    """Return the directory of a small real run."""
    folder = Path(tempfile.mkdtemp(prefix="accounting-"))
    folder.chmod(0o755)
    words = ["run", "--privilege", NATIVE, "--runs", "runs", "--cache", "cache", *QUICK]
    given = {name: value for name, value in os.environ.items() if not name.startswith("SEATRIAL_")}
    done = subprocess.run(
        [sys.executable, "-m", "suites.framework", *words],
        cwd=folder, env=given | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == ExitCode.GREEN, done.stdout + done.stderr
    yield (folder / "runs/latest").resolve()
    shutil.rmtree(folder)


@pytest.fixture
def copy(real: Path, tmp_path: Path) -> Path:
    """Return a copy of the real run that a test may spoil, among runs of its own."""
    shutil.copytree(real, tmp_path / "runs" / real.name, symlinks=True)
    (tmp_path / "runs/latest").symlink_to(real.name)
    return tmp_path / "runs" / real.name


def worker_log(run: Path) -> Path:
    """Return the event file of the first worker of the tests."""
    return next(path for path in sorted(run.glob("*/events/test.*.jsonl")) if "launcher" not in path.name)


# ---- real runs -------------------------------------------------------------------------------------------------------


def test_real_run_adds_up_and_conforms(real: Path) -> None:
    assert [] == [*invalid(real), *disagreements(real)]
    assert told(real).announced


def test_real_run_cut_anywhere_adds_up(copy: Path) -> None:
    """Ten prefixes of a worker's log, as a kill leaves them: nothing is lost, and what did not end is an error."""
    log = worker_log(copy)
    whole = log.read_bytes()
    for part in range(10):
        log.write_bytes(whole[: len(whole) * part // 10])
        derive(RunDirectory.open(copy))
        assert [] == [*invalid(copy), *disagreements(copy)], part
        found = told(copy)
        assert found.torn == (1 if part and not log.read_bytes().endswith(b"\n") else 0)


def test_two_derivations_are_byte_identical(copy: Path) -> None:
    def read() -> dict[str, bytes]:
        derive(RunDirectory.open(copy))
        files = [*(copy / "results").iterdir(), copy / "summary.md", copy / "verdict.json", copy / "report.html"]
        return {path.name: path.read_bytes() for path in files}

    assert read() == read()


def test_artefacts_of_a_real_folder_conform(copy: Path) -> None:
    write(next(copy.glob("*/artefacts")) / "events.manifest.json", manifest(worker_log(copy).parent))
    assert [] == list(invalid(copy))


# ---- the checker sees what it looks for ------------------------------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path) -> FakeRun:
    """Return a derived run with something of everything."""
    made = FakeRun(tmp_path / "runs")
    made.target("tini")
    made.case("fine", passed("fine"))
    made.case("wrong", failed("wrong", message=HOSTILE))
    made.case("known", failed("known", outcome=Outcome.XFAILED))
    made.case("left", skipped("left", "missing:docker", HOSTILE))
    made.case("open")
    made.worker_ended("signal", code=9)
    derive(made.run)
    return made


def test_made_run_adds_up(fake: FakeRun) -> None:
    assert [] == [*invalid(fake.run.path), *disagreements(fake.run.path)]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("results/junit.xml", 'value="fine"', 'value="fines"', "is lost"),
        ("results/junit.xml", 'value="fine"', 'value="fines"', "was never announced"),
        ("results/junit.xml", 'value="fine"', 'value="wrong"', "stands twice"),
        ("results/root-native.test.xml", 'value="fine"', 'value="f"', "not the sum of its suites"),
        ("verdict.json", '"passed": 1', '"passed": 2', "verdict.json counts"),
        ("summary.md", "(exit 1)", "(exit 0)", "summary.md says"),
    ],
)
def test_disagreement_is_seen(fake: FakeRun, file: str, old: str, new: str, said: str) -> None:
    path = fake.run.path / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert [line for line in disagreements(fake.run.path) if said in line]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("events.json", {"event": "started", "seq": 1, "t": 1.0}),
        ("events.json", {"event": "moon", "seq": 1, "t": 1.0, "node": "n"}),
        ("metrics.json", {"metric": "total", "t": 1.0, "step": "s"}),
        ("metrics.json", {"metric": "sample", "t": 1, "step": "s", "cpu_s": "1", "rss_bytes": 1, "processes": 1}),
        ("manifest.json", {"schema": SCHEMA, "entries": [{"path": "a", "type": "moon", "mode": "0644"}]}),
        ("verdict.json", {}),
        ("run.json", {"schema": SCHEMA}),
        ("session.json", {"schema": SCHEMA}),
        ("facts.json", {"schema": SCHEMA, "findings": [{}]}),
    ],
)
def test_schema_refuses_what_is_damaged(name: str, value: object) -> None:
    assert not VALIDATORS[name].is_valid(value)


# ---- trouble ---------------------------------------------------------------------------------------------------------


def test_hundred_thousand_events_are_derived(tmp_path: Path) -> None:
    """In seconds, not minutes, and with everything accounted for."""
    fake = FakeRun(tmp_path)
    path = fake.run.events("root-native", "test", "0")
    fake.case("n0", passed("n0"))
    with path.open("ab") as file:
        for number in range(1, 2001):
            node = f"suites/init/test_x.py::test_{number}"
            events: list[Event] = [
                planned(node),
                Started(node=node),
                *[Note(name="x", value=1, node=node)] * 47,
                passed(node),
            ]
            file.write(b"".join(format_line(number, START, event) for event in events))
    fake.finish()
    assert path.read_bytes().count(b"\n") > 100_000
    began = time.process_time()
    derived = derive(fake.run)
    assert time.process_time() - began < 30
    assert derived.summary.counts.passed == 2001
    assert [] == list(disagreements(fake.run.path))


TROUBLE: dict[str, tuple[Callable[[Path], object], bool]] = {
    "no run.json": (lambda run: (run / "run.json").unlink(), True),
    "run.json empty": (lambda run: (run / "run.json").write_bytes(b""), True),
    "run.json truncated": (lambda run: (run / "run.json").write_bytes((run / "run.json").read_bytes()[:-20]), True),
    "run.json newer": (lambda run: (run / "run.json").write_text('{"schema": 9}'), True),
    "run.json no text": (lambda run: (run / "run.json").write_bytes(b"\xff\xfe\x00"), True),
    "run.json a folder": (lambda run: as_folder(run / "run.json"), True),
    "run.json deep": (lambda run: (run / "run.json").write_text("[" * 100_000), True),
    "run.json of no time": (lambda run: changed(run / "run.json", start=1e300, logs_removed=1e300), False),
    "events newer": (lambda run: appended(worker_log(run), b'{"event":"begun","schema":9}\n'), True),
    "events foreign": (lambda run: appended(worker_log(run), b"\xff\n[]\n{}\n"), False),
    "events torn": (lambda run: appended(worker_log(run), b'{"event":"pl'), False),
    "events a folder": (lambda run: (run / "root-native/events/x.0.jsonl").mkdir(parents=True), True),
    "facts damaged": (lambda run: next(run.glob("*/facts.json")).write_text("{"), True),
    "session damaged": (lambda run: next(run.glob("*/session.json")).write_text("[]"), True),
    "session of no code": (lambda run: changed(next(run.glob("*/session.json")), code=999), False),
    "metrics damaged": (lambda run: put(run / "root-native/metrics/test.jsonl", b"\xff\n[]\n{"), False),
    "metrics a folder": (lambda run: (run / "root-native/metrics/x.jsonl").mkdir(parents=True), False),
    "manifest damaged": (lambda run: put(run / "root-native/artefacts/x.manifest.json", b"{"), False),
    "manifest a folder": (lambda run: (run / "root-native/artefacts/x.manifest.json").mkdir(parents=True), False),
    "links to nowhere": (lambda run: (run / "moon").symlink_to("/nowhere"), False),
    "verdict damaged": (lambda run: (run / "verdict.json").write_text("{"), False),
}
"""How a run directory can be spoilt, and whether it is then refused."""


def changed(file: Path, **fields: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_bytes()) | fields))


def as_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def appended(file: Path, data: bytes) -> None:
    put(file, file.read_bytes() + data)


def put(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


@pytest.mark.parametrize("command", ["report", "gate"])
@pytest.mark.parametrize(("spoil", "refused"), TROUBLE.values(), ids=list(TROUBLE))
def test_spoilt_run_is_refused_by_name_or_judged(
    copy: Path, capsys: pytest.CaptureFixture[str], command: str, spoil: Callable[[Path], object], refused: bool
) -> None:
    """One line that names the directory, or a verdict; never a traceback, and nothing is deleted."""
    spoil(copy)
    before = {path for path in copy.rglob("*") if "results" not in path.parts}
    code = launcher.main([command, str(copy), "--runs", str(copy.parent)])
    said = capsys.readouterr().err.splitlines()
    if refused:
        assert code in (ExitCode.USAGE, ExitCode.INFRASTRUCTURE)
        assert len(said) == 1
        assert str(copy) in said[0]
    else:
        assert (said, code in (ExitCode.GREEN, ExitCode.FAILED, ExitCode.GATE)) == ([], True)
    assert before <= set(copy.rglob("*"))


@pytest.mark.parametrize("command", ["report", "gate"])
def test_spoilt_run_among_several_is_named(
    copy: Path, capsys: pytest.CaptureFixture[str], command: str, tmp_path: Path
) -> None:
    other = FakeRun(tmp_path / "others").run.path
    (other / "run.json").write_text("{")
    assert launcher.main([command, str(copy), str(other), "--runs", str(copy.parent)]) == ExitCode.USAGE
    assert str(other) in capsys.readouterr().err
    assert (copy.parent / "latest").readlink() == Path(copy.name)
