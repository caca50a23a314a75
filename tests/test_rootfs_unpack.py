"""Archives from outside: good ones become trees, hostile ones one line, and nothing is written beside the tree."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from suites.framework.errors import ExitCode, UsageError
from suites.framework.provisioning.cache import Cache
from suites.framework.rootfs import unpack as unpacking
from suites.framework.rootfs.archive import Limits, shown
from suites.framework.rootfs.rootfs import Means, Rootfs, provide
from suites.framework.rootfs.unpack import unpack
from tests import archives

CORPUS = sorted(archives.hostile(Path("/nowhere")))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder with one file that nobody may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "canary").write_text("alive")
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return an empty cache."""
    return Cache(tmp_path / "cache", say=lambda _: None)


def state(folder: Path) -> list[tuple[str, int, int, str]]:
    """Return everything below a folder: name, mode, links and content."""
    paths = sorted(folder.rglob("*"))
    seen = [(path.lstat(), path.read_text() if path.is_file() and not path.is_symlink() else "") for path in paths]
    return [(str(path), about.st_mode, about.st_nlink, text) for path, (about, text) in zip(paths, seen, strict=True)]


def given(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "given.tar"
    path.write_bytes(data)
    return path


def unpacked(tmp_path: Path, data: bytes, cache: Cache, **limits: int) -> Rootfs:
    return provide(str(given(tmp_path, data)), cache=cache, means=Means(limits=Limits(**limits)))


def left(cache: Cache) -> list[Path]:
    """Return what is in a cache beside its locks."""
    return [path for path in cache.root.rglob("*") if "locks" not in path.parts and path.name != "rootfs"]


# ---- good ones


@pytest.mark.parametrize("compression", archives.COMPRESSIONS)
def test_a_good_archive_becomes_a_tree(tmp_path: Path, cache: Cache, compression: str) -> None:
    """Content, links and directories are as packed, however it was compressed."""
    tree = unpacked(tmp_path, archives.COMPRESSIONS[compression](archives.GOOD), cache).path
    assert b"program" * 999 == (tree / "bin/busybox").read_bytes()
    assert "/bin/busybox" == str((tree / "bin/sh").readlink())
    assert "busybox" == str((tree / "bin/ls").readlink())
    assert (tree / "bin/again").samefile(tree / "bin/busybox")
    assert b"deep" == (tree / archives.LONG).read_bytes()
    assert b"UTF-8" == (tree / "etc/ssl/Főtanúsítvány.crt").read_bytes()
    assert (b"root:*\n", b"another\n") == ((tree / "etc/shadow").read_bytes(), (tree / "etc/Shadow").read_bytes())
    assert len(set(map(os.path.normpath, archives.names(archives.GOOD)))) <= len(list(tree.rglob("*"))) + 1


def test_modes_and_owners_are_those_of_the_house(tmp_path: Path, cache: Cache) -> None:
    """No set-id bit, nothing writable for others but what is sticky, everything ours, whatever the umask."""
    before = os.umask(0o077)
    try:
        tree = unpacked(tmp_path, archives.GOOD, cache).path
    finally:
        os.umask(before)
    modes = {str(path.relative_to(tree)): f"{stat.S_IMODE(path.lstat().st_mode):o}" for path in tree.rglob("*")}
    assert ("755", "755", "755") == (modes["bin/su"], modes["bin"], modes["everybody"])
    assert ("644", "644", "1777", "755") == (modes["etc/shadow"], modes["etc/Shadow"], modes["tmp"], modes["srv"])
    assert 0o755 == stat.S_IMODE(tree.stat().st_mode)
    assert {(os.geteuid(), os.getegid())} == {(path.lstat().st_uid, path.lstat().st_gid) for path in tree.rglob("*")}


def test_nobody_has_a_hand_in_the_unpacking(tmp_path: Path) -> None:
    """What others may write to in the end, they may not while files are still written there."""
    data, seen = archives.folder("tmp", mode=0o1777) + archives.file("tmp/x") + archives.file("y"), list[int]()
    place = tmp_path / "place"
    place.mkdir()
    with given(tmp_path, data + archives.END).open("rb") as stream:
        unpack(stream, place, name="given", report=lambda _: seen.append(stat.S_IMODE((place / "tmp").stat().st_mode)))
    assert ([0o755, 0o755], 0o1777) == (seen, stat.S_IMODE((place / "tmp").stat().st_mode))


def test_the_same_content_gives_the_same_checksum(tmp_path: Path, cache: Cache) -> None:
    """The manifest depends on neither compression, time nor place; a changed byte shows."""
    first = unpacked(tmp_path, archives.GOOD, cache)
    again = unpacked(tmp_path, archives.COMPRESSIONS["xz"](archives.GOOD), Cache(tmp_path / "other"))
    changed = unpacked(tmp_path, archives.GOOD.replace(b"another", b"ANOTHER"), cache)
    assert first.path != again.path
    assert first.sha256 == again.sha256 != changed.sha256


# ---- hostile ones


@pytest.mark.parametrize("attack", CORPUS)
def test_a_hostile_archive_is_one_line(tmp_path: Path, cache: Cache, outside: Path, attack: str) -> None:
    """It is refused with its name and a reason; nothing was written beside the tree, and nothing is left of it."""
    before = state(outside)
    with pytest.raises(UsageError) as caught:
        unpacked(tmp_path, archives.hostile(outside)[attack], cache)
    assert before == state(outside)
    assert [] == left(cache)
    assert ExitCode.USAGE == caught.value.exit_code
    message = str(caught.value)
    assert (True, False) == (f"{tmp_path}/given.tar" in message, "Traceback" in message)
    assert message.isprintable()
    assert len(message) < 600
    assert caught.value.why
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("name-absolute", "it is absolute"),
        ("name-dotdot", "it has .."),
        ("name-newline", "it has control characters"),
        ("name-nul", "it has control characters"),
        ("name-not-utf-8", "it is not UTF-8"),
        ("name-deep", "it is deeper than 64 directories"),
        ("name-below-a-file", "it lies below a link or a file"),
        ("link-write-through", "it lies below a link or a file"),
        ("link-write-through-inside", "it lies below a link or a file"),
        ("link-relative-out", "that leaves the tree"),
        ("link-out-by-way-of-others", "that leaves the tree"),
        ("hardlink-absolute", "it is absolute"),
        ("hardlink-to-a-link", "which is no file that came before it"),
        ("kind-block-device", "is a block device"),
        ("kind-fifo", "is a named pipe"),
        ("kind-unknown", "is of the unknown type b'Q'"),
        ("kind-sparse", "is a sparse file; make the archive without --sparse"),
        ("twice-file", "'a' is there twice"),
        ("twice-link-then-file", "'a' is there twice"),
        ("pax-large", "a header about a member takes"),
        ("pax-nested", "too many headers about one member"),
        ("pax-size-negative", "has a negative size"),
        ("size-negative", "has a negative size"),
        ("size-huge", "cut off"),
        ("end-missing", "the blocks of zeros that end an archive are missing"),
        ("end-in-a-file", "cut off"),
        ("end-followed-by-text", "something follows the end of the archive"),
        ("end-at-once", "it is empty"),
        ("end-empty", "it is no tar archive"),
        ("end-no-archive", "it is no tar archive"),
        ("end-gzip-cut-off", "its gzip stream is cut off"),
        ("end-gzip-damaged", "its gzip stream is damaged"),
        ("end-gzip-followed-by-text", "something that is not gzip follows its end"),
        ("end-xz-huge-window", "Memory usage limit"),
        ("end-bomb", "a decompression bomb"),
        ("end-bomb-xz", "a decompression bomb"),
    ],
)
def test_the_reason_is_the_one(tmp_path: Path, cache: Cache, outside: Path, attack: str, reason: str) -> None:
    """Each attack is refused for what it is, not because something else happened to go wrong."""
    with pytest.raises(UsageError) as caught:
        unpacked(tmp_path, archives.hostile(outside)[attack], cache)
    assert reason in caught.value.why


