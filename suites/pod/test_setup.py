"""What a program finds when it begins: variables, directory, user (cri-api, ContainerConfig)."""

from __future__ import annotations

import os
from dataclasses import replace

from suites.catalog import Privilege
from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires, tier, within
from suites.framework.pod.driver import Image, Program
from suites.framework.pod.pods import MARK, Pods

USUAL = ("PATH", "HOME", "HOSTNAME")
CHOWN, NET_ADMIN = 1 << 0, 1 << 12
"""Bits of capabilities (capability.h)."""
CAPPED = "ulimit -v 1048576"
"""KiB: where no limit of a container holds, the node must not pay for that."""

VALUES = {
    "PLAIN": "one",
    "SPACES": " two  words ",
    "EQUALS": "a=b==c",
    "UNICODE": "grüße 船",
    "EMPTY": "",
    "QUOTES": 'it\'s "quoted" $HOME `id`',
}


@tier(2)
@case("C1")
def test_variables_are_exact(pods: Pods) -> None:
    """Variables have exactly the values that were given: spaces, '=', Unicode, none at all (cri-api, KeyValue).

    Why: a password with a quotation mark in it is the usual first victim.
    By hand:
        kubectl run c1 --image=busybox --restart=Never --env='SPACES= two  words ' --env='EQUALS=a=b' -- env
        kubectl logs c1
    """
    lines = "\n".join(f"printf '%s|%s\\n' {name} \"${{{name}-unset}}\"" for name in VALUES)
    pod = pods.run(pods.shell(lines, environment=VALUES))
    said = pod.main.outputs()[0].decode()
    assert "".join(f"{name}|{value}\n" for name, value in VALUES.items()) == said


@tier(2)
@case("C3")
def test_program_begins_in_its_directory(pods: Pods) -> None:
    """A program begins in the working directory that was asked for (cri-api, ContainerConfig.working_dir).

    Why: relative paths in a command are everywhere.
    By hand:
        # a pod with workingDir: /etc and the command pwd
        kubectl logs c3
    """
    pod = pods.run(pods.shell("pwd; readlink /proc/self/cwd", directory="/etc"))
    assert (b"/etc\n/etc\n", b"") == pod.main.outputs()


@tier(3)
@case("C5")
def test_program_runs_as_the_user_that_was_asked_for(pods: Pods) -> None:
    """A program has the user and the group that were asked for (cri-api, LinuxContainerSecurityContext).

    Why: a runtime that forgets this runs everything as root.
    By hand:
        # a pod with runAsUser: 1234, runAsGroup: 2345 and the command id
        kubectl logs c5
    """
    pod = pods.run(pods.shell("id -u; id -g", user=1234, group=2345))
    assert (b"1234\n2345\n", b"") == pod.main.outputs()


@tier(3)
@case("C6")
def test_groups_are_those_that_were_asked_for(pods: Pods) -> None:
    """A program has the further groups that were asked for, and none of root's (LinuxContainerSecurityContext).

    Why: a group that was inherited opens files that nobody meant to open.
    By hand:
        # a pod with runAsUser: 1234, runAsGroup: 2345, supplementalGroups: [3456]
        kubectl logs c6   # the words of `id -G`
    """
    pod = pods.run(pods.shell("id -G", user=1234, group=2345, groups=(3456, 4567)))
    assert {"2345", "3456", "4567"} == set(pod.main.outputs()[0].decode().split())


@tier(3)
@case("C7")
def test_nothing_of_the_runtime_is_left_open(pods: Pods) -> None:
    """A program begins with the descriptors 0, 1 and 2 alone, and with the usual mask (umask(2)).

    Why: a descriptor of the runtime's is a way out of the container (CVE-2024-21626).
    By hand:
        # crictl run with `sh -c 'umask; ls /proc/self/fd'`
    """
    pod = pods.run(pods.shell("umask; cd /proc/self/fd; for fd in *; do test -e $fd && echo $fd; done"))
    assert (b"0022\n0\n1\n2\n", b"") == pod.main.outputs()


@tier(3)
@case("C10")
@offered("read-only-root")
def test_read_only_root_refuses_writes(pods: Pods) -> None:
    """A root file system that is asked for as read-only refuses writes; one that is not takes them (readonly_rootfs).

    Why: it is the cheapest wall against what gets in, if it stands.
    By hand:
        # a pod with securityContext.readOnlyRootFilesystem: true and the command `sh -c 'echo x >/new'`
        kubectl logs c10   # Read-only file system
    """
    script = "(echo x >/new && echo written) 2>&1"
    pod = pods.run(pods.shell(script, read_only=True), pods.shell(script, name="open"))
    assert [b"written\n"] == [pod["open"].outputs()[0]]
    assert "Read-only file system" == pod.main.outputs()[0].decode().strip().rpartition(": ")[2]


@tier(3)
@case("C2")
def test_no_foreign_variable_arrives(pods: Pods) -> None:
    """A program gets the variables that were given, and of others those alone that a container always has.

    Why: what an engine or a shim has in its own environment may be a password.
    By hand:
        kubectl run c2 --image=busybox --restart=Never -- env; kubectl logs c2
    """
    pod = pods.run(pods.shell("tr '\\000' '\\n' </proc/$$/environ; exit 0", environment={"GIVEN": "yes"}))
    names = {line.partition("=")[0] for line in pod.main.outputs()[0].decode().splitlines()}
    foreign = {name for name in names if name not in USUAL and not name.startswith("KUBERNETES_")}
    assert sorted({"GIVEN", MARK}) == sorted(foreign)


