"""What is the same in all environments is printed; what is not is told by its path, and looked into."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from suites.framework import __main__ as launcher
from suites.framework.errors import ExitCode
from suites.framework.manifest import CONTENT, LARGEST, SUFFIX, keep_content, manifest
from suites.framework.results import derive, inspection, parity
from suites.framework.results.manifest import write
from suites.framework.results.merging import merge
from suites.framework.results.rundir import RunDirectory
from suites.framework.results.view import load
from tests.fake_run import FakeRun, passed

ENVIRONMENTS = ("root-container", "root-native", "rootless-container", "rootless-native")
LINE = f"artefact w.ed: 3 files, identical in 4 environments ({', '.join(ENVIRONMENTS)}), manifest "

Change = Callable[[Path], object]


def folder(path: Path) -> Path:
    """Make what a package installs."""
    (path / "usr/bin").mkdir(parents=True)
    (path / "usr/bin/ed").write_bytes(b"\x7fELF program")
    (path / "usr/bin/ed").chmod(0o755)
    (path / "usr/bin/red").symlink_to("ed")
    (path / "usr/readme").write_text("one\n")
    return path


def runs(top: Path, *changes: Change) -> RunDirectory:
    """Return the merged run of four sessions that built the same; the last one's artefacts are changed after that."""
    sources = []
    for number, environment in enumerate(ENVIRONMENTS):
        fake = FakeRun(top / f"runs-{number}")
        fake.run = RunDirectory.create(top / f"runs-{number}", run=f"20261121T10153{number}-3f9a")
        fake.target("w", environment=environment)
        fake.case("built", passed("built"), environment=environment, target="w")
        made = folder(top / f"made-{number}")
        for change in changes if number == len(ENVIRONMENTS) - 1 else ():
            change(made / "usr")
        kept = fake.run.environment(environment) / "artefacts"
        write(kept / f"w.ed{SUFFIX}", manifest(made))
        keep_content(manifest(made), made, kept / CONTENT)
        fake.finish(environment=environment)
        sources.append(fake.run)
    return merge(sources, top / "merged")


def tool(path: Path, text: str) -> str:
    """Return a stand-in for diffoscope."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_parity_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the gate, on the terminal, in summary.md and on the page: how many files, where, and the manifest's digest."""
    run = runs(tmp_path)
    (line,) = parity.lines(load(run).artefacts)
    assert LINE == line[: len(LINE)]
    derive.derive(run)
    assert ExitCode.GREEN == launcher.main(["gate", str(run.path), "--runs", str(tmp_path)])
    assert line in capsys.readouterr().out.splitlines()
    assert ExitCode.GREEN == launcher.main(["report", str(run.path), "--runs", str(tmp_path)])
    assert line in capsys.readouterr().out.splitlines()
    assert "3 files, identical in 4 environments" in (run.path / "summary.md").read_text()
    assert line.removeprefix("artefact ") in (run.path / "report.html").read_text()


SEEDED: dict[str, tuple[Change, str]] = {
    "byte": (lambda usr: (usr / "bin/ed").write_bytes(b"\x7fELF prograM"), "usr/bin/ed changed: sha256"),
    "mode": (lambda usr: (usr / "bin/ed").chmod(0o4755), "usr/bin/ed changed: mode 0755 -> 4755"),
    "extra": (lambda usr: (usr / "bin/new").touch(), "usr/bin/new added"),
    "missing": (lambda usr: (usr / "bin/red").unlink(), "usr/bin/red removed"),
}
"""What is wrong in one environment, and how the gate tells it."""