def test_the_attacks_do_harm(tmp_path: Path, outside: Path) -> None:
    """The corpus is worth something: a careless unpacker writes where it should not, with several of them."""
    escaped = set()
    for name in ("link-write-through", "name-absolute", "name-dotdot", "hardlink-to-a-link", "twice-link-then-file"):
        for path in outside.iterdir():
            path.unlink()
        (outside / "canary").write_text("alive")
        place = tmp_path / name
        place.mkdir()
        with tarfile.open(given(tmp_path, archives.hostile(outside)[name])) as archive:
            archive.extraction_filter = lambda member, _path: member
            for member in archive:
                careless(archive, member, place)
        if [("canary", "alive")] != [(path.name, path.read_text()) for path in sorted(outside.iterdir())]:
            escaped.add(name)
    assert {
        "link-write-through",
        "name-absolute",
        "name-dotdot",
        "hardlink-to-a-link",
        "twice-link-then-file",
    } == escaped


def careless(archive: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    """Write a member as the simplest program would."""
    path = Path(os.path.join(place, member.name))  # noqa: PTH118 - a Path would be more careful
    if member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        os.link(place / member.linkname, path)
    else:
        content = archive.extractfile(member)
        assert content is not None
        path.write_bytes(content.read())


@pytest.mark.parametrize("there", ["file", "link", "hard link", "folder"])
def test_nothing_that_is_there_is_overwritten(tmp_path: Path, outside: Path, there: str) -> None:
    """What the archive did not bring itself, on a file system that takes two names for one, say, is left alone."""
    place, before = tmp_path / "place", state(outside)
    place.mkdir()
    match there:
        case "file":
            (place / "a").write_text("mine")
        case "link":
            (place / "a").symlink_to(outside / "canary")
        case "hard link":
            os.link(outside / "canary", place / "a")
            before = state(outside)
        case _:
            (place / "a").mkdir()
    for attempt in (archives.file("a", archives.EXTERN), archives.folder("a"), archives.file("a/b", archives.EXTERN)):
        refused = pytest.raises(UsageError, match=r"'a(/b)?' cannot be written: it is there already")
        with given(tmp_path, attempt + archives.END).open("rb") as stream, refused:
            unpack(stream, place, name="given")
    assert before == state(outside)
    assert there != "file" or "mine" == (place / "a").read_text()


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"members": 5}, "it has more than 5 members"),
        ({"total_bytes": 10_000}, "it holds more than 0 MiB"),
        ({"path_bytes": 100}, "it is longer than 100 bytes"),
        ({"depth": 3}, "it is deeper than 3 directories"),
        ({"harmless_bytes": 0, "ratio": 2}, "more than 2 times its size"),
    ],
)
def test_limits_hold(tmp_path: Path, cache: Cache, limits: dict[str, int], reason: str) -> None:
    """A good archive beyond a limit is refused with the figure."""
    data = archives.COMPRESSIONS["gz"](archives.GOOD)
    with pytest.raises(UsageError) as caught:
        unpacked(tmp_path, data, cache, **limits)
    assert reason in caught.value.why
    assert unpacked(tmp_path, data, cache).path.is_dir()


