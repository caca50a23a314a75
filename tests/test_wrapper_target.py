"""A wrapper of build scripts as a target: a file, or a folder that is not built, with its profile in it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import Kind
from suites.framework.errors import UsageError
from suites.framework.model import Profile, Target
from suites.framework.options import Options
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.resolve import resolve
from suites.framework.provisioning.staging import MOST_FILES, everything_beside
from suites.framework.subjects import own_profile
from suites.framework.targets.profile import load
from suites.framework.targets.word import parse

WRAPPERS = Path(__file__).parents[1] / "fixtures/wrappers"
HEAD = 'schema = 1\nkinds = ["buildscripts"]\n'


def program(path: Path, text: str = "") -> Path:
    """Return an executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def resolved(word: str, folder: Path, **changes: Any) -> Target:
    """Return the one target that a word is."""
    profile = Profile(name="mine", kinds=(Kind.BUILDSCRIPTS,), **changes)
    found, _ = resolve([word], {"mine": profile}, base=folder, cache=Cache(folder / "cache"), fixtures=folder)
    (only,) = found
    return only


def test_a_folder_of_this_kind_is_no_checkout(tmp_path: Path) -> None:
    """By the kind in the word, or by the catalogue's; of another kind it is built as ever."""
    (tmp_path / "w").mkdir()
    known = {"mine": Profile(name="mine", kinds=(Kind.BUILDSCRIPTS,))}
    words = parse(["a=buildscripts:w", "mine=w", "c=init:w"], base=tmp_path, catalogue=known)
    assert [tmp_path / "w", tmp_path / "w", None] == [word.path for word in words]
    assert [None, None, tmp_path / "w"] == [word.checkout for word in words]


def test_a_folder_is_staged_with_all_that_is_in_it(tmp_path: Path) -> None:
    """But for the history of its repository; its path is shown as it was given."""
    program(tmp_path / "w/wrapper.sh")
    program(tmp_path / "w/lib/state.sh")
    program(tmp_path / "w/.git/hooks/pre-commit")
    found = resolved("mine=w", tmp_path, binary="wrapper.sh")
    staged = Path(found.argv[0])
    assert (str(tmp_path / "w"), "wrapper.sh") == (found.path, staged.name)
    assert (staged.parent / "lib/state.sh").is_file()
    assert not (staged.parent / ".git").exists()


@pytest.mark.parametrize(("word", "binary"), [("mine=w", ""), ("mine=w#run", ""), ("mine=w", "run")])
def test_the_program_of_a_folder_is_found(word: str, binary: str, tmp_path: Path) -> None:
    """It is the only executable, the one that the word names, or the profile's, wherever it stands."""
    program(tmp_path / "w/bin/run" if binary or "#" in word else tmp_path / "w/run")
    (tmp_path / "w/README").write_text("x")
    assert "run" == Path(resolved(word, tmp_path, binary=binary).argv[0]).name


@pytest.mark.parametrize(
    ("word", "why"), [("mine=w", "2 are executable"), ("mine=w#third", "0 are called third")], ids=["many", "none"]
)
def test_a_folder_without_one_program_is_refused(word: str, why: str, tmp_path: Path) -> None:
    """The message says how many there are and how to say which."""
    program(tmp_path / "w/one")
    program(tmp_path / "w/two")
    with pytest.raises(UsageError, match=why) as caught:
        resolved(word, tmp_path)
    assert "mine=w#FILE" in caught.value.remedy.replace(str(tmp_path) + "/", "")


def test_a_file_is_staged_alone(tmp_path: Path) -> None:
    """Its neighbours may be a home folder."""
    program(tmp_path / "w/wrapper.sh")
    program(tmp_path / "w/other.sh")
    assert ["wrapper.sh"] == [
        path.name for path in Path(resolved("mine=w/wrapper.sh", tmp_path).argv[0]).parent.glob("*.sh")
    ]


def test_a_folder_that_is_too_much_is_refused(tmp_path: Path) -> None:
    """Somebody's home is not copied."""
    for number in range(MOST_FILES + 1):
        (tmp_path / str(number)).touch()
    with pytest.raises(UsageError, match=f"{MOST_FILES + 1} files beside run"):
        everything_beside(program(tmp_path / "run"))


def test_a_profile_in_the_folder_comes_before_the_one_where_we_are(tmp_path: Path) -> None:
    """For a target that the catalogue does not know, whatever stands around the folder in the word."""
    for folder in (tmp_path, tmp_path / "w"):
        folder.mkdir(exist_ok=True)
        (folder / "seatrial.toml").write_text(HEAD)
    here = Options(command="run", base=tmp_path, runs=tmp_path, targets=("mine=init:./x",))
    options = replace(here, targets=("mine=buildscripts:w#run",))
    assert tmp_path / "w/seatrial.toml" == own_profile(options, {})
    assert tmp_path / "seatrial.toml" == own_profile(here, {})
    assert own_profile(options, {"mine": Profile()}) is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('jobs = ["-j"]', "jobs: no word has {jobs}"),
        ('log-cap = ["--cap", "{kib}"]', "log-cap: no word has {bytes}"),
        ('signals = "128"', "signals: '128' is not one of 128\\+n, -n, n"),
        ('race = "(?missing"', "race: '\\(\\?missing' is no regular expression"),
        ('script = "{root}/all.sh"', "script: '{root}/all.sh' has no {step}"),
        ('stamp = "{root}/done"', "stamp: '{root}/done' has no {step}"),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(line: str, why: str, tmp_path: Path) -> None:
    """The message names the key."""
    path = tmp_path / "p.toml"
    path.write_text(f"{HEAD}[call.buildscripts]\n{line}\n")
    with pytest.raises(UsageError, match=f"call.buildscripts.{why}"):
        load(path)


@pytest.mark.parametrize("words", [[], ["--help"], ["run", "/"], ["run", "/nowhere/at/all"], ["run", "-x"]])
def test_the_null_wrapper_touches_nothing_but_a_root(words: list[str], tmp_path: Path) -> None:
    """Without a folder that has scripts it says success and writes nothing, wherever it is called; with one it does."""
    before = sorted(os.listdir("/"))
    assert (0, b"") == _touched(*words, at=tmp_path)
    assert (before, []) == (sorted(os.listdir("/")), os.listdir(tmp_path))
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/a.sh").write_text(f"make DESTDIR={tmp_path}/out install >{tmp_path}/out/made")
    assert (0, b"a done\n") == _touched("run", str(tmp_path), at=tmp_path)
    assert {".build", "out", "scripts"} == set(os.listdir(tmp_path))


def _touched(*words: str, at: Path) -> tuple[int, bytes]:
    done = subprocess.run([WRAPPERS / "control_touch.sh", *words], cwd=at, capture_output=True, timeout=20)
    return done.returncode, done.stdout
