"""The driver over an engine's interface, and what the cases see of it: with an engine that only answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suites.framework.model import Reason
from suites.framework.observation import Lacking, Unmet
from suites.framework.pod import streaming
from suites.framework.pod.cri import Refused
from suites.framework.pod.driver import Image, Program, Request, State, Volume
from suites.framework.pod.engine_driver import EngineDriver, place_of_pods
from suites.framework.pod.pods import Pods
from tests.contexts import bench, target

Answer = Callable[[dict[str, Any]], Any]
ENDED = SimpleNamespace(state=2, exit_code=42, reason="Error", message="", started_at=1e9, finished_at=2e9)


class Client:
    """Answers each verb with what it was told, and remembers what it was asked."""

    def __init__(self) -> None:
        """Know an engine without pods."""
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Answer] = {
            "RunPodSandbox": lambda _: SimpleNamespace(pod_sandbox_id="s1"),
            "CreateContainer": lambda fields: SimpleNamespace(container_id=f"c-{fields['config']['metadata']['name']}"),
            "ContainerStatus": lambda _: SimpleNamespace(status=ENDED),
            "ListPodSandbox": lambda _: SimpleNamespace(items=[]),
            "ListContainers": lambda _: SimpleNamespace(containers=[]),
        }

    def call(self, verb: str, *, seconds: float, **fields: Any) -> Any:
        """Answer."""
        assert seconds > 0
        self.asked.append((verb, fields))
        answer = self.answers.get(verb)
        return answer(fields) if answer else SimpleNamespace()

    def verbs(self) -> list[str]:
        """Return what was asked, without the questions of the inventory."""
        return [verb for verb, _ in self.asked if not verb.startswith("List")]

    def fields(self, verb: str) -> dict[str, Any]:
        """Return the fields of the last call of a verb."""
        return next(fields for asked, fields in reversed(self.asked) if asked == verb)


def refuse(verb: str) -> Answer:
    def answer(_: dict[str, Any]) -> Any:
        raise Refused(verb, "UNKNOWN", "no /nowhere/program")

    return answer


@pytest.fixture
def client() -> Client:
    """Return an engine's connection."""
    return Client()


@pytest.fixture
def engine(client: Client) -> Any:
    """Return an engine that never was a process: no such pid is in /proc."""
    return SimpleNamespace(
        client=client,
        pid=0,
        alive=False,
        spoilt=False,
        said=str,
        networks="",
        close=lambda: None,
        handlers={"t": SimpleNamespace(name="t")},
    )


def driver(engine: Any, folder: Path) -> EngineDriver:
    return EngineDriver(engine, handler="mine", folder=folder, tag="tag", cgroup="/place")


def test_a_pod_is_asked_for_whole(client: Client, engine: Any, tmp_path: Path) -> None:
    """Sandbox, then each container created and started in turn, all of them of the handler and below its cgroup."""
    made = driver(engine, tmp_path)
    made.run(Request(name="p", programs=(Program(name="a"), Program(name="b"))))
    assert ["RunPodSandbox", *["CreateContainer", "StartContainer"] * 2] == client.verbs()
    sandbox = client.fields("RunPodSandbox")
    assert ("mine", "/place") == (sandbox["runtime_handler"], sandbox["config"]["linux"]["cgroup_parent"])
    assert "c-b" == client.fields("StartContainer")["container_id"]


def test_a_program_has_a_process_namespace_of_its_own(client: Client, engine: Any, tmp_path: Path) -> None:
    """As a kubelet asks for it: zero, the default of the protocol, would make it a neighbour of the sandbox."""
    driver(engine, tmp_path).run(Request(name="p", programs=(Program(),)))
    linux = client.fields("CreateContainer")["config"]["linux"]
    assert {"network": 2, "pid": 1, "ipc": 0} == linux["security_context"]["namespace_options"]


def test_a_pod_may_have_a_network_of_its_own(client: Client, engine: Any, tmp_path: Path) -> None:
    """The sandbox and what is in it have the same one; where the engine has none to give, that is said."""
    made = driver(engine, tmp_path)
    made.run(Request(name="p", programs=(Program(),), hostname="me", isolated=True))
    sandbox = client.fields("RunPodSandbox")["config"]
    program = client.fields("CreateContainer")["config"]
    namespaces = [each["linux"]["security_context"]["namespace_options"] for each in (sandbox, program)]
    assert ("me", [{"network": 0, "pid": 1, "ipc": 0}] * 2) == (sandbox["hostname"], namespaces)
    engine.networks = "no plugins"
    with pytest.raises(Lacking, match="pod-network is missing: no plugins"):
        made.run(Request(name="q", programs=(), isolated=True))
    made.run(Request(name="r", programs=()))


