"""Where root file systems come from: the words for them, busybox, mmdebstrap, and the files of an image."""

from __future__ import annotations

import errno
import io
import os
import platform
import shutil
import stat
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from suites.framework.environments.engine import Engine, EngineError, connect
from suites.framework.errors import CannotRunError, ExitCode, InfrastructureError, UsageError
from suites.framework.facts import Fact, Missing
from suites.framework.provisioning import command
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.command import Completed
from suites.framework.provisioning.debian import Packages, Provisioned
from suites.framework.rootfs import bootstrap, busybox
from suites.framework.rootfs.rootfs import Means, provide
from suites.framework.rootfs.source import Kind, Source, parse
from tests import archives

HEX = "0123456789abcdef" * 4
BUSYBOX = shutil.which("busybox")
STATIC = BUSYBOX is not None and not busybox.not_static(Path(BUSYBOX))
HAVE_BUSYBOX = pytest.mark.skipif(not STATIC, reason="no static busybox: install busybox-static")


# ---- words


def test_words_name_sources(tmp_path: Path) -> None:
    """Each form of word is one kind; paths count from the base."""
    (tmp_path / "tree.tar").write_bytes(b"")
    path = str(tmp_path / "tree.tar")
    assert Source(kind=Kind.BUSYBOX, word="busybox") == parse("busybox")
    assert Source(kind=Kind.MMDEBSTRAP, word="mmdebstrap") == parse("mmdebstrap")
    assert Source(kind=Kind.DOCKER, word="docker:a/b:1", place="a/b:1") == parse("docker:a/b:1")
    assert Source(kind=Kind.FILE, word=path, place=path, sha256=HEX) == parse("tree.tar", base=tmp_path, sha256=HEX)
    url = "https://example.org:8443/a/tree.tar.gz?x=1"
    assert Source(kind=Kind.URL, word=url, place=url, sha256=HEX) == parse(f"{url}#sha256={HEX}")
    assert parse(url, sha256=HEX) == parse(f"{url}#sha256={HEX}", sha256=HEX)


def test_a_source_is_filed_under_its_word() -> None:
    """Different sources never share a note, the same one always does, whatever its checksum."""
    assert parse("http://a/b", sha256=HEX).label == parse("http://a/b").label != parse("http://a/c").label
    assert "url-" == parse("http://a/b").label[:4]


@pytest.mark.parametrize(
    ("word", "about"),
    [
        ("", "is a directory"),
        (".", "is a directory"),
        ("nowhere.tar", "is not a source, and no file"),
        ("busybox ", "is not a source, and no file"),
        ("busibox", "did you mean busybox?"),
        ("mmdebstrp", "did you mean mmdebstrap?"),
        ("docker:", "names no image"),
        ("docker:-v", "names no image"),
        ("docker:a b", "names no image"),
        ("docker:" + "a" * 300, "names no image"),
        ("ftp://a/b", "only http:// and https:// can"),
        ("file:///etc/passwd", "only http:// and https:// can"),
        ("http://", "only http:// and https:// can"),
        ("http://[::1", "is no URL"),
        ("http://a:port/", "is no URL"),
        ("http://me:secret@a/b", "holds a user name or password"),
        (f"http://a/b#sha256={HEX[:-1]}", "is no SHA-256"),
        ("http://a/b#sha256=", "the checksum of http://a/b is not known"),
        ("http://a/b", "the checksum of http://a/b is not known"),
        ("a\nb", "control characters"),
        ("a\x1b[2Jb", "control characters"),
        ("a\u202eb", "control characters"),
        ("/dev/zero", "is not a source, and no file"),
        ("/proc/self/mem", "cannot be read"),
    ],
)
def test_a_wrong_word_is_one_line(cache: Cache, tmp_path: Path, word: str, about: str) -> None:
    """It names the word and what would be right; a password is not repeated."""
    with pytest.raises(UsageError) as caught:
        provide(word, cache=cache, base=tmp_path)
    assert about in str(caught.value)
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)
    assert not cache.root.exists()


