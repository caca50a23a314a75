"""Logs of steps: complete, in order, capped, never mixed; what a failure tells, and where none can be written."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from suites.framework import probes, process
from suites.framework.buildscripts.enclosure import Enclosure
from suites.framework.buildscripts.workload import Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.errors import InfrastructureError
from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires
from suites.framework.observation import Unmet
from suites.framework.process import exited

LINES = 200_000
PAIRS = 500
EVERY_BYTE = bytes(range(256))
CODE = 113
CAP = 1 << 16
MARKER = 1 << 10
"""Bytes that a marker may take beyond the cap."""
ATTEMPTS = 3
SECOND = 1_700_000_000
PREPARING_S = 30.0
CLOCK = f"""
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
time_t time(time_t *at) {{ if (at) *at = {SECOND}; return {SECOND}; }}
int gettimeofday(struct timeval *at, void *zone) {{ at->tv_sec = {SECOND}; at->tv_usec = 0; return 0; }}
int clock_gettime(clockid_t clock, struct timespec *at) {{
    long failed = syscall(SYS_clock_gettime, clock, at);
    if (clock == CLOCK_REALTIME) at->tv_sec = {SECOND}, at->tv_nsec = 0;
    return failed;
}}
"""
"""Replaces what programs ask for the time of day."""


def _log(wrapper: Wrapper, step: str = "a") -> bytes:
    """Return what the only log of a step holds."""
    (path,) = wrapper.logs(step) or [Path(os.devnull)]
    return path.read_bytes()


def _holds(log: bytes, wanted: bytes) -> str:
    """Return ``complete`` where a log has these bytes in one piece, otherwise what it lacks."""
    if wanted in log:
        return "complete"
    held = frozenset(log.split(b"\n"))
    missing = [line for line in wanted.split(b"\n") if line not in held]
    return f"{len(missing)} lines missing, first {missing[0][:20]!r}" if missing else "in another order"


@case("W31")
@offered("log")
def test_log_of_a_step_has_every_line(wrapper: Wrapper) -> None:
    r"""All of 200,000 lines are in the log of their step, the first and the last too (tee(1); GNU standards, 4.4).

    Why: the error is in the line that the buffer of a killed `tee` had not written yet.
    By hand:
        printf '#!/bin/bash\nseq 200000\n' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; grep -c '^[0-9]*$' $ROOT/.build/a.*.log    # 200000
    """
    wrapper.write(Step(name="a", body=f"mark ran\nseq {LINES}"))
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()
    assert "complete" == _holds(_log(wrapper), b"".join(b"%d\n" % number for number in range(1, LINES + 1)))


@case("W31")
@offered("log")
def test_log_has_output_and_errors_in_their_order(wrapper: Wrapper) -> None:
    r"""Lines of standard error stand in the log between those of the output where they were written (dup2(2)).

    Why: with a pipe for each, the error is shown a thousand lines from the compiler's call that it belongs to.
    By hand:
        printf '#!/bin/bash\nfor i in {1..500}; do echo out $i; echo err $i >&2; done\n' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; cat $ROOT/.build/a.*.log    # out 1, err 1, out 2, err 2, ...
    """
    wrapper.write(Step(name="a", body=f"mark ran\nfor i in {{1..{PAIRS}}}; do echo out $i; echo err $i >&2; done"))
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()
    assert "complete" == _holds(_log(wrapper), b"".join(b"out %d\nerr %d\n" % (i, i) for i in range(1, PAIRS + 1)))


@case("W31")
@offered("log")
def test_log_has_every_byte_as_it_was_written(wrapper: Wrapper) -> None:
    r"""Every byte is kept: NUL, what is no UTF-8, carriage returns, a last line without an end (execve(2) knows none).

    Why: one Latin-1 name in a compiler's message, and the wrapper ends with a UnicodeDecodeError after two hours.
    By hand:
        echo '#!/bin/bash
        printf "\377\0\r\n\200end"' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; od -c $ROOT/.build/a.*.log    # 377 \0 \r \n 200 e n d
    """
    octal = "".join(f"\\{byte:03o}" for byte in EVERY_BYTE)
    wrapper.write(Step(name="a", body=f"mark ran\nprintf '{octal}'\nprintf '{octal}' >&2\nprintf 'the end'"))
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()
    assert "complete" == _holds(_log(wrapper), EVERY_BYTE * 2 + b"the end")


@case("W32")
@offered("log")
def test_failure_tells_step_code_log_and_last_lines(wrapper: Wrapper) -> None:
    r"""A failure is told on standard error: which step, its code, where its log is, and its last lines (GNU, 4.4).

    Why: "Build failed" is answered by an hour of looking for the file that says why.
    By hand:
        printf '#!/bin/bash\nseq 90; echo the last words; exit 113\n' >$ROOT/scripts/a.sh
        $WRAPPER run $ROOT >/dev/null
        # the last words; step a, 113, the path of its log
    """
    wrapper.write(Step(name="wanting", body=f"mark ran\nseq 90\necho the last words\nexit {CODE}"))
    ended = wrapper.build()
    assert ["wanting"] == wrapper.ran()
    assert exited(CODE) == ended.status
    log = str(wrapper.logs("wanting")[-1]) if wrapper.logs("wanting") else "no log"
    said = ended.stderr.decode(errors="replace")
    tokens = set(re.findall(r"[^\s:,;()'\"]+", said))
    told = {"step": "wanting" in tokens, "code": str(CODE) in tokens, "log": log in tokens}
    told["last lines"] = "89\n90\nthe last words" in said
    words = ", ".join(what for what, there in told.items() if there)
    assert "step, code, log, last lines" == (words or "nothing of it")


@case("W33")
@offered("log", "log-cap")
def test_log_is_capped_at_both_ends_of_it(wrapper: Wrapper) -> None:
    r"""A log above its cap keeps head and tail, says that something is left out, and the step succeeds (head(1)).

    Why: a test suite in a loop fills the disk with its log; cut at the end, the log lacks the error.
    By hand:
        printf '#!/bin/bash\nseq 200000\n' >$ROOT/scripts/a.sh
        $WRAPPER run --log-cap 65536 $ROOT; echo $?    # 0
        wc -c $ROOT/.build/a.*.log    # about 65536; 1, 2, ..., [... left out ...], ..., 200000
    """
    wrapper.write(Step(name="a", body=f"mark ran\nseq {LINES}"), Step(name="b", body="mark ran\nseq 9", needs=("a",)))
    assert exited(0) == wrapper.build(options=wrapper.option("log_cap", bytes=CAP)).status
    assert ["a", "b"] == wrapper.ran()
    whole = b"".join(b"%d\n" % number for number in range(1, LINES + 1))
    assert "head, marker, tail" == _capped(_log(wrapper, "a"), whole)
    assert "complete" == _holds(_log(wrapper, "b"), b"".join(b"%d\n" % number for number in range(1, 10)))
    assert [wrapper.told("done")] * 2 == [wrapper.standing("a"), wrapper.standing("b")]


def _common(one: bytes, other: bytes) -> int:
    """Return with how many equal bytes both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (ours, theirs) in pairs if ours != theirs), min(len(one), len(other)))


