"""What the container's process has open: three streams, nothing of its caller's, or a terminal."""

from __future__ import annotations

import os
import termios

from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires, tier
from suites.framework.oci import inside
from suites.framework.oci.config import mounts
from suites.framework.oci.console import Console
from suites.framework.oci.container import Container
from suites.framework.oci.runtime import Runtime
from suites.framework.oci.spec import Mount
from suites.framework.recorder import Recorder
from suites.framework.waiting import Deadline

EVERY_BYTE = bytes(range(256))
NUMBERS = (3, 19, 733)
"""Where extra descriptors stand in the caller: the first free one, a low one, and one above the usual hundreds."""
PTS: Mount = {
    "destination": "/dev/pts",
    "type": "devpts",
    "source": "devpts",
    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
}
"""Without gid=5, which a user namespace with a single id does not have."""
ROWS, COLUMNS = 33, 99


@case("D20")
def test_stdin_is_passed_through(runtime: Runtime) -> None:
    """The container reads what is written to create's stdin, byte by byte and to its end (as in runc and crun).

    Why: data gets into a container by a pipe; an end that never comes hangs the program at its other side.
    By hand:
        # config.json: "args": ["wc", "-c"]
        printf hello | $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID    # 5
    """
    container = runtime.container()
    reading, writing = os.pipe()
    try:
        container.create(fds={0: reading}).ok()
        os.write(writing, EVERY_BYTE)
    finally:
        os.close(reading)
        os.close(writing)
    container.start().ok()
    recorder = container.recorder()
    recorder.ready()
    recorder.ask("copy")
    assert EVERY_BYTE == container.output("stdout")


@case("D21")
def test_stdout_and_stderr_are_separate(runtime: Runtime) -> None:
    """What the container writes to 1 and to 2 comes out of create's stdout and stderr, each alone (stdio(3)).

    Why: logs are told apart by it, and a pipe behind stdout must not get the errors.
    By hand:
        # config.json: "args": ["sh", "-c", "echo out; echo err >&2"]
        $RUNTIME create --bundle BUNDLE ID >out 2>err; $RUNTIME start ID
    """
    container = runtime.container()
    created = container.create().ok()
    container.start().ok()
    recorder = container.recorder()
    recorder.ready()
    recorder.ask(f"write 1 {b'out'.hex()}")
    recorder.ask(f"write 2 {b'err'.hex()}")
    heard = container.output("stdout"), container.output("stderr").removeprefix(created.stderr)
    assert (b"out", b"err") == heard


@case("D24")
def test_only_three_descriptors_are_open(runtime: Runtime) -> None:
    """0, 1 and 2 are open in the container's process and in a child of it, and nothing else (CVE-2024-21626).

    Why: a descriptor of the runtime's own, such as one of a folder of the machine, is a way out of the container.
    By hand:
        # config.json: "args": ["ls", "-l", "/proc/self/fd"]
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID
        # 0 1 2, and 3, the folder that ls reads
    """
    container = runtime.container()
    container.create().ok()
    assert "0 1 2, in a child 0 1 2" == _open_in(container)


@case("D25")
def test_descriptors_of_the_caller_do_not_leak(runtime: Runtime) -> None:
    """What the caller of create has open beside 0, 1 and 2 does not reach the container (CVE-2024-21626).

    Why: callers leak; a log file, a socket or a folder of theirs would be in every container.
    By hand:
        # config.json: "args": ["ls", "-l", "/proc/self/fd"]
        $RUNTIME create --bundle BUNDLE ID 3</etc 19</etc; $RUNTIME start ID
        # 0 1 2, and 3, the folder that ls reads
    """
    secret = os.memfd_create("seatrial", os.MFD_CLOEXEC)
    runtime.bench.own(lambda: os.close(secret))
    container = runtime.container()
    container.create(fds=dict.fromkeys(NUMBERS, secret)).ok()
    assert "0 1 2, in a child 0 1 2" == _open_in(container)


