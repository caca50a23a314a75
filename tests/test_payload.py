"""The recorder payload and its Python twin keep one protocol: the same commands and the same records."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from suites.framework.proc import children, state
from suites.framework.waiting import Deadline, ticks
from tests.payloads import AS_ROOT, LIBC, NOBODY, SECONDS, Line, Payload, agent, status

pytest_plugins = ("tests.payloads",)
FENCE = 64


def test_ready_reports_what_was_inherited(payload: Payload) -> None:
    """Masks, dispositions, words, environment, directory and descriptors are those of the moment of exec."""
    environment = {b"B": b"\xff x", b"A": b""}
    before = (*payload, "launch", "--ignore", "1,12,34", "--block", "15,35,64", "--directory", "/usr", "--")
    with agent(payload, *before, words=("", "a b", b"\xfe"), env=environment, stdin=subprocess.DEVNULL) as run:
        ready = run.ready
        assert (ready["ignored"], ready["blocked"], ready["unknown"]) == ([1, 12, 34], [15, 35, 64], unknown(payload))
        argv = [bytes.fromhex(word) for word in ready["argv"]]
        assert (argv[0].decode(), argv[1], argv[-3:]) == (payload[-1], b"agent", [b"", b"a b", b"\xfe"])
        assert [bytes.fromhex(item) for item in ready["env"]] == [b"B=\xff x", b"A="]
        assert bytes.fromhex(ready["cwd"]) == b"/usr"
        assert [*ready["fds"]][:3] == ["0", "1", "2"]
        assert len(ready["fds"]) == 4
        assert ready["fds"]["0"] == "/dev/null"
        assert ready["pid"] == ready["pgid"] == ready["sid"] == run.process.pid
        assert ready["ppid"] == os.getpid()
        assert (ready["tpgid"], ready["uid"], ready["gid"]) == (-1, os.getuid(), os.getgid())
        assert ready["pidns"] == str(Path("/proc/self/ns/pid").readlink())
        assert run.state()["blocked"] == [number for number in range(1, 65) if number not in (9, 19, 32, 33)]


def unknown(payload: Payload) -> list[int]:
    return [13, 25] if payload[-1].endswith(".py") else []


@pytest.mark.usefixtures("bounded")
def test_both_give_identical_records(compiled: Payload, twin: Payload) -> None:
    """Keys, their order and every value that is no pid, time, path or inode are the same."""
    first, second = scenario(compiled), scenario(twin)
    assert first == second
    assert len(first) == 13


def scenario(payload: Payload) -> list[Any]:
    records = []
    null = subprocess.DEVNULL
    with agent(payload, words=("w",), env={"A": "é"}, stdin=null, stdout=null, stderr=null) as run:
        line, ready, _ = run.fork("orphan")
        records += [run.ready, ready, line.next()]
        line.close()
        for command in ("state", 'nonsense "\n', "child 3", "write 99 00", "write 1", "release 1", "fork"):
            run.tell(command)
            records.append(run.next())
            if command == "child 3":  # dead before CHLD is sent: two of them at once are one signal
                for _ in ticks(Deadline(SECONDS)):
                    if any(state(pid) == "Z" for pid in children(run.process.pid)):
                        break
        for number in (signal.SIGCHLD, signal.SIGRTMAX, signal.SIGPIPE):
            run.process.send_signal(number)
            records.append(run.next())
    return [[(key, comparable(key, value)) for key, value in record.items()] for record in records]


def comparable(key: str, value: Any) -> Any:
    match key:
        case "pid" | "at" | "ppid" | "pgid" | "sid" | "sender":
            return type(value)
        case "argv":
            return value[1:2] + value[3:]  # without the path and the channel's number
        case "fds":
            return [target.split(":")[0] for target in value.values()]
        case "unknown":
            return None
        case "result":
            return min(value, 1)
        case _:
            return value


def test_queued_real_time_signals_arrive_each_and_in_order(payload: Payload) -> None:
    """Fifty queued signals give fifty records with their values, before the reply to a later command."""
    with agent(payload) as run:
        for value in range(50):
            assert LIBC.sigqueue(run.process.pid, signal.SIGRTMIN + 1, ctypes.c_void_p(value)) == 0
        run.tell("state")
        records = [run.next() for _ in range(51)]
        assert [record.get("value") for record in records] == [*range(50), None]
        assert {(record["number"], record["code"], record["sender"]) for record in records[:50]} == {
            (signal.SIGRTMIN + 1, -1, os.getpid())
        }
        assert records[50]["record"] == "state"
        assert records[0]["at"] < records[49]["at"] < records[50]["at"]


def test_every_signal_is_recorded(payload: Payload) -> None:
    """All but KILL and STOP arrive, once each, CHLD from somebody included."""
    wanted = {*range(1, 65)} - {9, 19, 32, 33, FENCE, signal.SIGCONT}
    with agent(payload) as run:
        for number in (*sorted(wanted), FENCE):
            run.process.send_signal(number)
        heard = iter(lambda: int(run.next()["number"]), FENCE)
        assert sorted(heard) == sorted(wanted)


@pytest.mark.parametrize(("command", "expected"), [("exit 7", 7), ("die 15", -15), ("die 9", -9), ("die 34", -34)])
def test_ends_as_told(payload: Payload, command: str, expected: int) -> None:
    """Commands exit and die give the exact wait status."""
    with agent(payload) as run:
        run.tell(command)
        assert run.wait() == expected


def test_default_and_record(payload: Payload) -> None:
    """A signal that is ignored by default is survived and not recorded; recording can be resumed."""
    with agent(payload) as run:
        assert run.ask("default") == 0
        assert run.state()["blocked"] == run.state()["ignored"] == []
        run.process.send_signal(signal.SIGWINCH)
        assert (run.ask("die 28"), run.ask("record")) == (0, 0)
        run.process.send_signal(signal.SIGTERM)
        assert run.next()["number"] == signal.SIGTERM
        assert run.ask("default") == 0
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == -signal.SIGINT


def test_end_of_channel_ends_the_agent(payload: Payload) -> None:
    """A harness that has gone leaves no process behind."""
    with agent(payload) as run:
        run.close()
        assert run.wait() == 0


@pytest.mark.parametrize("flags", ["", "session", "group", pytest.param("uid=65534 session", marks=AS_ROOT)])
def test_fork(payload: Payload, flags: str) -> None:
    """A forked agent has the group, session and user asked for, the same descriptors, and a channel of its own."""
    with agent(payload) as run:
        assert run.ask("orphans 1") == 1
        line, ready, pid = run.fork(flags)
        assert (ready["pid"], ready["ppid"]) == (pid, run.process.pid)
        assert (ready["sid"] == pid, ready["pgid"] == pid) == ("session" in flags, flags != "")
        assert (ready["uid"] == ready["gid"] == NOBODY) == ("uid" in flags)
        assert ready["env"] == run.ready["env"]
        assert len(ready["fds"]) == len(run.ready["fds"]) + 1  # the signalfd alone came after ready
        os.kill(pid, signal.SIGUSR1)
        assert (line.next()["number"], run.ask("reap")) == (signal.SIGUSR1, 0)
        line.close()


@pytest.mark.parametrize("flags", ["orphan", "orphan session", pytest.param("orphan uid=65534", marks=AS_ROOT)])
def test_fork_orphan(payload: Payload, flags: str) -> None:
    """An orphan tells its new parent once, and the signal that announced it is recorded when somebody sends it."""
    with agent(payload) as run:
        line, ready, pid = run.fork(flags)
        assert ready["pid"] == pid
        assert ready["ppid"] not in (run.process.pid, os.getpid())
        assert (line.next()["ppid"], run.ask("reap")) == (os.getpid(), 0)
        os.kill(pid, signal.SIGRTMAX - 1)
        assert line.next()["number"] == signal.SIGRTMAX - 1
        line.tell("exit 4")
        assert status(pid) == 4
        line.close()


@pytest.mark.parametrize(("count", "end", "expected"), [(500, "3", 3), (2, "signal", -9)])
def test_orphans_end_when_released(payload: Payload, count: int, end: str, expected: int) -> None:
    """Every orphan ends as told, by one command."""
    with agent(payload) as run:
        assert (run.ask(f"orphans {count}"), run.ask("orphans 1"), run.ask(f"release {end}")) == (count, -16, 0)
        assert {status(-run.process.pid) for _ in range(count)} == {expected}
        assert run.ask("release 0") == -3


def test_child_is_reaped_on_command_alone(payload: Payload) -> None:
    """A dead child stays a zombie until then, and the kernel's CHLD is not recorded."""
    with agent(payload) as run:
        children = [run.ask(f"child {number}") for number in range(3)]
        for pid in children:
            pidfd = os.pidfd_open(pid)
            assert select.select([pidfd], [], [], SECONDS)[0] == [pidfd]  # dead, and still there
            os.close(pidfd)
        assert (run.ask("reap"), run.ask("reap")) == (3, 0)


