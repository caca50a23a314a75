"""The cache: made once, published whole, verified on use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from suites.framework.errors import InfrastructureError, UsageError
from suites.framework.provisioning.cache import MANIFEST, Cache, default_root, differences
from suites.framework.provisioning.staging import stage

ROOT = Path(__file__).parent.parent
CHILD = [sys.executable, "-c"]


class Maker:
    """Makes an entry of two files and a link, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, folder: Path) -> None:
        """Fill the folder."""
        self.times += 1
        (folder / "deep").mkdir(mode=0o700)
        (folder / "deep/program").write_text("text")
        (folder / "deep/program").chmod(0o4700)
        (folder / "note").write_text("note")
        (folder / "note").chmod(0o600)
        (folder / "link").symlink_to("deep/program")


@pytest.mark.parametrize(
    ("environ", "uid", "expected"),
    [
        ({"SEATRIAL_CACHE": "/x", "HOME": "/h"}, 0, "/x"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, 0, "/var/cache/seatrial"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/c"}, 1000, "/c/seatrial"),
        ({"HOME": "/h"}, 1000, "/h/.cache/seatrial"),
    ],
)
def test_default_directory(environ: dict[str, str], uid: int, expected: str) -> None:
    """The documented order: variable, root's, XDG, home."""
    assert default_root(environ, uid) == Path(expected)


def test_entry_is_made_once_and_readable_for_all(cache: Cache) -> None:
    """Directories are 0755 whatever the umask, set-id bits are gone, and a second use makes nothing."""
    make = Maker()
    before = os.umask(0o077)
    try:
        entry = cache.entry("targets/abc", make)
    finally:
        os.umask(before)
    assert entry == cache.entry("targets/abc", make) == cache.root / "targets/abc"
    assert make.times == 1
    modes = {str(path.relative_to(cache.root)): path.lstat().st_mode & 0o7777 for path in cache.root.rglob("*")}
    assert modes["targets"] == modes["targets/abc"] == modes["targets/abc/deep"] == 0o755
    assert modes["targets/abc/deep/program"] == 0o755
    assert modes["targets/abc/note"] == 0o644
    files = json.loads((entry / MANIFEST).read_text())["files"]
    assert [item["path"] for item in files] == ["deep/program", "link", "note"]


def damage_content(entry: Path) -> None:
    """Change a byte."""
    (entry / "note").write_text("note!")


def damage_mode(entry: Path) -> None:
    """Take the right to execute away."""
    (entry / "deep/program").chmod(0o644)


def damage_missing(entry: Path) -> None:
    """Remove a file."""
    (entry / "note").unlink()


def damage_added(entry: Path) -> None:
    """Add a file."""
    (entry / "extra").write_text("")


def damage_link(entry: Path) -> None:
    """Turn a link elsewhere."""
    (entry / "link").unlink()
    (entry / "link").symlink_to("/etc/passwd")


def damage_manifest(entry: Path) -> None:
    """Cut the manifest off."""
    (entry / MANIFEST).write_text("{")


def damage_no_manifest(entry: Path) -> None:
    """Lose the manifest."""
    (entry / MANIFEST).unlink()


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (damage_content, "note was changed"),
        (damage_mode, "deep/program was changed"),
        (damage_missing, "note is missing"),
        (damage_added, "extra was added"),
        (damage_link, "link was changed"),
        (damage_manifest, "manifest cannot be read"),
        (damage_no_manifest, "manifest cannot be read"),
    ],
)
def test_corrupted_entry_is_made_again(
    cache: Cache, said: list[str], damage: Callable[[Path], None], word: str
) -> None:
    """Any difference from the manifest discards the entry, with a message."""
    make = Maker()
    entry = cache.entry("targets/abc", make)
    assert differences(entry) == []
    damage(entry)
    assert cache.entry("targets/abc", make) == entry
    assert (make.times, differences(entry)) == (2, [])
    assert len(said) == 1
    assert "targets/abc is corrupted" in said[0]
    assert word in said[0]


def test_failed_making_leaves_nothing(cache: Cache) -> None:
    """An entry appears whole or not at all, also after a run that was killed half-way."""

    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise UsageError("no")

    with pytest.raises(UsageError):
        cache.entry("targets/abc", fail)
    assert list((cache.root / "targets").iterdir()) == []
    (cache.root / "targets/.abc.new").mkdir()
    (cache.root / "targets/.abc.new/rest").write_text("of a killed run")
    assert sorted(path.name for path in cache.entry("targets/abc", Maker()).iterdir()) == [
        "deep",
        "link",
        MANIFEST,
        "note",
    ]


