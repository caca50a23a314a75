"""Hooks that write a log, executed as a runtime would, without one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from suites.framework.oci.hooks import LOG, ORDER, PROGRAM, HookLog
from suites.framework.oci.spec import Hook

NONCE = "0123456789abcdef"


@pytest.fixture
def log(tmp_path: Path) -> HookLog:
    """Return an empty log."""
    return HookLog(tmp_path / "a log", nonce=NONCE)


def call(hook: Hook, state: str = "{}") -> int:
    """Execute a hook with a state on stdin; return its exit code."""
    environment = dict(word.split("=", 1) for word in hook["env"])
    done = subprocess.run([hook["path"], *hook["args"][1:]], input=state, text=True, env=environment, check=False)
    return done.returncode


def test_what_ran_is_read_back_in_order(log: HookLog) -> None:
    """The log names hooks in the order of their calls, each as often as it was called."""
    for kind in ("createRuntime", "prestart", "prestart"):
        assert 0 == call(log.hook(kind))
    assert ["createRuntime", "prestart", "prestart"] == log.names()


@pytest.mark.parametrize("state", ['{"id": "a b", "percent": "%s"}', '{\n  "id": "\'x\'",\n\t"pid": 0\n}', "", "\\n"])
def test_stdin_is_read_back_as_it_came(log: HookLog, state: str) -> None:
    """What comes over a hook's stdin stands in its record unchanged, on however many lines."""
    call(log.hook("poststop"), state)
    assert [state] == [ran.stdin for ran in log.ran()]


def test_mount_namespace_is_that_of_the_hook(log: HookLog) -> None:
    """A record tells the mount namespace of the process that wrote it."""
    call(log.hook("poststart"))
    assert [str(Path("/proc/self/ns/mnt").readlink())] == [ran.mounts for ran in log.ran()]


def test_hook_that_is_to_fail_writes_before(log: HookLog) -> None:
    """A hook ends as its `then` says, having written its record."""
    assert 3 == call(log.hook("createRuntime", title="the first", then="exit 3"))
    assert ["the first"] == log.names()


def test_record_of_another_nonce_is_nothing(log: HookLog, tmp_path: Path) -> None:
    """What does not carry the nonce is not believed, and neither is what is cut off."""
    call(HookLog(tmp_path / "a log", nonce="another").hook("prestart"))
    with (tmp_path / "a log").open("a") as file:
        file.write(f"\036{NONCE}\037createRuntime\037mnt")
    call(log.hook("poststop"))
    assert ["poststop"] == log.names()


def test_record_is_a_single_write(log: HookLog, tmp_path: Path) -> None:
    """Two hooks at once never mix their records: twenty pairs of them leave forty whole ones."""
    hook = log.hook("prestart")
    for _ in range(20):
        pair = [
            subprocess.Popen([hook["path"], *hook["args"][1:]], stdin=subprocess.PIPE, text=True, env={"PATH": "/bin"})
            for _ in range(2)
        ]
        for process in pair:
            process.communicate("x" * 500)
    assert ["x" * 500] * 40 == [ran.stdin for ran in log.ran()]
    assert 40 == (tmp_path / "a log").read_text().count(NONCE)


def test_only_what_runs_inside_takes_the_path_of_the_container(log: HookLog, tmp_path: Path) -> None:
    """What runs inside, startContainer and the program, writes to the path in the container, the others outside."""
    scripts = {kind: hooks[0]["args"][-1] for kind, hooks in log.every().items()}
    scripts[PROGRAM] = log.program(["/bin/true"])[-1]
    inside = [name for name, script in scripts.items() if f">> {LOG};" in script]
    assert ["startContainer", PROGRAM] == inside
    assert [name for name in scripts if name not in inside] == [
        name for name, script in scripts.items() if str(tmp_path / "a log") in script
    ]


def test_every_kind_has_one_hook_without_a_timeout(log: HookLog) -> None:
    """A configuration with every hook has six, and a timeout only where one is asked for."""
    every = log.every()
    assert list(ORDER) == list(every)
    assert [1] * 6 == [len(hooks) for hooks in every.values()]
    assert [False] * 6 == ["timeout" in hooks[0] for hooks in every.values()]
    assert 2 == log.hook("prestart", timeout=2)["timeout"]
