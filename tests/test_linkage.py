"""A target that cannot be loaded is a missing fact with a remedy, not a mystery in every case."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from suites.framework.facts import Fact
from suites.framework.linkage import unloadable
from tests.test_secrecy import TARGET

COMPILER = shutil.which("cc")
HAVE_COMPILER = pytest.mark.skipif(COMPILER is None, reason="no C compiler: install gcc and libc6-dev")


def compiled(folder: Path, *options: str) -> Path:
    """Return a program that needs libanswer.so, which is beside it."""
    (folder / "answer.c").write_text("int answer(void) { return 7; }\n")
    (folder / "main.c").write_text("int answer(void);\nint main(void) { return answer(); }\n")
    for words in (
        ["-shared", "-fPIC", "answer.c", "-o", "libanswer.so"],
        ["main.c", "-o", "program", "-L.", "-lanswer", *options],
    ):
        subprocess.run([COMPILER or "cc", *words], cwd=folder, check=True)
    return folder / "program"


@HAVE_COMPILER
def test_a_library_that_is_not_here_is_named(tmp_path: Path) -> None:
    """With the library path of the target it is found."""
    program = compiled(tmp_path)
    target = replace(TARGET, argv=(str(program), "-g"))
    missing = unloadable(target, environment=os.environ)
    assert missing is not None
    assert Fact.SHARED_LIBRARIES is missing.fact
    assert "mine cannot be loaded here" in missing.reason
    assert "libanswer.so" in missing.reason
    assert "CGO_ENABLED=0" in missing.remedy
    found = replace(target, environment={"LD_LIBRARY_PATH": str(tmp_path)})
    assert unloadable(found, environment=os.environ) is None


def test_a_loader_that_is_not_here_is_named(tmp_path: Path) -> None:
    """The kernel would only say ENOENT."""
    program = tmp_path / "program"
    program.write_text("#!/nonexistent/interpreter\n")
    program.chmod(0o755)
    missing = unloadable(replace(TARGET, argv=(str(program),)), environment=os.environ)
    assert missing is not None
    assert "/nonexistent/interpreter" in missing.reason


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"#!/bin/sh\n", b"hello"])
def test_what_is_no_dynamic_program_is_left_to_its_cases(tmp_path: Path, content: bytes) -> None:
    """A script, a damaged file and a missing one say by themselves what they are."""
    program = tmp_path / "program"
    program.write_bytes(content)
    program.chmod(0o755)
    assert unloadable(replace(TARGET, argv=(str(program),)), environment=os.environ) is None
    assert unloadable(replace(TARGET, argv=(str(tmp_path / "gone"),)), environment=os.environ) is None
    assert unloadable(replace(TARGET, argv=("{python}", "-c", "x")), environment=os.environ) is None
