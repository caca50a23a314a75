"""Files that commands under test are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from suites.framework.bench import Bench


@pytest.fixture
def fixture_file(bench: Bench) -> Callable[[str], Path]:
    """Return a maker of something that exists and cannot be executed, for a reason that its name gives."""

    def make(what: str) -> Path:
        path = bench.make_folder() / what
        if what == "a-directory":
            path.mkdir()
            bench.own(path.rmdir)
        elif what == "a-program-for-another-machine":
            path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))  # e_machine, too, is 0: EM_NONE, elf(5)
            path.chmod(0o755)
            bench.own(path.unlink)
        else:
            path.write_text("#!/bin/sh\nexit 0\n")
            path.chmod(0o644)
            bench.own(path.unlink)
        return path

    return make
