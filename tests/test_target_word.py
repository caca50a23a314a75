"""The words of --target, and what may be started at all."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from suites.catalog import Kind
from suites.framework.calls import Variant
from suites.framework.errors import UsageError
from suites.framework.model import Control, Profile
from suites.framework.targets.executable import inspect
from suites.framework.targets.word import Word, parse

CATALOGUE = {
    "tini": Profile(name="tini", variant={"g": Variant(arguments=("-g",))}),
    "reference": Profile(name="reference", binary="x.py", command=("{python}", "{binary}")),
    "control:none": Profile(name="control:none", command=("env",), control=Control(reason="r")),
}
CLASS_64, LITTLE = 2, 1


def elf(kind: int = 2, machine: int | None = None, *, wide: int = CLASS_64, order: int = LITTLE) -> bytes:
    """Return an ELF header without segments: a static program by its type."""
    ours = {"x86_64": 62, "aarch64": 183}[os.uname().machine] if machine is None else machine
    ident = b"\x7fELF" + bytes([wide, order, 1]) + bytes(9)
    return ident + struct.pack("<HHIQQQIHHHHHH", kind, ours, 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return an executable script."""
    return written(tmp_path / "mine", b"#!/bin/sh\n")


def written(path: Path, content: bytes, mode: int = 0o755) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def refused(word: str, base: Path) -> str:
    with pytest.raises(UsageError) as caught:
        parse([word], base=base, catalogue=CATALOGUE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_four_forms(program: Path) -> None:
    """NAME, NAME+VARIANT, NAME=PATH and NAME=KIND:PATH; a relative path is below the base."""
    words = ["tini", "mine=mine", f"other=init:{program}", "third+x=./mine"]
    assert parse(words, base=program.parent, catalogue=CATALOGUE) == (
        Word(name="tini"),
        Word(name="mine", path=program),
        Word(name="other", kind=Kind.INIT, path=program),
        Word(name="third", variant="x", path=program),
    )
    assert parse(["tini+g", "control:none"], base=program.parent, catalogue=CATALOGUE) == (
        Word(name="tini", variant="g"),
        Word(name="control:none"),
    )


def test_a_word_given_twice_counts_once(program: Path) -> None:
    """Repetition is harmless, two paths for one name are not."""
    assert len(parse(["m=mine", "m=mine"], base=program.parent, catalogue=CATALOGUE)) == 1
    shutil.copy(program, program.with_name("copy"))
    with pytest.raises(UsageError, match="m is given twice"):
        parse(["m=mine", "m=copy"], base=program.parent, catalogue=CATALOGUE)


def test_a_path_may_have_a_colon(tmp_path: Path) -> None:
    """Only a word before the colon that is no existing path is taken for a kind."""
    odd = written(tmp_path / "a:b", b"#!/bin/sh\n")
    assert parse(["m=a:b"], base=tmp_path, catalogue=CATALOGUE)[0].path == odd


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tinni", "unknown target 'tinni', did you mean tini?"),
        ("", "the name is empty"),
        ("=x", "the name is empty"),
        ("a b=x", "'a b' is not a name"),
        ("a/b", "'a/b' is not a name"),
        ("tini+h", "tini has no variant 'h'"),
        ("tini+", "the variant after + is empty"),
        ("m=", "the path is empty"),
        ("m=init:", "the path is empty"),
        ("m=vm:mine", "unknown kind 'vm'"),
        ("m=nowhere", "nowhere cannot be tried: No such file or directory"),
        ("m=mine#x", "mine#x cannot be tried: No such file or directory"),
        ("control:none=mine", "takes no path"),
    ],
)
def test_wrong_words_are_refused(program: Path, word: str, message: str) -> None:
    """Each mistake has its own sentence."""
    assert message in refused(word, program.parent)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        pytest.param(b"#!/bin/sh\n", 0o644, "is not executable; chmod +x", id="mode"),
        pytest.param(b"", 0o755, "it is empty", id="empty"),
        pytest.param(b"MZ\x90\x00", 0o755, "neither ELF nor a #! script", id="windows"),
        pytest.param(b"#!\n", 0o755, "nothing stands after #!", id="bare-shebang"),
        pytest.param(b"#!/nowhere/python\n", 0o755, "its interpreter /nowhere/python is not here", id="interpreter"),
        pytest.param(b"\x7fELF\x02\x01", 0o755, "cut off or damaged", id="cut-off"),
        pytest.param(elf(1), 0o755, "is an object file", id="object"),
        pytest.param(elf(3), 0o755, "is a shared library", id="library"),
        pytest.param(elf(4), 0o755, "such as a core dump", id="core"),
        pytest.param(elf(2, 8), 0o755, f"built for mips, this machine is {os.uname().machine}", id="machine"),
        pytest.param(elf(2, 4711), 0o755, "built for ELF machine 4711", id="exotic"),
    ],
)
def test_files_that_cannot_be_started_are_refused(tmp_path: Path, content: bytes, mode: int, message: str) -> None:
    """The first bytes say why, before anything is run."""
    written(tmp_path / "x", content, mode)
    text = refused("m=x", tmp_path)
    assert text.startswith("--target m=x: ")
    assert message in text


