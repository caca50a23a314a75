"""The reference init's sockets and live reload tried directly, without the harness."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

INIT = ("/bin/sh", str(Path(__file__).parent.parent / "fixtures/inits/reference_init.py"), sys.executable)
SECONDS = 10.0
RELOADING = ("--live-reload", "--debounce-ms", "20", "--restart-delay-ms", "0")
STAYING = "import signal; print('start', flush=True); signal.pause()"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return what starts an init with options; all are killed in the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        started.append(subprocess.Popen([*INIT, *words], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=SECONDS)


def line(stream: IO[str] | None) -> str:
    assert stream is not None
    assert select.select([stream], [], [], SECONDS)[0], "nothing came"
    return stream.readline().strip()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--ports", "x"), "invalid literal for int() with base 10: 'x'; see --help"),
        (("--ports", "70000"), "cannot start: [Errno 22] port 70000 of 127.0.0.1: bind(): port must be 0-65535."),
        (("--contract", "mine", "--ports", "0"), "unknown or incomplete option --contract; see --help"),
        (("--live-reload", "--watch-path", "/nonexistent"), "cannot start: [Errno 2] No such file or directory: "),
        (("--restart-delay-ms", "-1"), "the grace, the debounce or the delay is not a time; see --help"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_1(words: tuple[str, ...], told: str) -> None:
    """Nothing has started then: the command says nothing."""
    ended = subprocess.run([*INIT, *words, "echo", "x"], capture_output=True, text=True, check=False, timeout=SECONDS)
    assert (1, "") == (ended.returncode, ended.stdout)
    assert [True] == [found.startswith(f"reference_init: {told}") for found in ended.stderr.splitlines()]


def test_a_port_that_somebody_else_has_is_named() -> None:
    """The line says which port, and why it cannot be had."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        ended = subprocess.run(
            [*INIT, "--ports", str(port), "true"], capture_output=True, text=True, check=False, timeout=SECONDS
        )
    why = f"[Errno 98] port {port} of 127.0.0.1: Address already in use"
    assert (1, f"reference_init: cannot start: {why}\n") == (ended.returncode, ended.stderr)


def test_every_client_in_the_queue_is_kept(start: Start) -> None:
    """The queue has 128 places, and the sockets listen before the command runs."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        init = start("--ports", str(port), "--", sys.executable, "-c", STAYING)
        assert "start" == line(init.stdout)
        clients = [socket.create_connection(("127.0.0.1", port), timeout=SECONDS) for _ in range(128)]
        for client in clients:
            client.close()


def test_a_vanished_folder_ends_the_watching_and_nothing_else(start: Start, tmp_path: Path) -> None:
    """One line tells it, and the command goes on."""
    folder = tmp_path / "folder"
    folder.mkdir()
    init = start(*RELOADING, "--watch-path", str(folder), "--", sys.executable, "-c", STAYING)
    assert "start" == line(init.stdout)
    folder.rmdir()
    assert "reference_init: the watched folder has gone: no more reloading" == line(init.stderr)
    assert init.poll() is None


def test_any_file_of_a_watched_folder_is_a_change(start: Start, tmp_path: Path) -> None:
    """A folder stands for the files in it, new ones included."""
    init = start(*RELOADING, "--watch-path", str(tmp_path), "--", sys.executable, "-c", STAYING)
    assert "start" == line(init.stdout)
    (tmp_path / "new").write_text("x")
    assert "start" == line(init.stdout)


def test_both_ends_of_a_link_are_watched(start: Start, tmp_path: Path) -> None:
    """A link that is exchanged is a change, and so is a write to the file behind it."""
    behind, link = tmp_path / "a" / "file", tmp_path / "link"
    behind.parent.mkdir()
    behind.write_text("1")
    link.symlink_to(behind)
    init = start(*RELOADING, "--watch-path", str(link), "--", sys.executable, "-c", STAYING)
    assert "start" == line(init.stdout)
    behind.write_text("2")
    assert "start" == line(init.stdout)
    (tmp_path / "other").symlink_to(behind)
    (tmp_path / "other").rename(link)
    assert "start" == line(init.stdout)


def test_a_broken_successor_ends_the_init_with_its_own_code(start: Start, tmp_path: Path) -> None:
    """What cannot be executed any more is told as at the first start: 126 and a line (sh(1))."""
    program = tmp_path / "program"
    program.write_text(f"#!{sys.executable}\n{STAYING}\n")
    program.chmod(0o755)
    init = start(*RELOADING, "--", str(program))
    assert "start" == line(init.stdout)
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF and no more")
    broken.chmod(0o755)
    broken.replace(program)
    assert 126 == init.wait(SECONDS)
    assert f"reference_init: {program}: Exec format error" == line(init.stderr)