def test_checksums_go_with_archives_alone() -> None:
    """One for busybox, or two different ones for a URL, are a mistake."""
    with pytest.raises(UsageError, match=r"--sha256 does not go with rootfs busybox"):
        parse("busybox", sha256=HEX)
    with pytest.raises(UsageError, match="two checksums"):
        parse(f"http://a/b#sha256={HEX}", sha256=HEX[::-1])


# ---- busybox


class Shop:
    """Packages of which at most one is there; it notes what was asked for."""

    def __init__(self, program: Path | None = None) -> None:
        self.program, self.asked = program, list[tuple[str, str]]()

    def provision(self, package: str, binary: str) -> Provisioned | Missing:
        """Return it, or say that there is no network."""
        self.asked.append((package, binary))
        if self.program is None:
            return Missing(fact=Fact.PACKAGES, reason="no network", remedy="get one")
        return Provisioned(path=self.program, version="1:1.35.0")


def means(path: Path | str, shop: Shop | None = None, **more: Any) -> Means:
    return Means(environ={"PATH": str(path)}, packages=shop or Shop(), **more)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a folder with this machine's busybox and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "busybox").symlink_to(str(BUSYBOX))
    return folder


@HAVE_BUSYBOX
def test_busybox_becomes_a_tree(cache: Cache, own: Path) -> None:
    """The files that are needed and no others, with the modes that they need."""
    shop = Shop()
    got = provide(cache=cache, means=means(own, shop))
    names = {path.name for path in (got.path / "bin").iterdir()}
    assert {"busybox", "sh", "sleep", "cat", "mount", "["} <= names
    others = {str(path.relative_to(got.path)) for path in got.path.rglob("*") if path.parent.name != "bin"}
    assert {"bin", "dev", "etc", "etc/group", "etc/passwd", "proc", "root", "sys", "tmp"} == others
    folders = [got.path, *(path for path in got.path.rglob("*") if path.is_dir() and path.name != "tmp")]
    assert {0o755} == {stat.S_IMODE(path.stat().st_mode) for path in folders}
    assert 0o1777 == stat.S_IMODE((got.path / "tmp").stat().st_mode)
    assert "root:x:0:0:" == (got.path / "etc/passwd").read_text()[:11]
    assert [] == shop.asked
    assert ("busybox", f"busybox ({own}/busybox) with a link for each applet") == (got.source, got.description)


@HAVE_BUSYBOX
def test_links_to_busybox_are_relative(cache: Cache, own: Path) -> None:
    """An absolute one would lead a test that follows it to the machine's own files; each of them works."""
    tree = provide(cache=cache, means=means(own)).path
    links = [path for path in tree.rglob("*") if path.is_symlink()]
    assert {"busybox"} == {str(path.readlink()) for path in links}
    listed = command.run((str(BUSYBOX), "--list"), deadline_s=20).stdout.split()
    assert sorted({*listed} - {"busybox"}) == sorted(path.name for path in links)
    assert "hello\n" == command.run((str(tree / "bin/echo"), "hello"), deadline_s=20).stdout


@pytest.mark.skipif(os.geteuid() != 0 or not STATIC, reason="chroot needs root and a static busybox")
def test_a_shell_runs_in_it(cache: Cache, own: Path) -> None:
    """Nothing outside of the tree is needed."""
    tree = provide(cache=cache, means=means(own)).path
    done = command.run(("chroot", str(tree), "/bin/sh", "-c", "ls / | head -n 1; id -un"), deadline_s=20)
    assert ("bin\nroot\n", "") == (done.stdout, done.stderr)


@HAVE_BUSYBOX
def test_busybox_of_a_package_is_used_where_there_is_none(cache: Cache, tmp_path: Path) -> None:
    """None on PATH: the distribution's package gives one, by name."""
    shop = Shop(Path(str(BUSYBOX)))
    got = provide(cache=cache, means=means(tmp_path, shop))
    assert [("busybox-static", "busybox")] == shop.asked
    assert "busybox (package busybox-static 1:1.35.0) with a link for each applet" == got.description


