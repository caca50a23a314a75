"""Commands that are executed in a running container (cri-api, ExecSync)."""

from __future__ import annotations

import os

import pytest

from suites.framework.marks import case, tier
from suites.framework.pod import log
from suites.framework.pod.conversation import INTERRUPT
from suites.framework.pod.driver import State
from suites.framework.pod.pods import LIVENESS_S, Pods

STAYS = "trap 'kill $!; exit 0' TERM; sleep 1000 & echo ready; wait"
"""A program that waits to be ended."""
TERMINAL = """stty -echo; test -t 0 && test -t 1 && test -t 2 && echo terminal
trap 'stty size' WINCH; trap 'kill $!; echo interrupted; exit 5' INT
sleep 1000 & echo ready; while :; do wait; done"""
FLOOD, SMALL = 20_000_000, 1 << 20
"""Bytes: more than any buffer on the way holds, and what one message of the interface can carry."""


@case("D1")
def test_exec_returns_code_and_streams(pods: Pods) -> None:
    """A command in a container ends with its own code, stdout and stderr apart (cri-api, ExecSync).

    Why: probes and debuggers decide by that code; a code of the wrong process makes a healthy pod restart.
    By hand:
        kubectl run d1 --image=busybox --restart=Never -- sleep 1000
        kubectl exec d1 -- sh -c 'echo out; echo err >&2; exit 7'; echo $?
    """
    pod = pods.run(pods.shell(STAYS))
    pod.main.says("ready")
    said = pod.main.shell("echo out; echo err >&2; exit 7")
    assert (7, b"out\n", b"err\n") == (said.code, said.stdout, said.stderr)
    assert State.RUNNING == pod.main.status().state


@tier(2)
@case("D2")
def test_exec_of_a_missing_program_harms_nobody(pods: Pods) -> None:
    """A command that is not there is refused or ends with a code that is not 0, and the pod runs on (ExecSync).

    Why: a probe with a typing error must fail, and not take the pod with it.
    By hand:
        kubectl exec d2 -- /nowhere/program; echo $?
        kubectl exec d2 -- true; echo $?   # 0: it still runs
    """
    pod = pods.run(pods.shell(STAYS))
    pod.main.says("ready")
    said = pod.main.execute("/nowhere/program")
    pods.note("refused_with", "an error" if said.code is None else said.code)
    assert "not done" == ("done" if said.code == 0 else "not done")
    assert 0 == pod.main.shell(":").code
    assert State.RUNNING == pod.main.status().state


@tier(3)
@case("D11")
def test_execs_at_the_same_time_keep_their_codes(pods: Pods) -> None:
    """Of ten commands at the same time each ends with its own code and output (cri-api, ExecSync).

    Why: probes of all kinds meet in one container, and one's failure is not the other's.
    By hand:
        for i in 1 2 3; do kubectl exec d11 -- sh -c "echo $i; exit $i" & done; wait
    """
    pod = pods.run(pods.shell(STAYS))
    pod.main.says("ready")
    scripts = [f"echo {number}; exit {number}" for number in range(1, 11)]
    said = [(each.code, each.stdout) for each in pod.main.shells(*scripts)]
    assert [(number, f"{number}\n".encode()) for number in range(1, 11)] == said


@tier(3)
@case("D3")
def test_exec_of_a_missing_program_is_refused_at_once(pods: Pods) -> None:
    """A command that is not there is refused without waiting for anything (cri-api, ExecSync).

    Why: a probe that hangs is counted as a timeout, and nobody looks for the typing error.
    By hand:
        time kubectl exec d3 -- /nowhere/program
    """
    pod = pods.run(pods.shell(STAYS))
    pod.main.says("ready")
    said, seconds = pod.main.timed("/nowhere/program", seconds=60)
    pods.note("refused_after_s", seconds)
    assert "not done" == ("done" if said.code == 0 else "not done")
    assert "in time" == ("in time" if seconds < LIVENESS_S else "late")
    assert 0 == pod.main.shell(":").code


@tier(3)
@case("D4")
def test_exec_has_the_user_of_its_container(pods: Pods) -> None:
    """A command in a container has the container's user and group (cri-api, ExecSync).

    Why: whoever may execute there must not become root by it.
    By hand:
        # a pod with runAsUser: 1234, runAsGroup: 2345
        kubectl exec d4 -- id
    """
    pod = pods.run(pods.shell(STAYS, user=1234, group=2345))
    pod.main.says("ready")
    assert b"1234\n2345\n" == pod.main.shell("id -u; id -g").stdout


@tier(3)
@case("D5")
def test_exec_has_the_variables_and_directory_of_its_container(pods: Pods) -> None:
    """A command in a container has the container's variables and begins in its directory (cri-api, ExecSync).

    Why: a backup that is started by exec needs the database's own settings.
    By hand:
        # a pod with env GREETING="good morning" and workingDir: /etc
        kubectl exec d5 -- sh -c 'echo $GREETING; pwd'
    """
    pod = pods.run(pods.shell(STAYS, environment={"GREETING": "good  morning"}, directory="/etc"))
    pod.main.says("ready")
    assert b"good  morning\n/etc\n" == pod.main.shell('echo "$GREETING"; pwd').stdout