def test_foreign_machine_by_name(tmp_path: Path) -> None:
    """The sentence of the documentation: built for aarch64, this machine is x86_64."""
    path = written(tmp_path / "x", elf(2, 183))
    with pytest.raises(UsageError, match="built for aarch64, this machine is x86_64"):
        inspect(path, machine="x86_64")
    assert inspect(path, machine="aarch64").machine == "aarch64"


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    """A fifo would block the reader for ever."""
    os.mkfifo(tmp_path / "x")
    assert "not a regular file" in refused("m=x", tmp_path)


def test_real_programs_are_accepted(tmp_path: Path) -> None:
    """Positive control: a dynamic ELF of this machine, a minimal static one, and a script."""
    shell = inspect(Path("/bin/sh").resolve())
    assert (shell.form, shell.machine) == ("elf", os.uname().machine)
    assert inspect(written(tmp_path / "static", elf(2))).interpreter == ""
    assert inspect(written(tmp_path / "script", b"#! /bin/sh -e\n")).interpreter == "/bin/sh"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize(
    ("flags", "accepted"),
    [
        (["-static-pie"], True),
        (["-static"], True),
        (["-pie"], True),
        (["-shared", "-fPIC", "-Wl,-z,now"], False),
        (["-c"], False),
    ],
)
def test_what_a_compiler_makes(tmp_path: Path, flags: list[str], accepted: bool) -> None:
    """A static position-independent program is told from a shared library, which has the same ELF type."""
    (tmp_path / "x.c").write_text("int main(void) { return 0; }\n")
    made = subprocess.run(["cc", *flags, "-o", "x", "x.c"], cwd=tmp_path, capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"cc {flags[0]} does not link here")
    (tmp_path / "x").chmod(0o755)
    if accepted:
        assert inspect(tmp_path / "x").form == "elf"
    else:
        assert "m=x" in refused("m=x", tmp_path)


def test_a_script_of_an_interpreter_target_need_not_be_executable(tmp_path: Path) -> None:
    """The worker's interpreter reads it: only a file is asked for."""
    written(tmp_path / "x.py", b"pass\n", 0o644)
    assert parse(["reference=x.py"], base=tmp_path, catalogue=CATALOGUE)[0].path == tmp_path / "x.py"
    assert "is a directory" in refused("reference=.", tmp_path)


def test_a_directory_is_a_checkout(program: Path) -> None:
    """What is built first; after # stands which executable is meant, unless a folder is called so."""
    base = program.parent
    for name in ("odd", "odd#name"):
        (base / name).mkdir()
    words = parse(["m=.", "n=init:odd#prog", "tini+g=odd#name"], base=base, catalogue=CATALOGUE)
    assert [(word.path, word.checkout, word.executable) for word in words] == [
        (None, base, ""),
        (None, base / "odd", "prog"),
        (None, base / "odd#name", ""),
    ]
    assert [(word.kind, word.variant) for word in words] == [(None, None), (Kind.INIT, None), (None, "g")]


def test_two_executables_of_one_checkout_need_two_names(program: Path) -> None:
    """A name is one target."""
    with pytest.raises(UsageError, match=r"m is given twice: once as .*#a, once as .*#b"):
        parse(["m=.#a", "m=.#b"], base=program.parent, catalogue=CATALOGUE)