def test_a_path_with_closed_folders_is_searched_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who became another user by su still has root's PATH: what he may not see is not there."""

    def closed(path: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "is_file", closed)
    with pytest.raises(CannotRunError, match="busybox is not on PATH; no network"):
        busybox.find(Shop(), environ={"PATH": str(tmp_path)})


DYNAMIC = next((path for path in map(Path, ("/bin/ls", "/usr/bin/ls")) if busybox.not_static(path)), None)


@pytest.mark.skipif(DYNAMIC is None, reason="ls is static here")
@pytest.mark.parametrize("what", ["dynamic", "script", "text", "empty", "cut off", "directory", "nothing"])
def test_a_busybox_that_is_not_static_is_not_taken(cache: Cache, tmp_path: Path, what: str) -> None:
    """Its ELF header tells, not its name; without another one the reason is said, with what to install."""
    path = tmp_path / "busybox"
    if what == "directory":
        path.mkdir()
    elif what != "nothing":
        loaded = Path(str(DYNAMIC)).read_bytes()
        texts = {"dynamic": loaded, "script": b"#!/bin/sh\n", "text": b"text", "empty": b"", "cut off": loaded[:70]}
        path.write_bytes(texts[what])
        path.chmod(0o755)
    with pytest.raises(CannotRunError) as caught:
        provide(cache=cache, means=means(tmp_path))
    words = {"dynamic": "is not static: it needs /", "script": "is a script", "directory": "not on PATH"}
    assert words.get(what, "busybox") in str(caught.value)
    assert "no network" in str(caught.value)
    assert "apt-get install busybox-static" in caught.value.remedy
    assert ExitCode.CANNOT_RUN == caught.value.exit_code


@HAVE_BUSYBOX
@pytest.mark.parametrize(
    ("done", "about"),
    [
        (Completed(code=1, stderr="applet not found"), "applet not found"),
        (Completed(code=0, stdout="ls\ncat\n"), "has no sh"),
        (Completed(code=0, late=True), "no answer within its deadline"),
    ],
)
def test_a_busybox_that_does_not_list_is_refused(cache: Cache, own: Path, done: Completed, about: str) -> None:
    """Without its applets there is no tree, and nothing is left of it."""
    with pytest.raises(InfrastructureError) as caught:
        provide(cache=cache, means=means(own, run=lambda *_, **__: done))
    assert about in str(caught.value)
    assert [] == list((cache.root / "rootfs").iterdir())


@HAVE_BUSYBOX
def test_applets_with_strange_names_are_left_out(tmp_path: Path) -> None:
    """A list is input as well: no name leads out of the folder."""
    listed = "sh\n[\n[[\n../../x\n/etc/passwd\n.\n..\nbusybox\nsh\n-x\n7z\n"
    names = busybox.applets(tmp_path, run=lambda *_, **__: Completed(code=0, stdout=listed))
    assert ["sh", "[", "[[", "7z"] == names


def test_the_real_package_is_static(tmp_path: Path) -> None:
    """busybox-static of the distribution, downloaded and unpacked without root, is what is needed."""
    if shutil.which("apt-get") is None:
        pytest.skip("no apt-get: not a Debian-like system")
    got = Packages(Cache(tmp_path)).provision(busybox.PACKAGE, "busybox")
    if isinstance(got, Missing):
        pytest.skip(got.reason)
    assert "" == busybox.not_static(got.path)
    assert "sh" in busybox.applets(got.path)


# ---- mmdebstrap