def test_links_that_lead_on_and_on_end(tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive cannot keep its reader busy for hours with links to links to links."""
    monkeypatch.setattr(unpacking, "_STEPS", 10_000)
    links = [archives.link(f"l{n}", "/".join([f"l{n + 1}", *["d"] * 30])) for n in range(39)]
    assert unpacked(tmp_path, b"".join(links[:5]) + archives.END, cache).path.is_dir()
    with pytest.raises(UsageError, match="its symbolic links lead on and on"):
        unpacked(tmp_path, b"".join(links) + archives.END, cache)


def zstd_is_known() -> bool:
    try:
        importlib.import_module("compression.zstd")
    except ImportError:
        return False
    return True


@pytest.mark.skipif(zstd_is_known(), reason="this Python reads zstd")
def test_what_this_python_cannot_decompress_is_named(tmp_path: Path, cache: Cache) -> None:
    """A zstd archive says what is needed and what to do."""
    with pytest.raises(UsageError, match=r"compressed with zstd, which this Python cannot read; .*zstd -dk"):
        unpacked(tmp_path, b"\x28\xb5\x2f\xfd" + bytes(100), cache)


@pytest.mark.parametrize("fix", [False, True], ids=["damaged", "forged"])
def test_no_damage_is_a_traceback(tmp_path: Path, outside: Path, fix: bool) -> None:
    """400 archives with a few wrong bytes, with and without a checksum that fits them: unpacked, or refused clearly."""
    chance, before, refused = random.Random(f"rootfs {fix}"), state(outside), list[str]()
    for number in range(200):
        data = bytearray(archives.FEW)
        start = chance.choice([at for at in range(0, len(data), archives.BLOCK) if b"ustar" in data[at : at + 512]])
        for _ in range(chance.randint(1, 4)):
            data[start + chance.randrange(180)] = chance.choice(b"\0\x01/.agxLKgS0127\x80\xff")
        if fix:
            data[start : start + archives.BLOCK] = archives.rechecked(bytes(data[start : start + archives.BLOCK]))
        place = tmp_path / str(number)
        place.mkdir()
        given(tmp_path, bytes(data))
        try:
            with (tmp_path / "given.tar").open("rb") as stream:
                unpack(stream, place, name="given")
        except UsageError as error:
            refused.append(str(error))
        shutil.rmtree(place)
    assert before == state(outside)
    assert all(map(str.isprintable, refused))
    assert 20 < len(refused) <= 200


def test_a_descriptor_is_not_left_open(tmp_path: Path, cache: Cache, outside: Path) -> None:
    """Refusals, too, close what they opened."""
    before = os.listdir("/proc/self/fd")
    for attack in ("link-write-through", "end-bomb", "pax-nested", "end-gzip-damaged", "twice-file"):
        with pytest.raises(UsageError):
            unpacked(tmp_path, archives.hostile(outside)[attack], cache)
    assert len(before) == len(os.listdir("/proc/self/fd"))


def test_a_shown_name_is_harmless() -> None:
    """Names from archives are escaped and cut where they stand in a message."""
    assert r"'a\nb\x1b\udcff'" == shown("a\nb\x1b\udcff")
    assert len(shown("n" * 5000)) <= 80
