"""Real packages: rows of data, one recipe, archives that are fetched once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from suites.framework.buildscripts.package import PHASES, catalogue
from suites.framework.errors import InfrastructureError
from suites.framework.facts import Fact
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.sources import archives
from suites.framework.subjects import FIXTURES

CONTENT = b"an archive"
TOML = f"""
schema = 1
archive = "https://example.org/pool"
[[package]]
name = "one"
version = "1"
url = "o/one_1.tar.gz"
sha256 = "{hashlib.sha256(CONTENT).hexdigest()}"
size = {len(CONTENT)}
configure = ["CFLAGS=-O2 -g"]
made = "usr/bin/one"
[[package]]
name = "two"
version = "2"
url = "t/two_2.tar.gz"
sha256 = "{"0" * 64}"
size = 1
tier = 4
made = "usr/bin/two"
"""


@pytest.fixture
def fixtures(tmp_path: Path) -> Path:
    """Return a folder with a catalogue of two packages, one of them nightly."""
    (tmp_path / "fixtures/packages").mkdir(parents=True)
    (tmp_path / "fixtures/packages/packages.toml").write_text(TOML)
    return tmp_path / "fixtures"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Return an empty cache that says nothing."""
    return Cache(tmp_path / "cache", say=lambda _: None)


def serving(asked: list[str]) -> Callable[..., Path]:
    """Return a download that always succeeds and writes down what it was asked for."""

    def fetch(url: str, sha256: str, folder: Path, *, report: Callable[[int, int], None]) -> Path:
        asked.append(url)
        report(0, len(CONTENT))
        report(len(CONTENT), len(CONTENT))
        part = folder / f"{sha256}.part"
        part.write_bytes(CONTENT)
        return part

    return fetch


def test_an_archive_is_fetched_once(fixtures: Path, cache: Cache) -> None:
    """The second run finds it in the cache, offline too; nightly packages are for the tier that has them."""
    asked: list[str] = []
    paths, finding = archives(fixtures, tier=3, cache=cache, fetch=serving(asked))
    assert (True, Fact.SOURCES) == (finding.present, finding.fact)
    assert [CONTENT] == [Path(path).read_bytes() for path in paths]
    assert ["one_1.tar.gz"] == [Path(path).name for path in paths]
    assert (paths, finding) == archives(fixtures, tier=3, cache=cache, offline=True, fetch=serving(asked))
    assert ["https://example.org/pool/o/one_1.tar.gz"] == asked


def test_what_is_not_there_is_a_fact_with_a_remedy(fixtures: Path, cache: Cache) -> None:
    """Offline with an empty cache, and with a server that fails, the sources are missing, and no error ends the run."""

    def failing(url: str, *_: object, **__: object) -> Path:
        raise InfrastructureError(f"{url} was not fetched", why="no route", remedy="check the network")

    offline = archives(fixtures, tier=1, cache=cache, offline=True, fetch=failing)
    assert ((), False, "run once without --offline") == (offline[0], offline[1].present, offline[1].remedy)
    online = archives(fixtures, tier=1, cache=cache, fetch=failing)[1]
    assert (False, "check the network") == (online.present, online.remedy)
    assert online.detail.endswith("one_1.tar.gz was not fetched: no route")


def test_a_row_becomes_the_words_of_the_recipe(fixtures: Path) -> None:
    """What a row says is quoted for the shell; every phase begins in the folder of its package."""
    recipe = catalogue(fixtures)[1]["one"].recipe(make=("CXX={root}/c++",))
    assert PHASES == tuple(recipe)
    assert "cd {root}/work/one/*/\n./configure --prefix=/usr 'CFLAGS=-O2 -g'" == recipe["configure"]
    assert "cd {root}/work/one/*/\nmake CXX={root}/c++" == recipe["build"]
    assert recipe["unpack"].endswith("--file {sources}/one_1.tar.gz")


def test_the_catalogue_is_sound() -> None:
    """Every row has a checksum, a size and needs that are rows; ed, lzip, bc and zlib are there by default."""
    packages = catalogue(FIXTURES)[1]
    assert ["ed", "lzip", "bc", "zlib"] == [name for name, package in packages.items() if package.tier == 1]
    for package in packages.values():
        assert (64, True) == (len(package.sha256), package.size > 0)
        assert set(package.needs) <= packages.keys()
        assert package.version in package.file
