"""A package's build accounted for: what its steps used, and how many of its own tests ended how."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from suites.catalog import Kind
from suites.framework.bench import EVIDENCE, Bench
from suites.framework.buildscripts.account import Account, Counts, counted
from suites.framework.buildscripts.package import PHASES, OwnTests, Package, Shelf, catalogue
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.calls import BuildscriptsCall, Call
from suites.framework.process import exited
from suites.framework.results.metrics import read
from suites.framework.subjects import FIXTURES
from tests.contexts import bench, target

SCRIPT = '#!/bin/bash\nexec bash "$1/scripts/$2.sh" >"$1/$2.log" 2>&1\n'
"""A wrapper that is called for each step."""
MAKEFILE = """
all:
\t: >made
check:
\t@echo "# PASS:  5"; echo "# FAIL:  {failed}"; exit {failed}
install:
\tmkdir -p $(DESTDIR)/usr && cp made $(DESTDIR)/usr
"""
PACKAGE = Package(name="one", version="1", url="o/one_1.tar", sha256="", size=0, made="usr/made")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    """Return a bench whose worker has a metrics file."""
    (tmp_path / "metrics").mkdir()
    found = bench(tmp_path)
    paths = replace(found.context.paths, metrics=str(tmp_path / "metrics/test.1.jsonl"))
    found.context = replace(found.context, paths=paths)
    yield found
    assert () == found.settle()


def account(made: Bench, folder: Path, *, failed: int = 0) -> tuple[Account, Wrapper, Shelf]:
    """Return the account of a package that was unpacked already, and the wrapper that is to build it."""
    program = folder / "wrapper.sh"
    program.write_text(SCRIPT)
    program.chmod(0o755)
    call = BuildscriptsCall(run=("{root}", "{step}"), log="{root}/{step}.log")
    wrapper = Wrapper(made, target("w", kind=Kind.BUILDSCRIPTS, argv=(str(program),), call=Call(buildscripts=call)))
    tree = wrapper.root / "work/one/one-1"
    tree.mkdir(parents=True)
    (tree / "Makefile").write_text(MAKEFILE.format(failed=failed))
    (tree / "configure").write_text("#!/bin/sh\nexit 0\n")
    (tree / "configure").chmod(0o755)
    shelf = Shelf(
        packages={"one": PACKAGE},
        archives={"one_1.tar": Path("/dev/null")},
        meter=tuple(wrapper.gatehouse.metering(made.payload)),
    )
    return Account(wrapper, PACKAGE), wrapper, shelf


def test_build_is_accounted_for_step_by_step(made: Bench, tmp_path: Path) -> None:
    """Totals and samples stand in the worker's metrics, logs where the launcher looks, counts in the notes."""
    found, wrapper, shelf = account(made, tmp_path)
    wrapper.write(*shelf.steps("one", metered=True)[1:])
    with wrapper.begin() as build:
        assert exited(0) == found.follow(build).status
    found.keep_logs()
    assert "none failed" == found.tests().verdict(wanted=True)
    measured = read(tmp_path / "metrics")
    names = [f"package::w::one::{phase}" for phase in PHASES[1:]]
    assert names == [total.step for total in measured.totals]
    assert {"wait4"} == {total.source for total in measured.totals}
    assert names[0] == measured.samples[0].step
    assert 1.0 > sum(total.cpu_s for total in measured.totals) > 0
    kept = sorted(path.name for path in (Path(made.context.paths.scratch) / EVIDENCE).iterdir())
    assert sorted(f"package.w.one.{phase}.log" for phase in PHASES[1:]) == kept
    assert ("package_tests", {"package": "one", "passed": 5, "failed": 0, "skipped": 0}) == made.notes[-1]
    assert "wrapper_cpu_s" == made.notes[0][0]


