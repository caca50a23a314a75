"""What is built once is not built again, and what was built is picked up by name."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from suites.framework.build import record
from suites.framework.build.pickup import last_build
from suites.framework.calls import BuildCall
from suites.framework.errors import UsageError
from suites.framework.model import Profile
from suites.framework.steps.step import Step, StepEnd
from tests.projects import GO, MAKEFILE, C, Yard, project, write

TWO = "all: one two\none two: prog.c\n\tcc -o $@ prog.c\n"


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """Return a place to build in."""
    return Yard(tmp_path)


@pytest.fixture
def source(yard: Yard) -> Path:
    """Return a project for make."""
    return project(yard.folder / "source", "make")


def test_an_unchanged_tree_is_built_once(yard: Yard, source: Path) -> None:
    """Also when it was touched, and under another name."""
    first = yard.build(source)
    os.utime(source / "prog.c", (1, 1))
    again = yard.build(source)
    other = yard.build(source, name="other")
    assert yard.steps == ["make"]
    assert (again.unchanged, again.path, other.path) == (True, first.path, first.path)


def test_a_changed_tree_is_built_again(yard: Yard, source: Path) -> None:
    """And going back needs no build."""
    first = yard.build(source)
    (source / "prog.c").write_text("int main(void) { return 7; }\n")
    second = yard.build(source)
    assert (second.unchanged, second.product.sha256 == first.product.sha256) == (False, False)
    (source / "prog.c").write_text(C)
    assert yard.build(source).path == first.path
    assert yard.steps == ["make", "make"]


def test_other_tools_or_variables_are_another_build(
    yard: Yard, source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The version of a tool and the caller's flags count; other variables do not, nor reach the build."""
    yard.build(source)
    monkeypatch.setenv("SECRET", "s")
    yard.build(source)
    assert len(yard.runner.steps) == 1
    assert "SECRET" not in yard.runner.steps[0].environment
    monkeypatch.setenv("CFLAGS", "-O3")
    yard.build(source)
    assert yard.runner.steps[1].environment["CFLAGS"] == "-O3"
    write(tmp_path / "bin", {"make": '#!/bin/sh\necho "make 99"\n'})
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(UsageError, match="made no executable"):
        yard.build(source)


def test_a_damaged_entry_is_made_again(yard: Yard, source: Path) -> None:
    """The cache notices."""
    built = yard.build(source)
    built.path.write_text("x")
    assert yard.build(source).unchanged is False
    assert "corrupted" in yard.said[0]


