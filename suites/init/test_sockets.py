"""Sockets that the init binds and its child inherits, across restarts."""

from __future__ import annotations

import re
import statistics
from typing import Any

from suites.framework import sockets
from suites.framework.marks import case, offered, weight
from suites.framework.recorder import Recorder, State
from suites.framework.sockets import ANSWERED, Clients
from suites.framework.targets.init import Init
from suites.framework.targets.reload import DEBOUNCE_MS, Service, Starts, Watched, served
from suites.framework.targets.run import Run

RESTARTS = 10
DELAY_MS = 200
GAP = "restart_gap_s"
"""Name of the limit and of the note: seconds without a server, at the quickest restart; what a machine that has more
to do adds to the others is not the init's."""
FIRST = 3
"""SD_LISTEN_FDS_START (sd_listen_fds(3))."""


@case("FD-07")
@offered("ports")
def test_child_inherits_the_sockets_named_in_scinit_inherited_fds(init: Init) -> None:
    """SCINIT_INHERITED_FDS names, joined by commas, a TCP socket that listens with SO_REUSEPORT for each of --ports.

    Why: a child that is given another socket than it is told, or none, serves nobody.
    By hand:
        $INIT sh -c 'echo $SCINIT_INHERITED_FDS; ls -l /proc/self/fd; ss -ltn'    # INIT with --ports 8080,8081
        # two numbers, two sockets of these numbers
        # 127.0.0.1:8080 and 127.0.0.1:8081 listen, with a queue of 128
    """
    ports = sorted(sockets.reserve(init.bench) for _ in range(2))
    with init.start(init.recorder_words("serve"), options=init.listening(*ports, named="ports")) as run:
        named = _variables(run.child.ready()).get("SCINIT_INHERITED_FDS", "")
        assert "numbers joined by commas" == _form(named, r"\d+(,\d+)*", "numbers joined by commas")
        listeners = _listeners(run.child)
        assert "the sockets named" == ("the sockets named" if _set(named) == set(listeners) else "others")
        assert ports == sorted(listener["port"] for listener in listeners.values())
        assert [("127.0.0.1", 1)] * 2 == [(found["address"], found["shared"]) for found in listeners.values()]
        assert ["the child"] * 2 == [_answerer(init, run, port) for port in ports]


@case("FD-08")
@offered("listen-fds")
def test_child_inherits_sockets_as_from_systemd(init: Init) -> None:
    """LISTEN_FDS sockets stand at 3, 4 ..., LISTEN_PID is the child's own pid, names are as many (sd_listen_fds(3)).

    Why: a program that calls sd_listen_fds(3) ignores sockets meant for another pid.
    By hand:
        $INIT sh -c 'echo $$; env | grep LISTEN; ls -l /proc/self/fd'    # INIT with --ports 8080,8081
        # LISTEN_PID is the number above, LISTEN_FDS is 2
        # 3 and 4 are sockets
    """
    ports = sorted(sockets.reserve(init.bench) for _ in range(2))
    with init.start(init.recorder_words("serve"), options=init.listening(*ports, named="listen-fds")) as run:
        state = run.child.ready()
        variables, listeners = _variables(state), _listeners(run.child)
        assert "2" == variables.get("LISTEN_FDS", "not set")
        owner = {str(state.pid): "the child", str(run.pid_inside): "the init"}
        assert "the child" == owner.get(variables.get("LISTEN_PID", ""), "another process")
        assert [FIRST, FIRST + 1] == sorted(listeners)
        assert ports == sorted(listener["port"] for listener in listeners.values())
        if "LISTEN_FDNAMES" in variables:
            assert "one name each" == _form(variables["LISTEN_FDNAMES"], r"[^:]{1,255}:[^:]{1,255}", "one name each")
        assert ["the child"] * 2 == [_answerer(init, run, port) for port in ports]


@case("ZD-01")
@offered("reload", "watch")
def test_changed_file_gives_a_new_child(init: Init) -> None:
    """When the watched file is touched the child gets TERM, and a new one starts when the restart delay is over.

    Why: this is what live reload is; a child that starts too early finds its predecessor's lock.
    By hand:
        $INIT sh -c 'date +%T.%N; sleep 100'    # INIT with live reload of /tmp/w
        touch /tmp/w
        # a new line, after debounce and delay
    """
    starts, watched = Starts(init), Watched(init)
    options = init.reloading(debounce_ms=DEBOUNCE_MS, delay_ms=DELAY_MS, path=watched.path)
    with init.start(starts.command("retire"), options=options) as run:
        old, _ = starts.next(run)
        watched.touch()
        told = old.next_signal()
        assert "old gone" == ("old gone" if old.left(init.seconds) else "old alive")
        new, _ = starts.next(run)
        assert "another process" == ("another process" if new.pid != old.pid else "the same process")
        waited = new.log[0].at - told.at
        run.note("restart_s", waited)
        assert "after the delay" == ("after the delay" if waited >= DELAY_MS / 1000 else "before the delay was over")


@case("ZD-02")
@weight(7)
@offered("sockets", "reload", "watch")
def test_no_client_is_turned_away_by_a_restart(init: Init) -> None:
    """Four clients that connect in a loop across ten restarts are all answered: none refused, reset or forgotten.

    Why: this is why the init and not the child owns the socket; who connects in between waits in its queue.
    By hand:
        $INIT python3 server.py    # INIT with --ports 8080 and live reload; a server on the socket it is given
        while curl -s localhost:8080; do :; done &
        touch server.py    # ten times: the loop goes on
    """
    with served(init) as service:
        with Clients(service.port, nonce=init.bench.nonce, seconds=init.seconds) as clients:
            answered = _restarted(service, clients)
        service.run.note("replies", len(clients.replies))
        for kind in ("refused", "reset", "unanswered"):
            service.run.note(kind, clients.failures[kind])
        assert ANSWERED == clients.verdict
        assert f"{RESTARTS + 1} servers" == f"{answered} servers"


