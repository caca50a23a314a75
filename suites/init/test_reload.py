"""Live reload: which changes restart the child, how, and what the init does meanwhile."""

from __future__ import annotations

import os
import time
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGTERM, SIGUSR1

import pytest

from suites.framework.marks import case, offered, weight
from suites.framework.process import exited
from suites.framework.signals import name, names
from suites.framework.targets.init import Init
from suites.framework.targets.reload import DEBOUNCE_MS, Program, Starts, version_of
from suites.framework.targets.run import PATIENCE_S
from suites.framework.terminal import Terminal

GRACE_S = 1.0
LONG_MS = 30_000
"""Longer than any liveness deadline: who waits it out although it need not is noticed."""
LONG_DEBOUNCE_MS = 250
QUIET_S = 0.5
"""How long nothing may come of what is no change; the next change shows that the init was watching."""


@case("LR-01")
@offered("reload")
def test_command_found_on_path_is_what_is_watched(init: Init) -> None:
    """Without a watch path the file that the command was started from is watched, also when PATH found it (RFC).

    Why: `INIT --live-reload server` is how everybody calls it.
    By hand:
        PATH=/tmp/bin:$PATH $INIT server    # INIT with live reload; /tmp/bin/server prints its version and sleeps
        sed -i s/v1/v2/ /tmp/bin/server
        # v1, v2
    """
    starts = Starts(init)
    program = Program(starts, "retire")
    path = f"{program.path.parent}:{init.bench.environment['PATH']}".encode()
    with init.start([program.path.name], options=_options(init), environment={b"PATH": path}) as run:
        assert "v1" == version_of(starts.next(run)[1])
        program.replace()
        assert "v2" == version_of(starts.next(run)[1])


@case("LR-02")
@offered("reload")
def test_last_write_is_what_runs(init: Init) -> None:
    """Of two writes within the debounce time, the child that runs in the end was started from the second one.

    Why: a compiler writes a file in pieces; an init that restarts at the first and drops the last runs half of it.
    By hand:
        $INIT /tmp/server    # INIT with live reload and --debounce-ms 250; it prints its version and sleeps
        sed -i s/v1/v2/ /tmp/server; sleep 0.05; sed -i s/v2/v3/ /tmp/server
        # the last line is v3
    """
    starts = Starts(init)
    program = Program(starts, "retire")
    with init.start([str(program.path)], options=_options(init, debounce_ms=LONG_DEBOUNCE_MS)) as run:
        starts.next(run)
        program.write()
        assert "running" == ("running" if run.stays(0.05) else "ended with the first write")
        program.write()
        while (version := version_of(starts.next(run)[1])) != program.version:
            run.note("started_between", version)


@case("LR-03")
@offered("reload")
def test_file_is_watched_after_it_was_replaced(init: Init) -> None:
    """A file that is replaced by rename(2) is a change, and so is the second replacement (inotify(7)).

    Why: editors, compilers and package managers replace files; a watch on the first inode never hears of the third.
    By hand:
        $INIT /tmp/server    # INIT with live reload; it prints its version and sleeps
        sed s/v1/v2/ /tmp/server >/tmp/n; chmod +x /tmp/n; mv /tmp/n /tmp/server; sleep 2
        sed s/v2/v3/ /tmp/server >/tmp/n; chmod +x /tmp/n; mv /tmp/n /tmp/server    # v1, v2, v3
    """
    starts = Starts(init)
    program = Program(starts, "retire")
    with init.start([str(program.path)], options=_options(init)) as run:
        versions = [version_of(starts.next(run)[1])]
        for _ in range(2):
            program.replace()
            versions.append(version_of(starts.next(run)[1]))
        assert ["v1", "v2", "v3"] == versions