def _open_in(container: Container) -> str:
    """Start it; return in words the descriptors with which its process began, and those of a child of it."""
    container.start().ok()
    recorder = container.recorder()
    own = sorted(recorder.ready().fds)
    return f"{' '.join(map(str, own))}, in a child {' '.join(map(str, inside.descriptors(recorder)))}"


@case("D26")
@tier(2)
@requires(Fact.PSEUDO_TERMINAL)
@offered("console")
def test_terminal_comes_over_the_console_socket(runtime: Runtime) -> None:
    """With process.terminal the streams are a terminal; its master comes over the console socket (runc, terminals.md).

    Why: it is how an engine serves an interactive container.
    By hand:
        # config.json: "terminal": true; somebody who takes descriptors (SCM_RIGHTS) listens at SOCKET
        $RUNTIME create --bundle BUNDLE --console-socket SOCKET ID; $RUNTIME start ID
        # the output is read from the descriptor
    """
    recorder, master = _at_a_terminal(runtime)
    state = recorder.state()
    held = "in the foreground" if state.foreground == state.pgid else "not in the foreground"
    assert ("one terminal", "in the foreground") == (_streams(state.fds), held)
    recorder.ask(f"write 1 {b'shown'.hex()}")
    assert b"shown" == _read(runtime, master)
    os.write(master, b"typed\n")
    assert "typed" == recorder.sh("[ -t 0 ] && read -r line && echo $line").ok


@case("D34")
@tier(3)
@requires(Fact.PSEUDO_TERMINAL)
@offered("console")
def test_terminal_has_the_size_of_the_configuration(runtime: Runtime) -> None:
    """The terminal has the rows and columns of process.consoleSize (config.md#configProcess; ioctl_tty(2)).

    Why: a program draws its first page before anybody resizes the window.
    By hand:
        # config.json: "terminal": true, "consoleSize": {"height": 33, "width": 99}, "args": ["stty", "size"]
        $RUNTIME create --bundle BUNDLE --console-socket SOCKET ID; $RUNTIME start ID    # 33 99
    """
    _, master = _at_a_terminal(runtime)
    assert (ROWS, COLUMNS) == termios.tcgetwinsize(master)


def _at_a_terminal(runtime: Runtime) -> tuple[Recorder, int]:
    """Start a container with a terminal; return its recorder and the terminal's master."""
    console = Console(runtime.bench)
    container = _with_terminal(runtime)
    container.create(*console.options(runtime.call.console)).ok()
    master = console.master(waiter=runtime.waiter, seconds=runtime.seconds)
    container.start().ok()
    recorder = container.recorder()
    recorder.ready()
    return recorder, master


def _with_terminal(runtime: Runtime) -> Container:
    container = runtime.container()
    container.spec["mounts"] = [*mounts(), PTS]
    container.spec["process"]["terminal"] = True
    container.spec["process"]["consoleSize"] = {"height": ROWS, "width": COLUMNS}
    return container


def _streams(fds: dict[int, str]) -> str:
    devices = {fds.get(number, "nothing") for number in (0, 1, 2)}
    if not all(device.startswith(("/dev/pts/", "/dev/console")) for device in devices):
        return "another file"
    return "one terminal" if len(devices) == 1 else "several terminals"


def _read(runtime: Runtime, master: int) -> bytes:
    return os.read(master, 4096) if runtime.waiter.wait((master,), Deadline(runtime.seconds)) else b""


@case("D27")
@tier(2)
@requires(Fact.PSEUDO_TERMINAL)
@offered("console")
def test_terminal_without_a_console_socket_is_refused(runtime: Runtime) -> None:
    """A terminal that nobody takes is an error of create (runc, terminals.md, "Detached New Terminal").

    Why: the container's output would vanish, and its first read would hang.
    By hand:
        # config.json: "terminal": true
        $RUNTIME create --bundle BUNDLE ID; echo $?    # not 0
    """
    assert "refused" == _with_terminal(runtime).create().outcome
    _at_a_terminal(runtime)
