"""The cache of root file systems and its command: made once, verified, made again, listed and removed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from suites.framework import __main__ as launcher
from suites.framework.commands.rootfs import Meter
from suites.framework.errors import CannotRunError, ExitCode, UsageError
from suites.framework.facts import Fact
from suites.framework.options import parse
from suites.framework.provisioning.cache import MANIFEST, Cache
from suites.framework.provisioning.command import Completed
from suites.framework.rootfs.rootfs import Means, Rootfs, probe_rootfs, provide
from suites.framework.rootfs.shelf import Shelf
from suites.framework.rootfs.source import parse as source
from suites.framework.rootfs.tree import differences, manifest
from tests import archives
from tests.test_rootfs_download import DATA, Handler, Server, direct
from tests.test_rootfs_download import server as server
from tests.test_rootfs_sources import HAVE_BUSYBOX, Shop

ROOT = Path(__file__).parents[1]
SHA256 = hashlib.sha256(archives.GOOD).hexdigest()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return a good archive."""
    path = tmp_path / "tree.tar"
    path.write_bytes(archives.GOOD)
    return path


# ---- the cache


def damage_content(tree: Path) -> None:
    (tree / "bin/busybox").write_bytes(b"other" * 2)


def damage_mode(tree: Path) -> None:
    (tree / "etc/shadow").chmod(0o755)


def damage_setuid(tree: Path) -> None:
    (tree / "bin/su").chmod(0o4755)


def damage_folder_mode(tree: Path) -> None:
    (tree / "tmp").chmod(0o777)


def damage_missing(tree: Path) -> None:
    (tree / "etc/shadow").unlink()


def damage_missing_folder(tree: Path) -> None:
    (tree / "tmp").rmdir()


def damage_added(tree: Path) -> None:
    (tree / "tmp/left").write_text("by somebody")


def damage_added_fifo(tree: Path) -> None:
    os.mkfifo(tree / "pipe")


def damage_beside(tree: Path) -> None:
    (tree.parent / "beside").write_text("")


def damage_link(tree: Path) -> None:
    (tree / "bin/sh").unlink()
    (tree / "bin/sh").symlink_to("/bin/dash")


def damage_kind(tree: Path) -> None:
    (tree / "etc/shadow").unlink()
    (tree / "etc/shadow").mkdir()


def damage_whole(tree: Path) -> None:
    tree.rename(tree.parent.parent / "elsewhere")


def damage_manifest(tree: Path) -> None:
    (tree.parent / MANIFEST).write_text("{")


def damage_version(tree: Path) -> None:
    path = tree.parent / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))


def damage_other_cache(tree: Path) -> None:
    path = tree.parent / MANIFEST
    path.write_text(json.dumps({"schema": 1, "files": []}))


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (damage_content, "bin/again was changed (content)"),
    (damage_mode, "etc/shadow was changed (mode 0644, now 0755)"),
    (damage_setuid, "bin/su was changed (mode 0755, now 4755)"),
    (damage_folder_mode, "tmp was changed (mode 1777, now 0777)"),
    (damage_missing, "etc/shadow is missing"),
    (damage_missing_folder, "tmp is missing"),
    (damage_added, "tmp/left was added"),
    (damage_added_fifo, "pipe was added"),
    (damage_beside, "beside was added"),
    (damage_link, "bin/sh was changed (to '/bin/busybox', now to '/bin/dash')"),
    (damage_kind, "etc/shadow was changed (file, now directory)"),
    (damage_whole, "it cannot be read"),
    (damage_manifest, "its manifest cannot be read"),
    (damage_version, "its schema is 99, not 1"),
    (damage_other_cache, "its manifest cannot be read"),
]
NAMES = [damage.__name__ for damage, _ in DAMAGES]