@tier(3)
@case("D9")
def test_exec_that_takes_too_long_is_ended(pods: Pods) -> None:
    """A command that takes longer than its timeout is an error soon after, and its process is gone (cri-api, ExecSync).

    Why: probes that hang would pile up in the container until it is full.
    By hand:
        # crictl exec --sync --timeout 2 ID sleep 1000
        pgrep --full 'sleep 1000'   # on the node: nothing
    """
    pod = pods.run(pods.shell("trap 'exit 0' TERM; echo ready; while :; do read -r line; done </dev/zero"))
    pod.main.says("ready")
    before = pods.living(at_least=1)
    said, seconds = pod.main.timed("sleep", "1000", seconds=2)
    pods.note("over_timeout_s", seconds - 2)
    assert None is said.code
    assert "in time" == ("in time" if seconds < 2 + LIVENESS_S else "late")
    assert before == pods.living(at_most=before)
    assert 0 == pod.main.shell(":").code


@tier(3)
@case("D10")
def test_exec_in_a_container_that_has_ended_is_refused(pods: Pods) -> None:
    """Nothing is executed in a container that has ended (cri-api, ExecSync).

    Why: a command that ran somewhere else would be worse than none.
    By hand:
        kubectl run d10 --image=busybox --restart=Never -- true; kubectl exec d10 -- echo here
    """
    pod = pods.run(pods.shell(":"), pods.shell(STAYS, name="beside"))
    pod.main.ended()
    assert b"" == pod.main.settled("stdout")
    assert "refused" == ("refused" if pod.main.execute("true").code is None else "done")
    pod["beside"].says("ready")
    assert 0 == pod["beside"].shell(":").code


@tier(3)
@case("D6")
@pytest.mark.parametrize("streamed", [False, True], ids=["1-MB", "20-MB-streamed"])
def test_exec_returns_all_that_was_written(pods: Pods, streamed: bool) -> None:
    """What a command writes arrives byte for byte: 1 MB in one answer, 20 MB as a stream (cri-api, ExecSync and Exec).

    Why: `kubectl cp` and dumps of databases are such commands, and a file that is nearly whole is worse than none.
    By hand:
        head -c 20000000 /dev/urandom >data; kubectl cp data d6:/data
        kubectl exec d6 -- cat /data | cmp - data
    """
    volume = pods.volume("data", "/data", read_only=True)
    written = os.urandom(FLOOD if streamed else SMALL)
    (volume.source / "flood").write_bytes(written)
    pod = pods.run(pods.shell(STAYS, volumes=(volume,)))
    pod.main.says("ready")
    if streamed:
        with pod.main.converse("cat /data/flood") as talk:
            said = talk.ended()
    else:
        said = pod.main.shell("cat /data/flood")
    assert "as written" == log.compared(written, said.stdout)
    assert (0, b"") == (said.code, said.stderr)


@tier(3)
@case("D7")
def test_exec_is_given_input_and_its_end(pods: Pods) -> None:
    """A command reads what it is sent, at once and byte for byte, and learns where that ends (cri-api, Exec.stdin).

    Why: a restore that is piped into a container waits for ever, or believes a part to be the whole.
    By hand:
        head -c 1000000 /dev/urandom | tee data | kubectl exec -i d7 -- cat | cmp - data
    """
    pod = pods.run(pods.shell(STAYS))
    pod.main.says("ready")
    sent = b"first line\n" + os.urandom(SMALL)
    with pod.main.converse("cat; exit 7", stdin=True) as talk:
        talk.send(sent[:11])
        talk.says("first line")
        talk.send(sent[11:])
        talk.finish()
        said = talk.ended()
    assert "as written" == log.compared(sent, said.stdout)
    assert (7, b"") == (said.code, said.stderr)


@tier(3)
@case("D8")
def test_exec_has_a_terminal(pods: Pods) -> None:
    """A command that is given a terminal has one: isatty, CRLF, sizes as they change, Ctrl-C (cri-api, Exec.tty).

    Why: who opens a shell in a container works there, and an editor that does not know its size is of no use.
    By hand:
        kubectl exec -it d8 -- sh -c "trap 'stty size' WINCH; tty; while :; do sleep 1; done"   # then resize the window
    """
    pod = pods.run(pods.shell(STAYS))
    pod.main.says("ready")
    with pod.main.converse(TERMINAL, stdin=True, tty=True) as talk:
        talk.says("ready")
        talk.resize(columns=90, rows=33)
        talk.says("33 90")
        talk.resize(columns=132, rows=50)
        talk.says("50 132")
        talk.send(INTERRUPT)
        said = talk.ended()
    assert b"terminal\r\nready\r\n33 90\r\n50 132\r\ninterrupted\r\n" == said.stdout
    assert (5, b"") == (said.code, said.stderr)