@tier(3)
@case("C4")
def test_command_and_arguments_replace_the_images(pods: Pods) -> None:
    """A command replaces the image's entrypoint and its arguments, arguments alone the latter (ContainerConfig).

    Why: the wrong one of four combinations runs another program than was asked for.
    By hand:
        # an image with ENTRYPOINT ["echo", "entry"] and CMD ["default"]; four pods of it: with neither, with
        # args: [mine], with command: [echo, mine], with both
        kubectl logs c4
    """
    plain = Program(name="neither", image=Image.ENTRY)
    programs = [
        plain,
        replace(plain, name="arguments", arguments=("a", "b")),
        replace(plain, name="command", command=("/bin/echo", "c")),
        replace(plain, name="both", command=("/bin/echo", "c"), arguments=("a",)),
    ]
    pod = pods.run(pods.shell("exit 0"), *programs)
    assert (0, b"") == (pod.main.ended().code, pod.main.settled("stdout"))
    wanted = {"neither": b"entry default\n", "arguments": b"entry a b\n", "command": b"c\n", "both": b"c a\n"}
    assert wanted == {name: pod[name].bare() for name in wanted}


@tier(3)
@case("C8")
@requires(Fact.POD_NETWORK)
def test_pod_has_its_hostname(pods: Pods) -> None:
    """A program finds the name of its pod, and each pod has its own, as has the node (PodSandboxConfig.hostname).

    Why: a database names itself to its neighbours by it, and two of a name are one to them.
    By hand:
        # two pods with hostname: one and hostname: two, and the command `hostname; cat /etc/hostname; echo $HOSTNAME`
        kubectl logs c8-one; kubectl logs c8-two; hostname   # on the node: as before
    """
    node = os.uname().nodename
    script = 'hostname; cat /etc/hostname; echo "$HOSTNAME"; echo ready; sleep 1000'
    made = [pods.run(pods.shell(script), hostname=name, isolated=True) for name in ("seatrial-one", "seatrial-two")]
    for pod in made:
        pod.main.says("ready")
    said = [pod.main.output() for pod in made]
    assert [b"seatrial-one\n" * 3 + b"ready\n", b"seatrial-two\n" * 3 + b"ready\n"] == said
    assert node == os.uname().nodename
    for pod in made:
        pod.delete()
    assert [] == pods.left()


@tier(3)
@within(privilege=Privilege.ROOT)
@case("C9")
@offered("capabilities")
def test_capabilities_are_those_that_were_asked_for(pods: Pods) -> None:
    """A capability that is added is held, one that is dropped is not, and no_new_privs is set where that was asked for.

    Why: what was taken away and is still there is the hole that everybody believes closed (capabilities(7)).
    By hand:
        # securityContext: {capabilities: {add: [NET_ADMIN], drop: [CHOWN]}, allowPrivilegeEscalation: false}
        kubectl logs c9   # grep -e CapEff -e NoNewPrivs /proc/self/status
    """
    script = "grep -e ^CapEff -e ^NoNewPrivs /proc/self/status"
    plain = pods.shell(script, name="plain")
    changed = pods.shell(script, added=("NET_ADMIN",), dropped=("CHOWN",), no_new_privileges=True)
    pod = pods.run(plain, changed)
    found = {name: dict(_fields(pod[name].outputs()[0])) for name in ("plain", "main")}
    bits = {name: int(fields["CapEff"], 16) for name, fields in found.items()}
    assert (CHOWN, NET_ADMIN) == (bits["plain"] & ~bits["main"], bits["main"] & ~bits["plain"])
    assert ("0", "1") == (found["plain"]["NoNewPrivs"], found["main"]["NoNewPrivs"])


def _fields(text: bytes) -> list[tuple[str, str]]:
    """Return name and value of each line."""
    return [(name, value.strip()) for name, _, value in (line.partition(":") for line in text.decode().splitlines())]


@tier(3)
@within(privilege=Privilege.ROOT)
@case("C11")
@offered("memory-limit")
@requires(Fact.CGROUP_MEMORY)
def test_program_that_takes_too_much_memory_is_killed(pods: Pods) -> None:
    """A program that takes more memory than its limit is killed, and that is told: 137, OOMKilled (cri-api, reason).

    Why: who sees a plain failure looks for a bug in the program, and not at its limit.
    By hand:
        # resources: {limits: {memory: 32Mi}} and the command `tail /dev/zero`
        kubectl get pod c11 -o jsonpath='{.status.containerStatuses[0].state.terminated}'
    """
    pod = pods.run(pods.shell(f"{CAPPED}; exec tail /dev/zero", memory=32 << 20), pods.shell(":", name="beside"))
    assert 0 == pod["beside"].ended().code
    status = pod.main.ended()
    assert b"" == pod.main.settled("stdout")
    assert (137, "OOMKilled") == (status.code, status.reason)
