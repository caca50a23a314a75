"""The run directory: made once, joined, opened, handed over; every trouble is one line with its remedy."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from suites.framework.errors import ExitCode, InfrastructureError, UsageError
from suites.framework.facts import Fact, Finding
from suites.framework.results import rundir
from suites.framework.results.rundir import RunDirectory, checked_id, invoking_user, new_id, redacted, write_whole

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Act as nobody; skips the test when this process cannot."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Return a folder that every user can look into."""
    folder = Path(tempfile.mkdtemp(prefix="seatrial-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_id_is_a_time_and_a_token() -> None:
    assert new_id(1_795_256_130.9, token=lambda size: "3f9a"[: 2 * size]) == "20261121T101530-3f9a"
    assert re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{4}", new_id(0.0))


def test_new_run_has_its_record_and_is_the_latest(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "runs", argv=["-k", "x"], versions={"seatrial": "0.1"}, now=lambda: 12.5)
    record = run.record()
    assert (record.id, record.start, record.argv) == (run.path.name, 12.5, ("-k", "x"))
    assert record.versions == {"seatrial": "0.1"}
    assert run.path.is_absolute()
    assert (tmp_path / "runs" / "latest").readlink() == Path(run.path.name)
    assert RunDirectory.open(tmp_path / "runs" / "latest") == run


def test_latest_moves_on(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, run="one")
    RunDirectory.create(tmp_path, run="two")
    assert (tmp_path / "latest").readlink() == Path("two")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "latest", "one", "two"]


def test_sessions_of_one_run_share_the_directory(tmp_path: Path) -> None:
    first = RunDirectory.create(tmp_path, run="r1", argv=["a"])
    assert RunDirectory.create(tmp_path, run="r1", argv=["b"]) == first
    assert first.record().argv == ("a",)


def test_sessions_that_start_at_once_share_the_directory(tmp_path: Path) -> None:
    together, found = threading.Barrier(8), []

    def session() -> None:
        together.wait()
        found.append(RunDirectory.create(tmp_path / "runs", run="r1"))

    threads = [threading.Thread(target=session) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(str, found))) == 1


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "latest", "x" * 65, "a\n", "-x"])
def test_odd_id_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="SEATRIAL_RUN"):
        checked_id(name)


def test_facts_and_promises_add_up_over_sessions(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path)
    run.add(findings=[Finding(fact=Fact.DOCKER, present=False, probe="p")], promised={"root-native": [Fact.ROOT]})
    run.add(findings=[Finding(fact=Fact.DOCKER, present=True, probe="p")])
    run.add(promised={"root-native": [Fact.ROOT, Fact.DOCKER]})
    record = RunDirectory.open(run.path).record()
    assert record.findings == (Finding(fact=Fact.DOCKER, present=True, probe="p"),)
    run.add(promised={"rootless-native": [Fact.OVERLAY]})
    both = {"root-native": (Fact.ROOT, Fact.DOCKER), "rootless-native": (Fact.OVERLAY,)}
    assert run.record().promised == both
    run.write_facts("root-native", [Finding(fact=Fact.OVERLAY, present=False, probe="mount")])
    assert [finding.fact for finding in run.facts("root-native")] == [Fact.OVERLAY]
    assert run.facts("root-container") == ()


def test_conclusion_is_there_for_the_noxfile(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path)
    run.conclude("root-container", ExitCode.CANNOT_RUN, "no Docker")
    said = json.loads((run.path / "root-container" / "session.json").read_text())
    assert said == {"schema": 1, "code": 77, "reason": "no Docker"}
    assert run.conclusions()["root-container"].reason == "no Docker"


def test_event_files_are_told_by_their_names(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path)
    for name in ("0", 1, "launcher", "2@20261121T101530-3f9a"):
        run.events("root-native", "test", name).touch()
    (run.path / "root-native/events/link.0.jsonl").symlink_to("/dev/zero")
    (run.path / "root-native/events/README").touch()
    (run.path / "root-native/events/nodot.jsonl").touch()
    found = [(file.environment, file.phase, file.worker, file.source) for file in run.event_files()]
    assert found == [
        ("root-native", "test", "0", ""),
        ("root-native", "test", "1", ""),
        ("root-native", "test", "2", "20261121T101530-3f9a"),
        ("root-native", "test", "launcher", ""),
    ]
    assert sorted(path.name for path in (run.path / "root-native").iterdir()) == [
        "artefacts",
        "events",
        "logs",
        "metrics",
    ]


def test_values_of_variables_are_not_kept(tmp_path: Path) -> None:
    words = ["--target-env", "KEY=hush", "--target-env=A=b=c", "--wrap", "env X=y", "--target-env", "BARE"]
    assert redacted(words) == (
        "--target-env",
        "KEY=...",
        "--target-env=A=...",
        "--wrap",
        "env X=y",
        "--target-env",
        "BARE",
    )
    run = RunDirectory.create(tmp_path, argv=[*words, "\udcff"])
    assert "hush" not in (run.path / "run.json").read_text()
    assert run.record().argv[-1] == r"\xff"


