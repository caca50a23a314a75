"""Tiny source trees, one for each build tool, and what builds them without a run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from suites.framework.build.build import Built, Request, make, prepare
from suites.framework.model import Profile, Reason
from suites.framework.provisioning.cache import Cache
from suites.framework.steps.step import Step, StepEnd

C = "int main(void) { return 0; }\n"
RUST = "fn main() {}\n"
GO = "package main\n\nfunc main() {}\n"
CARGO_TOML = '[package]\nname = "prog"\nversion = "0.1.0"\nedition = "2021"\n'
CMAKE = "cmake_minimum_required(VERSION 3.10)\nproject(x C)\nadd_executable(prog prog.c)\n"
MAKEFILE = "prog: prog.c\n\tcc -o prog prog.c\n"
CONFIGURE_AC = "AC_INIT([prog], [1])\nAM_INIT_AUTOMAKE([foreign])\nAC_PROG_CC\nAC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n"
PROJECTS: dict[str, dict[str, str]] = {
    "cargo": {"Cargo.toml": CARGO_TOML, "src/main.rs": RUST},
    "go": {"go.mod": "module example.org/prog\n\ngo 1.21\n", "main.go": GO},
    "meson": {"meson.build": "project('x', 'c')\nexecutable('prog', 'prog.c')\n", "prog.c": C},
    "cmake": {"CMakeLists.txt": CMAKE, "prog.c": C},
    "configure": {"configure": f"#!/bin/sh\ncat > Makefile <<'END'\n{MAKEFILE}END\n", "prog.c": C},
    "autotools": {
        "configure.ac": CONFIGURE_AC,
        "Makefile.am": "bin_PROGRAMS = prog\nprog_SOURCES = prog.c\n",
        "prog.c": C,
    },
    "make": {"Makefile": MAKEFILE, "prog.c": C},
}
PROGRAMS = {
    "cargo": ("cargo",),
    "go": ("go",),
    "meson": ("meson", "ninja", "cc"),
    "cmake": ("cmake", "make", "cc"),
    "configure": ("make", "cc"),
    "autotools": ("autoreconf", "automake", "make", "cc"),
    "make": ("make", "cc"),
}


@cache
def works(program: str) -> bool:
    """Return whether a program says its version: one that is there may still have no toolchain behind it."""
    words = [program, "version" if program == "go" else "--version"]
    return shutil.which(program) is not None and not subprocess.run(words, capture_output=True).returncode


def project(folder: Path, name: str, **more: str) -> Path:
    """Write a project into a folder; skip the test where its tool is missing."""
    if absent := [program for program in PROGRAMS[name] if not works(program)]:
        pytest.skip(f"{absent[0]} does not work here: install it; one of a toolchain manager needs its home")
    return write(folder, PROJECTS[name] | more)


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files; scripts can be executed."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    return folder


def git(folder: Path, *words: str) -> str:
    """Run git in a folder."""
    who = (
        "-c",
        "user.name=n",
        "-c",
        "user.email=e@example.org",
        "-c",
        "safe.directory=*",
        "-c",
        "init.defaultBranch=m",
    )
    return subprocess.run(
        ["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


def commit(folder: Path) -> Path:
    """Make a folder a git checkout with everything committed."""
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "m")
    return folder


class Runner:
    """Runs steps as they are, and remembers them."""

    def __init__(self) -> None:
        """Begin with none."""
        self.steps: list[Step] = []

    def __call__(self, step: Step, log: Path) -> StepEnd:
        """Run a step to its end."""
        self.steps.append(step)
        user: dict[str, Any] = {}
        if step.user:
            user = {"user": step.user.uid, "group": step.user.gid, "extra_groups": []}
        done = subprocess.run(
            list(step.argv), cwd=step.cwd, env=dict(step.environment), capture_output=True, check=False, **user
        )
        log.write_bytes(done.stderr if step.output else done.stdout + done.stderr)
        if step.output:
            step.output.write_bytes(done.stdout)
        return StepEnd(
            reason=Reason.EXIT if done.returncode else None,
            code=done.returncode,
            detail=f"exit {done.returncode}",
            log=log,
            tail=log.read_text(errors="replace"),
            wall_s=0.0,
            cpu_s=0.0,
            rss_bytes=0,
        )


class Yard:
    """A cache, a folder of logs and a runner: where checkouts become executables."""

    def __init__(self, folder: Path) -> None:
        """Make the folders."""
        self.folder = folder
        self.said: list[str] = []
        self.cache = Cache(folder / "cache", say=self.said.append)
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.runner = Runner()

    def build(
        self,
        directory: Path,
        *,
        name: str = "prog",
        executable: str = "",
        profile: Profile | None = None,
        as_root: bool = True,
        execute: Callable[[Step, Path], StepEnd] | None = None,
        **options: Any,
    ) -> Built:
        """Build a checkout."""
        request = Request(name=name, directory=directory, profile=profile or Profile(), executable=executable)
        prepared = prepare(request, work=self.cache.root / "work", as_root=as_root)
        assert prepared.missing is None, prepared.missing
        return make(prepared, cache=self.cache, logs=self.logs, execute=execute or self.runner, **options)

    @property
    def steps(self) -> list[str]:
        """Return the last words of the names of the steps that ran."""
        return [step.name.rpartition("::")[2] for step in self.runner.steps]


def snapshot(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return what tells whether anything in a folder was touched."""
    found: dict[str, tuple[int, ...]] = {}
    for path in (folder, *folder.rglob("*")):
        state = path.lstat()
        found[str(path)] = (state.st_mode, state.st_uid, state.st_size, state.st_mtime_ns, state.st_ino)
    return found
