"""From words to staged targets: which, in which role, called how."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import Kind
from suites.framework.build.record import LastBuild, remember
from suites.framework.codec import decode, encode
from suites.framework.errors import UsageError
from suites.framework.facts import Fact, Missing
from suites.framework.model import Role, Target
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.debian import Packages, Provisioned
from suites.framework.provisioning.resolve import Absent, resolve
from suites.framework.targets.catalogue import load_catalogue

SCRIPT = 'command = ["{python}", "-I", "-S", "{binary}"]\n'

FILES = {
    "reference": f'reference-for = ["init"]\nbinary = "inits/reference.py"\n{SCRIPT}'
    'version = ["--version"]\n'
    '[call.init]\nseparator = "--"\n[variant.g]\narguments = ["-g"]\ncall.init.delivery = "group"\n',
    "tini": 'reference-for = ["init"]\nbinary = "tini"\npackage.debian = "tini"\n[variant.g]\narguments = ["-g"]\n',
    "other": 'binary = "other"\npackage.debian = "other"\n[variant.one]\narguments = ["-1"]\n',
    "bare": 'binary = "bare"\n',
    "control-none": 'command = ["env"]\n[control]\nreason = "r"\n',
    "control-python": f'binary = "inits/none.py"\n{SCRIPT}[control]\nreason = "r"\n',
}


class Shelf(Packages):
    """A distribution with the packages that it is given."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, names

    def provision(self, package: str, binary: str) -> Provisioned | Missing:
        """Return a script for a known package."""
        if package not in self.names:
            return Missing(fact=Fact.PACKAGES, reason=f"no {package}", remedy="r")
        path = script(self.folder / "packages" / package / binary)
        return Provisioned(path=path, version="1", environment={"LD_LIBRARY_PATH": "/cache/lib"})


