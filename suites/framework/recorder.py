"""The harness's end of a payload that runs under the target: what it recorded, and commands to it (layer 1).

A `Recorder` talks with one process of fixtures/payloads over a SOCK_SEQPACKET socket. Every record carries the
nonce of the test, and the kernel adds the sender's pid as seen from here (SCM_CREDENTIALS, unix(7)).
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from suites.framework import signals
from suites.framework.model import Reason
from suites.framework.observation import Unmet
from suites.framework.process import Status, exited
from suites.framework.waiting import Capture, Deadline, Waiter

LARGEST_RECORD = 262144
CREDENTIALS = struct.Struct("3i")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One datagram of the payload: its kind, when it was sent (CLOCK_MONOTONIC, seconds), and its fields."""

    kind: str
    at: float
    fields: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        """Return a field of the record."""
        return self.fields[key]

    def __str__(self) -> str:
        """Return one line for a signal log."""
        if self.kind == "signal":
            about = f"{signals.name(self['number'])} code {self['code']} sender {self['sender']}"
        else:
            about = " ".join(f"{key}={self.fields[key]}" for key in ("ppid", "command", "result") if key in self.fields)
        return f"{self.at:.6f} pid {self['pid']} {self.kind} {about}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a process said of itself (proc_pid_status(5)), before it changed anything."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    foreground: int
    """Foreground process group of its controlling terminal, -1 without one."""
    uid: int
    pid_namespace: str
    directory: bytes
    argv: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    fds: dict[int, str]
    """Number: what /proc/self/fd says of it."""
    blocked: frozenset[int]
    ignored: frozenset[int]
    unknown: frozenset[int]
    """Signals whose inherited disposition this payload cannot know (the Python twin: PIPE and XFSZ)."""

    @classmethod
    def of(cls, record: Record) -> State:
        """Return the state that a ``ready`` or ``state`` record holds."""
        return cls(
            pid=record["pid"],
            ppid=record["ppid"],
            pgid=record["pgid"],
            sid=record["sid"],
            foreground=record["tpgid"],
            uid=record["uid"],
            pid_namespace=record["pidns"],
            directory=bytes.fromhex(record["cwd"]),
            argv=tuple(map(bytes.fromhex, record["argv"])),
            environment=tuple(map(bytes.fromhex, record["env"])),
            fds={int(number): target for number, target in record["fds"].items()},
            blocked=frozenset(record["blocked"]),
            ignored=frozenset(record["ignored"]),
            unknown=frozenset(record["unknown"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """What came of a script: its status, and its output with errors among it."""

    status: Status
    text: str

    @property
    def ok(self) -> str:
        """Return the output without its last newline; Unmet where the script did not exit with 0."""
        if self.status != exited(0):
            raise Unmet("a script in the container: exit 0", f"{self.status}: {self.text.strip()}")
        return self.text.removesuffix("\n")


class Supervisor(Protocol):
    """The program under test, as far as somebody who waits for a record below it must know."""

    def watch(self) -> tuple[int, ...]:
        """Return the descriptor that is readable once it has ended; none when that is known already."""
        ...

    def fate(self) -> tuple[str, Reason | None]:
        """Return how it stands (``the init ended: exit 0``), and whether that is a crash."""
        ...


def _parsed(data: bytes) -> dict[str, Any]:
    """Return a datagram's table; empty where a target that holds the channel wrote something else into it."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def recording_socket() -> socket.socket:
    """Return an unbound socket at which recording processes can connect: what it accepts inherits SO_PASSCRED.

    A record that is sent between accept(2) and a later setsockopt(2) would come without its sender's pid.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return made


class Recorder:
    """One recording process, from its ``ready`` to its end."""

    def __init__(
        self, channel: socket.socket, *, nonce: str, waiter: Waiter, seconds: float, supervisor: Supervisor
    ) -> None:
        """Speak over `channel`, and notice when the supervisor ends instead of waiting for what cannot come."""
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        channel.setblocking(False)
        self.channel, self.nonce, self.seconds = channel, nonce, seconds
        self.pid = 0
        """The process's number as seen from the worker; 0 until its first record, or from another machine's view."""
        self.log: list[Record] = []
        self._waiter, self._supervisor = waiter, supervisor
        self._unread: deque[Record] = deque()
        self._forks: list[Recorder] = []
        self.ended = False

    # -- records

    def next(self, *kinds: str, what: str = "") -> Record:
        """Return the next record of one of these kinds, keeping others for later; Unmet when none comes."""
        wanted = what or f"record {' or '.join(kinds)}"
        deadline = Deadline(self.seconds)
        while (record := self._take(kinds)) is None:
            if self.ended:
                self._waiter.wait(self._supervisor.watch(), deadline)  # an init follows its child: say how, every time
                raise self._unmet(wanted, "the recording process ended")
            if not self._advanced(deadline):
                if deadline.passed:
                    raise self._unmet(wanted, "nothing came", reason=Reason.TIMEOUT)
                raise self._unmet(wanted, "")
        return record

    def _advanced(self, deadline: Deadline) -> bool:
        """Read what comes next; return False where nothing came until the deadline, or can come any more."""
        ready = self._waiter.wait((self.channel.fileno(), *self._supervisor.watch()), deadline)
        if ready and self.channel.fileno() not in ready:  # the last record may just have arrived
            ready = self._waiter.wait((self.channel.fileno(),), Deadline(0))
        if ready:
            self._read()
        return bool(ready)

    def _unmet(self, wanted: str, what: str, *, reason: Reason | None = None) -> Unmet:
        words, crash = self._supervisor.fate()
        return Unmet(wanted, f"{what}; {words}" if what else words, reason=crash or reason)

    def _take(self, kinds: tuple[str, ...]) -> Record | None:
        for record in self._unread:
            if record.kind in kinds:
                self._unread.remove(record)
                return record
        return None

    def _read(self) -> None:
        try:
            data, ancillary, _, _ = self.channel.recvmsg(LARGEST_RECORD, socket.CMSG_SPACE(CREDENTIALS.size))
        except BlockingIOError:
            return
        except ConnectionResetError:
            data, ancillary = b"", []
        if not data:
            self.ended = True
            return
        fields = _parsed(data)
        if fields.get("nonce") != self.nonce:  # a record of somebody else proves nothing
            return
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and not self.pid:
                self.pid = CREDENTIALS.unpack(content[: CREDENTIALS.size])[0]
        record = Record(kind=fields["record"], at=fields["at"] / 1e9, fields=fields)
        self.log.append(record)
        self._unread.append(record)

    def ready(self) -> State:
        """Return what the process reported when it was ready to record."""
        return State.of(self.next("ready", what="the payload ready under the target"))

    def next_signal(self) -> Record:
        """Return the next signal the process received."""
        return self.next("signal", what="a signal at the child")

    def signals_within(self, seconds: float, *, most: int) -> tuple[int, ...]:
        """Return the numbers received until there are `most`, or none for `seconds`."""
        heard: list[int] = []
        deadline = Deadline(seconds)
        while len(heard) < most and not self.ended:
            if (record := self._take(("signal",))) is not None:
                heard.append(record["number"])
                deadline = Deadline(seconds)
            elif not self._advanced(deadline):
                break
        return tuple(heard)

    def signals_until(self, fence: int) -> tuple[int, ...]:
        """Return the numbers received before the signal `fence`, which the caller has sent."""
        heard: list[int] = []
        while (number := self.next("signal", what=f"the fence {signals.name(fence)} at the child")["number"]) != fence:
            heard.append(number)
        return tuple(heard)

    def reparented(self) -> int:
        """Return the new parent of an orphan, in its own pid namespace."""
        return int(self.next("reparented", what="the orphan re-parented")["ppid"])

    def left(self, seconds: float) -> bool:
        """Return whether the process has ended `seconds` from now at the latest: its end of the channel is closed."""
        deadline = Deadline(seconds)
        while not self.ended and self._advanced(deadline):
            pass
        return self.ended

    # -- commands

    def tell(self, command: str, *fds: int) -> None:
        """Send a command without awaiting its reply."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.channel.sendmsg([command.encode()], rights)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._unmet(f"command {command!r} taken", "the recording process ended") from error

    def ask(self, command: str, *fds: int) -> int:
        """Send a command and return its result; raises Unmet for a command that failed."""
        self.tell(command, *fds)
        result = int(self.next("done", what=f"command {command!r} done")["result"])
        if result < 0:
            raise Unmet(f"command {command!r} done", os.strerror(-result))
        return result

    def sh(self, script: str) -> Shell:
        """Run a script of /bin/sh as a child of the process; return how it ended and what it printed (2>&1)."""
        reading, writing = os.pipe()
        capture = self._waiter.add(Capture(reading, title="sh", limit=LARGEST_RECORD))
        try:
            status = self.ask(f"sh {script}", writing)
        finally:
            os.close(writing)
            if capture.fd >= 0:
                capture.drain()
                self._waiter.remove(capture)
        return Shell(status=Status.of(status), text=capture.data.decode(errors="backslashreplace"))

    def state(self) -> State:
        """Return the process's state as it is now."""
        self.tell("state")
        return State.of(self.next("state"))

    def fork(self, *flags: str) -> tuple[Recorder, State]:
        """Make the process fork a new recording one (flags ``orphan session group uid=N``); return it when ready."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        forked = self.beside(ours)
        with theirs:
            self.ask(" ".join(("fork", *flags)), theirs.fileno())
        return forked, forked.ready()

    def beside(self, channel: socket.socket) -> Recorder:
        """Return a recorder over another channel, of a process that lives and ends with this one's supervisor."""
        recorder = Recorder(
            channel, nonce=self.nonce, waiter=self._waiter, seconds=self.seconds, supervisor=self._supervisor
        )
        self._forks.append(recorder)
        return recorder

    def close(self) -> None:
        """Hang up, here and at all forked ones; the processes end when they notice."""
        self.channel.close()
        self.ended = True
        for forked in self._forks:
            forked.close()

    def history(self) -> list[Record]:
        """Return the records of this process and of all that it forked, in the order of time."""
        found = [*self.log, *(record for forked in self._forks for record in forked.history())]
        return sorted(found, key=lambda record: record.at)
