"""The container's process: its words, environment, place and user, and how it ends (config.md, "Process")."""

from __future__ import annotations

import shutil

from suites.catalog import Privilege
from suites.framework import probes, process
from suites.framework.marks import case, tier, within
from suites.framework.oci import inside
from suites.framework.oci.bundle import PAYLOAD
from suites.framework.oci.container import Container
from suites.framework.oci.runtime import Runtime
from suites.framework.process import exited, killed
from suites.framework.recorder import Recorder

ODD_WORDS = ("", "two words", "$x `y` \\", "line\nbreak", "--", "-g", "ünï")
VARIABLES = ("EMPTY=", "SIGNS=a=b==c", "SPACES= two  words ", "QUOTES='\"$x`", "LINES=a\nb", "WORDS=ünï")
PROGRAM = "seatrial-program"
"""A name that nothing else has, so that only a search along PATH finds it."""
UID, GID, GROUPS, STRAY_GROUP = 1234, 2345, (3456, 4567), 5678


@case("D01")
def test_arguments_arrive_as_they_are(runtime: Runtime) -> None:
    """Every argument arrives byte by byte: empty, with spaces, quotes, a line break, UTF-8 (config.md#configProcess).

    Why: a runtime that joins words and splits them again, or trims them, breaks `sh -c` and empty options.
    By hand:
        # config.json: "args": ["printf", "[%s]", "", "two words"]
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID    # [][two words]
    """
    container = runtime.container()
    words = container.bundle.recorder(*ODD_WORDS)
    container.spec["process"]["args"] = words
    assert [word.encode() for word in words] == list(container.running().state().argv)


@case("D02")
def test_environment_is_that_of_the_configuration(runtime: Runtime) -> None:
    """The environment is process.env to the byte; only HOME may be added (config.md#configProcess).

    Why: passwords and JSON in variables hold any sign; one that is cut at its second = fails far away.
    By hand:
        # config.json: "env": ["PATH=/bin", "EMPTY=", "SIGNS=a=b==c"], "args": ["env"]
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID
    """
    container = runtime.container()
    given = [*container.spec["process"].get("env", []), *VARIABLES]
    container.spec["process"]["env"] = given
    seen = [variable.decode() for variable in container.running().state().environment]
    assert sorted(given) == sorted(variable for variable in seen if not variable.startswith("HOME="))


@case("D03")
def test_environment_of_the_caller_does_not_leak(runtime: Runtime) -> None:
    """Nothing of the environment in which create and start are called is the container's (config.md#configProcess).

    Why: the caller's environment holds tokens and proxies, which no container may learn.
    By hand:
        SECRET=1 $RUNTIME create --bundle BUNDLE ID; SECRET=1 $RUNTIME start ID
        xargs -0n1 </proc/PID/environ    # no SECRET
    """
    container, secret = runtime.container(), {"SEATRIAL_SECRET": "of the caller"}
    container.create(environment=secret).ok()
    runtime.run("start", container.id, environment=secret).ok()
    names = {variable.partition(b"=")[0].decode() for variable in container.recorder().ready().environment}
    assert ["PATH"] == sorted(names - {"HOME"})


@case("D04")
def test_working_directory_is_honoured(runtime: Runtime) -> None:
    """The program starts in process.cwd (config.md#configProcess).

    Why: relative paths of the program mean something else anywhere else.
    By hand:
        # config.json: "cwd": "/some where/deep", "args": ["pwd"]
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID
    """
    container = runtime.container()
    container.bundle.inside("/some where/deep").mkdir(parents=True)
    container.spec["process"]["cwd"] = "/some where/deep"
    assert b"/some where/deep" == container.running().state().directory


@case("D05")
@tier(3)
def test_relative_working_directory_is_refused(runtime: Runtime) -> None:
    """A cwd that is not absolute is refused, by start at the latest (config.md#configProcess: MUST be absolute).

    Why: relative to what? Each runtime would choose something else.
    By hand:
        # config.json: "cwd": "tmp"
        $RUNTIME create --bundle BUNDLE ID; echo $?    # not 0
    """
    container = runtime.container()
    container.spec["process"]["cwd"] = "tmp"
    assert "refused" == _began(container)
    runtime.container().running()


def _began(container: Container) -> str:
    """Return how create ended, or start where create was done, or in which directory the program then runs."""
    created = container.create().outcome
    outcome = created if created != "done" else container.start().outcome
    if outcome != "done":
        return outcome
    return f"executed in {container.recorder().ready().directory.decode()}"


@case("D06")
@within(privilege=Privilege.ROOT)
def test_user_and_group_are_those_of_the_configuration(runtime: Runtime) -> None:
    """Real, effective, saved and file system ids are process.user's uid and gid (config.md#user).

    Why: an id that is only half dropped is taken back by one call (setresuid(2)).
    By hand:
        # config.json: "user": {"uid": 1234, "gid": 2345}
        grep -E '^(Uid|Gid):' /proc/PID/status    # four times each
    """
    container = runtime.container()
    container.spec["process"]["user"] = {"uid": UID, "gid": GID}
    status = inside.status(container.running())
    assert (" ".join([str(UID)] * 4), " ".join([str(GID)] * 4)) == (status["Uid"], status["Gid"])