# ---- trouble ----


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not a run directory: it has no run.json; give another place with --runs DIR"),
        ("", "run.json is damaged: Expecting value"),
        ("[]", "run.json is damaged: RunRecord: expected a table"),
        ('{"schema": 1}', "run.json is damaged: RunRecord: id, start, argv, versions missing"),
        ('{"schema": 2, "id": []}', "run.json was written by a newer Seatrial: schema 2, this one knows 1; update"),
        ('{"schema": 1, "id": "../x", "start": 1, "argv": [], "versions": {}}', "'../x' is no run id"),
        ("[" * 100_000, "run.json is damaged"),
        ('"\xff"', "run.json is damaged"),
    ],
)
def test_directory_that_is_no_run_of_ours_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    (tmp_path / "r1").mkdir()
    if content is not None:
        (tmp_path / "r1" / "run.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=re.escape(said)):
        RunDirectory.open(tmp_path / "r1")
    with pytest.raises(UsageError, match=re.escape(said)):
        RunDirectory.create(tmp_path, run="r1")


def test_absent_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run directory at .*/absent; run a session first"):
        RunDirectory.open(tmp_path / "absent")
    (tmp_path / "latest").symlink_to("gone")
    with pytest.raises(UsageError, match="no run directory"):
        RunDirectory.open(tmp_path / "latest")


def test_renamed_run_is_opened_but_not_joined(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, run="r1").path.rename(tmp_path / "r2")
    assert RunDirectory.open(tmp_path / "r2").record().id == "r1"
    with pytest.raises(UsageError, match="belongs to run r1"):
        RunDirectory.create(tmp_path, run="r2")


def test_something_else_called_latest_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(UsageError, match="latest is in the way"):
        RunDirectory.create(tmp_path)


def test_place_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(UsageError, match=r"cannot make a run directory in .*File exists; give a writable --runs DIR"):
        RunDirectory.create(tmp_path / "runs")


@as_root
def test_place_that_root_left_says_how_to_get_it_back(reachable: Path) -> None:
    RunDirectory.create(reachable / "runs", run="r1")
    for run in ("r1", "r2"):
        with (
            ordinary_user(),
            pytest.raises(
                UsageError,
                match=r"Permission denied; root left it there: sudo chown -R \$\(id -u\):\$\(id -g\) /.*/runs",
            ),
        ):
            RunDirectory.create(reachable / "runs", run=run)


@as_root
def test_run_of_root_that_cannot_be_written_is_explained(reachable: Path) -> None:
    run = RunDirectory.create(reachable, run="r1")
    with ordinary_user():
        assert run.record().id == "r1"
        with pytest.raises(UsageError, match="root left it there"):
            run.add(promised={"root-native": [Fact.ROOT]})
        with pytest.raises(UsageError, match="root left it there"):
            run.environment("root-native")
        with pytest.raises(InfrastructureError, match="root left it there"):
            write_whole(run.path / "summary.md", "x")


@as_root
def test_runs_made_under_sudo_belong_to_the_invoking_user(reachable: Path) -> None:
    run = RunDirectory.create(reachable / "runs", run="r1", owner=(NOBODY, NOBODY))
    run.events("root-native", "test", "0").write_text("")
    run.hand_over(NOBODY, NOBODY)
    everything = [reachable / "runs", *(reachable / "runs").rglob("*")]
    assert {path.lstat().st_uid for path in everything} == {NOBODY}
    with ordinary_user():
        assert RunDirectory.create(reachable / "runs", run="r2").path.name == "r2"
        run.add(promised={"root-native": [Fact.ROOT]})


@as_root
def test_handing_over_follows_no_link_and_gives_no_file_of_somebody_else(reachable: Path) -> None:
    run = RunDirectory.create(reachable / "runs", run="r1")
    secret, folder = reachable / "secret", reachable / "folder"
    secret.touch()
    folder.mkdir()
    logs = run.environment("root-native") / "logs"
    (logs / "soft").symlink_to(secret)
    (logs / "away").symlink_to(folder)
    os.link(secret, logs / "hard")
    (logs / "own").touch()
    os.mkfifo(logs / "pipe")
    run.hand_over(NOBODY, NOBODY, below="root-native")
    assert (secret.stat().st_uid, folder.stat().st_uid) == (0, 0)
    assert {path.name: path.lstat().st_uid for path in logs.iterdir()} == {
        "soft": NOBODY,
        "away": NOBODY,
        "hard": 0,
        "own": NOBODY,
        "pipe": NOBODY,
    }
    assert run.path.stat().st_uid == 0


def test_invoking_user_is_who_called_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert invoking_user({"SUDO_UID": "1000", "SUDO_GID": "100"}) == (1000, 100)
    for environment in ({}, {"SUDO_UID": "0", "SUDO_GID": "0"}, {"SUDO_UID": "x", "SUDO_GID": "1"}, {"SUDO_UID": "1"}):
        assert invoking_user(environment) is None
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert invoking_user({"SUDO_UID": "1000", "SUDO_GID": "100"}) is None


def test_full_disk_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    write_whole(tmp_path / "f", "old")
    (tmp_path / "g").mkdir()  # no ENOSPC without a mount: a folder in the way fails at the same place
    with pytest.raises(InfrastructureError, match=r"cannot write .*/g"):
        write_whole(tmp_path / "g", "new")
    with pytest.raises(InfrastructureError, match=r"cannot write /dev/full/x"):
        write_whole(Path("/dev/full/x"), "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "g"]
    assert (tmp_path / "f").read_text() == "old"


def test_lock_that_somebody_holds_for_ever_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.create(tmp_path)
    monkeypatch.setattr(rundir, "LOCK_S", 0.01)
    with run.locked(), pytest.raises(InfrastructureError, match=r"\.lock is held by another session"), run.locked():
        pass