def _capped(log: bytes, whole: bytes) -> str:
    """Return what a log has of the whole, ``head, marker, tail`` where it is as it should be."""
    if len(log) > CAP + MARKER:
        return "above the cap"
    head, tail = _common(log, whole), _common(log[::-1], whole[::-1])
    pieces = {"head": head >= CAP // 8, "marker": len(log) > head + tail, "tail": tail >= CAP // 8}
    return ", ".join(name for name, there in pieces.items() if there) or "nothing of it"


@case("W34")
@requires(Fact.TOOLCHAIN)
@offered("log")
def test_two_runs_in_one_second_have_logs_of_their_own(wrapper: Wrapper) -> None:
    r"""Each attempt at a step has a log of its own, two within one second too (open(2), O_EXCL).

    Why: a log named after the second: the next attempt writes over what was to be compared, or behind it.
    The case stops the wrapper's clock by a library that is loaded before others (ld.so(8), LD_PRELOAD).
    By hand:
        printf '#!/bin/bash\necho attempt 1.; exit 3\n' >$ROOT/scripts/a.sh; $WRAPPER run $ROOT
        sed -i s/1/2/ $ROOT/scripts/a.sh; $WRAPPER run $ROOT
        cat $ROOT/.build/a.*.log    # two files, each with its attempt
    """
    stopped = {"LD_PRELOAD": str(_stopped_clock(wrapper))}
    for number in range(1, ATTEMPTS + 1):
        wrapper.write(Step(name="a", body=f"echo attempt {number}.\nmark ran\nexit 3"))
        assert exited(3) == wrapper.build(environment=stopped).status
    assert ["a"] * ATTEMPTS == wrapper.ran()
    assert "a log for each attempt" == _distributed([_attempts_in(log) for log in wrapper.logs("a")])


def _stopped_clock(wrapper: Wrapper) -> Path:
    """Return a library with which a program sees one second for ever, having seen that date(1) does."""
    folder, environment = wrapper.beside("clock").root, wrapper.bench.environment
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(CLOCK)
    words = [probes.tool("cc"), "-shared", "-fPIC", "-o", str(library), str(source)]
    process.output_of(words, environment=environment, seconds=PREPARING_S)
    stopped = environment | {"LD_PRELOAD": str(library)}
    said = process.output_of([probes.tool("date"), "+%s"], environment=stopped, seconds=PREPARING_S)
    if said != (exited(0), str(SECOND)):
        raise InfrastructureError("the clock of a program cannot be stopped", why=f"date says {said[1]}")
    return library


def _attempts_in(log: Path) -> list[int]:
    return [int(number) for number in re.findall(rb"^attempt (\d+)\.$", log.read_bytes(), re.MULTILINE)]


def _distributed(found: list[list[int]]) -> str:
    """Return how the attempts are spread over the logs, each given by those that it holds."""
    if any(len(held) > 1 for held in found):
        return "several attempts in one log"
    held = sorted(number for numbers in found for number in numbers)
    return "a log for each attempt" if held == list(range(1, ATTEMPTS + 1)) else "attempts without a log"


def _log_folder(wrapper: Wrapper) -> Path:
    """Return the folder in which the wrapper keeps its logs, or the folders of them."""
    known = Path(wrapper.call.log).parts
    until = next((number for number, part in enumerate(known) if "{step}" in part or "*" in part), 0)
    if not until:
        raise Unmet("a folder of logs", "the profile names none")
    return wrapper.place.path(str(Path(*known[:until])))


@case("W35")
@offered("log")
def test_log_folder_that_cannot_be_made_ends_the_build(wrapper: Wrapper) -> None:
    """Where the folder of the logs is missing for good, the build ends as a matter of the machine (sysexits.h, 74).

    Why: a step that was built without its log is a step whose failure nobody can explain.
    By hand:
        ln -s nowhere $ROOT/.build
        $WRAPPER run $ROOT; echo $?    # names .build; 74
        rm $ROOT/.build; $WRAPPER state $ROOT    # not "running"
    """
    folder = _log_folder(wrapper)
    wrapper.write(Step(name="a"))
    folder.rmdir() if folder.is_dir() else folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to("nowhere/at/all")
    ended = wrapper.build()
    assert (exited(wrapper.call.infrastructure), "named") == (ended.status, _named(folder, ended.stderr))
    assert [] == wrapper.ran()
    folder.unlink()
    assert wrapper.told("pending") == wrapper.standing("a")
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()


def _named(folder: Path, said: bytes) -> str:
    return "named" if str(folder).encode() in said else "not named on stderr"


@case("W35")
@requires(Fact.USER_NAMESPACE)
@offered("log")
@pytest.mark.parametrize("how", ["read-only", "full"])
def test_log_folder_that_cannot_be_written_ends_the_build(wrapper: Wrapper, how: str) -> None:
    """Where the logs' file system is full or read-only, the build ends as a matter of the machine (sysexits.h, 74).

    Why: "RUNNING" for ever, because the failure could not be written where the failures are written.
    By hand:
        mount -t tmpfs -o size=64k none $ROOT/.build; mount -o remount,ro $ROOT/.build
        $WRAPPER run $ROOT; echo $?    # names .build; 74
        $WRAPPER state $ROOT    # not "running"
        # and the same with a file that fills it
    """
    folder, enclosure = _log_folder(wrapper), Enclosure(wrapper.bench)
    wrapper.write(Step(name="a"))
    folder.mkdir(parents=True, exist_ok=True)
    enclosure.mount(folder, size="64k")
    filler = enclosure.inside(folder / "filler")
    if how == "full":
        filler.write_bytes(bytes(1 << 16))
    else:
        enclosure.change(folder, "ro")
    wrapper.behind(enclosure)
    ended = wrapper.build()
    assert (exited(wrapper.call.infrastructure), "named") == (ended.status, _named(folder, ended.stderr))
    assert "at rest" == ("at rest" if wrapper.standing("a") != "running" else "running")
    if how == "full":
        filler.unlink()
    else:
        enclosure.change(folder, "rw")
    assert exited(0) == wrapper.build().status
    assert ["a"] == wrapper.ran()[-1:]
    assert wrapper.told("done") == wrapper.standing("a")
