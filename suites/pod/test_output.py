"""What a program writes, and what of it is in the container's log (cri-api, "CRI logging")."""

from __future__ import annotations

from suites.framework.facts import Fact
from suites.framework.marks import case, requires, tier
from suites.framework.pod import log
from suites.framework.pod.calibration import FLOOD, LAST, NUMBERS
from suites.framework.pod.pods import LONG_S, Pods


@case("B1")
def test_streams_are_captured_apart(pods: Pods) -> None:
    """What goes to stdout and what goes to stderr is in the log, each under its own name, byte for byte (CRI logging).

    Why: errors that are filed as output, or not at all, are not found by whoever filters for them.
    By hand:
        kubectl run b1 --image=busybox --restart=Never -- sh -c 'echo out; echo err >&2'
        kubectl logs b1; cat /var/log/pods/*_b1_*/b1/0.log   # on the node: which stream each line is of
    """
    pod = pods.run(pods.shell("printf 'one\\ntwo  spaces\\n'; printf 'three\\n' >&2; printf 'four\\n'"))
    assert (b"one\ntwo  spaces\nfour\n", b"three\n") == pod.main.outputs()


@tier(3)
@case("B6")
def test_any_byte_is_kept(pods: Pods) -> None:
    r"""Bytes that are no text are in the log as they were written (CRI logging).

    Why: a crash dump that was put through a decoder is worth nothing.
    By hand:
        kubectl run b6 --image=busybox --restart=Never -- printf '\377\376\001\n'
        kubectl logs b6 | od -c
    """
    pod = pods.run(pods.shell(r"printf '\377\376\001\200 \303\050\033[0m\n'"))
    assert (b"\xff\xfe\x01\x80 \xc3\x28\x1b[0m\n", b"") == pod.main.outputs()


@tier(2)
@case("B2")
def test_large_output_of_a_program_that_stays(pods: Pods) -> None:
    """What a program wrote that goes on is in the log to the last byte, however much it is (CRI logging).

    Why: a log that loses lines under load loses the ones that matter.
    By hand:
        kubectl run b2 --image=busybox --restart=Never -- sh -c 'seq 1 40000; sleep 1000'
        kubectl logs b2 | cmp - <(seq 1 40000)
    """
    pod = pods.run(pods.shell(f"seq 1 {LAST}; echo all; trap 'exit 0' TERM; sleep 1000 & wait"))
    pod.main.says("all")
    assert "as written" == log.compared(NUMBERS + b"all\n", pod.main.output())


@tier(2)
@case("B3")
@requires(Fact.ENGINE_OUTPUT)
def test_large_output_of_a_program_that_ends_at_once(pods: Pods) -> None:
    """What a program wrote that ended at once is in the log to the last byte (CRI logging).

    Why: the last words of a program that breaks down are the ones that say why.
    By hand:
        kubectl run b3 --image=busybox --restart=Never -- sh -c 'seq 1 40000'
        kubectl logs b3 | cmp - <(seq 1 40000)
    """
    pod = pods.run(pods.shell(FLOOD))
    assert "as written" == log.compared(NUMBERS, pod.main.outputs()[0])


@tier(3)
@case("B5")
def test_last_line_without_its_end_is_kept(pods: Pods) -> None:
    r"""A last line without a newline is in the log, tagged as one that goes on (CRI logging).

    Why: a prompt, or the last words before a crash, often have no newline.
    By hand:
        kubectl run b5 --image=busybox --restart=Never -- printf 'one\ntwo'
        tail -1 /var/log/pods/*_b5_*/b5/0.log   # on the node: "stdout P two"
    """
    pod = pods.run(pods.shell(r"printf 'one\ntwo'"))
    assert (b"one\ntwo", b"") == pod.main.outputs()


@tier(3)
@case("B10")
def test_log_is_readable_while_the_program_runs(pods: Pods) -> None:
    """What a program wrote can be read while it runs, and what it writes later too (CRI logging).

    Why: who watches a deployment reads the log of what is still starting.
    By hand:
        kubectl run b10 --image=busybox --restart=Never -- sh -c 'echo first; read go; echo second'
        kubectl logs --follow b10
    """
    traps = "trap 'echo second' USR1; trap 'echo third; exit 0' TERM"
    pod = pods.run(pods.shell(f"{traps}; echo $$; echo first; while :; do sleep 1000 & wait; done"))
    pod.main.says("first")
    own, _, rest = pod.main.output().decode().partition("\n")
    assert "first\n" == rest
    assert 0 == pod.main.shell(f"kill -USR1 {own}").code
    pod.main.says("second")
    assert f"{own}\nfirst\nsecond\n".encode() == pod.main.output()
    pod.main.stop(grace=LONG_S)
    assert (f"{own}\nfirst\nsecond\nthird\n".encode(), b"") == pod.main.outputs()


@tier(3)
@case("B4")
def test_long_line_comes_together_again(pods: Pods) -> None:
    r"""A line of 70 000 bytes is in the log in chunks, all but the last tagged as ones that go on (CRI logging).

    Why: JSON on one line is what programs log, and half of it cannot be read.
    By hand:
        kubectl run b4 --image=busybox --restart=Never -- sh -c 'head -c 70000 /dev/zero | tr "\000" x; echo'
        kubectl logs b4 | wc -c   # 70001
    """
    pod = pods.run(pods.shell("head -c 70000 /dev/zero | tr '\\000' x; echo; echo after"))
    assert "as written" == log.compared(b"x" * 70000 + b"\nafter\n", pod.main.outputs()[0])
    pieces = [(piece.whole, len(piece.content)) for piece in pod.main.pieces() if piece.content.startswith(b"x")]
    assert [False] * (len(pieces) - 1) + [True] == [whole for whole, _ in pieces]
    assert "chunks" == ("chunks" if max(size for _, size in pieces) <= log.CHUNK else "a longer one")


@tier(3)
@case("B8")
def test_program_that_closes_its_streams_keeps_its_code(pods: Pods) -> None:
    """A program that closes stdout and stderr and goes on ends with its own code (cri-api, ContainerStatus).

    Why: daemons do that, and an engine that takes the end of a stream for the end of the program loses them.
    By hand:
        kubectl run b8 --image=busybox --restart=Never -- sh -c 'echo out; exec >&- 2>&-; sleep 1; exit 9'
        kubectl get pod b8 -o jsonpath='{.status.containerStatuses[0].state.terminated.exitCode}'   # 9
    """
    pod = pods.run(pods.shell("echo out; trap 'kill $!; exit 9' TERM; exec >&- 2>&-; sleep 1000 & wait"))
    pod.main.says("out")
    assert "Running" == pod.phase()
    assert 0 == pod.main.shell(":").code
    pod.main.stop(grace=LONG_S)
    assert (9, b"out\n") == (pod.main.ended().code, pod.main.settled("stdout"))


@tier(3)
@case("B9")
def test_exit_is_reported_though_a_child_holds_stdout(pods: Pods) -> None:
    """The end of a program is reported though a process that it left holds its stdout (cri-api, ContainerStatus).

    Why: an engine that waits for the end of the stream shows a pod as running that has ended.
    By hand:
        kubectl run b9 --image=busybox --restart=Never -- sh -c '(setsid sleep 1000 &); exit 4'
        kubectl get pod b9 -o jsonpath='{.status.containerStatuses[0].state.terminated.exitCode}'   # 4
    """
    pod = pods.run(pods.shell("echo out; (setsid sleep 1000 &); exit 4"))
    assert (4, b"out\n") == (pod.main.ended().code, pod.main.settled("stdout"))