class Tools:
    """Commands of which each does one thing; it notes what was called."""

    def __init__(self, made: bytes = archives.GOOD, **ending: Any) -> None:
        self.made, self.ending, self.called = made, ending, list[Sequence[str]]()

    def __call__(self, argv: Sequence[str], **_: object) -> Completed:
        """Write the archive that was asked for."""
        self.called.append(argv)
        if not self.ending:
            Path(argv[-1]).write_bytes(self.made)
        return Completed(**{"code": 0, **self.ending})


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """Return a folder in which something is called mmdebstrap."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "mmdebstrap").write_text("#!/bin/false\n")
    (folder / "mmdebstrap").chmod(0o755)
    return folder


def release(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "os-release"
    file.write_text(text)
    return file


def codename() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        return ""


HAVE_CODENAME = pytest.mark.skipif(not codename(), reason="this distribution has no codename")


@HAVE_CODENAME
def test_mmdebstrap_makes_this_release_once(cache: Cache, debian: Path, said: list[str]) -> None:
    """The tree comes out of its archive; the second time nothing is called, offline neither."""
    tools = Tools()
    got = provide("mmdebstrap", cache=cache, means=means(debian, run=tools))
    assert (got.path / "bin/busybox").is_file()
    assert ["mmdebstrap", "--variant=minbase", codename()] == [*tools.called[0][:2], tools.called[0][-2]]
    assert "--skip=output/dev" in tools.called[0]
    assert ["root", "manifest.json"] == sorted((path.name for path in got.path.parent.iterdir()), reverse=True)
    assert got == provide("mmdebstrap", cache=cache, offline=True, means=means(debian, run=tools))
    assert 1 == len(tools.called)
    assert "for about a minute" in said[0]


@HAVE_CODENAME
@pytest.mark.parametrize("tools", [Tools(code=25, stderr="E: no mirror"), Tools(code=0, late=True), Tools(made=b"no")])
def test_mmdebstrap_that_fails_leaves_nothing(cache: Cache, debian: Path, tools: Tools) -> None:
    """Its own words are told, and what was half made is gone."""
    with pytest.raises((InfrastructureError, UsageError)) as caught:
        provide("mmdebstrap", cache=cache, means=means(debian, run=tools))
    assert any(word in str(caught.value) for word in ("E: no mirror", "no answer", "is no tar archive"))
    assert [] == list((cache.root / "rootfs").iterdir())


@HAVE_CODENAME
def test_mmdebstrap_is_not_tried_offline(cache: Cache, debian: Path) -> None:
    """It would fetch packages."""
    tools = Tools()
    with pytest.raises(CannotRunError, match=r"not in the cache: --offline was given"):
        provide("mmdebstrap", cache=cache, offline=True, means=means(debian, run=tools))
    assert [] == tools.called


def test_a_machine_without_mmdebstrap_says_so(cache: Cache, tmp_path: Path) -> None:
    """With what to install."""
    with pytest.raises(CannotRunError, match=r"mmdebstrap is not on PATH; apt-get install mmdebstrap"):
        provide("mmdebstrap", cache=cache, means=means(tmp_path))


def test_other_systems_have_no_release(tmp_path: Path, debian: Path) -> None:
    """One without a codename cannot be made again; a Debian can."""
    environ = {"PATH": str(debian)}
    with pytest.raises(CannotRunError, match="Alpine Linux names no release"):
        bootstrap.release(file=release(tmp_path, 'NAME="Alpine Linux"\nID=alpine\n'), environ=environ)
    with pytest.raises(CannotRunError, match="names no release"):
        bootstrap.release(file=release(tmp_path, "VERSION_CODENAME=../x\n"), environ=environ)
    with pytest.raises(CannotRunError, match="No such file"):
        bootstrap.release(file=tmp_path / "none", environ=environ)
    found = bootstrap.release(file=release(tmp_path, 'NAME="Debian"\nVERSION_CODENAME=trixie\n'), environ=environ)
    assert ("Debian", "trixie") == (found.name, found.codename)


# ---- images


class Docker:
    """An engine with one image; it notes which containers there are."""

    def __init__(self, blocks: Sequence[bytes | Exception] = (archives.GOOD[:700], b"", archives.GOOD[700:])) -> None:
        self.blocks, self.containers, self.made = blocks, set[str](), list[Any]()

    def identify(self, name: str) -> str:
        """Return its id."""
        return "sha256:" + "ab" * 32 if name in ("mine:1", "sha256:" + "ab" * 32) else ""

    def create(self, spec: Any) -> str:
        """Note a container."""
        self.made.append(spec)
        self.containers.add(spec.name)
        return str(spec.name)

    def export(self, container: str) -> Iterator[bytes]:
        """Yield the blocks, or fail in the middle."""
        assert container in self.containers
        for block in self.blocks:
            if isinstance(block, Exception):
                raise block
            yield block

    def remove(self, container: str) -> None:
        """Forget a container."""
        self.containers.remove(container)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not asked of an engine")

    @contextmanager
    def connect(self) -> Iterator[Engine]:
        """Return itself."""
        yield self


@contextmanager
def nobody() -> Iterator[Engine]:
    """Be an engine that does not answer."""
    raise EngineError("Docker", why="no such socket")
    yield


def test_an_image_is_exported_once(cache: Cache, tmp_path: Path) -> None:
    """From a container that carries our labels, is never started and goes away; the tree is known by the image's id."""
    docker = Docker()
    got = provide("docker:mine:1", cache=cache, means=means(tmp_path, connect=docker.connect))
    assert (got.path / "bin/busybox").is_file()
    assert ("docker-" + "ab" * 32, "docker:mine:1") == (got.path.parent.name, got.source)
    assert set() == docker.containers
    assert {"seatrial.run", "seatrial.launcher"} == set(docker.made[0].labels)
    assert got == provide("docker:mine:1", cache=cache, means=means(tmp_path, connect=docker.connect))
    assert 1 == len(docker.made)