def test_vanish_ends_agent_and_orphan(payload: Payload) -> None:
    """The orphan dies with the agent, whose code is the one told."""
    with agent(payload) as run:
        run.tell("vanish 5")
        assert (run.wait(), status(-run.process.pid)) == (5, 0)


def test_copy_and_write(payload: Payload) -> None:
    """Bytes pass through standard input and output as they are."""
    data = bytes(range(256)) * 64
    with agent(payload, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.process.stdin
        assert run.process.stdout
        with run.process.stdin as stdin, run.process.stdout as stdout:
            assert run.ask("write 1 00ff0a") == 3
            stdin.write(data)
            stdin.close()
            assert run.ask("copy") == len(data)
            assert (run.ask("write 1 0"), run.ask("write 99 00"), run.ask("gibberish")) == (-22, -9, -22)
            run.tell("exit 0")
            assert stdout.read() == b"\0\xff\n" + data


def test_close(payload: Payload) -> None:
    """A descriptor is closed on command; one that is not open is an error."""
    with agent(payload, stdin=subprocess.DEVNULL) as run:
        assert (run.ask("close 0"), run.ask("close 0")) == (0, -9)


def test_channel_by_path(payload: Payload, public: Path) -> None:
    """Both kinds of process connect to a listening socket; that descriptor is close-on-exec and not in the state."""
    path = f"{public}/channel"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(SECONDS)
        for words in (("agent", path, "n1"), ("once", path, "n1", "9")):
            process = subprocess.Popen([*payload, *words])
            line = Line(listener.accept()[0])
            record = line.next()
            assert (record["nonce"], record["pid"]) == ("n1", process.pid)
            if words[0] == "agent":
                assert [*record["fds"]] == ["0", "1", "2"]
                line.close()
                assert process.wait(SECONDS) == 0
            else:
                assert [*record] == ["record", "nonce", "pid", "at"]
                assert process.wait(SECONDS) == 9
                line.close()
    Path(path).unlink()