@case("ZD-03")
@weight(7)
@offered("sockets", "reload", "watch")
def test_gap_between_two_servers_is_short(init: Init) -> None:
    """From the last answer of the old child to the first of the new one it takes no longer than the target's limit.

    Why: every client that connects meanwhile waits that long (RFC, "Zero-downtime": under 100 ms).
    By hand:
        $INIT python3 server.py    # INIT with --ports 8080, live reload and no delay
        while date +%T.%N; curl -s localhost:8080; do :; done &
        touch server.py    # no two dates are far apart
    """
    with served(init) as service:
        with Clients(service.port, nonce=init.bench.nonce, seconds=init.seconds) as clients:
            answered = _restarted(service, clients)
        assert f"{RESTARTS + 1} servers" == f"{answered} servers"
        gap = min(clients.gaps)
        service.run.note(GAP, gap)
        service.run.note("median_gap_s", statistics.median(clients.gaps))
        service.run.note("longest_gap_s", clients.longest_s)
        limit = init.budget(GAP)
        assert "within the limit" == ("within the limit" if limit is None or gap <= limit else "over the limit")


@case("ZD-04")
@offered("sockets", "reload", "watch")
def test_socket_is_the_same_after_a_restart(init: Init) -> None:
    """The socket that the new child listens at is the old one's: the same inode, so nobody in its queue is lost.

    Why: one that is closed and bound again resets those who were waiting in it.
    By hand:
        $INIT sh -c 'ls -l /proc/self/fd; sleep 100'    # INIT with --ports 8080 and live reload
        # socket:[N]
        # the same number after the restart
    """
    with served(init) as service:
        (old, before), (new, after) = service.first, service.restart()
        first, second = (
            sorted(state.fds[fd] for fd in _listeners(child)) for child, state in ((old, before), (new, after))
        )
        assert "one socket" == ("one socket" if len(first) == 1 else f"{len(first)} sockets")
        assert "the same socket" == ("the same socket" if first == second else "another socket")


@case("ZD-05")
@offered("sockets", "reload", "watch")
def test_descriptors_have_the_same_numbers_after_a_restart(init: Init) -> None:
    """What the environment says of the sockets is the same for the new child as for the old one.

    Why: a server that kept the number in its configuration finds its socket again.
    By hand:
        $INIT sh -c 'env | grep FDS; sleep 100'    # INIT with --ports 8080 and live reload
        # SCINIT_INHERITED_FDS=3 or LISTEN_FDS=1
        # the same after the restart
    """
    with served(init) as service:
        (old, before), (new, after) = service.first, service.restart()
        first, second = (_naming(state) for state in (before, after))
        assert "named" == ("named" if first else "no variable names a socket")
        assert "as before" == ("as before" if first == second else "otherwise")
        numbers = sorted(_listeners(old)) == sorted(_listeners(new))
        assert "the same numbers" == ("the same numbers" if numbers else "other numbers")


@case("ZD-06")
@weight(8)
@offered("sockets", "reload", "watch")
def test_ten_restarts_leave_no_socket_behind(init: Init) -> None:
    """After ten restarts the init holds as many descriptors as after the first, and as many sockets listen.

    Why: a socket that nobody accepts from still gets its share of the clients (SO_REUSEPORT), who wait for ever.
    By hand:
        $INIT sleep 1000    # INIT with --ports 8080 and live reload
        ls /proc/$(pidof INIT)/fd | wc -l; ss -ltn | grep -c 8080
        # the same two numbers after ten restarts
    """
    with served(init) as service:
        service.restart()
        before = service.sockets
        for _ in range(RESTARTS - 1):
            service.restart()
        service.run.note("descriptors", service.sockets[0])
        assert 1 == service.sockets[1]
        assert "as many descriptors" == (
            "as many descriptors" if before == service.sockets else "more or fewer descriptors"
        )


def _restarted(service: Service, clients: Clients) -> int:
    """Restart ten times, each time after somebody was answered by the new child; return how many children answered."""
    _, state = service.first
    answered = int(clients.hear(state.pid, seconds=service.run.init.seconds))
    for _ in range(RESTARTS):
        _, state = service.restart()
        answered += clients.hear(state.pid, seconds=service.run.init.seconds)
    return answered


def _answerer(init: Init, run: Run, port: int) -> str:
    """Connect to a port; return who answers, or what happens instead."""
    reply = sockets.ask(port, nonce=init.bench.nonce, seconds=init.seconds)
    if isinstance(reply, str):
        return reply
    return "the child" if reply.pid == run.child.log[0]["pid"] else "another process"


def _listeners(child: Recorder) -> dict[int, dict[str, Any]]:
    """Return descriptor: what a serving child says of each socket at which it listens."""
    return {found["fd"]: found for found in child.next("serving")["listeners"]}


def _variables(state: State) -> dict[str, str]:
    pairs = (pair.decode(errors="replace").partition("=") for pair in state.environment)
    return {name: value for name, _, value in pairs}


def _naming(state: State) -> dict[str, str]:
    names = ("SCINIT_INHERITED_FDS", "LISTEN_FDS", "LISTEN_FDNAMES")
    return {name: value for name, value in _variables(state).items() if name in names}


def _form(text: str, pattern: str, words: str) -> str:
    """Return `words` for a text of this form, else the text in quotes."""
    return words if re.fullmatch(pattern, text) else f"'{text}'"


def _set(numbers: str) -> set[int]:
    return {int(number) for number in numbers.split(",")}
