"""Workers in all four environments: start, stop, how they ended, and that nothing outlives the launcher."""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import Privilege
from suites.framework import cleanup, proc
from suites.framework.cleanup import await_death, remove_containers
from suites.framework.environments import engine as engine_module
from suites.framework.environments import probe, wall
from suites.framework.environments.container import ContainerDriver, copy_output, judge_state
from suites.framework.environments.driver import Driver, Ending, Mount, Worker, WorkerEnd, judge
from suites.framework.environments.engine import ContainerState, Engine, EngineError, connect
from suites.framework.environments.image import Image, host_image
from suites.framework.environments.native import NativeDriver, NativeWorker
from suites.framework.environments.user import User, find_user
from suites.framework.errors import UsageError
from suites.framework.facts import Fact, Missing
from suites.framework.model import Limits

ROOT = Path(__file__).parents[1]
DEADLINE_S = 10.0
NOBODY = User(name="nobody", uid=65534, gid=65534, home="/nonexistent")
PYTHON = "/usr/bin/python3"
SMALL = Limits(processes=64, memory_bytes=96 * 1024**2)
RUN = f"test-{os.getpid()}"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root puts workers behind the wall here")
needs_python = pytest.mark.skipif(not os.access(PYTHON, os.X_OK), reason=f"another user needs {PYTHON}")

OBEDIENT = "import os, sys; sys.exit({b's': 7, b'': 8}[os.read(0, 1)])"
STUBBORN = """
import os, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print('ready', flush=True)
    signal.pause()
while True:
    signal.pause()
"""
"""Neither this worker nor its detached grandchild listens to its lifeline."""


