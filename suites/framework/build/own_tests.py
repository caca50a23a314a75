"""The own tests of a checkout, run where it was built, and counted (layer 2).

Whether they pass is a case's business: here a failure is a number, and no reason to have no target.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from suites.framework.build.tool import BuildFailedError, Site
from suites.framework.environments.wall import NAMESPACES
from suites.framework.model import OwnSuite, OwnTests

_RUNS = re.compile(r"\s*Running (?:\S+ )*?(?P<path>\S+\.rs) \(")
_FAILED = re.compile(r"test (?P<name>\S+)(?: - .*)? \.\.\. FAILED")
_RESULT = re.compile(r"test result: \w+\. (?P<passed>\d+) passed; (?P<failed>\d+) failed; (?P<skipped>\d+) ignored")
"""Lines of cargo-test(1) and of libtest."""
_WALL = ("unshare", *NAMESPACES)
"""For root's tests of a program that signals and mounts."""
_TELLING = '"$@"; echo "own tests: exit $?"'


def run(words: Sequence[str], site: Site) -> OwnTests | None:
    """Run the tests that a profile names in the copied checkout; None where it names none."""
    if not words:
        return None
    wall = _WALL if site.builder.user.uid == 0 else ()
    try:
        log = site.step("tests", "the checkout's own tests run", [*wall, "/bin/sh", "-c", _TELLING, "sh", *words])
    except BuildFailedError as error:
        return OwnTests(trouble=str(error))
    return counted(log)


def counted(log: Path) -> OwnTests:
    """Return what cargo said of each suite; the line that says why where there was none."""
    lines = log.read_text(errors="backslashreplace").splitlines()
    if found := tuple(_suites(lines)):
        return OwnTests(suites=found)
    said = [line.strip() for line in lines if line.strip() and not line.startswith("own tests:")]
    errors = [line for line in said if line.startswith("error")]
    return OwnTests(trouble=(errors or said or ["they said nothing"])[-1])


def _suites(lines: Sequence[str]) -> Iterator[OwnSuite]:
    name = ""
    failures: set[str] = set()
    for line in lines:
        if runs := _RUNS.match(line):
            name = Path(runs["path"]).stem
            failures.clear()
        elif failed := _FAILED.match(line):
            failures.add(failed["name"])
        elif result := _RESULT.match(line):
            numbers = {word: int(result[word]) for word in ("passed", "failed", "skipped")}
            yield OwnSuite(name=name or "tests", failures=tuple(sorted(failures)), **numbers)