def test_failing_tests_are_counted_and_end_the_build(made: Bench, tmp_path: Path) -> None:
    """What the step used is told although it failed, and nothing behind it is built."""
    found, wrapper, shelf = account(made, tmp_path, failed=2)
    wrapper.write(*shelf.steps("one", metered=True)[1:])
    with wrapper.begin() as build:
        ended = found.follow(build)
    assert exited(2) == ended.status
    assert {"configure": 0, "build": 0, "check": 2} == {step: used.code for step, used in found.steps.items()}
    assert "2 of its 7 tests failed" == found.tests().verdict(wanted=True)
    assert not (wrapper.artefacts / "usr").exists()


def test_each_step_fails_at_its_first_failing_command(made: Bench, tmp_path: Path) -> None:
    """Whatever shell options the wrapper has: a folder that is missing is no place to build in."""
    found, wrapper, shelf = account(made, tmp_path)
    (wrapper.root / "work/one/one-1").rename(wrapper.root / "elsewhere")
    wrapper.write(*shelf.steps("one", metered=True)[1:])
    with wrapper.begin() as build:
        assert exited(1) == found.follow(build).status  # of cd; configure, which is not found, ends with 127
    assert ["configure"] == list(found.steps)


@pytest.mark.parametrize(
    ("package", "said", "expected"),
    [
        ("ed", "testing ed-1.19...\ntests completed successfully.\n", (1, 0)),
        ("ed", "testing ed...\n*** The script a.ed exited abnormally ***\ntests failed.\nmake: *** [x] Error", (0, 1)),
        ("lzip", "testing lzip-1.23...\ntesting decompression...\ntesting   compression...\n", (2, 0)),
        ("lzip", "testing decompression... 61 63(test.txt) 77\ntesting bad input...\n\ntests failed.\n", (1, 3)),
        ("zlib", "hello\n\t\t*** zlib test OK ***\n\t\t*** zlib shared test FAILED ***\n", (1, 1)),
        ("hello", "# TOTAL: 9\n# PASS:  4\n# SKIP:  1\n# XFAIL: 1\n# FAIL:  2\n# XPASS: 1\n# ERROR: 0\n", (5, 3)),
        ("hello", "# PASS:  4\n# FAIL:  0\n# PASS:  40\n# FAIL:  1\n", (44, 1)),
        ("bc", "make[1]: Nothing to be done for 'check'.\n", (0, 0)),
    ],
)  # fmt: skip
def test_own_tests_are_counted(package: str, said: str, expected: tuple[int, int]) -> None:
    """As the rows of the catalogue say; without a word of the row as Automake sums up, folder by folder."""
    found = counted(said, catalogue(FIXTURES)[1][package].tests)
    assert expected == (found.passed, found.failed)


def test_patterns_of_the_catalogue_are_sound() -> None:
    """Each is a regular expression with at most one group, and only a row that says so has no tests."""
    packages = catalogue(FIXTURES)[1]
    for package in packages.values():
        for pattern in (package.tests.passed, package.tests.failed, package.tests.skipped):
            assert re.compile(pattern).groups <= 1
    assert ["bc"] == [name for name, package in packages.items() if package.tests.absent]


@pytest.mark.parametrize(
    ("counts", "wanted", "said"),
    [
        ((3, 0, 0), True, "none failed"),
        ((0, 0, 0), False, "none failed"),
        ((0, 0, 2), True, "none of its tests has passed"),
        ((3, 1, 1), True, "1 of its 5 tests failed"),
        ((0, 1, 0), False, "1 of its 1 tests failed"),
    ],
)
def test_tests_that_did_not_run_are_no_success(counts: tuple[int, int, int], wanted: bool, said: str) -> None:
    """A suite of which nothing passed is as bad as one that fails, unless the package is known to have none."""
    passed, failed, skipped = counts
    assert said == Counts(passed=passed, failed=failed, skipped=skipped).verdict(wanted=wanted)


def test_an_empty_pattern_finds_nothing() -> None:
    """A row may do without a word for skipped tests."""
    assert Counts(passed=2, failed=0, skipped=0) == counted("ok\nok\n", OwnTests(passed="^ok$", failed="", skipped=""))