@pytest.fixture
def public() -> Iterator[Path]:
    """Make a folder that every user can read and write, with a copy of the package."""
    folder = Path(tempfile.mkdtemp(prefix="seatrial-test-"))
    folder.chmod(0o1777)
    shutil.copytree(ROOT / "suites", folder / "suites", ignore=shutil.ignore_patterns("__pycache__"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Connect to a real Docker engine."""
    try:
        with connect() as engine:
            yield engine
    except EngineError as error:
        pytest.skip(f"no Docker engine: {error.why}")
    finally:
        remove_containers(RUN)


@pytest.fixture(scope="module")
def image(engine: Engine) -> Image:
    """Make the host image, which needs no registry."""
    return host_image(engine)


def native(privilege: Privilege) -> NativeDriver:
    return NativeDriver(privilege, limits=Limits(), user=NOBODY)


def contained(privilege: Privilege, engine: Engine, image: Image, **more: Any) -> ContainerDriver:
    return ContainerDriver(privilege, engine=engine, image=image, run=RUN, **{"limits": SMALL, **more})


def wait(worker: Worker, seconds: float = DEADLINE_S) -> WorkerEnd:
    assert select.select([worker], [], [], seconds)[0], "the worker is not over"
    return worker.end()


def run(driver: Driver, code: str, log: Path, *, python: str = PYTHON, stop: bool = True) -> WorkerEnd:
    worker = driver.start([python, "-I", "-c", code], name="w1", env={"SEATRIAL": "1"}, log=log)
    if stop:
        worker.stop()
    try:
        return wait(worker)
    finally:
        driver.close()


def descendants(pid: int) -> list[int]:
    below = list(proc.children(pid))
    return below + [further for child in below for further in descendants(child)]


def line(fd: int) -> str:
    assert select.select([fd], [], [], DEADLINE_S)[0], "nothing was said"
    return os.read(fd, 4096).decode()


def fifo(path: Path) -> int:
    os.mkfifo(path)
    path.chmod(0o666)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


# ---- native ----------------------------------------------------------------------------------------------------------


@needs_root
@needs_python
@pytest.mark.parametrize("privilege", Privilege)
def test_the_word_to_stop_reaches_a_native_worker(privilege: Privilege, tmp_path: Path) -> None:
    """The byte on the lifeline arrives, and the exit code comes back."""
    end = run(native(privilege), OBEDIENT, tmp_path / "log")
    assert (end.how, end.code) == (Ending.EXIT, 7)


@needs_root
@needs_python
@pytest.mark.parametrize("privilege", Privilege)
def test_a_native_worker_is_alone_and_stripped(privilege: Privilege, tmp_path: Path) -> None:
    """It is PID 1, sees no process of the machine, has no terminal, and lacks SYS_BOOT and others."""
    code = """
import json, os, resource
fields = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
tty = open('/proc/self/stat').read().rpartition(')')[2].split()[4]
print(json.dumps({'pid': os.getpid(), 'uid': os.getuid(), 'seen': [n for n in os.listdir('/proc') if n.isdigit()],
    'bounding': int(fields['CapBnd'], 16), 'effective': int(fields['CapEff'], 16), 'tty': tty,
    'core': resource.getrlimit(resource.RLIMIT_CORE), 'tasks': resource.getrlimit(resource.RLIMIT_NPROC)[0],
    'env': dict(os.environ)}))
"""
    log = tmp_path / "log"
    assert run(native(privilege), code, log).code == 0
    seen = json.loads(log.read_text())
    forbidden = sum(1 << number for number in (16, 17, 22, 25))  # SYS_MODULE, SYS_RAWIO, SYS_BOOT, SYS_TIME
    assert seen["pid"] == 1
    assert seen["seen"] == ["1"]
    assert seen["bounding"] & forbidden == 0
    assert (seen["effective"] == 0) == (privilege is Privilege.ROOTLESS)
    assert seen["uid"] == (0 if privilege is Privilege.ROOT else NOBODY.uid)
    assert (seen["tty"], seen["core"]) == ("0", [0, 0])
    assert (0 < seen["tasks"] < 2 * Limits().processes + 1000) == (privilege is Privilege.ROOTLESS)
    assert {key: value for key, value in seen["env"].items() if key in ("SEATRIAL", "HOME", "USER")} == {
        "SEATRIAL": "1"
    }


@needs_root
def test_a_renamed_machine_keeps_its_name(tmp_path: Path) -> None:
    """What a worker does to the host's name and mounts stays behind the wall."""
    before = os.uname().nodename
    code = (
        "import ctypes, socket; socket.sethostname('pwned'); libc = ctypes.CDLL(None, use_errno=True);"
        "assert libc.mount(b'x', b'/mnt', b'tmpfs', 0, None) == 0; print(socket.gethostname())"
    )
    log = tmp_path / "log"
    assert run(native(Privilege.ROOT), code, log, python=sys.executable).code == 0
    assert log.read_text() == "pwned\n"
    assert os.uname().nodename == before
    assert not any(entry.split()[4] == "/mnt" for entry in Path("/proc/self/mountinfo").read_text().splitlines())


@needs_root
def test_a_capability_that_is_gone_already_is_no_error() -> None:
    """A machine whose bounding set lacks one of the forbidden capabilities has the wall all the same."""
    words = [wall.tool("setpriv"), "--bounding-set=-sys_boot", "--", *wall.root_wall(user=None), "true"]
    assert subprocess.run(words, check=False).returncode == 0


@needs_root
@needs_python
@pytest.mark.parametrize("privilege", Privilege)
def test_kill_ends_everything_behind_the_wall(privilege: Privilege, tmp_path: Path) -> None:
    """When the descriptor is readable after kill, no descendant is left, detached ones included."""
    log = tmp_path / "log"
    ready = fifo(log)
    worker = native(privilege).start([PYTHON, "-I", "-c", STUBBORN], name="w1", env={}, log=log)
    assert line(ready) == "ready\n"
    assert isinstance(worker, NativeWorker)
    pids = descendants(worker.pid)
    held = [os.pidfd_open(pid) for pid in pids]
    assert os.getsid(worker.pid) == worker.pid
    worker.kill()
    end = wait(worker)
    assert len(pids) == 3
    assert await_death(held, deadline_s=0.001) == []
    assert (end.how, end.code) == (Ending.KILLED, signal.SIGKILL)
    worker.kill()
    worker.stop()
    assert worker.end() == end
    for fd in (*held, ready):
        os.close(fd)


@needs_root
@needs_python
@pytest.mark.parametrize("privilege", Privilege)
def test_the_wall_falls_with_its_outermost_process(privilege: Privilege, tmp_path: Path) -> None:
    """Kill -9 of the outer process alone removes every descendant, after the change of credentials too."""
    log = tmp_path / "log"
    ready = fifo(log)
    worker = native(privilege).start([PYTHON, "-I", "-c", STUBBORN], name="w1", env={}, log=log)
    assert line(ready) == "ready\n"
    assert isinstance(worker, NativeWorker)
    held = [os.pidfd_open(pid) for pid in descendants(worker.pid)]
    os.kill(worker.pid, signal.SIGKILL)
    assert len(held) == 3
    assert await_death(held, deadline_s=2.0) == []
    assert wait(worker).how is Ending.SIGNAL
    for fd in (*held, ready):
        os.close(fd)


@needs_root
def test_a_kill_before_the_wall_stands_ends_the_worker(tmp_path: Path) -> None:
    """Killed right after the start, whatever stage the wall has reached, the worker is over at once."""
    driver = native(Privilege.ROOT)
    for _ in range(10):
        worker = driver.start([sys.executable, "-I", "-c", STUBBORN], name="w1", env={}, log=tmp_path / "log")
        worker.kill()
        assert wait(worker).how is Ending.KILLED
    driver.close()


@needs_root
def test_close_ends_what_still_runs(tmp_path: Path) -> None:
    """A driver that is closed leaves no worker behind."""
    driver = native(Privilege.ROOT)
    worker = driver.start([sys.executable, "-I", "-c", STUBBORN], name="w1", env={}, log=tmp_path / "log")
    driver.close()
    assert worker.end().how is Ending.KILLED


@needs_root
def test_a_crash_is_told_from_an_exit(tmp_path: Path) -> None:
    """The signal that killed a worker is reported, not the 128 + n of a shell."""
    end = run(native(Privilege.ROOT), "import ctypes; ctypes.string_at(0)", tmp_path / "log", python=sys.executable)
    assert (end.how, end.code, end.detail) == (Ending.SIGNAL, signal.SIGSEGV, "killed by SIGSEGV")


@needs_root
def test_a_worker_killed_from_outside_is_no_exit(tmp_path: Path) -> None:
    """SIGKILL by somebody else (the kernel for want of memory, say) is a signal, and not a kill of ours."""
    log = tmp_path / "log"
    ready = fifo(tmp_path / "pipe")
    words = ["/bin/sh", "-c", 'echo ready >"$0"; exec sleep 1000', str(tmp_path / "pipe")]
    worker = native(Privilege.ROOT).start(words, name="w1", env={}, log=log)
    assert line(ready) == "ready\n"
    assert isinstance(worker, NativeWorker)
    os.kill(proc.children(worker.pid)[0], signal.SIGKILL)
    end = wait(worker)
    assert (end.how, end.code) == (Ending.SIGNAL, signal.SIGKILL)
    os.close(ready)


@needs_root
def test_a_wall_that_is_refused_is_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What unshare says of itself is told from a worker that exits with the same status."""
    monkeypatch.setattr(wall, "NAMESPACES", ("--nonexistent",))
    end = wait(native(Privilege.ROOT).start(["true"], name="w1", env={}, log=tmp_path / "log"))
    assert end.how is Ending.NOT_STARTED
    monkeypatch.undo()
    assert run(native(Privilege.ROOT), "import sys; sys.exit(1)", tmp_path / "other").how is Ending.EXIT


@needs_root
def test_a_native_worker_that_cannot_be_executed_never_started(tmp_path: Path) -> None:
    """A bad command is told from a worker that failed, in the words of who tried to execute it."""
    worker = native(Privilege.ROOT).start(["/nonexistent/python"], name="w1", env={}, log=tmp_path / "log")
    end = wait(worker)
    assert end.how is Ending.NOT_STARTED
    assert "No such file or directory" in end.detail


def test_a_log_that_cannot_be_opened_is_a_worker_that_never_started(tmp_path: Path) -> None:
    """An error of the operating system is an end like others, not a traceback."""
    worker = native(Privilege.ROOT).start(["true"], name="w1", env={}, log=tmp_path / "absent" / "log")
    end = wait(worker)
    assert end.how is Ending.NOT_STARTED
    assert "No such file or directory" in end.detail
    assert worker.end() == end


def test_a_launcher_that_died_before_the_death_signal_was_set_starts_nothing() -> None:
    """The front of the wall refuses to go on under another parent than the launcher it was started for."""
    words = [*wall.front(launcher=os.getpid() + 1, processes=None, cgroups=()), "echo", "started"]
    orphan = subprocess.run(words, check=False, capture_output=True, text=True)
    assert (orphan.returncode, orphan.stdout) == (125, "")
    words = [*wall.front(launcher=os.getpid(), processes=None, cgroups=()), "echo", "started"]
    assert subprocess.run(words, check=False, capture_output=True, text=True).stdout == "started\n"


LAUNCHER = """
import sys
from pathlib import Path
from suites.catalog import Privilege
from suites.framework.environments.native import NativeDriver
from suites.framework.environments.user import find_user
from suites.framework.model import Limits
privilege, user, python, code, log = sys.argv[1:]
driver = NativeDriver(Privilege(privilege), limits=Limits(), user=find_user(user) if user else None)
worker = driver.start([python, '-I', '-c', code], name='w1', env={}, log=Path(log))
print(worker.pid, flush=True)
worker.end()
"""


@needs_root
@needs_python
@pytest.mark.parametrize(
    ("launcher", "privilege", "user"),
    [
        pytest.param((), Privilege.ROOT, "", id="root"),
        pytest.param((), Privilege.ROOTLESS, "nobody", id="root-as-user"),
        pytest.param(
            ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"),
            Privilege.ROOTLESS,
            "",
            id="ordinary-user",
        ),
    ],
)
def test_nothing_outlives_a_launcher_that_is_killed(
    launcher: Sequence[str], privilege: Privilege, user: str, public: Path
) -> None:
    """After kill -9 of the launcher the kernel removes the wall and all behind it, though nobody reads a lifeline."""
    log = public / "log"
    ready = fifo(log)
    words = [*launcher, PYTHON, "-c", LAUNCHER, privilege, user, PYTHON, STUBBORN, str(log)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=public) as parent:
        assert parent.stdout is not None
        outer = int(parent.stdout.readline())
        assert line(ready) == "ready\n"
        pids = [outer, *descendants(outer)]
        held = [os.pidfd_open(pid) for pid in pids]
        parent.kill()
    assert len(pids) == 4
    assert await_death(held, deadline_s=2.0) == []
    for fd in (*held, ready):
        os.close(fd)


@needs_root
@needs_python
def test_an_ordinary_user_has_a_wall_of_his_own(public: Path) -> None:
    """Started by an ordinary user the worker is PID 1 under the same uid, in a user namespace, without capabilities."""
    code = "import os; print(os.getpid(), os.getuid(), *[n for n in os.listdir('/proc') if n.isdigit()])"
    words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--", PYTHON, "-c", LAUNCHER]
    log = public / "log"
    subprocess.run([*words, "rootless", "", PYTHON, code, str(log)], check=True, cwd=public, capture_output=True)
    assert log.read_text() == "1 65534 1\n"


# ---- containers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("privilege", Privilege)
def test_the_word_to_stop_reaches_a_container(
    privilege: Privilege, engine: Engine, image: Image, tmp_path: Path
) -> None:
    """The byte arrives at the main process; the exit code and output come back; the container is removed."""
    log = tmp_path / "log"
    code = (
        f"import os, sys; print(os.getpid(), os.getuid()); print('x' * 100000); sys.stderr.write('err\\n'); {OBEDIENT}"
    )
    end = run(contained(privilege, engine, image), code, log, python=image.python)
    assert (end.how, end.code) == (Ending.EXIT, 7)
    assert f"1 {0 if privilege is Privilege.ROOT else 1000}\n" in log.read_text()
    assert log.read_text().count("x") == 100000
    assert "err\n" in log.read_text()
    assert engine.list_labelled({cleanup.RUN_LABEL: RUN}) == []


def test_what_a_container_offers(engine: Engine, image: Image, tmp_path: Path) -> None:
    """Mounts stand at the same path, /tmp executes, capabilities are dropped, PATH is the image's, no network."""
    code = f"""
import os, pathlib
bounding = [l for l in open('/proc/self/status') if l.startswith('CapBnd')][0].split()[1]
assert int(bounding, 16) & (1 << 16 | 1 << 17 | 1 << 22 | 1 << 25) == 0, bounding
assert pathlib.Path('{tmp_path}/ro/file').read_text() == 'here'
pathlib.Path('{tmp_path}/rw/back').write_text('there')
try:
    pathlib.Path('{tmp_path}/ro/back').write_text('there')
except OSError as error:
    print(error.strerror)
pathlib.Path('/tmp/script').write_text('#!/bin/sh\\necho executed')
os.chmod('/tmp/script', 0o755)
print(os.popen('/tmp/script').read().strip())
print(os.environ['PATH'], os.environ['SEATRIAL'], os.listdir('/sys/class/net'))
"""
    for name in ("ro", "rw"):
        (tmp_path / name).mkdir()
    (tmp_path / "ro" / "file").write_text("here")
    mounts = [Mount(path=str(tmp_path / "ro")), Mount(path=str(tmp_path / "rw"), writable=True)]
    driver = contained(Privilege.ROOT, engine, image, mounts=mounts)
    worker = driver.start(
        [image.python, "-I", "-c", code], name="w1", env={"SEATRIAL": "1", "PATH": "/wrong"}, log=tmp_path / "log"
    )
    assert wait(worker).code == 0, (tmp_path / "log").read_text()
    path = "/opt/seatrial/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
    assert (tmp_path / "log").read_text() == f"Read-only file system\nexecuted\n{path} 1 ['lo']\n"
    assert (tmp_path / "rw" / "back").read_text() == "there"


@pytest.mark.parametrize("privilege", Privilege)
def test_full_memory_is_told_from_the_exit_code_that_looks_like_it(
    privilege: Privilege, engine: Engine, image: Image, tmp_path: Path
) -> None:
    """A container that the kernel ended for its memory ends as OOM, one that exits with 137 does not."""
    driver = contained(privilege, engine, image)
    full = run(driver, "x = b'x' * (1 << 30)", tmp_path / "log", python=image.python)
    assert (full.how, full.code) == (Ending.OOM, 137)
    same = run(driver, "import sys; sys.exit(137)", tmp_path / "log", python=image.python)
    assert (same.how, same.code) == (Ending.SIGNAL, signal.SIGKILL)
    assert "exit(137) or killed by SIGKILL" in same.detail


def test_a_child_that_fills_the_memory_does_not_make_the_worker_oom(
    engine: Engine, image: Image, tmp_path: Path
) -> None:
    """Only the end of the main process is the worker's end."""
    code = (
        "import os, sys, subprocess; open('/proc/self/oom_score_adj', 'w').write('-500');"
        "child = subprocess.Popen([sys.executable, '-c', \"open('/proc/self/oom_score_adj', 'w').write('1000');"
        "x = b'x' * (1 << 30)\"]); print(child.wait())"
    )
    end = run(contained(Privilege.ROOT, engine, image), code, tmp_path / "log", python=image.python)
    assert (tmp_path / "log").read_text() == "-9\n"
    assert (end.how, end.code) == (Ending.EXIT, 0)


def test_a_container_that_never_started_says_so_in_the_engines_words(
    engine: Engine, image: Image, tmp_path: Path
) -> None:
    """A bad command, a bad image and a name that is taken are no starts; nothing is left of them."""
    driver = contained(Privilege.ROOTLESS, engine, image)
    bad = wait(driver.start(["/nonexistent/python"], name="w1", env={}, log=tmp_path / "log"))
    assert bad.how is Ending.NOT_STARTED
    assert "/nonexistent/python" in bad.detail
    assert "no such file or directory" in bad.detail
    behind = wait(
        contained(Privilege.ROOT, engine, image).start(["/nonexistent"], name="w", env={}, log=tmp_path / "l")
    )
    assert behind.how is Ending.NOT_STARTED
    assert "No such file or directory" in behind.detail
    absent = contained(Privilege.ROOT, engine, Image(name="seatrial-absent:1"))
    assert "No such image" in wait(absent.start(["true"], name="w1", env={}, log=tmp_path / "log")).detail
    assert engine.list_labelled({cleanup.RUN_LABEL: RUN}) == []


def test_kill_and_close_end_containers(engine: Engine, image: Image, tmp_path: Path) -> None:
    """A killed container is reported as killed by us; close removes one that nobody ended."""
    driver = contained(Privilege.ROOT, engine, image)
    first = driver.start([image.python, "-c", STUBBORN], name="w1", env={}, log=tmp_path / "1")
    second = driver.start([image.python, "-c", STUBBORN], name="w2", env={}, log=tmp_path / "2")
    first.kill()
    assert wait(first).how is Ending.KILLED
    assert len(engine.list_labelled({cleanup.RUN_LABEL: RUN})) == 1
    driver.close()
    assert second.end().how is Ending.KILLED
    assert engine.list_labelled({cleanup.RUN_LABEL: RUN}) == []


CONTAINER_LAUNCHER = """
import sys
from pathlib import Path
from suites.catalog import Privilege
from suites.framework.environments.container import ContainerDriver
from suites.framework.environments.engine import connect
from suites.framework.environments.image import host_image
from suites.framework.model import Limits
privilege, run, log, code = sys.argv[1:]
with connect() as engine:
    image = host_image(engine)
    driver = ContainerDriver(Privilege(privilege), engine=engine, image=image, run=run, limits=Limits())
    worker = driver.start([image.python, '-I', '-c', code], name='w1', env={}, log=Path(log))
    worker.end()
"""
UNTIL_EOF = "import os; print('ready', flush=True); os.read(0, 1)"


@pytest.mark.parametrize("privilege", Privilege)
def test_a_container_ends_with_its_launcher(privilege: Privilege, engine: Engine, tmp_path: Path) -> None:
    """After kill -9 of the launcher the main process reads the end of its input, and is gone within two seconds."""
    log = tmp_path / "log"
    ready = fifo(log)
    run = f"{RUN}-{privilege}"
    words = [sys.executable, "-c", CONTAINER_LAUNCHER, privilege, run, str(log), UNTIL_EOF]
    try:
        with subprocess.Popen(words, cwd=ROOT) as parent:
            assert line(ready) == "ready\n"
            (container,) = engine.list_labelled({cleanup.RUN_LABEL: run})
            assert engine.inspect(container).running
            parent.kill()
        inspected = subprocess.run(["timeout", "2", "docker", "wait", container], check=False, capture_output=True)
        assert inspected.returncode == 0
        assert not engine.inspect(container).running
    finally:
        remove_containers(run)
    assert engine.list_labelled({cleanup.RUN_LABEL: run}) == []
    os.close(ready)


def test_frames_are_taken_apart_wherever_they_are_cut(tmp_path: Path) -> None:
    """Output is complete and in order, whatever pieces the connection delivers."""
    stream = b"".join(
        bytes((n, 0, 0, 0)) + len(text).to_bytes(4) + text for n, text in ((1, b"one"), (2, b""), (1, b"two"))
    )
    for size in (1, 3, 8, 9, 100):
        pieces = iter([stream[i : i + size] for i in range(0, len(stream), size)] + [b""])
        log = tmp_path / str(size)
        copy_output(lambda pieces=pieces: next(pieces), log)  # type: ignore[misc]
        assert log.read_bytes() == b"onetwo"


# ---- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "killed", "how", "code"),
    [
        (0, False, Ending.EXIT, 0),
        (3, True, Ending.EXIT, 3),
        (-9, False, Ending.SIGNAL, 9),
        (-9, True, Ending.KILLED, 9),
        (-11, True, Ending.SIGNAL, 11),
        (126, False, Ending.NOT_STARTED, 126),
    ],
)
def test_status_becomes_an_end(status: int, killed: bool, how: Ending, code: int, tmp_path: Path) -> None:
    """Exit, signal, our own kill and a command that was not executed are four things."""
    end = judge(status, killed=killed, log=tmp_path / "log")
    assert (end.how, end.code) == (how, code)


@pytest.mark.parametrize(
    ("code", "oom", "error", "killed", "how"),
    [
        (137, True, "", False, Ending.OOM),
        (137, True, "", True, Ending.KILLED),
        (137, False, "", True, Ending.KILLED),
        (0, True, "", False, Ending.EXIT),
        (139, False, "", False, Ending.SIGNAL),
        (127, False, "exec failed", False, Ending.NOT_STARTED),
    ],
)
def test_state_becomes_an_end(code: int, oom: bool, error: str, killed: bool, how: Ending, tmp_path: Path) -> None:
    """The engine's words about a container are told apart, memory that a child filled included."""
    state = ContainerState(running=False, exit_code=code, oom_killed=oom, error=error)
    assert judge_state(state, killed=killed, log=tmp_path / "log").how is how


# ---- facts -----------------------------------------------------------------------------------------------------------


def unusable() -> EngineError:
    """Return why no engine can be used."""
    with pytest.raises(EngineError) as raised, connect():
        pass
    return raised.value


def test_no_docker_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that does not answer makes three facts missing, with a reason and a line to paste."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    findings = probe.docker_absent(unusable())
    assert [finding.fact for finding in findings] == [
        Fact.DOCKER,
        Fact.DOCKER_PRIVILEGED,
        Fact.DOCKER_USER_NAMESPACES,
    ]
    for finding in findings:
        assert not finding.present
        assert "No such file or directory" in finding.detail
        assert finding.remedy.startswith("sudo ")


@pytest.mark.usefixtures("engine")
def test_an_old_engine_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that speaks too old an API is not used, and is named."""
    monkeypatch.setattr(engine_module, "OLDEST_API", (9, 99))
    finding = probe.docker_absent(unusable())[0]
    assert not finding.present
    assert "at least 9.99" in finding.detail
    assert finding.remedy == "install Docker 20.10 or newer"


def test_containers_are_probed_by_starting_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both kinds of container are really started, under the label that the keeper was told, and removed."""
    made: list[str] = []
    start = type(engine).start

    def note(self: Engine, container: str) -> None:
        made.append(container)
        assert container in engine.list_labelled({cleanup.RUN_LABEL: "some-run"})
        start(self, container)

    monkeypatch.setattr(type(engine), "start", note)
    for finding in probe.container_findings(engine, host_image, run="some-run", folder=tmp_path):
        assert finding.present or finding.detail
        assert "host image" in finding.detail
    assert len(made) == 2
    assert not set(made) & set(engine.list_labelled({}))


def test_an_engine_that_refuses_privileges_is_a_finding(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The engine's words become the reason of the missing fact; the other container is tried all the same."""
    start = type(engine).start

    def refuse(self: Engine, container: str) -> None:
        refused.append(container)
        if len(refused) == 1:
            raise EngineError("start", why="unable to apply caps: operation not permitted")
        start(self, container)

    refused: list[str] = []
    monkeypatch.setattr(type(engine), "start", refuse)
    privileged, unprivileged = probe.container_findings(engine, host_image, run="some-run", folder=tmp_path)
    assert not privileged.present
    assert "unable to apply caps" in privileged.detail
    assert privileged.remedy
    assert unprivileged.present


@pytest.mark.parametrize(
    ("words", "detail"),
    [
        ("3.11.2 {token} 0 0 4294967295", "Python 3.11.2, the image"),
        ("3.11.2 another 0 0 4294967295", "it does not see our files"),
        ("3.11.2 {token} 0 1000 1 1 100000 65536", "root of the container is not root of this machine"),
    ],
    ids=["local", "remote", "rootless"],
)
def test_an_engine_elsewhere_or_without_root_is_told(
    engine: Engine, words: str, detail: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A privileged container counts only if it sees this machine's files and its root is this machine's."""
    end = WorkerEnd(how=Ending.EXIT, code=0, detail="")
    monkeypatch.setattr(secrets, "token_hex", lambda _size: "token")
    monkeypatch.setattr(probe, "_run", lambda *_, **__: (end, words.format(token="token")))
    image = Image(name="x", description="the image")
    privileged, _ = probe.container_findings(engine, lambda _: image, run="some-run", folder=tmp_path)
    assert privileged.detail == detail
    assert privileged.present == detail.startswith("Python")


@needs_root
def test_the_wall_is_probed_by_building_it(tmp_path: Path) -> None:
    """Root's wall is tried as root and as the user."""
    finding = probe.wall_finding(NOBODY, folder=tmp_path)
    assert finding.present, finding


@needs_root
def test_a_wall_that_cannot_be_built_is_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The words of the program that failed are the reason."""
    monkeypatch.setattr(wall, "NAMESPACES", ("--nonexistent",))
    finding = probe.wall_finding(None, folder=tmp_path)
    assert not finding.present
    assert "nonexistent" in finding.detail
    assert finding.remedy


def test_the_setting_that_forbids_user_namespaces_is_named(tmp_path: Path) -> None:
    """The advice is the line that changes the setting which is in the way, or nothing."""
    setting = tmp_path / "kernel" / "apparmor_restrict_unprivileged_userns"
    setting.parent.mkdir()
    setting.write_text("1\n")
    assert probe.setting_remedy(sysctl=tmp_path) == "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    setting.write_text("0\n")
    assert probe.setting_remedy(sysctl=tmp_path) == ""


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("the engine speaks API 1.40, at least 1.41 (Docker 20.10) is needed", "install Docker 20.10 or newer"),
        ("PermissionError(13, 'Permission denied')", "sudo usermod -aG docker $USER, then log in again"),
        ("the Python module docker is not installed", "python3 -m pip install 'docker>=7.1'"),
    ],
)
def test_advice_follows_the_engines_words(words: str, remedy: str) -> None:
    """Each way in which an engine does not answer has its own line to paste."""
    assert probe.docker_remedy(words) == remedy


# ---- the user --------------------------------------------------------------------------------------------------------


def test_root_without_a_user_is_told_how_to_make_one() -> None:
    """Nobody's account is taken by guessing."""
    missing = find_user(None, euid=0, environ={})
    assert isinstance(missing, Missing)
    assert missing.remedy == "sudo useradd -m seatrial, then add -- --as-user seatrial"
    assert isinstance(find_user(None, euid=0, environ={"SUDO_UID": "0"}), Missing)


def test_the_user_is_who_called_sudo_or_who_was_named() -> None:
    """--as-user wins over SUDO_UID; an ordinary user is himself."""
    assert find_user("nobody", euid=0, environ={"SUDO_UID": "1"}) == NOBODY
    assert find_user(None, euid=0, environ={"SUDO_UID": "65534"}) == NOBODY
    assert find_user(None, euid=65534, environ={"SUDO_UID": "1"}) == NOBODY


@pytest.mark.parametrize(("name", "euid"), [("no-such-user", 0), ("root", 0), ("nobody", 1)])
def test_a_user_that_cannot_be_is_a_usage_error(name: str, euid: int) -> None:
    """An unknown name, root itself, or somebody else's account without being root."""
    with pytest.raises(UsageError):
        find_user(name, euid=euid, environ={})