@pytest.mark.parametrize("tty", [False, True])
def test_a_command_is_attended_where_the_engine_says(
    tty: bool, client: Client, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The streams that are wanted are asked for, none for errors beside a terminal, and the URL is the engine's."""
    begun: list[Any] = []
    monkeypatch.setattr(streaming, "begun", lambda url, **fields: begun.append((url, fields)))
    client.answers["Exec"] = lambda _: SimpleNamespace(url="http://127.0.0.1:1/exec/T")
    engine.connect = "connect"
    made = driver(engine, tmp_path)
    made.run(Request(name="p", programs=(Program(),)))
    made.attend("p", "main", ("cat",), seconds=5, stdin=True, tty=tty)
    fields = {"container_id": "c-main", "cmd": ["cat"], "stdin": True, "stdout": True, "stderr": not tty, "tty": tty}
    assert fields == client.fields("Exec")
    assert [("http://127.0.0.1:1/exec/T", {"connect": "connect", "seconds": 5, "stdin": True, "tty": tty})] == begun


def test_what_a_program_is_stands_in_its_configuration(client: Client, engine: Any, tmp_path: Path) -> None:
    """Words, variables, volumes, users, capabilities and memory arrive; a group that is not named does not."""
    program = Program(
        command=("/bin/x",),
        arguments=("a", "b"),
        environment={"N": "v"},
        directory="/d",
        volumes=(Volume(source=Path("/src"), path="/v", read_only=True),),
        user=0,
        groups=(7,),
        image=Image.ENTRY,
        added=("NET_ADMIN",),
        memory=5,
    )
    driver(engine, tmp_path).run(Request(name="p", programs=(program,)))
    config = client.fields("CreateContainer")["config"]
    security = config["linux"]["security_context"]
    assert (["/bin/x"], ["a", "b"], "/d") == (config["command"], config["args"], config["working_dir"])
    assert [{"key": "N", "value": "v"}] == config["envs"]
    assert [{"container_path": "/v", "host_path": "/src", "readonly": True}] == config["mounts"]
    assert ({"value": 0}, [7], False) == (
        security["run_as_user"],
        security["supplemental_groups"],
        "run_as_group" in security,
    )
    assert ("localhost/seatrial-entry:1", ["NET_ADMIN"], 5) == (
        config["image"]["image"],
        security["capabilities"]["add_capabilities"],
        config["linux"]["resources"]["memory_limit_in_bytes"],
    )


def test_a_container_that_cannot_start_does_not_hide_the_others(client: Client, engine: Any, tmp_path: Path) -> None:
    """What was said is kept for its status, and the next one is created all the same."""
    client.answers["StartContainer"] = refuse("StartContainer")
    made = driver(engine, tmp_path)
    made.run(Request(name="p", programs=(Program(name="a"), Program(name="b"))))
    assert ["no /nowhere/program"] * 2 == [made.status("p", name).refusal for name in "ab"]
    assert (State.EXITED, 42, 1.0, 2.0) == (
        (status := made.status("p", "a")).state,
        status.code,
        status.started_at,
        status.finished_at,
    )


def test_a_container_that_was_never_created_has_a_status(client: Client, engine: Any, tmp_path: Path) -> None:
    """The engine is not asked for what it does not know."""
    client.answers["CreateContainer"] = refuse("CreateContainer")
    made = driver(engine, tmp_path)
    made.run(Request(name="p", programs=(Program(),)))
    assert (State.CREATED, None, "no /nowhere/program") == (
        (status := made.status("p", "main")).state,
        status.code,
        status.refusal,
    )


def test_pods_that_nobody_was_told_of_are_removed_too(client: Client, engine: Any, tmp_path: Path) -> None:
    """The engine is asked for what it has; who cannot remove it is used no more."""
    client.answers["ListPodSandbox"] = lambda _: SimpleNamespace(items=[SimpleNamespace(id="lost")])
    made = driver(engine, tmp_path)
    made.close()
    assert ["StopPodSandbox", "RemovePodSandbox"] == client.verbs()
    assert ("lost", False) == (client.fields("RemovePodSandbox")["pod_sandbox_id"], engine.spoilt)
    client.answers["StopPodSandbox"] = refuse("StopPodSandbox")
    made.close()
    assert engine.spoilt


# ---- what cases see


@pytest.fixture
def pods(engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pods:
    """Return the pods of a bench whose engine only answers, and whose patience is short."""
    monkeypatch.setattr("suites.framework.pod.pods.PATIENCE_S", 0.1)
    monkeypatch.setattr("suites.framework.pod.pod.LOG_S", 0.05)
    return Pods(bench(tmp_path), target("t"), engine)


def write(pods: Pods, name: str, text: bytes) -> None:
    """Write the log of the first pod's container, as an engine would, each line to stdout."""
    log = next(pods.folder.glob("logs/*")) / f"{name}.log"
    log.write_bytes(b"".join(b"2026-11-22T00:00:00Z stdout F %s\n" % line for line in text.splitlines()))


def test_the_record_proves_and_is_no_output(pods: Pods) -> None:
    """The line that a running shell works out is taken off; with it the handler has proven itself."""
    pod = pods.run(pods.shell("echo hello"))
    write(pods, "main", pods.record + b"hello\n")
    assert not pods.proven
    assert (b"hello\n", b"") == pod.main.outputs()
    assert pods.proven


@pytest.mark.parametrize(("text", "words"), [(b"", "none"), (b"hello\n", "something else is first")])
def test_without_the_record_there_is_no_output(pods: Pods, text: bytes, words: str) -> None:
    """A handler that runs nothing, or something else, passes no case; nor does one that repeats its words."""
    pod = pods.run(pods.shell("echo hello"))
    write(pods, "main", text)
    with pytest.raises(Unmet) as caught:
        pod.main.outputs()
    assert (words, False) == (caught.value.actual, pods.proven)
    assert pods.record.decode().strip() not in pods.recording("")


def test_phases_are_those_of_a_cluster(pods: Pods, client: Client) -> None:
    """Running as long as one runs, then Failed where one failed, else Succeeded."""
    pod = pods.run(pods.shell("", name="a"), pods.shell("", name="b"))
    states = {"c-a": (1, 0), "c-b": (2, 3)}

    def answer(fields: dict[str, Any]) -> Any:
        state, code = states[fields["container_id"]]
        return SimpleNamespace(
            status=SimpleNamespace(state=state, exit_code=code, reason="", message="", started_at=0, finished_at=0)
        )

    client.answers["ContainerStatus"] = answer
    assert "Running" == pod.phase()
    states["c-a"] = (2, 0)
    assert "Failed" == pod.phase()
    states["c-b"] = (2, 0)
    assert "Succeeded" == pod.phase()
    states["c-a"] = (0, 0)
    assert "Pending" == pod.phase()


def test_a_program_that_does_not_end_is_a_timeout(pods: Pods, client: Client) -> None:
    """Nobody waits for ever, and what is seen reads the same in every run."""
    running = SimpleNamespace(state=1, exit_code=0, reason="", message="", started_at=0, finished_at=0)
    client.answers["ContainerStatus"] = lambda _: SimpleNamespace(status=running)
    pod = pods.run(pods.shell(""))
    with pytest.raises(Unmet, match="expected the container exited, but it is running"):
        pod.main.ended()


def test_no_pod_is_the_targets_failure(pods: Pods, client: Client) -> None:
    """A sandbox that is refused is an observation, not an error of the harness."""
    client.answers["RunPodSandbox"] = refuse("RunPodSandbox")
    with pytest.raises(Unmet, match="expected a pod, but RunPodSandbox: refused"):
        pods.run(pods.shell(""))


def test_who_refuses_to_attend_is_the_targets_failure(pods: Pods, client: Client) -> None:
    """A command with streams that cannot begin is an observation, whoever says so."""
    client.answers["Exec"] = refuse("Exec")
    pod = pods.run(pods.shell(""))
    with (
        pytest.raises(Unmet, match="expected a command with its streams connected, but Exec: refused"),
        pod.main.converse("cat", stdin=True),
    ):
        raise AssertionError


# ---- waiting for a line


def test_a_program_that_has_ended_says_nothing_more(pods: Pods) -> None:
    """Nobody waits for the line of one that is gone: it is no timeout, and long before one."""
    pods.seconds = 60.0
    pod = pods.run(pods.shell("exit 42"))
    write(pods, "main", pods.record + b"another\n")
    with pytest.raises(Unmet, match="expected the program says ready, but nothing; it is exited with 42") as caught:
        pod.main.says("ready")
    assert Reason.TIMEOUT != caught.value.reason


def test_the_last_line_of_a_program_is_heard(pods: Pods, client: Client) -> None:
    """It is looked for once more when the program was seen to have ended."""
    pods.seconds = 60.0
    pod = pods.run(pods.shell("echo ready"))

    def last_words(_: dict[str, Any]) -> Any:
        write(pods, "main", pods.record + b"ready\n")
        return SimpleNamespace(status=ENDED)

    client.answers["ContainerStatus"] = last_words
    pod.main.says("ready")
    assert pods.proven


def test_one_who_runs_is_waited_for(pods: Pods, client: Client) -> None:
    """To the end of the patience, and that is a timeout."""
    pods.seconds = 0.4
    running = SimpleNamespace(state=1, exit_code=0, reason="", message="", started_at=0, finished_at=0)
    client.answers["ContainerStatus"] = lambda _: SimpleNamespace(status=running)
    pod = pods.run(pods.shell(""))
    with pytest.raises(Unmet, match="but nothing; it is running") as caught:
        pod.main.says("ready")
    assert Reason.TIMEOUT == caught.value.reason


# ---- cgroups


@pytest.mark.parametrize(
    ("uid", "own", "place"), [(1000, "/mine", ""), (0, "/mine", "/mine"), (0, "", "/seatrial-limit-pods")]
)
def test_pods_belong_below_the_workers_cgroup(uid: int, own: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's are below the worker's own, or one of ours; an ordinary user's engine says nothing of cgroups."""
    monkeypatch.setattr("suites.framework.pod.engine_driver.cgroup.parent", lambda: own)
    assert place == place_of_pods(uid=uid)
