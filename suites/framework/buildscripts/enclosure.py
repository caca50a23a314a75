"""What a wrapper is called in, to be short of something: file systems, cgroups, system calls (layer 1)."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from suites.framework import cgroups, probes, process
from suites.framework.bench import Bench
from suites.framework.errors import InfrastructureError
from suites.framework.model import Evidence
from suites.framework.waiting import Capture, Deadline, Waiter

_KEPT = {os.ST_NOSUID: "nosuid", os.ST_NODEV: "nodev", os.ST_NOEXEC: "noexec"}
"""Restrictions of a mount, which an ordinary user may not take away (mount_namespaces(7))."""
_SHOWING = (
    'while [ $# -gt 0 ]; do mount --rbind "$1" "$2" && { [ -z "$3" ] || mount -o "$3" "$2"; } || exit; shift 3; done'
)
SECONDS = 20.0
"""What the tools that prepare a place may take on a busy machine."""

SOURCE = "seatrial"
"""What the file systems of an enclosure are called in its table of mounts."""

_REAPING = """
import ctypes, os, signal, sys
group, *words = sys.argv[1:]
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
pid = os.fork()
if not pid:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with open(group + "/cgroup.procs", "w") as file:
        file.write("0")
    os.execv(words[0], words)
found = 0
while found != pid:
    found, status = os.wait()
code = os.waitstatus_to_exitcode(status)
sys.exit(code if code >= 0 else 128 - code)
"""
"""Runs a program in a cgroup, and buries what it leaves: a zombie counts as a process (PR_SET_CHILD_SUBREAPER)."""

_DENYING = """
import ctypes, os, signal, struct, sys
numbers = {"x86_64": (272, 165), "ppc64le": (282, 21), "s390x": (303, 21)}.get(os.uname().machine, (97, 40))
rules = [(0x20, 0, 0, 0)]
for number in numbers:
    rules += [(0x15, 0, 1, number), (0x06, 0, 0, 0x50001)]
rules.append((0x06, 0, 0, 0x7FFF0000))
text = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(rules), ctypes.addressof(text)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a program to which unshare(2) and mount(2) answer EPERM, as in a container with the usual filter: seccomp(2)."""


def denying(bench: Bench) -> list[str]:
    """Return words in front of a program that may make no namespace and no mount."""
    return [bench.python, "-I", "-S", "-c", _DENYING]


def _read_only(source: Path) -> str:
    """Return the options that make a bind mount of this one to be read only."""
    flags = os.statvfs(source).f_flag
    return ",".join(("remount", "bind", "ro", *(word for flag, word in _KEPT.items() if flags & flag)))


class Enclosure:
    """A mount namespace of the test's own, in a user namespace for an ordinary user; it ends with the test."""

    proven = cut_short = False
    cost = (0.0, 0.0, 0)

    def __init__(self, bench: Bench) -> None:
        """Make it, held by a process that waits."""
        self._bench, self._waiter = bench, Waiter()
        self._users = ["--user", "--map-root-user"] if os.geteuid() else []
        reading, writing = os.pipe()
        kept, self._end = os.pipe()
        words = [probes.tool("unshare"), *self._users, "--mount", "/bin/sh", "-c", "echo ready; exec cat"]
        try:
            fds = {0: kept, 1: writing, 2: writing}
            self._child = process.spawn(words, environment=bench.environment, fds=fds)
        finally:
            os.close(kept)
            os.close(writing)
        bench.launches.append(self)
        said = self._waiter.add(Capture(reading, title="enclosure", limit=4096))
        self._waiter.wait((reading,), Deadline(SECONDS))
        said.drain()
        if said.data != b"ready\n":
            raise InfrastructureError("no mount namespace", why=said.data.decode(errors="replace").strip())

    @property
    def words(self) -> list[str]:
        """Return the words in front of a program that is to run in it."""
        users = ["--user", "--preserve-credentials"] if self._users else []
        return [probes.tool("nsenter"), f"--target={self._child.pid}", *users, "--mount", "--"]

    def mount(self, point: Path, *, size: str, kind: str = "tmpfs") -> None:
        """Mount an empty file system of so many bytes (``256k``; tmpfs(5)) at a folder."""
        self._run("mount", "-t", kind, "-o", f"size={size},mode=755", SOURCE, str(point))

    def show(self, points: Mapping[Path, Path], *, writable: Collection[Path] = ()) -> None:
        """Have files and folders seen at other places, too, which are made; those that are not `writable` to be read.

        `points` maps what is seen to where; one after the other, each with all that is mounted below it.
        """
        words: list[str] = []
        for source, point in points.items():
            point.parent.mkdir(parents=True, exist_ok=True)
            point.mkdir(exist_ok=True) if source.is_dir() else point.touch()
            words += [str(source), str(point), "" if source in writable else _read_only(source)]
        self._run("sh", "-c", _SHOWING, "sh", *words)

    def change(self, point: Path, option: str) -> None:
        """Mount it again with another option: ``ro``, ``size=8m``.

        With its source mount(8) adds no options that it has now, such as an owner who is unknown in a user namespace.
        """
        self._run("mount", "-o", f"remount,{option}", SOURCE, str(point))

    def unmount(self, point: Path) -> None:
        """Take a mount away."""
        self._run("umount", str(point))

    @property
    def mountinfo(self) -> bytes:
        """Return its mounts as the kernel lists them (proc_pid_mountinfo(5))."""
        return Path(f"/proc/{self._child.pid}/mountinfo").read_bytes()

    def inside(self, path: Path) -> Path:
        """Return the path by which we reach what it has at `path` (proc_pid_root(5))."""
        return Path(f"/proc/{self._child.pid}/root{path}")

    def _run(self, name: str, *words: str) -> None:
        status, said = process.output_of(
            [*self.words, probes.tool(name), *words], environment=self._bench.environment, seconds=SECONDS
        )
        if status != process.exited(0):
            raise InfrastructureError(f"{name} in a mount namespace of our own", why=said or str(status))

    def evidence(self) -> Sequence[Evidence]:
        """Return nothing: what it is for shows elsewhere."""
        return ()

    def close(self) -> None:
        """End the process that holds it; safe to repeat."""
        if self._end >= 0:
            os.close(self._end)
            self._end = -1
            self._child.kill()
            self._waiter.finish()


class Group:
    """A cgroup with a limit, made below the worker's own and removed with the test."""

    def __init__(self, bench: Bench, controller: str, limit: int) -> None:
        """Make it; the fact that it can be made is the case's to require."""
        place = cgroups.controlled_by(controller)
        assert place is not None
        own, unified = place
        self._version = 2 if unified else 1
        self._python, self.folder = bench.python, own / f"{cgroups.LIMITING}{bench.nonce}"
        self.folder.mkdir()
        bench.own(self.folder.rmdir)
        (self.folder / cgroups.KNOBS[f"{controller}.limit"][self._version].file).write_text(str(limit))

    @property
    def words(self) -> list[str]:
        """Return the words in front of a program that is to run in it."""
        return [self._python, "-I", "-S", "-c", _REAPING, str(self.folder)]

    @property
    def kills(self) -> int:
        """Return how many processes of it the kernel has killed for want of memory (memory.events, oom_control)."""
        said = cgroups.KNOBS["memory.kills"][self._version].read(self.folder)
        return 0 if said == cgroups.NOWHERE else int(said)