def test_a_manifest_names_everything(cache: Cache, archive: Path) -> None:
    """Path, type, mode, size, checksum or target of each entry; directories count."""
    got = provide(str(archive), cache=cache)
    found = {record.path: record for record in manifest(got.path.parent).records}
    assert set(found) == {str(path.relative_to(got.path)) for path in got.path.rglob("*")}
    program = found["bin/busybox"]
    assert ("file", "0755", 7 * 999) == (program.type, program.mode, program.size)
    assert hashlib.sha256(b"program" * 999).hexdigest() == program.sha256
    assert ("link", "", "/bin/busybox") == (found["bin/sh"].type, found["bin/sh"].mode, found["bin/sh"].target)
    assert ("directory", "1777") == (found["tmp"].type, found["tmp"].mode)
    assert got.sha256 == hashlib.sha256((got.path.parent / MANIFEST).read_bytes()).hexdigest()


@pytest.mark.parametrize(("damage", "word"), DAMAGES, ids=NAMES)
def test_a_damaged_tree_is_made_again(
    cache: Cache, archive: Path, said: list[str], damage: Callable[[Path], None], word: str
) -> None:
    """Each use looks at everything; the first difference is named."""
    got = provide(str(archive), cache=cache)
    damage(got.path)
    assert word in "\n".join(differences(got.path.parent))
    assert got == provide(str(archive), cache=cache)
    assert [] == differences(got.path.parent)
    assert 1 == len(said)
    assert "is corrupted" in said[0]


def test_a_sound_tree_is_not_made_again(cache: Cache, archive: Path, said: list[str]) -> None:
    """The same inodes are there, and nothing was said."""
    got = provide(str(archive), cache=cache)
    before = (got.path / "bin").stat().st_ino
    assert got == provide(str(archive), cache=cache)
    assert (before, []) == ((got.path / "bin").stat().st_ino, said)


def test_what_a_killed_run_left_is_no_tree(cache: Cache, archive: Path) -> None:
    """Half made means not there, and is cleared away."""
    half = cache.root / f"rootfs/.tar-{SHA256}.new/root/bin"
    half.mkdir(parents=True)
    (half / "busybox").write_text("half")
    got = provide(str(archive), cache=cache)
    assert b"program" * 999 == (got.path / "bin/busybox").read_bytes()
    assert not (cache.root / f"rootfs/.tar-{SHA256}.new").exists()


RACE = """
import sys
from pathlib import Path
from suites.framework.provisioning.cache import Cache
from suites.framework.rootfs.rootfs import Means, provide
sys.stdin.read()
done = []
means = Means(report=lambda what, *_: done.append(what))
got = provide(sys.argv[1], cache=Cache(Path(sys.argv[2])), means=means)
print(bool(done), got.path, got.sha256)
"""


def test_two_runs_unpack_once(archive: Path, tmp_path: Path) -> None:
    """Of four processes started together one unpacks, the others take what it made."""
    words = [sys.executable, "-c", RACE, str(archive), str(tmp_path / "cache")]
    pipe = subprocess.PIPE
    runs = [subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) for _ in range(4)]
    for run in runs:
        assert run.stdin is not None
        run.stdin.close()
        run.stdin = None
    outputs = [run.communicate()[0].split() for run in runs]
    assert ["False", "False", "False", "True"] == sorted(output[0] for output in outputs)
    assert 1 == len({tuple(output[1:]) for output in outputs})


FULL = 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && exec "$@"'


def walled() -> list[str]:
    mine = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *mine, "--mount", "--propagation", "private", "sh", "-c", FULL, "sh"]


LEFT = """
import sys, os
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from suites.framework.__main__ import main
code = main(["rootfs", "fetch", sys.argv[1], "--cache", sys.argv[3]])
left = [name for _, folders, files in os.walk(sys.argv[3]) for name in files if not name.endswith(".lock")]
print(code, left, os.listdir(sys.argv[3] + "/rootfs"))
"""