@case("LR-04")
@weight(7)
@offered("reload")
@pytest.mark.parametrize("what", ["chmod", "access"])
def test_change_of_no_content_restarts_nothing(init: Init, what: str) -> None:
    """New permissions or a read of the file are no change of it: the child stays (inotify(7), IN_ATTRIB, IN_ACCESS).

    Why: a backup that reads every file would restart every service.
    By hand:
        $INIT /tmp/server    # INIT with live reload; it prints its version and sleeps
        chmod 755 /tmp/server; cat /tmp/server >/dev/null
        # no second line
    """
    starts = Starts(init)
    program = Program(starts, "retire")
    with init.start([str(program.path)], options=_options(init)) as run:
        child, _ = starts.next(run)
        _touch_lightly(program.path, what)
        assert "none" == names(child.signals_within(QUIET_S, most=1))
        program.replace()
        assert "v2" == version_of(starts.next(run)[1])


def _touch_lightly(path: Path, what: str) -> None:
    if what == "chmod":
        path.chmod(0o755)
    else:
        path.read_bytes()
        os.utime(path, (0, path.stat().st_mtime))


@case("LR-05")
@weight(7)
@offered("reload")
def test_changes_during_a_restart_give_at_most_one_more(init: Init) -> None:
    """Three changes while the old child is still ending give one restart, or one more; the last child is of the last.

    Why: a build that writes hundred files would otherwise restart the service hundred times.
    By hand:
        $INIT /tmp/server    # INIT with live reload; it prints its version, and takes 3 s to end on TERM
        for v in 2 3 4 5; do sed -i s/v./v$v/ /tmp/server; sleep 0.7; done
        # v1, perhaps one between, v5
    """
    starts = Starts(init)
    program = Program(starts)
    with init.start([str(program.path)], options=_options(init)) as run:
        old, _ = starts.next(run)
        program.replace()
        assert "TERM" == name(old.next_signal()["number"])
        for _ in range(3):
            program.replace()
        old.tell("exit 0")
        child, state = starts.next(run)
        while starts.count <= 4 and child.signals_within(QUIET_S, most=1):
            child.tell("exit 0")
            child, state = starts.next(run)
        run.note("restarts", starts.count - 1)
        assert "one or two restarts" == ("one or two restarts" if starts.count <= 3 else "more restarts")
        assert program.version == version_of(state)
        program.replace()
        assert "TERM" == name(child.next_signal()["number"])


@case("LR-06")
@weight(12)
@offered("graceful", "reload")
def test_child_that_ignores_term_is_killed_for_the_reload(init: Init) -> None:
    """A child that ignores the reload's TERM gets KILL after the graceful timeout, not before; then the next starts.

    Why: one stuck request must not keep the old version for ever, and one slow request must be allowed to end.
    By hand:
        $INIT sh -c 'echo start; trap "" TERM; while :; do sleep 0.1; done'    # INIT with a grace of 1 s, live reload
        touch FILE    # the one it watches
        # "start" again after one second
    """
    starts = Starts(init)
    program = Program(starts)
    with init.start([str(program.path)], options=(*_options(init), *init.graceful(GRACE_S))) as run:
        old, _ = starts.next(run)
        changed = time.monotonic()  # TERM comes later, and we hear of it later still
        program.replace()
        told = old.next_signal()
        assert "TERM" == name(told["number"])
        early = changed + GRACE_S - 0.05 - time.monotonic()
        assert "alive until the timeout" == ("killed before it" if old.left(early) else "alive until the timeout")
        new, state = starts.next(run)
        assert ("v2", "gone") == (version_of(state), "gone" if old.left(0) else "still there")
        run.note("reload_s", new.log[0].at - told.at)


@case("LR-07")
@offered("reload")
def test_signals_are_served_while_the_old_child_ends(init: Init) -> None:
    """A signal that comes while the old child is ending for a reload reaches it at once.

    Why: who waits for one child to end must not be deaf for that time, which may be the whole grace period.
    By hand:
        $INIT sh -c 'trap "" TERM; trap "echo got it" USR1; while :; do sleep 0.1; done'    # INIT with live reload
        touch FILE; sleep 1; kill -USR1 $(pidof INIT)
        # "got it" at once
    """
    starts = Starts(init)
    program = Program(starts)
    with init.start([str(program.path)], options=_options(init)) as run:
        old, _ = starts.next(run)
        program.replace()
        assert "TERM" == name(old.next_signal()["number"])
        run.send(SIGUSR1)
        assert "USR1" == name(old.next_signal()["number"])
        old.tell("exit 0")
        assert "v2" == version_of(starts.next(run)[1])