def test_builds_of_one_tree_at_once_are_one(tmp_path: Path) -> None:
    """The second waits for the first and takes what it made."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    yards = [Yard(tmp_path / "a"), Yard(tmp_path / "b")]
    yards[1].cache = type(yards[0].cache)(yards[0].cache.root, say=yards[1].said.append)
    text = f"{MAKEFILE}\techo >> {tmp_path}/count\n"
    source = project(tmp_path / "source", "make", Makefile=text)
    threads = [threading.Thread(target=yard.build, args=(source,)) for yard in yards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "count").read_text() == "\n"
    assert all(last_build("prog", yard.cache) for yard in yards)


def test_several_executables_are_a_question(yard: Yard) -> None:
    """The answer is given in the words to type; a later one needs no build."""
    source = project(yard.folder / "source", "make", Makefile=TWO)
    with pytest.raises(UsageError) as caught:
        yard.build(source)
    assert f"say prog={source}#one or prog={source}#two" in str(caught.value)
    assert yard.build(source, executable="two").product.name == "two"
    assert yard.build(source, name="one").product.name == "one"
    assert yard.build(source, profile=Profile(binary="two")).product.name == "two"
    assert yard.build(source, profile=Profile(binary="two", build=BuildCall(executable="one"))).product.name == "one"
    assert yard.steps == ["make"]
    with pytest.raises(UsageError, match=r"made no 'tow', did you mean two\?: it made one, two"):
        yard.build(source, executable="tow")


def test_a_question_is_answered_without_another_build(yard: Yard) -> None:
    """Also where a tool can build one executable alone."""
    source = project(yard.folder / "source", "go", **{"cmd/one/main.go": GO, "cmd/two/main.go": GO})
    (source / "main.go").unlink()
    with pytest.raises(UsageError, match="made 2 executables"):
        yard.build(source)
    steps = list(yard.steps)
    assert yard.build(source, executable="one").unchanged
    assert yard.steps == steps
    found = last_build("prog", yard.cache)
    assert found is not None
    assert found.path.name == "one"


def test_programs_of_one_name_are_told_apart_by_their_folders(yard: Yard) -> None:
    """Neither is lost."""
    text = "all: a/x b/x\na/x b/x: prog.c\n\tmkdir -p a b\n\tcc -o $@ prog.c\n"
    source = project(yard.folder / "source", "make", Makefile=text)
    assert yard.build(source, executable="tree/b/x").product.name == "tree/b/x"


def test_siblings_must_be_among_the_products(yard: Yard) -> None:
    """They stand beside the program, where staging looks for them."""
    source = project(yard.folder / "source", "make", Makefile=TWO)
    built = yard.build(source, name="one", profile=Profile(siblings=("two",)))
    assert (built.path.parent / "two").is_file()
    with pytest.raises(UsageError, match="made no 'three', which its profile wants beside it"):
        yard.build(source, name="one", profile=Profile(siblings=("three",)))


def test_nothing_built_is_said(yard: Yard) -> None:
    """A build that ends well and makes nothing."""
    source = project(yard.folder / "source", "make", Makefile="all:\n\ttrue\n")
    with pytest.raises(UsageError, match="made no executable: make ended well, following Makefile"):
        yard.build(source)


def test_a_link_for_a_product_is_not_taken(yard: Yard) -> None:
    """Whatever it points to: the cache is for everybody."""
    source = project(yard.folder / "source", "go")

    def execute(step: Step, log: Path) -> StepEnd:
        end = yard.runner(step, log)
        if step.name.endswith("::go"):
            for made in (yard.cache.root / "work").glob("*/out/prog"):
                made.unlink()
                made.symlink_to("/bin/true")
        return end

    with pytest.raises(UsageError, match="made no executable"):
        yard.build(source, execute=execute)


def test_a_link_that_a_tool_names_is_refused(yard: Yard) -> None:
    """Not followed when it is copied."""
    source = project(yard.folder / "source", "cargo")

    def execute(step: Step, log: Path) -> StepEnd:
        end = yard.runner(step, log)
        for made in (yard.cache.root / "work").glob("*/out/release/prog"):
            made.unlink()
            made.symlink_to("/etc/shadow")
        return end

    with pytest.raises(UsageError, match="made prog, which is not taken: Too many levels of symbolic links"):
        yard.build(source, execute=execute)


def test_the_record_is_typed_and_versioned(yard: Yard, source: Path) -> None:
    """build.json can be read back; another schema is not understood."""
    built = yard.build(source)
    entry = built.path.parents[1]
    assert record.read(entry) == built.record
    data = json.loads((entry / "build.json").read_text())
    assert (data["schema"], data["tool"], data["manifest"]) == (1, "make", "Makefile")
    assert data["versions"]["make"].startswith("GNU Make")
    (entry / "build.json").write_text(json.dumps(data | {"schema": 2}))
    assert record.read(entry) is None


def test_the_last_build_of_a_name_is_picked_up(yard: Yard, source: Path) -> None:
    """With a line that says from where; a changed or vanished checkout is a warning."""
    assert last_build("prog", yard.cache) is None
    built = yard.build(source)
    found = last_build("prog", yard.cache)
    assert found is not None
    assert (found.path, found.checkout) == (built.path, source)
    assert yard.said[-1].startswith(f"prog: built from {source} at ")
    assert "warning" not in yard.said[-1]
    (source / "prog.c").write_text("x")
    assert last_build("prog", yard.cache) is not None
    assert "warning: the checkout has changed since" in yard.said[-1]
    source.rename(source.with_name("elsewhere"))
    assert last_build("prog", yard.cache) is not None
    assert "warning: whether that is up to date cannot be told: No such file" in yard.said[-1]


def test_a_lost_or_damaged_build_is_not_picked_up(yard: Yard, source: Path) -> None:
    """It is said, and something else is looked for."""
    built = yard.build(source)
    built.path.unlink()
    assert last_build("prog", yard.cache) is None
    assert "which the cache has lost" in yard.said[-1]
    (yard.cache.root / "built/prog.json").write_text("{")
    assert last_build("prog", yard.cache) is None
