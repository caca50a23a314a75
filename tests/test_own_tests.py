"""The own tests of a checkout: how they are counted, and that a failure of theirs is no failure of the build."""

from __future__ import annotations

from pathlib import Path

from suites.framework.build.own_tests import counted
from suites.framework.model import OwnSuite

CARGO = """\
   Compiling reaper v0.2.27 (/tree)
    Finished `test` profile [unoptimized] target(s) in 1m 02s
     Running tests/integration_exec.rs (target/debug/deps/integration_exec-0123456789abcdef)

running 3 tests
test test_one ... ok
test test_two ... FAILED
test test_three - should panic ... ignored

failures:
    test_two

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.02s

     Running tests/integration_io.rs (target/debug/deps/integration_io-0123456789abcdef)

running 2 tests
test test_four ... ok
test test_five ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s

error: 1 target failed:
own tests: exit 101
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "log"
    path.write_text(text)
    return path


def test_each_suite_is_counted(tmp_path: Path) -> None:
    """By its own name, with the names of what failed."""
    found = counted(written(tmp_path, CARGO))
    first = OwnSuite(name="integration_exec", passed=1, failed=1, skipped=1, failures=("test_two",))
    second = OwnSuite(name="integration_io", passed=2, failed=0, skipped=0)
    assert ((first, second), "") == (found.suites, found.trouble)


def test_what_could_not_be_built_is_told_in_its_own_words(tmp_path: Path) -> None:
    """No crates, no tests: that is a reason, not a failure."""
    text = (
        "   Updating index\nerror: no matching package named `tempfile` found\nlocation searched\nown tests: exit 101\n"
    )
    found = counted(written(tmp_path, text))
    assert ((), "error: no matching package named `tempfile` found") == (found.suites, found.trouble)
    assert "they said nothing" == counted(written(tmp_path, "own tests: exit 127\n")).trouble