def script(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n# {path.name}\n{text}\n")
    path.chmod(0o755)
    return path


class World:
    """A catalogue, fixtures, a PATH and a distribution, all in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.cache = Cache(folder / "cache", say=self.said.append)
        (folder / "fixtures/targets").mkdir(parents=True)
        (folder / "fixtures/inits").mkdir()
        (folder / "fixtures/inits/reference.py").write_text("print('reference 1.0')\n")
        (folder / "fixtures/inits/none.py").write_text("pass\n")
        for name, text in FILES.items():
            (folder / f"fixtures/targets/{name}.toml").write_text(text)
        for name in ("env", "tini"):
            script(folder / "bin" / name)

    def resolve(
        self, *words: str, packages: Sequence[str] = ("other",), **options: Any
    ) -> tuple[tuple[Target, ...], tuple[Absent, ...]]:
        """Resolve with everything of this world."""
        return resolve(
            words,
            load_catalogue(self.folder / "fixtures/targets"),
            base=self.folder,
            cache=self.cache,
            fixtures=self.folder / "fixtures",
            environ={"PATH": str(self.folder / "bin")},
            packages=Shelf(self.folder, packages),
            **options,
        )

    def roles(self, *words: str, **options: Any) -> dict[str, str]:
        """Return the role of each target by name, in order."""
        return {target.name: str(target.role) for target in self.resolve(*words, **options)[0]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a small world with tini on PATH and package other."""
    return World(tmp_path)


def one(targets: tuple[Target, ...], name: str) -> Target:
    (found,) = (target for target in targets if target.name == name)
    return found


def test_without_words_everything_that_can_be_had(world: World) -> None:
    """References, PATH, packages, each variant, controls last; what no package holds is not missed."""
    targets, absent = world.resolve()
    assert {target.name: str(target.role) for target in targets} == {
        "other": "target",
        "other+one": "target",
        "reference": "reference",
        "reference+g": "reference",
        "tini": "reference",
        "tini+g": "reference",
        "control:none": "control",
        "control:python": "control",
    }
    assert [target.role for target in targets][-2:] == [Role.CONTROL, Role.CONTROL]
    assert absent == ()  # nobody asked for "bare", which no package holds


def test_a_named_target_that_no_package_holds_is_absent(world: World) -> None:
    """What a user asks for and does not have is missed, with the reason."""
    _, (bare,) = world.resolve("bare")
    assert (bare.name, bare.missing.fact) == ("bare", Fact.PACKAGES)
    assert "bare is not on PATH" in bare.missing.reason


def test_words_that_start_each_kind_of_target(world: World) -> None:
    """Staged copy, interpreter and script, or the control's own words; a variant adds its options and call."""
    targets, _ = world.resolve()
    staged = world.cache.root / "targets"
    reference = one(targets, "reference+g")
    assert reference.argv == ("{python}", "-I", "-S", str(staged / reference.sha256 / "reference.py"), "-g")
    assert (reference.call.init.delivery, reference.call.init.separator) == ("group", "--")
    assert one(targets, "reference").call.init.delivery == "child"
    tini = one(targets, "tini+g")
    assert tini.argv == (str(staged / tini.sha256 / "tini"), "-g")
    assert (tini.path, tini.variant, tini.kind) == (str(world.folder / "bin/tini"), "g", Kind.INIT)
    assert one(targets, "control:none").argv == ("env",)
    assert one(targets, "other").environment == {"LD_LIBRARY_PATH": "/cache/lib"}
    assert os.access(tini.argv[0], os.X_OK)


def test_targets_survive_the_boundary(world: World) -> None:
    """Every target is written into context.json and read back the same."""
    for target in world.resolve()[0]:
        assert decode(Target, encode(target)) == target


def test_version_is_asked_of_the_staged_program(world: World) -> None:
    """Once per program, of those whose profile says how."""
    targets, _ = world.resolve()
    if one(targets, "reference").version == "unknown":
        pytest.skip("no PID namespace can be made here")
    assert one(targets, "reference+g").version == "1.0"
    assert one(targets, "control:none").version == "unknown"


def test_named_targets_bring_the_references_on_standby(world: World) -> None:
    """No controls, no variants of the references, none of which is missing is reported."""
    assert world.roles("other") == {
        "other": "target",
        "other+one": "target",
        "reference": "standby",
        "tini": "standby",
    }
    assert list(world.roles("other+one")) == ["other+one", "reference", "tini"]
    (world.folder / "bin/tini").unlink()
    targets, absent = world.resolve("other+one")
    assert ([target.name for target in targets], absent) == (["other+one", "reference"], ())


def test_a_named_reference_needs_no_standby(world: World) -> None:
    """It is the reference."""
    assert world.roles("tini", "other+one") == {"tini": "reference", "tini+g": "reference", "other+one": "target"}


def test_a_binary_given_for_a_references_name_is_what_is_tried(world: World) -> None:
    """One's own build of tini is no yardstick: it is a target, with tini's profile, and another reference stands by."""
    mine = script(world.folder / "build/tini", "mine")
    targets, _ = world.resolve("tini=build/tini")
    assert {target.name: str(target.role) for target in targets} == {
        "tini": "target",
        "tini+g": "target",
        "reference": "standby",
    }
    assert one(targets, "tini+g").path == str(mine)
    assert one(targets, "tini+g").argv[1:] == ("-g",)


def test_named_controls_stay_controls(world: World) -> None:
    """A control alone needs no reference."""
    assert world.roles("control:none") == {"control:none": "control"}


def test_a_target_of_ones_own_uses_the_given_profile(world: World) -> None:
    """--profile brings conventions and variants; without it the profile is empty."""
    script(world.folder / "mine")
    (world.folder / "p.toml").write_text('[call.init]\nfence = 31\n[variant.v]\narguments = ["-v"]\n')
    targets, _ = world.resolve("mine=init:mine", profile_file=Path("p.toml"))
    assert [target.name for target in targets] == ["mine", "mine+v", "reference", "tini"]
    assert one(targets, "mine").call.init.fence == 31
    assert world.resolve("mine+v=mine", profile_file=Path("p.toml"))[0][0].name == "mine+v"
    assert one(world.resolve("mine=mine")[0], "mine").call.init.fence == 64


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mine+x=mine"], r"mine\+x: no such variant.*has v"),
        (["tini"], "applies to no target"),
        ([], "applies to no target"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(world: World, words: list[str], message: str) -> None:
    """An option that would do nothing is a mistake."""
    script(world.folder / "mine")
    (world.folder / "p.toml").write_text("[variant.v]\n")
    with pytest.raises(UsageError, match=message):
        world.resolve(*words, profile_file=Path("p.toml"))


def test_variables_and_wrapper_reach_only_ones_own_targets(world: World) -> None:
    """References and controls run as they are; a given library path stands before the provisioned one."""
    given = {"RUST_LOG": "debug", "LD_LIBRARY_PATH": "/mine"}
    for words in ((), ("other",)):
        targets, _ = world.resolve(*words, target_env=given, wrap=["strace", "-f"])
        other, reference = one(targets, "other"), one(targets, "reference")
        assert other.environment == {"RUST_LOG": "debug", "LD_LIBRARY_PATH": "/mine:/cache/lib"}
        assert (other.wrap, reference.wrap, reference.environment) == (("strace", "-f"), (), {})


def test_a_named_target_that_cannot_be_had_is_absent(world: World) -> None:
    """The reason is the distribution's."""
    targets, absent = world.resolve("other", packages=())
    assert [target.name for target in targets] == ["reference", "tini"]
    assert absent == (Absent(name="other", missing=Missing(fact=Fact.PACKAGES, reason="no other", remedy="r")),)


def test_an_unusable_program_on_path_is_passed_over(world: World) -> None:
    """It is said, and the package is taken."""
    (world.folder / "bin/other").write_text("")
    (world.folder / "bin/other").chmod(0o755)
    targets, _ = world.resolve("other+one")
    assert "packages/other" in one(targets, "other+one").path
    assert "it is empty" in world.said[0]


def remembered(world: World, name: str) -> Path:
    """Put a build of ``name`` into the cache as ``build`` would; return its executable."""
    key = f"{name}-key"

    def make(folder: Path) -> None:
        script(folder / "bin" / name, "built")

    entry = world.cache.entry(f"builds/{key}", make)
    remember(
        world.cache,
        LastBuild(
            schema=1,
            name=name,
            key=key,
            executable=name,
            sha256="",
            checkout="/gone/checkout",
            tree="",
            as_root=False,
            built_at=0.0,
        ),
    )
    return entry / "bin" / name


def test_the_last_build_of_a_name_is_taken_before_path_and_package(world: World) -> None:
    """As what is being tried, never as the yardstick; a path that is given comes first."""
    remembered(world, "tini")
    remembered(world, "other")
    targets, _ = world.resolve()
    assert (one(targets, "tini").path, one(targets, "tini+g").role) == ("/gone/checkout", Role.TARGET)
    assert one(targets, "other").environment == {}
    assert any("other: built from /gone/checkout" in line for line in world.said)
    given = script(world.folder / "build/tini", "mine")
    assert one(world.resolve("tini=build/tini")[0], "tini").path == str(given)


def test_standby_embedded_and_control_are_never_ones_own_build(world: World) -> None:
    """What others are measured by stays what it is."""
    for name in ("tini", "reference", "control:none"):
        remembered(world, name)
    targets, _ = world.resolve("other", "control:none")
    assert one(targets, "tini").path == str(world.folder / "bin/tini")
    assert one(targets, "reference").role is Role.STANDBY
    assert "fixtures" in one(targets, "reference").path
    assert one(targets, "control:none").argv == ("env",)


def test_a_checkout_is_built_by_who_can(world: World) -> None:
    """The result is the target, as if its path had been given; a failure makes it absent and nothing else."""
    (world.folder / "source").mkdir()
    made = script(world.folder / "made/prog")
    targets, _ = world.resolve("tini=source", build=lambda _word, _profile: made)
    assert (one(targets, "tini").path, one(targets, "tini+g").role) == (str(world.folder / "source"), Role.TARGET)
    why = Missing(fact=Fact.CARGO, reason="its build failed", remedy="r")
    targets, absent = world.resolve("mine=source", "other", build=lambda _word, _profile: why)
    assert absent == (Absent(name="mine", missing=why),)
    assert one(targets, "other").role is Role.TARGET


def test_a_checkout_is_refused_where_nothing_is_built(world: World) -> None:
    """The remedy is the session that builds."""
    (world.folder / "source").mkdir()
    with pytest.raises(UsageError, match=r"nothing is built here; nox -s build -- mine=.*source, then --target mine"):
        world.resolve("mine=source")


def test_bare_name_and_variant_give_each_target_once(world: World) -> None:
    """Names in a run are unique."""
    targets, _ = world.resolve("tini", "tini+g")
    assert [target.name for target in targets] == ["tini", "tini+g"]


def test_a_target_of_two_kinds_is_two_targets(world: World) -> None:
    """A control of several kinds is given every suite, by name or as one of all."""
    file = world.folder / "fixtures/targets/control-none.toml"
    file.write_text(f'kinds = ["init", "oci"]\n{FILES["control-none"]}')
    for words in ((), ("control:none",)):
        found = [target for target in world.resolve(*words)[0] if target.name == "control:none"]
        assert [(Kind.INIT, Role.CONTROL), (Kind.OCI, Role.CONTROL)] == [(each.kind, each.role) for each in found]


def test_the_python_control_runs_its_command() -> None:
    """The shipped control really runs its arguments, and gives their status."""
    path = Path(__file__).parent.parent / "fixtures/inits/control_python.py"
    words = [sys.executable, "-I", "-S", str(path), "sh", "-c", "exit 7"]
    assert subprocess.run(words, check=False).returncode == 7


SHIM = """
kinds = ["pod"]
binary = "shim"
siblings = ["runtime"]
version = ["--version"]
call.pod.same-build = ["runtime"]
"""


def pair(folder: Path, shim: str, runtime: str) -> Path:
    script(folder / "runtime", f"echo 'runtime {runtime}'")
    return script(folder / "shim", f"echo 'shim {shim}'")


def test_programs_of_one_build_are_a_target(world: World) -> None:
    """Each says its own name, then the same; what cannot be asked says nothing against it."""
    (world.folder / "fixtures/targets/reaper.toml").write_text(SHIM)
    pair(world.folder / "one", "1.2 (abc 2026-01-01)", "1.2 (abc 2026-01-01)")
    assert "1.2" == one(world.resolve("reaper=one/shim")[0], "reaper").version


def test_programs_of_two_builds_are_told_before_the_first_case(world: World) -> None:
    """Given, they are a mistake of the user's; found, the target cannot be had. The number alone proves nothing."""
    (world.folder / "fixtures/targets/reaper.toml").write_text(SHIM)
    pair(world.folder / "two", "1.2 (abc 2026-01-01)", "1.2 (def 2026-01-01)")
    why = r"different builds: shim is 1\.2 \(abc 2026-01-01\); runtime is 1\.2 \(def 2026-01-01\)"
    with pytest.raises(UsageError, match=why):
        world.resolve("reaper=two/shim")
    pair(world.folder / "bin", "1.2 (abc 2026-01-01)", "1.3 (abc 2026-01-01)")
    (found,) = (each for each in world.resolve("reaper")[1] if each.name == "reaper")
    assert "different builds" in found.missing.reason
