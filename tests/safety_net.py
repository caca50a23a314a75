"""A net around the real launcher: PID 1 of a PID namespace of its own, which tells exactly what a run leaves behind.

Run as a program it is that PID 1: it starts a command, does harm to one of its processes at a given moment, waits,
and prints what is left as JSON. Whatever escapes ends with the namespace.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).parents[1]
NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
TOO_LONG_S = 300.0
LIVENESS_S = 60.0
"""Nothing is left two seconds after the end of a launcher, on a machine with nothing else to do; on others by then."""


@dataclass(frozen=True, kw_only=True)
class Harm:
    """What is done to the command: signals to a victim, `after` seconds from its start or from the first case's."""

    victim: str
    """``launcher``, ``keeper``, ``wall`` (an unshare of the launcher's), ``worker`` (its pytest) or ``parent``."""
    numbers: tuple[int, ...] = ()
    after: float = 0.0
    running: str = ""
    """Count from the moment at which a node has started whose id holds this text."""
    passed: str = ""
    """The same, has passed."""
    keys: str = ""
    """Typed at the command's terminal instead of signals."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """How the command ended and what it left; `code` is minus the number of a signal that killed it."""

    KINDS: ClassVar = ("processes", "mounts", "cgroups", "containers", "files")

    pid: int
    code: int | None
    seconds: float
    harmed: bool
    gone_s: float
    """Seconds from the end of the command until no process of it was left."""
    lasted_s: float = 0.0
    """Seconds from the blow until no process was left."""
    processes: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    output: str = ""

    @property
    def left(self) -> dict[str, tuple[str, ...]]:
        """Return everything that is left, by kind."""
        return {kind: getattr(self, kind) for kind in self.KINDS if getattr(self, kind)}


def run(
    words: Sequence[str],
    *,
    run_id: str,
    environment: Mapping[str, str] | None = None,
    harm: Harm | None = None,
    parent: bool = False,
    terminal: bool = False,
    scratch: str = "/tmp",
    directory: Path = ROOT,
) -> Report:
    """Run a command in the net and return its report; `parent` puts a stand-in for nox between."""
    order = {
        "words": list(words),
        "run": run_id,
        "harm": asdict(harm) if harm else None,
        "parent": parent,
        "terminal": terminal,
        "scratch": scratch,
        "directory": str(directory),
    }
    user = () if os.geteuid() == 0 else ("--user", "--map-current-user")
    # Not measured: an interruption in the middle of coverage's own work leaves its lock held, and the launcher waits
    # for that lock for ever (seen with py-spy).
    own = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    given = {**own, **(environment or {}), "SEATRIAL_RUN": run_id, "TMPDIR": scratch}
    for name in ("SEATRIAL_NOX", "SUDO_UID", "SUDO_GID", "CI"):
        given.pop(name, None)
    done = subprocess.run(
        ["unshare", *user, *NAMESPACES, "--", sys.executable, "-m", "tests.safety_net"],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=given,
        timeout=TOO_LONG_S * 2,
        check=False,
    )
    if not done.stdout:
        raise AssertionError(f"the net tore ({done.returncode}): {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    for key in Report.KINDS:
        found[key] = tuple(found[key])
    return Report(**found)


# ---- inside ----------------------------------------------------------------------------------------------------------


@dataclass
class Net:
    """The PID 1 of the namespace."""

    order: dict[str, Any]
    mounts: set[str] = field(default_factory=set)
    struck: float = 0.0

    def report(self) -> dict[str, Any]:
        """Start the command, harm it, see it end, and look around."""
        self.mounts = mount_points()
        terminal = os.openpty() if self.order["terminal"] else None
        started = time.monotonic()
        with Path(self.order["scratch"], f"net-{self.order['run']}").open("w+b") as output:
            Path(output.name).unlink()
            process = self.start(output, terminal)
            harmed = self.harm(process, terminal, started)
            code = self.end_of(process)
            ended = time.monotonic()
            gone = self.settle()
            output.seek(0)
            text = output.read().decode(errors="replace")
        if terminal is not None:
            os.close(terminal[0])
        return {
            "pid": os.getpid(),
            "code": code,
            "seconds": ended - started,
            "harmed": harmed,
            "gone_s": gone - ended,
            "lasted_s": gone - self.struck if harmed else 0.0,
            "output": text,
            **self.left(),
        }

    def start(self, output: Any, terminal: tuple[int, int] | None) -> subprocess.Popen[bytes]:
        """Start the command, below a stand-in for nox or for the shell of a terminal if asked for."""
        words = list(self.order["words"])
        if terminal is not None or self.order["parent"]:
            words = [sys.executable, "-c", PARENT, *words]
        process = subprocess.Popen(
            words,
            stdin=terminal[1] if terminal else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self.order["directory"],
            start_new_session=terminal is not None,
        )
        if terminal is not None:
            os.close(terminal[1])
        return process

    def harm(self, process: subprocess.Popen[bytes], terminal: tuple[int, int] | None, started: float) -> bool:
        """Wait for the moment; return whether there was anybody left to be harmed."""
        harm = self.order["harm"]
        if harm is None:
            return False
        pidfd = os.pidfd_open(process.pid)
        try:
            waited = harm["running"] or harm["passed"]
            if waited and not self.reached(pidfd):
                return False
            since = time.monotonic() if waited else started
            if select.select([pidfd], [], [], max(0.0, since + harm["after"] - time.monotonic()))[0]:
                return False
            self.struck = time.monotonic()
            if harm["keys"] and terminal:
                os.write(terminal[0], harm["keys"].encode())
                return True
            return self.strike(process, harm["victim"], harm["numbers"])
        finally:
            os.close(pidfd)

    def reached(self, pidfd: int) -> bool:
        """Wait until the node has started or passed."""
        harm = self.order["harm"]
        event, outcome = (b"started", b"") if harm["running"] else (b"ended", b'.*"outcome":"passed"')
        node = re.escape((harm["running"] or harm["passed"]).encode())
        reached = re.compile(b'"event":"' + event + b'".*' + node + outcome)
        runs = Path(self.order["words"][self.order["words"].index("--runs") + 1], self.order["run"])
        end = time.monotonic() + TOO_LONG_S
        while time.monotonic() < end and not select.select([pidfd], [], [], 0.01)[0]:
            for path in runs.glob("*/events/test.[0-9]*.jsonl"):
                if reached.search(path.read_bytes()):
                    return True
        return False

    def strike(self, process: subprocess.Popen[bytes], victim: str, numbers: Sequence[int]) -> bool:
        """Send the signals; the second one when the process has had time to notice the first."""
        pid = self.find(process, victim)
        if pid is None:
            return False
        for number in numbers:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            select.select([], [], [], 0.1 if len(numbers) > 1 else 0)
        return True

    def find(self, process: subprocess.Popen[bytes], victim: str) -> int | None:
        """Return the process that plays a part, if there is one now."""
        launcher = next((pid for pid in self.tree(process.pid) if "suites.framework" in command(pid)[:5]), None)
        if victim == "parent":
            return process.pid
        if launcher is None or victim == "launcher":
            return launcher
        if victim == "keeper":
            return next((pid for pid in children(launcher) if "suites.framework.keeper" in command(pid)), None)
        walls = [pid for pid in children(launcher) if "unshare" in Path(f"/proc/{pid}/comm").read_text()]
        workers = [pid for wall in walls for pid in children(wall)]
        return next(iter(walls if victim == "wall" else workers), None)

    def tree(self, pid: int) -> Iterator[int]:
        """Yield a process and its descendants."""
        yield pid
        for child in children(pid):
            yield from self.tree(child)

    def end_of(self, process: subprocess.Popen[bytes]) -> int | None:
        """Wait for the end of the command; one that never ends has no code."""
        with suppress(subprocess.TimeoutExpired):
            return process.wait(TOO_LONG_S)
        return None

    def settle(self) -> float:
        """Reap until no other process is left, or the deadline; return the time then."""
        end = time.monotonic() + LIVENESS_S
        while time.monotonic() < end:
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if not others():
                break
            select.select([], [], [], 0.005)
        return time.monotonic()

    def left(self) -> dict[str, list[str]]:
        """Return what is left, by kind."""
        run_id, scratch = self.order["run"], Path(self.order["scratch"])
        return {
            "processes": [f"{pid} {' '.join(command(pid))}" for pid in others()],
            "mounts": sorted(mount_points() - self.mounts),
            "cgroups": cgroups(run_id),
            "containers": containers(run_id),
            "files": [path.name for path in scratch.iterdir() if run_id in path.name],
        }


TERMINAL_LOST = 99
PARENT = f"""
import fcntl, os, signal, subprocess, sys, termios
signal.signal(signal.SIGINT, lambda *_: None)
if own := os.isatty(0):
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
code = subprocess.Popen(sys.argv[1:], env={{**os.environ, "SEATRIAL_NOX": str(os.getpid())}}).wait()
sys.exit({TERMINAL_LOST} if own and os.tcgetpgrp(0) != os.getpgrp() else code)
"""
"""Like nox, the parent of the launcher; like a shell, the owner of a terminal, which it wants to have back."""


def others() -> list[int]:
    """Return all processes of this namespace but this one."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(word) for task in tasks for word in (task / "children").read_text().split()]
    return []


def command(pid: int) -> list[str]:
    """Return the command line of a process; its name in brackets when it has none."""
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        return words or [f"[{Path(f'/proc/{pid}/comm').read_text().strip()}]"]
    return []


def mount_points() -> set[str]:
    """Return the mount points of this namespace, with their ids."""
    rows = (line.split(" ") for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return {f"{row[0]} {row[4]}" for row in rows if "/docker/" not in row[4]}


def cgroups(run_id: str) -> list[str]:
    """Return the cgroups of a run, whatever hierarchy they are in."""
    return [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if run_id in Path(folder).name]


def containers(run_id: str) -> list[str]:
    """Return the containers that carry a run's label."""
    if not shutil.which("docker"):
        return []
    words = ["docker", "ps", "--all", "--quiet", "--filter", f"label=seatrial.run={run_id}"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()


def main() -> None:
    """Be the net."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    print(json.dumps(Net(json.load(sys.stdin)).report()))


if __name__ == "__main__":
    main()
