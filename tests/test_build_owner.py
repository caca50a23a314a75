"""A checkout is built by its owner, with the owner's rights and nothing of root's."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites.framework.build.build import Request, prepare
from suites.framework.build.environment import variables
from suites.framework.build.user import builder
from suites.framework.errors import UsageError
from suites.framework.facts import Fact
from suites.framework.model import Profile
from suites.framework.steps.step import Step, StepEnd
from tests.projects import MAKEFILE, Yard, commit, project, snapshot, write

OTHER = "seatrial"
FREE = 54321
"""A uid without an account."""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that every user can reach; pytest's own is private."""
    folder = Path(tempfile.mkdtemp(prefix="seatrial-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def other() -> pwd.struct_passwd:
    """Return an ordinary account that root may become."""
    if os.geteuid() != 0:
        pytest.skip("only root builds as another user")
    try:
        return pwd.getpwnam(OTHER)
    except KeyError:
        pytest.skip(f"there is no user {OTHER}")


def given(folder: Path, account: pwd.struct_passwd) -> Path:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return folder


@pytest.mark.parametrize("tool", ["make", "cmake", "meson", "go", "configure"])
def test_root_builds_as_the_owner(tool: str, open_folder: Path, other: pwd.struct_passwd) -> None:
    """Every step runs as the owner in a copy of the owner's; the product is root's, the source as it was."""
    yard = Yard(open_folder)
    source = given(commit(project(open_folder / "source", tool)), other)
    before = snapshot(source)
    request = Request(name="prog", directory=source, profile=Profile())
    if missing := prepare(request, work=yard.cache.root).missing:
        pytest.skip(missing.reason)
    built = yard.build(source, as_root=False)
    assert {step.user.uid for step in yard.runner.steps if step.user} == {other.pw_uid}
    assert all(step.user for step in yard.runner.steps)
    assert built.path.stat().st_uid == 0
    assert snapshot(source) == before
    assert os.geteuid() == 0


def test_a_build_has_the_owners_name_and_home(open_folder: Path, other: pwd.struct_passwd) -> None:
    """Groups included: it writes down who it is."""
    text = f"{MAKEFILE}\tid -un >&2; id -Gn >&2; echo home $$HOME >&2; touch {open_folder}/denied; true\n"
    source = given(project(open_folder / "source", "make", Makefile=text), other)
    yard = Yard(open_folder)
    yard.build(source)
    log = (yard.logs / "build.prog.make.log").read_text().splitlines()
    assert [OTHER, OTHER] == [line for line in log if line == OTHER]
    assert not (open_folder / "denied").exists()


def test_nothing_of_the_callers_own_reaches_the_owner(other: pwd.struct_passwd, tmp_path: Path) -> None:
    """Where root's tools keep things is root's affair; what tunes a build is passed on."""
    source = given(write(tmp_path / "source", {"Makefile": ""}), other)
    environ = {"CARGO_HOME": "/root/c", "CFLAGS": "-O3", "PATH": "/bin", "SECRET": "s", "HOME": "/root"}
    theirs = variables(builder("x", source), tmp_path, environ=environ)
    assert {"CARGO_HOME", "SECRET"} & theirs.keys() == set()
    assert (theirs["CFLAGS"], theirs["PATH"], theirs["USER"]) == ("-O3", "/bin", OTHER)
    assert theirs["HOME"] in (other.pw_dir, str(tmp_path / "home"))


def test_a_checkout_of_roots_needs_a_word(tmp_path: Path) -> None:
    """Nothing runs as root by itself."""
    if os.geteuid() != 0:
        pytest.skip("the caller is not root")
    with pytest.raises(UsageError, match=r"belongs to root: .* an ordinary user, or add --build-as-root"):
        builder("x", tmp_path)
    assert builder("x", tmp_path, as_root=True).own


def test_an_owner_without_an_account_is_refused(tmp_path: Path) -> None:
    """There is no home and no name to build with."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(tmp_path, FREE, FREE)
    with pytest.raises(UsageError, match=f"belongs to uid {FREE}"):
        builder("x", tmp_path)


def test_an_ordinary_caller_builds_as_itself(tmp_path: Path) -> None:
    """Whoever owns the checkout."""
    found = builder("x", tmp_path, euid=os.geteuid() or 1)
    assert (found.own, found.prefix, found.other) == (True, (), None)


def test_the_owner_cannot_have_roots_files_copied(open_folder: Path, other: pwd.struct_passwd) -> None:
    """Neither a link, nor a second name, nor a folder in between makes the cache hold what only root reads."""
    secret = open_folder / "secret"
    secret.write_bytes(Path("/bin/true").read_bytes())
    secret.chmod(0o700)
    for number, trick in enumerate((f"ln -s {secret} prog", f"ln {secret} prog", f"cp -P {secret} prog")):
        (open_folder / str(number)).mkdir(mode=0o755)
        source = given(write(open_folder / str(number) / "source", {"Makefile": f"all:\n\t{trick}; true\n"}), other)
        with pytest.raises(UsageError, match=r"made no executable|is not taken"):
            Yard(open_folder / str(number)).build(source)


def test_a_product_of_somebody_else_is_not_taken(open_folder: Path, other: pwd.struct_passwd) -> None:
    """Readable or not: only what the builder made counts."""
    yard = Yard(open_folder)
    source = given(project(open_folder / "source", "make"), other)

    def execute(step: Step, log: Path) -> StepEnd:
        end = yard.runner(step, log)
        os.chown(step.cwd / "prog", 0, 0)
        return end

    with pytest.raises(UsageError, match=f"it belongs to uid 0, not to {OTHER}"):
        yard.build(source, execute=execute)


def test_an_unreadable_file_is_the_owners_affair(open_folder: Path, other: pwd.struct_passwd) -> None:
    """Root reads a checkout with its owner's rights: what the owner cannot read ends the build."""
    source = given(project(open_folder / "source", "make", secret="s"), other)
    os.chown(source / "secret", 0, 0)
    (source / "secret").chmod(0o600)
    with pytest.raises(UsageError, match="secret cannot be read: Permission denied"):
        Yard(open_folder).build(source)
    assert os.geteuid() == 0


def test_a_cache_that_the_owner_cannot_reach_is_refused(
    tmp_path: Path, open_folder: Path, other: pwd.struct_passwd
) -> None:
    """With the folder that is closed."""
    source = given(project(open_folder / "source", "make"), other)
    tmp_path.chmod(0o700)
    with pytest.raises(UsageError, match=r"is closed to other users; use another cache"):
        Yard(tmp_path).build(source)


def test_a_toolchain_out_of_reach_is_a_missing_fact(
    open_folder: Path, other: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason names the program and the user; the remedy how to have one for everybody."""
    write(open_folder / "private/bin", {"make": "#!/bin/sh\necho make 1\n"})
    (open_folder / "private").chmod(0o700)
    monkeypatch.setenv("PATH", f"{open_folder}/private/bin")
    source = given(write(open_folder / "source", {"Makefile": MAKEFILE}), other)
    prepared = prepare(Request(name="p", directory=source, profile=Profile()), work=open_folder)
    assert prepared.missing is not None
    assert prepared.missing.fact is Fact.MAKE
    assert f"private/bin/make does not work for {OTHER}" in prepared.missing.reason
    assert "apt-get install make" in prepared.missing.remedy