@pytest.mark.parametrize("what", SEEDED)
def test_what_one_environment_made_differently_is_red(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """The gate names environment and path, and the line of the artefact says where it differs."""
    change, told = SEEDED[what]
    run = runs(tmp_path, change)
    assert ExitCode.GATE == launcher.main(["gate", str(run.path), "--runs", str(tmp_path)])
    said = capsys.readouterr().out
    (line,) = (each for each in said.splitlines() if each.startswith("artefact "))
    assert line.startswith(
        f"artefact w.ed: DIFFERS in 4 environments ({', '.join(ENVIRONMENTS)}); rootless-native: usr/bin/"
    )
    (why,) = (offence.why for offence in derive.derive(run).summary.gates["artefacts"].offences)
    assert told in why
    assert told in line


def test_a_difference_is_looked_into_path_by_path(tmp_path: Path) -> None:
    """Each path whose content differs is given to diffoscope; the output and the run directory have what it says."""
    run = runs(
        tmp_path,
        SEEDED["byte"][0],
        SEEDED["mode"][0],
        SEEDED["extra"][0],
        lambda usr: (usr / "readme").write_text("two\n"),
    )
    fake = tool(tmp_path / "diffoscope", 'shift 4; cat "$@"; exit 1')
    found = inspection.inspect(run, load(run), tool=fake)
    assert ["usr/bin/ed", "usr/readme"] == [each.path for each in found]
    assert ["\x7fELF program\x7fELF prograM", "one\ntwo"] == [each.said for each in found]
    text = (run.path / inspection.FILE).read_text()
    assert "usr/readme: root-container" in text
    assert "one\ntwo" in text


def test_without_diffoscope_it_is_said_where_the_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fails; both files are named, and are what the two environments made."""
    run = runs(tmp_path, SEEDED["byte"][0])
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = inspection.inspect(run, load(run))
    head, _, words = found.said.partition("; compare ")
    assert "diffoscope is not installed" == head
    assert [b"\x7fELF program", b"\x7fELF prograM"] == [Path(word).read_bytes() for word in words.split(" with ")]


def test_diffoscope_that_hangs_is_ended(tmp_path: Path) -> None:
    """It and what it has started get their seconds, and what was said until then is kept."""
    run = runs(tmp_path, SEEDED["byte"][0])
    fifo = tmp_path / "fifo"
    script = f"mkfifo {fifo}; echo begun; cat {fifo} & echo $! >{tmp_path}/pid; wait"
    (found,) = inspection.inspect(run, load(run), tool=tool(tmp_path / "diffoscope", script), seconds=0.5)
    assert "diffoscope was not done in 0.5 s\nbegun" == found.said
    pid = int((tmp_path / "pid").read_text())
    status = Path(f"/proc/{pid}/stat")
    assert not status.exists() or "Z" == status.read_text().rpartition(") ")[2][0]


def test_content_that_is_another_by_now_is_not_looked_into(tmp_path: Path) -> None:
    """A file that was changed, or is a link to somebody's, is not what the manifest tells of."""
    run = runs(tmp_path, SEEDED["byte"][0])
    (first, *_, last) = (artefact for artefact in load(run).artefacts)
    for artefact, spoil in ((first, lambda path: path.write_text("x")), (last, _linked)):
        assert artefact.content
        kept = next(entry.sha256 for entry in artefact.content.entries if entry.path == "usr/bin/ed")
        spoil(run.path / artefact.environment / "artefacts" / CONTENT / kept)
        (found,) = inspection.inspect(run, load(run), tool="/bin/echo")
        assert "its content was not kept" == found.said


def _linked(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def test_equal_runs_are_not_looked_into(tmp_path: Path) -> None:
    """No file is written, and nothing is started."""
    run = runs(tmp_path)
    assert () == inspection.inspect(run, load(run), tool="/nonexistent")
    assert not (run.path / inspection.FILE).exists()


def test_each_file_is_kept_once_and_large_ones_not(tmp_path: Path) -> None:
    """By its SHA-256; names that are no text are left out."""
    made = folder(tmp_path / "made")
    shutil.copyfile(made / "usr/readme", made / "usr/copy")
    (made / "large").touch()
    with (made / "large").open("r+b") as file:
        file.truncate(LARGEST + 1)
    (made / "back\\slash").write_text("x")
    keep_content(manifest(made), made, tmp_path / "kept")
    wanted = {e.sha256 for e in manifest(made).entries if e.path in ("usr/bin/ed", "usr/readme")}
    assert wanted == {path.name for path in (tmp_path / "kept").iterdir()}


def test_a_manifest_that_cannot_be_read_is_no_parity(tmp_path: Path) -> None:
    """Its line says so, and nothing is compared with it."""
    run = runs(tmp_path)
    damaged = next(run.path.glob(f"rootless-native/artefacts/*{SUFFIX}"))
    damaged.write_text("{")
    (line,) = parity.lines(load(run).artefacts)
    assert line.startswith("artefact w.ed: DIFFERS in 4 environments")
    assert () == inspection.inspect(run, load(run), tool="/bin/echo")
