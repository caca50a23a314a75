"""Descriptors, arguments and environment."""

from __future__ import annotations

import hashlib
import os
import selectors
from collections.abc import Mapping, Set
from typing import IO

from suites.framework.bench import Bench
from suites.framework.marks import case
from suites.framework.process import exited
from suites.framework.targets.init import CHANNEL, Init
from suites.framework.waiting import Deadline

MEBIBYTE = 1 << 20
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
