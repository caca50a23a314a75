"""The reference init tried directly, without the harness: small programs under it, in plain mode and as PID 1."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

INIT = Path(__file__).parent.parent / "fixtures/inits/reference_init.py"
STAGED = ("/bin/sh", str(INIT), sys.executable)
DIRECT = (sys.executable, "-I", "-S", str(INIT))
PID1 = (
    *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *(() if os.geteuid() == 0 else ("--user", "--map-root-user")),
)
PYTHON = (sys.executable, "-I", "-S", "-c")
SECONDS = 5.0
CHANNEL = 7
CATCHABLE = sorted(int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD})

RECORDER = """
import os, signal, sys
every = signal.valid_signals()
signal.pthread_sigmask(signal.SIG_BLOCK, every)
role = "child"
reading, writing = os.pipe()
if sys.argv[1:] and os.fork() == 0:
    role = "grandchild"
    if sys.argv[1] == "setsid":
        os.setsid()
os.write(7, f"{role} ready\\n".encode())
while True:
    os.write(7, f"{role} {signal.sigwaitinfo(every).si_signo}\\n".encode())
"""
STORM = """
import os
for _ in range(40):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(3)
        os._exit(0)
os._exit(9)
"""
ORPHAN = """
import os, select, signal, sys
parent = os.getppid()
signal.pthread_sigmask(signal.SIG_BLOCK, {12})
middle = os.fork()
if middle == 0:
    middle = os.pidfd_open(os.getpid())
    if os.fork() == 0:
        select.select([middle], [], [])  # its parent has ended
        os.write(7, f"orphan {int(os.getppid() == parent)}\\n".encode())
        signal.sigwait({12})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {12})
        os.kill(os.getpid(), 9) if sys.argv[1] == "killed" else os._exit(int(sys.argv[1]))
    os._exit(0)
os.waitpid(middle, 0)
signal.sigwait({12})
os._exit(5)
"""


@dataclass(slots=True)
class Launched:
    """A started init, and what its child writes to the channel."""

    outer: int
    """The process that this one started: the init, or `unshare` around it."""
    channel: int
    namespaced: bool
    unread: bytes = b""

    @property
    def pid(self) -> int:
        """Return the init's own pid."""
        return _children(self.outer)[0] if self.namespaced else self.outer

    def line(self) -> str:
        """Return the next line from the channel."""
        while b"\n" not in self.unread:
            assert select.select([self.channel], [], [], SECONDS)[0], "nothing came"
            data = os.read(self.channel, 65536)
            assert data, "the channel was closed"
            self.unread += data
        line, self.unread = self.unread.split(b"\n", 1)
        return line.decode()

    def rest(self) -> bytes:
        """Return everything from the channel up to its end, which comes when no process holds it."""
        while select.select([self.channel], [], [], SECONDS)[0]:
            data = os.read(self.channel, 1 << 20)
            if not data:
                return self.unread
            self.unread += data
        raise AssertionError("the channel stays open")

    def send(self, *numbers: int) -> None:
        """Send signals to the init itself."""
        pid = self.pid
        for number in numbers:
            os.kill(pid, number)

    def code(self) -> int:
        """Wait for the init's end; return its exit code, negative for a signal."""
        return _code(self.outer)


Launch = Callable[..., Launched]


def _code(pid: int) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        assert select.select([pidfd], [], [], SECONDS)[0], "it is still there"
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _tree(pid: int) -> list[int]:
    return [pid, *(below for child in _children(pid) for below in _tree(child))]


