"""Files that commands under test are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from suites.framework.bench import Bench


@pytest.fixture
def fixture_file(bench: Bench) -> Callable[[str], Path]:
    """Return a maker of something that exists and cannot be executed: ``a-file-without-x`` or ``a-directory``."""

    def make(what: str) -> Path:
        path = bench.make_folder() / what
        if what == "a-directory":
            path.mkdir()
            bench.own(path.rmdir)
        else:
            path.write_text("#!/bin/sh\nexit 0\n")
            path.chmod(0o644)
            bench.own(path.unlink)
        return path

    return make