@pytest.mark.parametrize(
    ("blocks", "kind"),
    [
        ((archives.GOOD[:7000], EngineError("export", why="gone")), EngineError),
        ((archives.GOOD[:7000],), UsageError),
        ((archives.file("../x") + archives.END,), UsageError),
    ],
)
def test_an_export_that_fails_leaves_nothing(
    cache: Cache, tmp_path: Path, blocks: Sequence[bytes | Exception], kind: type[Exception]
) -> None:
    """No container, and nothing in the cache."""
    docker = Docker(blocks)
    with pytest.raises(kind):
        provide("docker:mine:1", cache=cache, means=means(tmp_path, connect=docker.connect))
    assert set() == docker.containers
    assert [] == list((cache.root / "rootfs").iterdir())


def test_an_image_that_is_not_here_is_named(cache: Cache, tmp_path: Path) -> None:
    """With the line that gets it: no registry is asked."""
    with pytest.raises(UsageError, match=r"image other is not here; docker pull other"):
        provide("docker:other", cache=cache, means=means(tmp_path, connect=Docker().connect))


def test_without_an_engine_what_is_in_the_cache_is_used(cache: Cache, tmp_path: Path, said: list[str]) -> None:
    """It cannot be exported again, but it is sound; damaged it is not used."""
    with pytest.raises(CannotRunError, match="no such socket"):
        provide("docker:mine:1", cache=cache, means=means(tmp_path, connect=nobody))
    got = provide("docker:mine:1", cache=cache, means=means(tmp_path, connect=Docker().connect))
    assert got == provide("docker:mine:1", cache=cache, means=means(tmp_path, connect=nobody))
    assert ["rootfs docker:mine:1: the one in the cache is used (no such socket)"] == said
    (got.path / "bin/busybox").write_bytes(b"damaged")
    with pytest.raises(CannotRunError, match="no such socket"):
        provide("docker:mine:1", cache=cache, means=means(tmp_path, connect=nobody))


def test_a_real_image_is_exported(cache: Cache) -> None:
    """A real engine's export becomes a tree, and no container is left."""
    label = {"seatrial.run": "rootfs"}
    try:
        with connect() as engine:
            name = f"seatrial-test-rootfs:{os.getpid()}"
            engine.import_image(plain(), name=name, changes=[])
            before = engine.list_labelled(label)
            try:
                got = provide(f"docker:{name}", cache=cache)
            finally:
                engine._client.remove_image(name)  # type: ignore[attr-defined]
            assert before == engine.list_labelled(label)
    except EngineError as error:
        pytest.skip(f"no Docker engine: {error.why}")
    assert "hello" == (got.path / "etc/greeting").read_text()
    assert "../etc/greeting" == str((got.path / "bin/link").readlink())


def plain() -> bytes:
    """Return a small archive as tar(1) would make it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("etc/greeting")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
        link = tarfile.TarInfo("bin/link")
        link.type, link.linkname = tarfile.SYMTYPE, "../etc/greeting"
        archive.addfile(link)
    return buffer.getvalue()
