"""A runtime's state roots are there for the next test, whatever a target has done to them."""

from __future__ import annotations

import shutil
from pathlib import Path

from suites.catalog import Kind
from suites.framework.oci.runtime import Runtime
from tests.contexts import bench, target
from tests.walled import walled


@walled()
def test_state_roots_that_were_taken_away_are_made_again(tmp_path: Path) -> None:
    """A runtime that removes them with the folder above leaves nothing, and the next one has them, empty and ours."""
    made = bench(tmp_path)
    runtime = Runtime(made, target("runtime", kind=Kind.OCI))
    shutil.rmtree(runtime.roots["root"].parent)
    assert () == made.settle()
    assert [0o700] * 3 == [folder.stat().st_mode & 0o7777 for folder in runtime.roots.values()]
    again = bench(tmp_path)
    assert runtime.roots == Runtime(again, target("runtime", kind=Kind.OCI)).roots
    assert () == again.settle()