@case("D07")
@tier(2)
@within(privilege=Privilege.ROOT)
def test_additional_groups_are_exact(runtime: Runtime) -> None:
    """The supplementary groups are additionalGids and none of the caller's (config.md#user).

    Why: a group such as docker or disk that stays is a way back to the machine.
    By hand:
        # config.json: "user": {"uid": 1234, "gid": 2345, "additionalGids": [3456, 4567]}
        grep ^Groups: /proc/PID/status
    """
    container = runtime.container()
    container.spec["process"]["user"] = {"uid": UID, "gid": GID, "additionalGids": list(GROUPS)}
    caller = (probes.tool("setpriv"), "--groups", str(STRAY_GROUP), "--")
    container.created(container.begin_create(through=caller)).ok()
    container.start().ok()
    groups = map(int, inside.status(_ready(container))["Groups"].split())
    assert list(GROUPS) == sorted(set(groups) - {GID})  # whether gid itself is listed, the specification leaves open


def _ready(container: Container) -> Recorder:
    recorder = container.recorder()
    recorder.ready()
    return recorder


@case("D09")
@tier(3)
def test_umask_is_that_of_the_configuration(runtime: Runtime) -> None:
    """The file mode creation mask is process.user.umask (config.md#user).

    Why: files of a service come out readable by everybody, or by nobody.
    By hand:
        # config.json: "user": {"uid": 0, "gid": 0, "umask": 95}
        grep ^Umask: /proc/PID/status    # 0137
    """
    container = runtime.container()
    container.spec["process"]["user"]["umask"] = 0o137
    assert "0137" == inside.status(container.running())["Umask"]


@case("D17")
def test_program_is_found_along_the_containers_path(runtime: Runtime) -> None:
    """A bare name is searched in the PATH of process.env, in its order, not in the caller's (config.md#configProcess).

    Why: otherwise the container runs another program than its image says, or none.
    By hand:
        # config.json: "args": ["NAME"], "env": ["PATH=/nowhere:/first:/later:/bin"]; NAME is in /decoy, too
        PATH=/decoy:$PATH $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID
        readlink /proc/PID/exe    # /first/NAME
    """
    container = runtime.container()
    for folder in ("/first", "/later", "/decoy"):
        container.bundle.inside(folder).mkdir()
        shutil.copy(container.bundle.inside(PAYLOAD), container.bundle.inside(f"{folder}/{PROGRAM}"))
    container.spec["process"]["args"][0] = PROGRAM
    container.spec["process"]["env"] = ["PATH=/nowhere:/first:/later:/bin"]
    container.create(environment={"PATH": f"/decoy:{runtime.environment['PATH']}"}).ok()
    container.start().ok()
    recorder = container.recorder()
    name = recorder.ready().argv[0].decode()
    assert (f"/first/{PROGRAM}", PROGRAM) == (recorder.sh("readlink /proc/$PPID/exe").ok, name)


@case("D22")
def test_exit_code_reaches_the_reaper(runtime: Runtime) -> None:
    """Whoever adopts the init learns its exit code as it is; 143 too, which is no signal (wait(2)).

    Why: it is the only way to the code: none of the five verbs tells it.
    By hand:
        # config.json: "args": ["sh", "-c", "exit 143"]; in a child subreaper (prctl(2)):
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID
        # its waitpid(-1) gives 143
    """
    container = runtime.container()
    container.running().tell("exit 143")
    assert exited(143) == container.ended()


@case("D23")
@tier(3)
def test_death_by_a_signal_reaches_the_reaper(runtime: Runtime) -> None:
    """When the program is killed, the process that create left is seen to be killed, not to exit with 137 (wait(2)).

    Why: an orchestrator tells an OOM kill from a program's own failure by it.
    By hand:
        # in a child subreaper (prctl(2)):
        kill -KILL PID    # of the program
        # its waitpid(-1) gives signal 9
    """
    container = runtime.container()
    process.dismiss(container.running().pid)  # itself, whoever may stand between it and us
    assert killed(9) == container.ended()


@case("D28")
@tier(3)
def test_process_leads_a_session(runtime: Runtime) -> None:
    """The container's process leads a session and a process group of its own (as in runc and crun; setsid(2)).

    Why: in its caller's session it could reach the caller's terminal.
    By hand:
        # config.json: "args": ["sh", "-c", "cut -d' ' -f1,5,6 /proc/$$/stat"]
        $RUNTIME create --bundle BUNDLE ID; $RUNTIME start ID    # three times the same number
    """
    state = runtime.container().running().state()
    words = {state.pid: "its own"}
    seen = f"session: {words.get(state.sid, 'another')}, group: {words.get(state.pgid, 'another')}"
    assert "session: its own, group: its own" == seen


@case("D29")
@tier(3)
def test_init_is_the_program_itself(runtime: Runtime) -> None:
    """The process that state names has executed the program out of the root file system (runtime.md#start).

    Why: a runtime that stays in between holds its own binary open in the container (CVE-2019-5736).
    By hand:
        $RUNTIME start ID
        stat -L -c %d:%i /proc/PID/exe BUNDLE/rootfs/PROGRAM    # twice the same
    """
    container = runtime.container()
    container.running()
    assert container.init is not None
    same = container.bundle.inside(PAYLOAD).samefile(f"/proc/{container.init.pid}/exe")
    assert "the bundle's program" == ("the bundle's program" if same else "another file")