def _await(pid: int, key: str, wanted: Callable[[str], bool]) -> None:
    """Poll a line of /proc/PID/status, for what no descriptor tells."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        if any(wanted(line.partition("\t")[2]) for line in lines if line.startswith(key)):
            return
    raise AssertionError(f"{key} never came to what is wanted")


def _end(outer: int) -> None:
    """Kill what is left of a started program, unless the test has waited for it."""
    if outer in _children(os.getpid()):
        for pid in _tree(outer):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(outer, 0)


def _spawn(argv: list[str | bytes], fds: Mapping[int, int], environment: Mapping[bytes, bytes] | None = None) -> int:
    """Start a program with these descriptors (its number: ours), no signal blocked or ignored."""
    return os.posix_spawnp(
        argv[0],
        argv,
        os.environb if environment is None else environment,
        file_actions=[(os.POSIX_SPAWN_DUP2, ours, inside) for inside, ours in fds.items()],
        setsigmask=(),
        setsigdef=(*CATCHABLE, signal.SIGCHLD),
    )


@pytest.fixture(params=["plain", "pid1"])
def prefix(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Return the words before the init in each mode."""
    if request.param == "plain":
        return ()
    if subprocess.run([*PID1, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this process may not make a pid namespace")
    return PID1


@pytest.fixture
def silence() -> Iterator[int]:
    """Give the reading end of a pipe to which nobody writes."""
    reading, writing = os.pipe()
    yield reading
    os.close(reading)
    os.close(writing)


@pytest.fixture
def launch(prefix: tuple[str, ...]) -> Iterator[Launch]:
    """Start the init with a command that has a channel at descriptor 7."""
    begun: list[Launched] = []

    def start(
        *command: str | bytes,
        options: Sequence[str] = (),
        before: Sequence[str] = (),
        fds: Mapping[int, int] | None = None,
        environment: Mapping[bytes, bytes] | None = None,
        bare: bool = False,
    ) -> Launched:
        reading, writing = os.pipe()
        with Path(os.devnull).open("rb") as null:
            layout = {0: null.fileno(), CHANNEL: writing, **(fds or {})}
            words = () if bare else (*STAGED, *options, "--")
            pid = _spawn([*prefix, *before, *words, *command], layout, environment)
        os.close(writing)
        begun.append(Launched(outer=pid, channel=reading, namespaced=bool(prefix)))
        return begun[-1]

    yield start
    for launched in begun:
        _end(launched.outer)
        os.close(launched.channel)


@pytest.fixture
def record(launch: Launch) -> Launch:
    """Start the init with a child (given a word, also a grandchild) that writes a line for each signal."""

    def start(*arguments: str, **others: object) -> Launched:
        launched = launch(*PYTHON, RECORDER, *arguments, **others)
        for _ in range(2 if arguments else 1):
            assert launched.line().endswith(" ready")
        return launched

    return start


# ---- exit status -----------------------------------------------------------------------------------------------------


def test_exit_codes_are_passed_on(launch: Launch) -> None:
    codes = [0, 1, 2, 7, 126, 127, 128, 254, 255]
    started = [launch("/bin/sh", "-c", f"exit {code}") for code in codes]
    assert codes == [each.code() for each in started]


def test_declared_successes_are_0(launch: Launch) -> None:
    codes = {7: 7, 8: 0, 143: 0, 142: 142}
    options = ("--success", "143", "--success", "8")
    started = [launch("/bin/sh", "-c", f"exit {code}", options=options) for code in codes]
    assert list(codes.values()) == [each.code() for each in started]


def test_death_by_a_signal_is_128_and_its_number(launch: Launch) -> None:
    numbers = [1, 2, 3, 6, 9, 11, 15]
    started = [launch("/bin/sh", "-c", f"ulimit -c 0; kill -{number} $$") for number in numbers]
    assert [128 + number for number in numbers] == [each.code() for each in started]


def test_a_command_that_cannot_run_is_explained(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text\n")
    (tmp_path / "garbage").write_bytes(b"\x7fgarbage")
    (tmp_path / "garbage").chmod(0o755)
    wrong = {
        "/does/not/exist": (127, errno.ENOENT),
        "seatrial-no-such-word": (127, errno.ENOENT),
        "": (127, 0),
        f"{tmp_path}": (126, errno.EACCES),
        f"{tmp_path}/text": (126, errno.EACCES),
        f"{tmp_path}/text/below": (127, errno.ENOTDIR),
        f"{tmp_path}/garbage": (126, errno.ENOEXEC),
    }
    for command, (code, number) in wrong.items():
        reading, writing = os.pipe()
        launched = launch(command, fds={2: writing})
        os.close(writing)
        assert (command, code) == (command, launched.code())
        message = os.read(reading, 4096).decode()
        os.close(reading)
        assert message.startswith(f"reference_init: {command}: ")
        assert message.endswith(f"{os.strerror(number) if number else ''}\n")
        assert message.count("\n") == 1


@pytest.mark.parametrize("words", [STAGED, DIRECT])
@pytest.mark.parametrize("call", ["", "--no-such true", "-g", "--graceful-timeout-secs soon true", "--ignored zz true"])
def test_a_wrong_call_exits_1_with_a_line(words: Sequence[str], call: str) -> None:
    ended = subprocess.run([*words, *call.split()], capture_output=True, text=True, check=False, timeout=SECONDS)
    assert (1, "", 1) == (ended.returncode, ended.stdout, ended.stderr.count("\n"))


@pytest.mark.parametrize("words", [STAGED, DIRECT])
def test_help_and_version_go_to_standard_output(words: Sequence[str]) -> None:
    for word, start in {"--help": "usage: ", "--version": "reference_init "}.items():
        ended = subprocess.run([*words, word], capture_output=True, text=True, check=False, timeout=SECONDS)
        assert (0, "") == (ended.returncode, ended.stderr)
        assert ended.stdout.startswith(start)


def test_a_failing_fork_is_told() -> None:
    source = INIT.read_text()
    refuse = (
        "__name__ = '__main__'; import os; os.fork = lambda: (_ for _ in ()).throw(BlockingIOError(11, 'Try again'))"
    )
    ended = subprocess.run(
        [*PYTHON, f"{refuse}\n{source}", "true"], capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert (1, "") == (ended.returncode, ended.stdout)
    assert ended.stderr == "reference_init: cannot start: [Errno 11] Try again\n"


# ---- signals ---------------------------------------------------------------------------------------------------------


def test_every_signal_that_can_be_caught_arrives_once(record: Launch) -> None:
    launched = record()
    for number in CATCHABLE:
        launched.send(number)
        assert f"child {number}" == launched.line()


def test_real_time_signals_are_counted_and_chld_is_kept(record: Launch) -> None:
    launched = record()
    launched.send(*[35] * 50, signal.SIGCHLD, *[64] * 50)
    heard = sorted(launched.line() for _ in range(100))
    assert ["child 35"] * 50 + ["child 64"] * 50 == heard


@pytest.mark.parametrize(("options", "heard"), [((), ["child"]), (("-g",), ["child", "grandchild"])])
def test_the_child_alone_or_its_group_is_signalled(record: Launch, options: Sequence[str], heard: list[str]) -> None:
    launched = record("same", options=options)
    for number in (10, 35, 64):
        launched.send(number)
        assert [f"{role} {number}" for role in heard] == sorted(launched.line() for _ in heard)


def test_another_session_is_not_signalled_with_the_group(record: Launch) -> None:
    launched = record("setsid", options=("-g",))
    for number in (10, 64):
        launched.send(number)
        assert f"child {number}" == launched.line()


def test_rewritten_signals_arrive_as_others_or_not_at_all(record: Launch) -> None:
    launched = record(options=("--rewrite", "15:3", "--rewrite", "1:0"))
    for sent, heard in {15: 3, 10: 10}.items():
        launched.send(signal.SIGHUP, sent)
        assert f"child {heard}" == launched.line()


@pytest.mark.parametrize("ignored", ["", "HUP,USR2", "HUP,USR2,PIPE", "PIPE", "XFSZ,INT,QUIT,TTOU"])
def test_dispositions_and_mask_are_the_callers(launch: Launch, ignored: str) -> None:
    before = ["env", *([f"--ignore-signal={ignored}"] if ignored else []), "--block-signal=USR1,PIPE,TERM,64"]
    command = ("grep", "^Sig[BI]", "/proc/self/status")
    seen = []
    for bare in (True, False):
        reading, writing = os.pipe()
        launched = launch(*command, before=before, fds={1: writing}, bare=bare)
        os.close(writing)
        assert 0 == launched.code()
        seen.append(os.read(reading, 4096).splitlines())
        os.close(reading)
    numbers = [signal.Signals[f"SIG{name}"] for name in ignored.split(",") if name]
    assert sum(1 << number - 1 for number in numbers) == int(seen[0][1].split()[1], 16) & 0x7FFFFFFF
    assert seen[0] == seen[1]


def test_waiting_costs_nothing(record: Launch) -> None:
    launched = record(options=("--graceful-timeout-secs", "60"))
    launched.send(signal.SIGTERM, 64)
    assert ["child 15", "child 64"] == [launched.line(), launched.line()]
    status = Path(f"/proc/{launched.pid}/status")
    switches = []
    for _ in range(2):
        select.select([launched.channel], [], [], 0.2)
        switches.append([line for line in status.read_text().splitlines() if "ctxt_switches" in line])
    assert switches[0] == switches[1]


# ---- termination -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_child_that_stays_is_killed_after_the_grace_and_not_before(record: Launch, number: int) -> None:
    launched = record(options=("--graceful-timeout-secs", "0.3"))
    at = time.monotonic()
    launched.send(number)
    assert f"child {int(number)}" == launched.line()
    launched.send(64)
    assert "child 64" == launched.line()
    assert 137 == launched.code()
    assert time.monotonic() - at >= 0.3


def test_the_whole_group_is_killed_with_the_group_option(record: Launch) -> None:
    launched = record("same", options=("-g", "--graceful-timeout-secs", "0"))
    launched.send(signal.SIGTERM)
    assert 137 == launched.code()
    launched.rest()


def test_a_child_that_ends_within_the_grace_ends_the_init(launch: Launch, silence: int) -> None:
    launched = launch("/bin/sh", "-c", "trap 'exit 3' TERM; echo ready >&7; read x <&8", fds={8: silence})
    assert "ready" == launched.line()
    launched.send(signal.SIGTERM)
    assert 3 == launched.code()  # waited for less than the grace of 10 seconds


def test_a_default_child_dies_of_what_is_forwarded(launch: Launch, silence: int) -> None:
    launched = launch("/bin/sh", "-c", "echo ready >&7; read x <&8", fds={8: silence})
    assert "ready" == launched.line()
    launched.send(signal.SIGUSR1)
    assert 138 == launched.code()


def test_a_stopped_child_is_not_a_dead_one(record: Launch) -> None:
    launched = record()
    (child,) = _children(launched.pid)
    os.kill(child, signal.SIGSTOP)
    _await(child, "State:", lambda value: value.startswith("T"))
    launched.send(64)  # taken after the CHLD that tells of the stop, because its number is higher
    _await(child, "ShdPnd:", lambda value: bool(int(value, 16) >> 63))
    os.kill(child, signal.SIGCONT)  # which it blocks, and records
    assert ["child 18", "child 64"] == [launched.line(), launched.line()]


# ---- orphans ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["0", "1", "killed"])
def test_an_orphan_is_adopted_and_reaped_and_ends_nothing(launch: Launch, end: str) -> None:
    launched = launch(*PYTHON, ORPHAN, end)
    assert "orphan 1" == launched.line()
    init = launched.pid
    main, orphan = sorted(_children(init))
    os.kill(orphan, signal.SIGUSR2)
    deadline = time.monotonic() + SECONDS
    while len(_children(init)) > 1 and time.monotonic() < deadline:
        select.select([launched.channel], [], [], 0.001)
    assert [main] == _children(init)
    os.kill(init, signal.SIGUSR2)
    assert 5 == launched.code()


def test_the_childs_code_survives_a_storm_of_deaths(launch: Launch) -> None:
    started = [launch(*PYTHON, STORM) for _ in range(5)]
    assert [9] * 5 == [each.code() for each in started]


def test_a_living_orphan_does_not_hold_the_init(launch: Launch) -> None:
    reading, writing = os.pipe()
    launched = launch("/bin/sh", "-c", "(read x) <&8 & exit 6", fds={8: reading})
    os.close(reading)
    assert 6 == launched.code()
    os.close(writing)
    launched.rest()


# ---- terminal --------------------------------------------------------------------------------------------------------


LEAD = (
    "import fcntl, os, sys; os.setsid(); fcntl.ioctl(0, 0x540E, 0); os.execvp(sys.argv[1], sys.argv[1:])"  # TIOCSCTTY
)
SHOW = "import os; print('shown', os.tcgetpgrp(0), os.getpgid(0), os.getpid(), 'there', flush=True)"


@dataclass(slots=True)
class OnTerminal:
    """A session on a pseudo-terminal."""

    master: int
    pid: int

    def shown(self) -> list[int]:
        """Return what SHOW prints: the foreground group, its own group, its pid."""
        seen = b""
        while b"there" not in seen:
            assert select.select([self.master], [], [], SECONDS)[0], seen
            seen += os.read(self.master, 4096)
        words = seen.split()
        at = words.index(b"shown")
        return [int(word) for word in words[at + 1 : at + 4]]


@pytest.fixture
def terminal() -> Iterator[Callable[..., OnTerminal]]:
    """Start a program as the leader of a session on a terminal."""
    begun: list[OnTerminal] = []

    def start(*words: str) -> OnTerminal:
        master, slave = os.openpty()
        pid = _spawn([*PYTHON, LEAD, *words], dict.fromkeys((0, 1, 2), slave))
        os.close(slave)
        begun.append(OnTerminal(master, pid))
        return begun[-1]

    yield start
    for each in begun:
        _end(each.pid)
        os.close(each.master)


def test_the_child_has_the_foreground_and_dies_of_ctrl_c(
    prefix: tuple[str, ...], terminal: Callable[..., OnTerminal]
) -> None:
    wait = "import signal; signal.signal(2, signal.SIG_DFL); " + SHOW + "; signal.pause()"
    session = terminal(*prefix, *STAGED, "--", *PYTHON, wait)
    foreground, group, pid = session.shown()
    assert foreground == group == pid
    os.write(session.master, b"\x03")
    assert 130 == _code(session.pid)


def test_an_init_in_the_background_leaves_the_terminal_alone(terminal: Callable[..., OnTerminal]) -> None:
    session = terminal("sh", "-c", 'set -m; "$@" & wait $!', "sh", *STAGED, "--", *PYTHON, SHOW)
    assert session.pid == session.shown()[0]


def test_the_terminal_is_given_back_at_the_end(terminal: Callable[..., OnTerminal]) -> None:
    script = f'{" ".join(STAGED)} -- true; {" ".join(PYTHON)} "{SHOW}"'
    session = terminal("sh", "-c", script)
    assert session.pid == session.shown()[0]


# ---- what the child is given -----------------------------------------------------------------------------------------


def test_arguments_and_environment_arrive_byte_for_byte(launch: Launch) -> None:
    arguments = [b"", b" a  b ", b"$x", b"a\nb", b"--", b"-g", b"\xff\xfe\xed\xa0\x80", "ü".encode()]
    environment = {b"PATH": os.environb[b"PATH"], b"A-B.c": b"\xff", b"\xfe": b"x=y", b"PWD": b"/nowhere", b"E": b""}
    dump = "import os; data = [open(f'/proc/self/{name}', 'rb').read() for name in ('cmdline', 'environ')]; "
    launched = launch(*PYTHON, dump + "os.write(7, b''.join(data))", *arguments, environment=environment)
    words = launched.rest().split(b"\0")[5:-1]
    assert arguments == words[: len(arguments)]
    assert [name + b"=" + value for name, value in environment.items()] == words[len(arguments) :]


@pytest.mark.parametrize("extra", [(), (3, 9)])
def test_the_child_has_exactly_the_callers_descriptors(launch: Launch, silence: int, extra: Sequence[int]) -> None:
    show = "import os; os.write(7, ' '.join(sorted(os.listdir('/proc/self/fd'), key=int)).encode() + b'\\n')"
    seen = [launch(*PYTHON, show, fds=dict.fromkeys(extra, silence), bare=bare).line() for bare in (True, False)]
    assert {"0", "1", "2", "7", *map(str, extra)} <= set(seen[0].split())
    assert seen[0] == seen[1]


def test_closed_standard_streams_do_not_matter(prefix: tuple[str, ...]) -> None:
    closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    assert 7 == _code(_spawn([*prefix, *closing, *STAGED, "--", "sh", "-c", "exit 7"], {}))


def test_streams_pass_untouched_and_an_init_runs_under_an_init(prefix: tuple[str, ...]) -> None:
    data = os.urandom(1 << 20)
    ended = subprocess.run(
        [*prefix, *STAGED, "--", *STAGED, "--", "cat"], input=data, capture_output=True, check=False, timeout=SECONDS
    )
    assert (0, b"") == (ended.returncode, ended.stderr)
    assert data == ended.stdout
