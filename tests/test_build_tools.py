"""Every build tool makes an executable from a tiny project, outside its source tree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from suites.framework.build.manifest import TOOLS, choose
from suites.framework.build.tool import BuildFailedError
from suites.framework.calls import BuildCall
from suites.framework.errors import UsageError
from suites.framework.model import Profile
from suites.framework.steps.step import Step, StepEnd
from tests.projects import GO, MAKEFILE, PROJECTS, RUST, C, Yard, project, snapshot, write

ROOT = Path(__file__).parents[1]
FORBIDDEN = ("scinit", "box", "reaper", "runc", "crun", "youki")


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """Return a place to build in."""
    return Yard(tmp_path)


@pytest.mark.parametrize("tool", PROJECTS)
def test_each_tool_builds_its_project(tool: str, yard: Yard) -> None:
    """The program runs, its record says how it came about, the source is as it was and no work folder is left."""
    source = project(yard.folder / "source", tool)
    before = snapshot(source)
    built = yard.build(source)
    assert subprocess.run([built.path], check=False).returncode == 0
    assert (built.product.name, built.unchanged) == ("prog", False)
    assert built.record.tool == ("autotools" if tool == "configure" else tool)
    assert built.record.manifest in PROJECTS[tool]
    assert built.product.linkage == ("static" if tool == "go" else "dynamic")
    assert snapshot(source) == before
    assert list((yard.cache.root / "work").iterdir()) == []


@pytest.mark.parametrize("tool", PROJECTS)
def test_each_tool_builds_offline(tool: str, yard: Yard) -> None:
    """What needs nothing from outside is built without asking anybody."""
    source = project(yard.folder / "source", tool)
    assert yard.build(source, offline=True).path.is_file()


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("cargo", ["--offline"]),
        ("meson", ["--wrap-mode=nodownload"]),
        ("cmake", ["-DFETCHCONTENT_FULLY_DISCONNECTED=ON"]),
    ],
)
def test_offline_is_said_to_the_tool(tool: str, words: list[str], yard: Yard) -> None:
    """Each tool has its own word for it, which it gets only then."""
    source = project(yard.folder / "source", tool)
    yard.build(source)
    assert not [step for step in yard.runner.steps if set(words) & {*step.argv}]
    write(source, {"more": "changed"})
    yard.build(source, offline=True)
    assert [step for step in yard.runner.steps if set(words) & {*step.argv}]


def test_go_offline_asks_no_proxy(yard: Yard) -> None:
    """Go is told by its environment."""
    source = project(yard.folder / "source", "go")
    yard.build(source, offline=True)
    assert {step.environment["GOPROXY"] for step in yard.runner.steps} == {"off"}


def test_cargo_builds_only_the_binary_that_is_meant(yard: Yard) -> None:
    """A binary with the wanted name is built alone, with the lock file if there is one."""
    source = project(yard.folder / "source", "cargo", **{"src/bin/other.rs": "broken", "Cargo.lock": ""})
    write(source, {"Cargo.lock": 'version = 3\n\n[[package]]\nname = "prog"\nversion = "0.1.0"\n'})
    built = yard.build(source)
    assert [product.name for product in built.record.products] == ["prog"]
    assert {"--bin", "--locked"} <= {*yard.runner.steps[-1].argv}


def test_go_builds_only_the_command_that_is_meant(yard: Yard) -> None:
    """A main package with the wanted name is built alone; without one all are."""
    source = project(yard.folder / "source", "go", **{"cmd/other/main.go": GO, "cmd/two/v2/main.go": GO})
    assert [product.name for product in yard.build(source).record.products] == ["prog"]
    assert [product.name for product in yard.build(source, executable="two").record.products] == ["two"]
    everything = yard.build(source, name="mine", profile=Profile(binary="other"))
    assert everything.product.name == "other"


def test_what_a_tree_brings_along_is_no_product(yard: Yard) -> None:
    """Make and configure are judged by what appears: not scripts and programs that were there, not objects."""
    source = project(yard.folder / "source", "make", helper="#!/bin/sh\n")
    write(source, {"Makefile": "all: prog\n\tcc -c -o part.o prog.c\n\tchmod +x part.o\n\ttouch note\n" + MAKEFILE})
    assert [product.name for product in yard.build(source).record.products] == ["prog"]


def test_a_script_is_a_product_where_nothing_else_is(yard: Yard) -> None:
    """A wrapper in shell is built by make as well."""
    text = "prog:\n\tprintf '#!/bin/sh\\n' > prog\n\tchmod +x prog\n"
    built = yard.build(write(yard.folder / "source", {"Makefile": text}))
    assert (built.product.linkage, built.product.interpreter) == ("script", "/bin/sh")


def test_autogen_is_asked_for_configure(yard: Yard) -> None:
    """autogen.sh makes the script that is missing, without running it."""
    script = '#!/bin/sh\ntest "$NOCONFIGURE" = 1 || exit 1\ncp configure.in configure\nchmod +x configure\n'
    files = {"autogen.sh": script, "configure.in": PROJECTS["configure"]["configure"], "prog.c": C}
    source = project(yard.folder / "source", "autotools", **files)
    assert yard.build(source).path.is_file()
    assert yard.steps == ["autogen", "configure", "make"]


def test_the_first_manifest_wins(tmp_path: Path) -> None:
    """Cargo before go before meson before cmake before autotools before make; the others are named."""
    order = ["Cargo.toml", "go.mod", "meson.build", "CMakeLists.txt", "configure.ac", "Makefile"]
    write(tmp_path, dict.fromkeys(order, ""))
    for number, name in enumerate(order):
        choice = choose("x=y", tmp_path)
        assert (choice.manifest, choice.unused) == (name, tuple(order[number + 1 :]))
        (tmp_path / name).unlink()
    with pytest.raises(UsageError, match=r"looked for Cargo.toml, go.mod.*Makefile; give the top"):
        choose("x=y", tmp_path)


def test_the_profiles_command_wins(yard: Yard) -> None:
    """A [build] command replaces every tool, in a copy of the checkout."""
    source = write(yard.folder / "source", {"Cargo.toml": "", "make.sh": "#!/bin/sh\ncp /bin/true mine\n"})
    profile = Profile(build=BuildCall(command=("./make.sh",), executable="mine"))
    built = yard.build(source, profile=profile)
    assert (built.record.tool, built.record.manifest, built.record.unused) == (
        "command",
        "[build] command",
        ("Cargo.toml",),
    )
    assert (built.product.name, (source / "mine").exists()) == ("mine", False)


@pytest.mark.parametrize(
    ("tool", "file", "text"),
    [("make", "prog.c", "nonsense"), ("cmake", "prog.c", "nonsense"), ("cargo", "src/main.rs", "nonsense")],
)
def test_a_failing_build_is_told_with_its_log_and_not_kept(tool: str, file: str, text: str, yard: Yard) -> None:
    """Neither an entry nor a work folder stays; the same tree is tried again."""
    source = project(yard.folder / "source", tool, **{file: text})
    for _ in range(2):
        with pytest.raises(BuildFailedError) as caught:
            yard.build(source)
        assert caught.value.end.code != 0
        assert "nonsense" in caught.value.end.tail
    assert list((yard.cache.root / "builds").iterdir()) == []
    assert list((yard.cache.root / "work").iterdir()) == []


def test_a_tool_that_answers_nonsense_is_no_traceback(yard: Yard) -> None:
    """What cannot be parsed is one sentence."""
    source = project(yard.folder / "source", "cargo")

    def execute(step: Step, log: Path) -> StepEnd:
        end = yard.runner(step, log)
        if step.output:
            step.output.write_text("{nonsense")
        return end

    with pytest.raises(UsageError, match="is not understood"):
        yard.build(source, execute=execute)


def test_no_builder_knows_a_project() -> None:
    """No name of the catalogue or of a well-known target stands in the package's source."""
    names = {path.stem for path in (ROOT / "fixtures/targets").glob("*.toml")} - {"reference"}
    sources = sorted((ROOT / "suites/framework/build").glob("*.py"))
    assert len(sources) > len(TOOLS)
    for path in sources:
        for name in {*names, *FORBIDDEN}:
            assert not re.search(rf"\b{re.escape(name)}\b", path.read_text()), f"{path.name} knows {name}"


def test_rust_of_a_workspace(yard: Yard) -> None:
    """A virtual workspace is built from its top."""
    member = {f"member/{name}": text for name, text in PROJECTS["cargo"].items()}
    source = project(yard.folder / "source", "cargo", **member, **{"src/main.rs": RUST})
    write(source, {"Cargo.toml": '[workspace]\nmembers = ["member"]\nresolver = "2"\n'})
    assert yard.build(source).product.name == "prog"