@case("LR-07")
@offered("reload")
def test_term_during_the_restart_delay_ends_the_init(init: Init) -> None:
    """TERM between two children, in the restart delay, ends the init at once: nobody is left to wait for.

    Why: an engine that stops the container then would wait for the whole grace period, and kill.
    By hand:
        $INIT sleep 100    # INIT with live reload and --restart-delay-ms 30000
        touch FILE; sleep 1; kill $(pidof INIT)
        # it ends
    """
    starts = Starts(init)
    program = Program(starts, "retire")
    with init.start([str(program.path)], options=_options(init, delay_ms=LONG_MS)) as run:
        old, _ = starts.next(run)
        program.replace()
        assert "TERM" == name(old.next_signal()["number"])
        assert "old gone" == ("old gone" if old.left(init.seconds) else "old alive")
        run.send(SIGTERM)
        run.note("status", str(run.ended()))
        assert 1 == starts.count


@case("LR-08")
@offered("reload")
def test_new_child_is_in_the_foreground(init: Init, terminal: Terminal) -> None:
    """After a reload the terminal's foreground process group is the new child's (tcsetpgrp(3)).

    Why: a child in the background stops at its first read, and Ctrl-C goes to nobody.
    By hand:
        $INIT sh -c 'ps -o pgid=,tpgid= -p $$; sleep 100'    # INIT with live reload, in a terminal
        touch FILE
        # twice a line with the same number twice
    """
    starts = Starts(init)
    program = Program(starts, "retire")
    with init.start([str(program.path)], options=_options(init), terminal=terminal) as run:
        first, _ = starts.next(run)
        assert "the child" == run.foreground(terminal, child=first)
        program.replace()
        second, _ = starts.next(run)
        assert "the child" == run.foreground(terminal, child=second)


@case("LR-09")
@offered("reload")
def test_hup_is_forwarded_and_reloads_nothing(init: Init) -> None:
    """HUP reaches the child, which stays: it means "read your configuration" to the child, not "restart" to the init.

    Why: nginx reloads gracefully on HUP; an init that restarts it drops its connections (against the RFC's wish).
    By hand:
        $INIT sh -c 'echo $$; trap "echo got it" HUP; while :; do sleep 0.1; done'    # INIT with live reload
        kill -HUP $(pidof INIT)
        # "got it", and no second number
    """
    starts = Starts(init)
    program = Program(starts, "retire")
    with init.start([str(program.path)], options=_options(init)) as run:
        child, _ = starts.next(run)
        run.send(SIGHUP)
        heard = child.signals_within(PATIENCE_S, most=1)
        run.send(init.fence)
        assert "HUP" == names((*heard, *child.signals_until(init.fence)))
        program.replace()
        assert "v2" == version_of(starts.next(run)[1])
        assert 2 == starts.count


@case("LR-10")
@offered("reload")
@pytest.mark.parametrize(("command", "code"), [("exit 3", 3), (f"die {int(SIGKILL)}", 137)], ids=["exit", "killed"])
def test_child_that_ends_by_itself_ends_the_init(init: Init, command: str, code: int) -> None:
    """With live reload too, a child that ends by itself ends the init with its code; only a change starts a new one.

    Why: the engine's restart policy has to see the crash.
    By hand:
        $INIT sh -c 'exit 3'    # INIT with live reload
        echo $?    # 3
        # one start, no other
    """
    starts = Starts(init)
    program = Program(starts, "retire")
    with init.start([str(program.path)], options=_options(init)) as run:
        child, _ = starts.next(run)
        child.tell(command)
        assert exited(code) == run.ended()
        assert 1 == starts.count


def _options(init: Init, *, debounce_ms: int = DEBOUNCE_MS, delay_ms: int = 0) -> tuple[str, ...]:
    """Return the options for a reload of the command itself."""
    return init.reloading(debounce_ms=debounce_ms, delay_ms=delay_ms)
