"""The proxy that carries seeded faults of runtimes: it changes nothing, and its faults are what they say."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROXY = Path(__file__).parents[1] / "fixtures/runtimes/proxy.py"


def loaded(text: str = "") -> ModuleType:
    spec = importlib.util.spec_from_file_location("proxy", PROXY)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(text or PROXY.read_text(), str(PROXY), "exec"), vars(module))
    return module


proxy = loaded()


def through(runtime: Path, *words: str, row: str = "", **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Call a runtime through the proxy, of which one row may have been replaced."""
    text = PROXY.read_text()
    verb, _, _ = row.partition(":")
    changed = text.replace(f"{verb}: execute", row) if row else text
    assert bool(row) == (changed != text)
    copy = runtime.parent / "copy.py"
    copy.write_text(changed)
    return subprocess.run(
        [sys.executable, "-I", "-S", copy, runtime, "--", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        **keywords,
    )


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """Return a runtime that says how it was called, and ends as its id asks."""
    script = tmp_path / "runtime"
    script.write_text("""#!/bin/sh
echo "$$ $*" >>"$0.log"
case "$*" in
*create*) (cat config.json; echo) >>"$0.log" ;;
*" state gone") exit 3 ;;
*" state "*) echo '{"id": "x", "status": "running"}' ;;
*" kill x "*) kill -KILL $$ ;;
esac
case "$*" in *refused*) exit 4 ;; esac
""")
    script.chmod(0o755)
    (tmp_path / "config.json").write_text(
        '{"process": {"cwd": "/here"}, "hooks": {"poststop": [{"path": "/bin/true"}]}}'
    )
    return script


def log(runtime: Path) -> list[str]:
    path = Path(f"{runtime}.log")
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.partition(" ")[2] for line in lines if line[:1] not in "{"]


def config_read(runtime: Path) -> dict[str, Any]:
    (line,) = (line for line in Path(f"{runtime}.log").read_text().splitlines() if line.startswith("{"))
    return dict(json.loads(line))


def test_unchanged_proxy_passes_every_word_on(runtime: Path) -> None:
    """Options, verbs that it does not know, words that look like its own, and empty words arrive as they were."""
    for words in (
        ("--root", "R", "create", "--bundle", "B B", "ID"),
        ("exec", "--cwd", "/", "ID", "--", "sh", "-c", "exit 1"),
        ("delete", "ID", "--force"),
        ("--version",),
        ("nonsense", ""),
        (),
    ):
        through(runtime, *words, cwd=runtime.parent)
        assert " ".join(words) == log(runtime)[-1]


def test_unchanged_proxy_is_the_runtime(runtime: Path) -> None:
    """It becomes the runtime: same pid, signals at their default, descriptors kept, death and exit code its own."""
    assert 4 == through(runtime, "--root", "R", "start", "refused").returncode
    assert -9 == through(runtime, "--root", "R", "kill", "x", "TERM").returncode
    reading, writing = os.pipe()
    look = "grep SigIgn /proc/$$/status; ls -l /proc/$$/fd"
    runtime.write_text(f"#!/bin/sh\n({look}) >/proc/self/fd/{writing}; echo $$\n")
    words = [sys.executable, "-I", "-S", str(PROXY), str(runtime), "--", "state", "x"]
    with subprocess.Popen(words, pass_fds=(writing,), stdout=subprocess.PIPE, text=True) as child:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            seen = pipe.read()
        assert child.stdout is not None
        assert child.pid == int(child.stdout.read())
    ignored = int(seen.splitlines()[0].split()[1], 16)
    assert [] == [number for number in (signal.SIGPIPE, signal.SIGXFSZ) if ignored >> (number - 1) & 1]
    assert {"0", "1", "2", str(writing)} >= {line.split()[8] for line in seen.splitlines() if " -> pipe" in line}


def test_a_runtime_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """Without the real runtime there is no traceback."""
    gone = through(tmp_path / "nothing", "state", "x")
    assert (127, f"proxy: {tmp_path / 'nothing'}: No such file or directory\n") == (gone.returncode, gone.stderr)


def test_words_are_told_apart() -> None:
    """Id, state, bundle and pid file are found behind options with and without values."""
    create = ["create", "--no-pivot", "--bundle", "/b", "--pid-file", "/p", "ID"]
    call = proxy.Call(["runc", "-v", "--", "--root", "/r", *create])
    assert ("create", "ID", Path("/r/ID"), Path("/b"), Path("/p")) == (
        call.verb,
        call.id,
        call.state,
        call.bundle,
        call.pid_file,
    )
    assert ["runc", "-v", "--root", "/r", "kill", "ID", "9"] == call.but("kill", "ID", "9").words
    bare = proxy.Call(["runc", "--"])
    assert ("", "", Path()) == (bare.verb, bare.id, bare.bundle)