def test_full_disk_is_one_clear_line(cache: Cache) -> None:
    """ENOSPC, here from /dev/full, names the cache and the remedy."""

    def fill(folder: Path) -> None:
        (folder / "full").symlink_to("/dev/full")
        (folder / "full").write_text("x")

    with pytest.raises(
        InfrastructureError, match=r"cache .* is full: No space left .*; free some space or .*--cache DIR"
    ):
        cache.entry("targets/abc", fill)


def test_unusable_cache_is_one_clear_line(tmp_path: Path) -> None:
    """A cache that cannot be made says so, with the remedy."""
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file/cache", Path("/proc/seatrial")):
        with pytest.raises(InfrastructureError, match=r"cannot be used: .*; use another with --cache DIR"):
            Cache(root).entry("targets/abc", Maker())


def test_a_finished_entry_needs_no_right_to_write(cache: Cache) -> None:
    """A cache on a read-only disk serves what it has: no lock is taken for it."""
    cache.entry("targets/abc", Maker())
    for lock in (cache.root / "locks").iterdir():
        lock.unlink()
    (cache.root / "locks").rmdir()
    (cache.root / "locks").write_text("not a directory")
    assert cache.entry("targets/abc", Maker()).is_dir()


def test_two_runs_make_an_entry_once(tmp_path: Path) -> None:
    """Of four processes started together one makes the entry, the others take it."""
    code = f"""
import os, sys
from pathlib import Path
from suites.framework.provisioning.cache import Cache
def make(folder):
    with open({str(tmp_path / "made")!r}, "a") as log: log.write("x")
    (folder / "big").write_bytes(os.urandom(1 << 22))
sys.stdin.read()
print(Cache(Path({str(tmp_path / "cache")!r})).entry("targets/abc", make))
"""
    runs = [
        subprocess.Popen(
            [*CHILD, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(4)
    ]
    for run in runs:
        assert run.stdin is not None
        run.stdin.close()
    entries = set()
    for run in runs:
        assert run.stdout is not None
        assert run.stderr is not None
        entries.add(run.stdout.read())
        run.stdout.close()
        run.stderr.close()
        assert run.wait() == 0
    assert entries == {f"{tmp_path / 'cache/targets/abc'}\n"}
    assert (tmp_path / "made").read_text() == "x"


# ---- staging


def program(folder: Path, text: str = "#!/bin/sh\n", name: str = "mine") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    path.chmod(0o700)
    return path


def test_program_is_staged_by_its_content(cache: Cache, tmp_path: Path) -> None:
    """One path from the digest, the program's own name, mode 0755, once."""
    source = program(tmp_path / "a")
    staged = stage(source, cache=cache)
    assert staged.path == cache.root / "targets" / staged.sha256 / "mine"
    assert staged.path.stat().st_mode & 0o7777 == 0o755
    assert stage(program(tmp_path / "b"), cache=cache) == staged
    assert stage(program(tmp_path / "a", "#!/bin/bash\n"), cache=cache).path != staged.path


def test_replacing_the_source_does_not_touch_the_copy(cache: Cache, tmp_path: Path) -> None:
    """A rebuild in the middle of a run changes nothing that runs."""
    source = program(tmp_path / "a")
    staged = stage(source, cache=cache)
    source.write_text("rebuilt")
    assert staged.path.read_text() == "#!/bin/sh\n"


def test_the_same_content_under_another_name_keeps_its_name(cache: Cache, tmp_path: Path) -> None:
    """A multi-call binary looks at its name."""
    stage(program(tmp_path / "a"), cache=cache)
    other = stage(program(tmp_path / "a", name="other"), cache=cache).path
    assert (other.name, other.is_file()) == ("other", True)


def test_siblings_come_along(cache: Cache, tmp_path: Path) -> None:
    """Declared siblings stand beside the copy; another sibling makes another target of the same digest."""
    source = program(tmp_path / "a")
    program(tmp_path / "a/lib", "one", "x")
    first = stage(source, cache=cache, siblings=["lib/x"])
    assert (first.path.parent / "lib/x").read_text() == "one"
    program(tmp_path / "a/lib", "two", "x")
    second = stage(source, cache=cache, siblings=["lib/x"])
    assert (first.path != second.path, first.sha256 == second.sha256) == (True, True)


@pytest.mark.parametrize("sibling", ["nowhere", "../up", "/etc/passwd"])
def test_wrong_siblings_are_refused(cache: Cache, tmp_path: Path, sibling: str) -> None:
    """A sibling is a file below the program's folder."""
    (tmp_path / "up").write_text("")
    with pytest.raises(UsageError, match="sibling"):
        stage(program(tmp_path / "a"), cache=cache, siblings=[sibling])