def test_a_full_disk_is_one_line_and_nothing_is_left(tmp_path: Path) -> None:
    """An archive of three mebibytes does not go into one: what was unpacked so far is gone, the exit code 3."""
    if subprocess.run([*walled(), str(tmp_path), "true"], capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    archive = tmp_path / "big.tar"
    archive.write_bytes(b"".join(archives.file(f"f{n}", os.urandom(300_000)) for n in range(10)) + archives.END)
    place = tmp_path / "full"
    place.mkdir()
    words = [sys.executable, "-c", LEFT, str(archive), str(ROOT), str(place / "cache")]
    done = subprocess.run([*walled(), str(place), *words], capture_output=True, text=True, timeout=120)
    assert f"{ExitCode.INFRASTRUCTURE:d} [] []\n" == done.stdout, done.stderr
    assert 1 == len(done.stderr.splitlines())
    assert f"seatrial: cache {place}/cache is full: No space left on device" in done.stderr


# ---- archives from the network


@pytest.fixture
def good(server: Server) -> Server:
    """Serve the good archive."""
    server.answer = lambda handler: handler.send(200, archives.GOOD)
    return server


def online(**more: object) -> Means:
    return Means(session=direct, **more)  # type: ignore[arg-type]


def test_an_archive_from_the_network_is_fetched_once(good: Server, cache: Cache, tmp_path: Path) -> None:
    """With its checksum; the second time neither the checksum nor the network is needed, and the archive is gone."""
    got = provide(good.url, cache=cache, sha256=SHA256, means=online())
    assert (good.url, f"archive tree.tar (sha256 {SHA256[:12]})") == (got.source, got.description)
    assert [] == list((cache.root / "rootfs/downloads").iterdir())
    assert got == provide(good.url, cache=cache, offline=True, means=online())
    assert 1 == len(good.asked)
    path = tmp_path / "same.tar"
    path.write_bytes(archives.GOOD)
    assert got.path == provide(str(path), cache=cache).path


def test_offline_asks_nobody(good: Server, cache: Cache) -> None:
    """What is not in the cache, or damaged there, is said to be missing."""
    with pytest.raises(CannotRunError, match=r"is not in the cache: --offline was given; run once without"):
        provide(good.url, cache=cache, sha256=SHA256, offline=True, means=online())
    assert [] == good.asked
    got = provide(good.url, cache=cache, sha256=SHA256, means=online())
    damage_missing(got.path)
    with pytest.raises(CannotRunError, match="--offline was given"):
        provide(good.url, cache=cache, offline=True, means=online())
    assert 1 == len(good.asked)
    assert got == provide(good.url, cache=cache, means=online())


def test_another_archive_at_the_same_place_is_another_tree(good: Server, cache: Cache) -> None:
    """The checksum says which is meant."""
    first = provide(good.url, cache=cache, sha256=SHA256, means=online())
    other = archives.GOOD.replace(b"another", b"ANOTHER")
    good.answer = lambda handler: handler.send(200, other)
    second = provide(good.url, cache=cache, sha256=hashlib.sha256(other).hexdigest(), means=online())
    assert first.path != second.path
    assert second == provide(good.url, cache=cache, means=online())


def test_a_hostile_archive_from_the_network_leaves_nothing(server: Server, cache: Cache) -> None:
    """Its checksum may be right: it is refused, and not kept either."""
    server.answer = lambda handler: handler.send(200, DATA)
    with pytest.raises(UsageError, match="is no tar archive"):
        provide(server.url, cache=cache, sha256=hashlib.sha256(DATA).hexdigest(), means=online())
    assert [] == [path for path in (cache.root / "rootfs").rglob("*") if path.name != "downloads"]


def test_what_broke_off_goes_on_and_can_be_removed(server: Server, cache: Cache) -> None:
    """The next fetch takes the rest; `clean` knows the part."""
    server.answer = lambda handler: handler.send(200, archives.GOOD[:900], Content_Length=len(archives.GOOD))
    with pytest.raises(Exception, match="900 bytes"):
        provide(server.url, cache=cache, sha256=SHA256, means=online())
    assert [f"{SHA256}.part", f"{SHA256}.part.json"] == [path.name for path in Shelf(cache).fragments()]

    def rest(handler: Handler) -> None:
        place = f"bytes {handler.first}-{len(archives.GOOD) - 1}/{len(archives.GOOD)}"
        handler.send(206, archives.GOOD[handler.first :], Content_Range=place)

    server.answer = rest
    assert (provide(server.url, cache=cache, sha256=SHA256, means=online()).path / "bin").is_dir()
    assert "bytes=900-" == server.asked[-1]["range"]


def test_a_local_archive_must_be_the_one_that_was_meant(cache: Cache, archive: Path) -> None:
    """With a checksum it is compared before anything is unpacked."""
    assert provide(str(archive), cache=cache, sha256=SHA256).path.is_dir()
    with pytest.raises(UsageError, match=f"its SHA-256 is {SHA256}, not 0000"):
        provide(str(archive), cache=cache, sha256="0" * 64)


# ---- the probe


@HAVE_BUSYBOX
def test_the_probe_provides_a_tree(cache: Cache) -> None:
    """Present, with what it is; after that it is in the cache."""
    finding, _ = probe_rootfs(cache=cache)
    assert (Fact.ROOTFS, True, None) == (finding.fact, finding.present, finding.missing)
    assert finding.detail.startswith("busybox (")
    assert ["busybox"] == [known.source for known in Shelf(cache).everything()]


def test_a_machine_without_busybox_is_a_finding(cache: Cache, tmp_path: Path) -> None:
    """Absent with the reason and the remedy; no exception."""
    finding, _ = probe_rootfs(cache=cache, means=Means(environ={"PATH": str(tmp_path)}, packages=Shop()))
    assert not finding.present
    assert "busybox is not on PATH; no network" == finding.detail
    assert "busybox-static" in finding.remedy


@HAVE_BUSYBOX
def test_a_tree_that_does_not_run_is_a_finding(cache: Cache) -> None:
    """Such as on a file system mounted noexec."""
    provide(cache=cache)
    refused = Means(run=lambda *_, **__: Completed(code=126, stderr="busybox: Permission denied"))
    finding, _ = probe_rootfs(cache=cache, means=refused)
    assert (False, "busybox: Permission denied") == (finding.present, finding.detail)
    assert "noexec" in finding.remedy


# ---- the command


class Command:
    """The launcher's `rootfs`, with a cache of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys, self.cache = capsys, folder / "cache"

    def __call__(self, *words: str) -> tuple[int, list[str], list[str]]:
        """Return the exit code and the lines of both streams."""
        code = launcher.main(["rootfs", *words, "--cache", str(self.cache)])
        out, err = self._capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    def got(self, *words: str) -> Rootfs:
        """Fetch one and return it."""
        code, out, err = self("fetch", *words)
        assert (ExitCode.GREEN, []) == (code, err)
        name, _, description = out[0].partition(": ")
        return Rootfs(path=Path(out[2]), source=name, sha256=out[1].split()[-1], description=description)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Return the command."""
    return Command(capsys, tmp_path)


def test_fetch_says_what_and_where(command: Command, archive: Path) -> None:
    """Source, description, checksum and path: the same that `provide` returns."""
    assert provide(str(archive), cache=Cache(command.cache)) == command.got(str(archive))
    assert command.got(str(archive), "--sha256", SHA256.upper()).path.is_dir()


def test_paths_count_from_the_base(command: Command, archive: Path) -> None:
    """As everywhere."""
    code = launcher.main(
        ["rootfs", "--base", str(archive.parent), "fetch", archive.name, "--cache", str(command.cache)]
    )
    assert ExitCode.GREEN == code


def test_list_shows_sources_and_what_is_there(command: Command, archive: Path) -> None:
    """Also where nothing is; then each tree with checksum, size, source and path."""
    code, out, _ = command("list")
    assert (ExitCode.GREEN, f"in {command.cache}: none") == (code, out[-1])
    assert ["busybox", "mmdebstrap", "docker:IMAGE", "PATH,"] == [line.split()[0] for line in out[:4]]
    got = command.got(str(archive))
    _, out, _ = command("list")
    assert f"in {command.cache}: 1" in out
    assert [got.sha256, "0.0", "MiB", str(archive)] == out[-2].split()
    assert f"{got.description}; {got.path}" == out[-1].strip()


@pytest.mark.parametrize(("damage", "word"), DAMAGES, ids=NAMES)
def test_verify_names_damage_and_repairs_it(
    command: Command, archive: Path, damage: Callable[[Path], None], word: str
) -> None:
    """One line for each path, then the tree is made again, and sound from then on."""
    got = command.got(str(archive))
    assert (ExitCode.GREEN, [f"sound    {archive}  {got.sha256}"]) == command("verify")[:2]
    damage(got.path)
    code, out, _ = command("verify", str(archive))
    assert ExitCode.GREEN == code
    assert f"damaged  {archive}: " == out[0][: len(f"damaged  {archive}: ")]
    assert word in out[0]
    assert f"again    {archive}  {got.sha256}" == out[-1]
    assert [f"sound    {archive}  {got.sha256}"] == command("verify")[1]


def test_what_cannot_be_repaired_is_told(command: Command, archive: Path) -> None:
    """The archive is gone: the damage is named, with the reason, and the exit code is 3."""
    got = command.got(str(archive))
    for name in ("bin", "etc", "tmp"):
        (got.path / name).rename(got.path / f"{name}-moved")
    archive.unlink()
    code, out, err = command("verify", str(archive))
    assert (ExitCode.INFRASTRUCTURE, 6) == (code, len(out))
    assert "more" in out[-1]
    assert [f"seatrial: rootfs '{archive}' is not a source, and no file"] == [line.split(";")[0] for line in err]


def test_verify_of_nothing(command: Command) -> None:
    """An empty cache is sound; a source that was never fetched is a mistake."""
    assert (ExitCode.GREEN, ["nothing to verify"]) == command("verify")[:2]
    code, _, err = command("verify", "busybox")
    assert (ExitCode.USAGE, 1) == (code, len(err))
    assert "rootfs busybox is not in the cache; rootfs fetch busybox" in err[0]


def test_clean_shows_first_and_removes_with_apply(command: Command, archive: Path) -> None:
    """Trees, half made ones, those that nothing leads to, and parts of archives; nothing else of the cache."""
    got = command.got(str(archive))
    part = command.cache / "rootfs/downloads" / f"{SHA256}.part"
    part.parent.mkdir()
    part.write_bytes(b"")
    half, orphan = command.cache / "rootfs/.busybox-1.new/root", command.cache / "rootfs/tar-0"
    other = command.cache / "targets/x"
    for folder in (half, orphan, other):
        folder.mkdir(parents=True)
    code, out, _ = command("clean")
    assert (ExitCode.GREEN, 5, "nothing was removed: add --apply") == (code, len(out), out[-1])
    assert got.path.is_dir()
    code, out, _ = command("clean", "--apply")
    assert (ExitCode.GREEN, 4) == (code, len(out))
    assert f"remove {archive}: {got.path.parent}" in out
    left = [path for path in (command.cache / "rootfs").rglob("*") if path.name not in ("sources", "downloads")]
    assert ([], True) == (left, other.is_dir())
    assert ["nothing to clean"] == command("clean", "--apply")[1]


def test_clean_waits_for_nobody(command: Command, archive: Path) -> None:
    """A tree that another run is making stays, and that is told."""
    got = command.got(str(archive))
    key = f"rootfs/{got.path.parent.name}"
    with Cache(command.cache).lock(key):
        code, _, err = command("clean", "--apply")
    assert (ExitCode.INFRASTRUCTURE, True) == (code, got.path.is_dir())
    assert f"cache entry {key} is locked" in err[-1]


@pytest.mark.parametrize("text", ["{", "null", '{"schema": 1}', '{"schema": 99}', "\x00", "[" * 100_000])
def test_a_damaged_note_is_no_traceback(command: Command, archive: Path, text: str) -> None:
    """It is as if it were not there, and written anew."""
    command.got(str(archive))
    note = command.cache / "rootfs/sources" / f"{source(str(archive)).label}.json"
    note.write_text(text)
    assert f"in {command.cache}: none" == command("list")[1][-1]
    assert command.got(str(archive)).path.is_dir()
    assert f"in {command.cache}: 1" in command("list")[1]


def test_a_note_leads_nowhere_else(command: Command, archive: Path) -> None:
    """A key outside of the folder is not followed, nor removed."""
    command.got(str(archive))
    note = command.cache / "rootfs/sources" / f"{source(str(archive)).label}.json"
    for key in ("rootfs/../../outside", "../outside", "rootfs/..", "targets/x", "rootfs/"):
        note.write_text(json.dumps({**json.loads(note.read_text()), "key": key}))
        assert f"in {command.cache}: none" == command("list")[1][-1]


@pytest.mark.parametrize(
    ("words", "about"),
    [
        ("", "ACTION"),
        ("dance", "invalid choice: 'dance'"),
        ("fetch", "SOURCE"),
        ("fetch busybox busybox", "unrecognized arguments: busybox"),
        ("fetch busybox --sha256 12", "'12' is no SHA-256: 64 hexadecimal digits"),
        ("fetch busybox --sha256 " + "0" * 64, "--sha256 does not go with rootfs busybox"),
        ("fetch nowhere", "rootfs 'nowhere' is not a source, and no file"),
        ("fetch http://a/b", "the checksum of http://a/b is not known"),
        ("list --apply", "unrecognized arguments: --apply"),
        ("clean now", "unrecognized arguments: now"),
        ("verify ftp://a/b", "cannot be fetched"),
    ],
)
def test_a_wrong_word_is_one_line(words: str, about: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Exit code 64, nothing printed beside it, nothing made."""
    assert ExitCode.USAGE == launcher.main(["rootfs", "--cache", str(tmp_path / "cache"), *words.split()])
    out, err = capsys.readouterr()
    assert ("", 1) == (out, len(err.splitlines()))
    assert about in err
    assert not (tmp_path / "cache").exists()


def test_the_cache_may_stand_before_or_after_the_action() -> None:
    """Both are heard, relative to the base."""
    for text in ("rootfs --base /b --cache c list", "rootfs --base /b list --cache c"):
        assert Path("/b/c") == parse(text.split(), checkout=ROOT).cache
    assert None is parse(["rootfs", "list"], checkout=ROOT).cache


# ---- progress


class Screen:
    """A stream that is a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        self.terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        """Say which."""
        return self.terminal

    def write(self, text: str) -> None:
        """Keep it."""
        self.text += text

    def flush(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("terminal", "expected"),
    [
        (True, "\rrootfs: fetching x: 0.0 MiB\x1b[K\rrootfs: fetching x: 2.0 MiB of 4.0 MiB\x1b[K\r\x1b[K"),
        (False, "rootfs: fetching x: 2.0 MiB of 4.0 MiB\n"),
    ],
)
def test_progress_is_a_line_now_and_then(terminal: bool, expected: str) -> None:
    """On a terminal at once and in place, elsewhere after five seconds; control characters are shown, not obeyed."""
    screen, times = Screen(terminal=terminal), iter((0.0, 0.05, 6.0, 6.05))
    meter = Meter(stream=screen, clock=lambda: next(times))  # type: ignore[arg-type]
    for done, of in ((0, 0), (1, 0), (2 << 20, 4 << 20), (3 << 20, 4 << 20)):
        meter.report("fetching x", done, of)
    meter.end()
    assert expected == screen.text
    assert "\x1b[2J" not in screen.text


def test_a_folder_that_others_cannot_enter_is_made_for_them_all(archive: Path) -> None:
    """Whatever the umask: a worker of another user reads the tree."""
    with tempfile.TemporaryDirectory(prefix="seatrial-rootfs-") as folder:
        before = os.umask(0o077)
        try:
            got = provide(str(archive), cache=Cache(Path(folder) / "cache"))
        finally:
            os.umask(before)
        parents = [path for path in got.path.parents if Path(folder) in path.parents]
        assert {0o755} == {path.stat().st_mode & 0o777 for path in (*parents, got.path)}
        assert 0o644 == (got.path.parent / MANIFEST).stat().st_mode & 0o777
