"""Descriptors, arguments and environment."""

from __future__ import annotations

import hashlib
import os
import selectors
import socket
from collections.abc import Collection, Mapping, Set
from signal import SIGUSR1
from typing import IO

import pytest

from suites.framework.bench import Bench
from suites.framework.marks import case
from suites.framework.process import exited
from suites.framework.recorder import State
from suites.framework.signals import names
from suites.framework.targets.init import Init
from suites.framework.targets.run import CHANNEL
from suites.framework.waiting import Deadline

MEBIBYTE = 1 << 20
LISTENER = 8
FIRST_LISTENED = 3
"""The first descriptor that is passed by the protocol of sd_listen_fds(3)."""
CONNECTING_S = 2.0
AS_THE_INIT = ("sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "sh")
"""A program that becomes the init, with its own number in LISTEN_PID, as systemd does."""
ODD_WORDS = (b"", b"two words", b"$x `y` \\", b"line\nbreak", b"--", b"-g", b"\xff\xfe not UTF-8", "ünï".encode())


@case("FD-01")
def test_child_holds_exactly_the_inits_descriptors(init: Init) -> None:
    """The child holds the descriptors 0, 1, 2 and 7 of the init's caller, the same files, and no other (execve(2)).

    Why: socket activation and log pipes rely on it.
    By hand:
        $INIT ls -l /proc/self/fd 7</etc/passwd
        # 0 1 2 7 (and 3, the folder that ls reads)
        # the same without $INIT
    """
    with init.start() as run:
        state = run.child.ready()
        assert [0, 1, 2, CHANNEL] == sorted(state.fds)
        assert [] == [number for number, file in run.given.items() if state.fds[number] != file]


@case("FD-02")
def test_no_descriptor_of_the_init_leaks(init: Init, bench: Bench) -> None:
    """Nothing of the init's own (signalfd, epoll, inotify, pipes) is open in the child (open(2), O_CLOEXEC).

    Why: a child that inherits them keeps them alive, can read the init's signals, and may pass them on.
    By hand:
        $INIT ls -l /proc/self/fd
        # nothing that says anon_inode
        # (the same number of lines as without $INIT)
    """
    extra = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    bench.own(lambda: os.close(extra))
    with init.start(fds={20: extra}) as run:
        added = {number: file for number, file in run.child.ready().fds.items() if number not in run.given}
        assert [] == sorted(file.partition(":")[0] for file in added.values())


def _listener(bench: Bench) -> socket.socket:
    """Return a listening TCP socket on a free port of the loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    bench.own(listener.close)
    return listener


@case("FD-03")
def test_init_keeps_none_of_its_childs_descriptors(init: Init, bench: Bench) -> None:
    """The init itself drops what it only passes on: when the child closes its listening socket the port is free.

    Why: otherwise clients connect to a socket that nobody will ever accept from, and hang.
    By hand:
        listens='import os, socket, sys; s = socket.create_server(("", 8765)); os.set_inheritable(s.fileno(), True)'
        python3 -c "$listens; os.execvp(sys.argv[1], sys.argv[1:])" $INIT sleep 60 & sleep 1
        ls -l /proc/$!/fd    # of the init: no socket
    """
    listener = _listener(bench)
    address = listener.getsockname()
    with init.start(fds={LISTENER: listener.fileno()}) as run:
        listener.close()
        run.child.ready()
        assert "USR1" == names(run.heard(SIGUSR1))  # so the init is done with its start
        assert "taken" == _port(address)
        run.child.ask(f"close {LISTENER}")
        assert "free" == _port(address)


def _port(address: tuple[str, int]) -> str:
    """Return whether anybody listens at an address."""
    try:
        socket.create_connection(address, timeout=CONNECTING_S).close()
    except ConnectionRefusedError:
        return "free"
    return "taken"


@case("FD-04")
def test_close_on_exec_descriptor_stays_out(init: Init, bench: Bench) -> None:
    """A descriptor that is close-on-exec in the init's caller does not reach the child, its plain twin does (fcntl(2)).

    Why: an init that opens /dev/fd of its parent or clears the flag would leak the caller's secrets.
    By hand:
        caller='import os, sys; os.open("/etc/passwd", os.O_RDONLY); os.execvp(sys.argv[1], sys.argv[1:])'
        python3 -c "$caller" $INIT ls -l /proc/self/fd
        # no /etc/passwd (its appearance is the failure)
    """
    marked, twin = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("marked", "twin"))
    bench.own(lambda: os.close(marked))
    bench.own(lambda: os.close(twin))
    with init.start(fds={21: twin}) as run:
        files = " ".join(run.child.ready().fds.values())
        assert ("twin", False) == ("twin" if "memfd:twin" in files else "no twin", "memfd:marked" in files)


@case("FD-05")
def test_child_accepts_through_an_inherited_socket(init: Init, bench: Bench) -> None:
    """A listening socket of the init's caller reaches the child, which accepts a client through it (accept(2)).

    Why: it is how a service takes a privileged port without privileges.
    By hand:
        answers='import socket; c, _ = socket.socket(fileno=3).accept(); c.send(b"hello")'
        systemd-socket-activate -l 8765 $INIT python3 -c "$answers" & sleep 1
        curl --http0.9 -s http://127.0.0.1:8765    # hello
    """
    listener = _listener(bench)
    with init.start(init.recorder_words("serve"), fds={LISTENER: listener.fileno()}) as run:
        state = run.child.ready()
        with socket.create_connection(listener.getsockname(), timeout=init.seconds) as client:
            listener.close()
            answers = {f"{bench.nonce} {state.pid}": "the child's answer"}
            assert "the child's answer" == answers.get(_answer(client), "no answer of the child's")


def _answer(client: socket.socket) -> str:
    """Return what a client is sent, empty where nobody accepts it any more."""
    try:
        return client.recv(4096).decode(errors="replace")
    except OSError:
        return ""


@case("FD-06")
def test_listen_pid_of_the_init_becomes_the_childs(init: Init, bench: Bench) -> None:
    """LISTEN_PID is made to name the child where it named the init, and left alone where not (sd_listen_fds(3)).

    Why: a service that is activated by a socket ignores it when the number is not its own.
    By hand:
        LISTEN_FDS=1 sh -c 'export LISTEN_PID=$$; exec "$@"' sh $INIT sh -c 'echo $LISTEN_PID = $$' 3</dev/null
        # the same number twice
        # (the init's on the left is the failure)
    """
    listener = _listener(bench)
    fds = {FIRST_LISTENED: listener.fileno()}
    variables = {b"LISTEN_FDS": b"1", b"LISTEN_FDNAMES": b"web"}
    foreign = {**variables, b"LISTEN_PID": b"99999999"}  # above the kernel's greatest (PID_MAX_LIMIT)
    with init.start(fds=fds, environment=foreign) as run:
        assert foreign == _named(run.child.ready(), foreign)
    with init.start(fds=fds, environment=variables, through=AS_THE_INIT) as run:
        state = run.child.ready()
        assert (variables, run.given[FIRST_LISTENED]) == (_named(state, variables), state.fds[FIRST_LISTENED])
        who = {b"%d" % run.pid_inside: "the init", b"%d" % state.pid: "the child"}
        assert "the child" == who.get(_named(state, {b"LISTEN_PID"}).get(b"LISTEN_PID", b""), "another process")


def _named(state: State, names: Collection[bytes]) -> dict[bytes, bytes]:
    """Return those variables of a process that have one of these names."""
    found = dict(pair.split(b"=", 1) for pair in state.environment if b"=" in pair)
    return {name: value for name, value in found.items() if name in names}


@case("FD-09")
@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)], ids=["stdin", "all-three"])
def test_closed_standard_streams_do_no_harm(init: Init, closed: tuple[int, ...]) -> None:
    """With stdin or all three standard streams closed, the init runs its command and passes the code on (dup2(2)).

    Why: cron jobs and daemons start programs in this way; what the init opens then gets the number 0.
    By hand:
        $INIT sh -c 'exit 7' <&- >&- 2>&-
        echo $?    # 7
    """
    with init.start(without=closed) as run:
        run.child.ready()
        assert "USR1" == names(run.heard(SIGUSR1))
        run.child.tell("exit 7")
        assert exited(7) == run.ended()


@case("FD-10")
def test_pipes_pass_every_byte_and_the_end_of_file(init: Init, bench: Bench) -> None:
    """One mebibyte through the child's stdin and stdout arrives unchanged, and so does the end of file (pipe(7)).

    Why: a container is often one stage of a pipeline.
    By hand:
        head -c 1048576 /dev/urandom >/tmp/in
        $INIT cat </tmp/in >/tmp/out
        cmp /tmp/in /tmp/out    # silent
    """
    data = os.urandom(MEBIBYTE)
    (stdin, writing), (reading, stdout) = os.pipe(), os.pipe()
    feed, drain = (os.fdopen(fd, mode, buffering=0) for fd, mode in ((writing, "wb"), (reading, "rb")))
    bench.own(feed.close)
    bench.own(drain.close)
    try:
        run = init.start(fds={0: stdin, 1: stdout})
    finally:
        os.close(stdin)
        os.close(stdout)
    with run:
        run.child.ready()
        run.child.tell("copy")
        same = hashlib.sha256(data).digest() == _exchange(feed, drain, data)
        assert "the same bytes" == ("the same bytes" if same else "other bytes")
        copied = run.child.next("done")["result"]
        run.child.tell("exit 0")
        assert (MEBIBYTE, exited(0)) == (copied, run.ended())


def _exchange(feed: IO[bytes], drain: IO[bytes], data: bytes) -> bytes:
    """Write everything to `feed` and close it, read `drain` meanwhile; return the sha256 of as many bytes."""
    os.set_blocking(feed.fileno(), False)
    received, unsent, deadline = hashlib.sha256(), memoryview(data), Deadline(20)
    missing = len(data)
    with selectors.DefaultSelector() as selector:
        selector.register(feed, selectors.EVENT_WRITE)
        selector.register(drain, selectors.EVENT_READ)
        while missing and not deadline.passed:
            for key, _ in selector.select(deadline.remaining):
                if key.fileobj is drain:
                    chunk = os.read(key.fd, 65536)
                    received.update(chunk)
                    missing -= len(chunk) or missing
                elif not (unsent := _written(key.fd, unsent)):
                    selector.unregister(feed)
                    feed.close()
    return received.digest()


def _written(fd: int, data: memoryview) -> memoryview:
    """Write a piece of `data`; return what is left of it, which is nothing when nobody reads any more."""
    try:
        return data[os.write(fd, data[:65536]) :]
    except BrokenPipeError:
        return data[:0]


@case("FD-11")
def test_arguments_and_environment_arrive_byte_for_byte(init: Init) -> None:
    r"""Arguments and variables reach the child byte for byte: empty, spaces, newlines, ``--``, not UTF-8 (execve(2)).

    Why: a path is bytes, and an init that passes its command through a shell or a string type changes it.
    By hand:
        $INIT printf '<%s>' '' 'two words' '$x' -- "$(printf 'a\nb')"
        # <><two words><$x><--><a
        # b>
    """
    words = [word.encode() for word in init.recorder_words()]
    with init.start([*words, *ODD_WORDS], environment={b"SEATRIAL_BYTES": b"\xff = \xfe"}) as run:
        state = run.child.ready()
        after = state.argv.index(init.bench.nonce.encode()) + 1
        assert list(ODD_WORDS) == list(state.argv[after:])
        assert [b"SEATRIAL_BYTES=\xff = \xfe"] == [pair for pair in state.environment if pair.startswith(b"SEATRIAL_")]


@case("FD-13")
def test_environment_is_passed_unchanged(init: Init) -> None:
    """The child's environment is the init's: no variable added, removed or changed (execve(2)).

    Why: variables of an init's own invite scripts to depend on them.
    By hand:
        env -i A=1 PATH=$PATH $INIT env
        # A and PATH
        # the same without $INIT
    """
    with init.start(environment={b"A": b"1", b"EMPTY": b""}) as run:
        given = {**_bytes(init.bench.environment), **_bytes(init.target.environment), b"A": b"1", b"EMPTY": b""}
        found = dict(pair.split(b"=", 1) for pair in run.child.ready().environment if b"=" in pair)
        changed = {name for name in given.keys() & found.keys() if given[name] != found[name]}
        expected = "nothing added, removed or changed"
        assert expected == (_difference(found.keys() - given.keys(), given.keys() - found.keys(), changed) or expected)


def _bytes(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in variables.items()}


def _difference(added: Set[bytes], removed: Set[bytes], changed: Set[bytes]) -> str:
    """Return the names alone, as ``added PWD; changed HOME``: a report never shows values."""
    kinds = {"added": added, "removed": removed, "changed": changed}
    lists = {kind: b" ".join(sorted(names)).decode(errors="replace") for kind, names in kinds.items() if names}
    return "; ".join(f"{kind} {names}" for kind, names in lists.items())


@case("FD-14")
def test_init_writes_nothing_to_stdout(init: Init) -> None:
    """What is on the init's stdout is its child's alone, from start to end, signals included.

    Why: the next program of a pipeline would read the init's chatter as data.
    By hand:
        $INIT sh -c 'trap "exit 7" USR1; printf word; while :; do sleep 0.1; done' </dev/null >/tmp/out & sleep 1
        kill -USR1 $!; wait $!; cat /tmp/out
        # word
    """
    with init.start() as run:
        run.child.ready()
        run.child.ask(f"write 1 {b'word'.hex()}")
        assert "USR1" == names(run.heard(SIGUSR1))
        run.child.tell("exit 7")
        assert exited(7) == run.ended()
        assert b"word" == run.output("stdout")