def test_a_changed_configuration_is_read_and_restored(runtime: Path) -> None:
    """The runtime reads the change; the bundle keeps what stood there, whatever becomes of create."""
    path = runtime.parent / "config.json"
    before = path.read_bytes()
    row = '"create": configured(lambda config: config["process"].update(cwd="/"))'
    for name, code in (("x", 0), ("refused", 4)):
        assert code == through(runtime, "create", name, row=row, cwd=runtime.parent).returncode
        assert before == path.read_bytes()
        assert "/" == config_read(runtime)["process"]["cwd"]
        Path(f"{runtime}.log").unlink()


@pytest.mark.parametrize("text", ["{", "null", "{}", '{"process": []}', "\udcff"])
def test_a_configuration_without_the_place_is_passed_on(runtime: Path, text: str) -> None:
    """A change that finds nothing to change leaves the call as it was."""
    path = runtime.parent / "config.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    row = '"create": configured(lambda config: config["process"].pop("cwd"))'
    assert 0 == through(runtime, "create", "x", row=row, cwd=runtime.parent).returncode
    assert text.encode(errors="surrogateescape") == path.read_bytes()


def test_a_hook_is_wrapped(runtime: Path) -> None:
    """A shell stands in for the hooks of a kind."""
    through(runtime, "create", "x", row=""""create": hooked("poststop", 'echo "$0"')""", cwd=runtime.parent)
    hook = config_read(runtime)["hooks"]["poststop"][0]
    shown = subprocess.run([hook["path"], *hook["args"][1:]], capture_output=True, text=True, check=True)
    assert "/bin/true\n" == shown.stdout


@pytest.mark.parametrize(
    ("row", "words", "code", "out", "calls"),
    [
        ('"start": pretend(5)', "start x", 5, "", []),
        ('"start": exiting(lambda code: code + 1)', "start refused", 5, "", ["start refused"]),
        ('"start": after(lambda _: print("after"))', "start x", 0, "after\n", ["start x"]),
        ('"start": after(lambda _: print("after"))', "start refused", 4, "", ["start refused"]),
        ('"start": failing(lambda _: print("failed"))', "start refused", 4, "failed\n", ["start refused"]),
        ('"start": failing(lambda _: print("failed"))', "start x", 0, "", ["start x"]),
        ('"start": first(lambda call: run(call.but("kill", "y")))', "start x", 0, "", ["kill y", "start x"]),
        ('"kill": worded(lambda call: [call.id, "HUP"])', "kill z TERM", 0, "", ["kill z HUP"]),
        ('"kill": run', "--root R kill x TERM", 137, "", ["--root R kill x TERM"]),
        ('"start": lambda call: print(*found(call)) or 0', "--root R start x", 0, "id status\n", []),
        ('"start": lambda call: print(*found(call)) or 0', "--root R start gone", 0, "\n", []),
    ],
)
def test_a_fault_is_what_it_says(runtime: Path, row: str, words: str, code: int, out: str, calls: list[str]) -> None:
    """Each way of interfering calls the runtime as it says, and prints and exits as it says."""
    seen = through(runtime, *words.split(), row=row)
    assert (code, out) == (seen.returncode, seen.stdout), seen.stderr
    assert calls == [line for line in log(runtime) if " state " not in line]


def test_a_printed_state_is_changed(runtime: Path) -> None:
    """A JSON document is changed, what is none stays."""
    row = '"state": printed(lambda state: state.pop("id"))'
    assert {"status": "running"} == json.loads(through(runtime, "--root", "R", "state", "x", row=row).stdout)
    gone = through(runtime, "--root", "R", "state", "gone", row=row)
    assert (3, "") == (gone.returncode, gone.stdout)


def test_a_lock_is_for_one(runtime: Path) -> None:
    """Who asks for a lock that somebody holds is refused."""
    folder = runtime.parent / "folder"
    folder.mkdir()
    row = f'"start": first(lambda _: locked(Path({str(folder)!r})), run)'
    assert 0 == through(runtime, "start", "x", row=row).returncode
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert 1 == through(runtime, "start", "x", row=row).returncode
    os.close(held)
    assert ["start x"] == log(runtime)
