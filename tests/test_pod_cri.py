"""The interface's client, against a server of this process that speaks gRPC."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suites.framework.pod.cri import Client, Refused
from tests.engines import needs_group, stubs

pytestmark = needs_group


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the generated messages."""
    return stubs(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def server(tmp_path: Path, messages: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield a server: its socket, what it is to do by path of a method, and what it was asked."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(messages)])
    grpc, types = importlib.import_module("grpc"), importlib.import_module("cri_pb2")
    answers: dict[str, Callable[[Any, Any], Any]] = {}
    asked: list[tuple[str, Any]] = []

    class Every(grpc.GenericRpcHandler):  # type: ignore[misc, name-defined]
        def service(self, details: Any) -> Any:
            verb = details.method.rpartition("/")[2]

            def answer(request: bytes, context: Any) -> bytes:
                asked.append((details.method, getattr(types, f"{verb}Request").FromString(request)))
                return bytes(answers[verb](asked[-1][1], context).SerializeToString())

            return grpc.unary_unary_rpc_method_handler(answer)

    made = grpc.server(ThreadPoolExecutor(2), handlers=(Every(),), options=[("grpc.max_send_message_length", -1)])
    path = tmp_path / "s"
    made.add_insecure_port(f"unix://{path}")
    made.start()
    yield SimpleNamespace(path=path, answers=answers, asked=asked, types=types, grpc=grpc)
    made.stop(None).wait(10)


@pytest.fixture
def client(server: Any, messages: Path) -> Iterator[Client]:
    """Yield a client of that server."""
    made = Client(server.path, stubs=messages)
    yield made
    made.close()
    made.close()


def test_fields_and_answers_arrive(server: Any, client: Client) -> None:
    """What is asked for is built of plain values, however deep, and the response is the server's."""
    server.answers["RunPodSandbox"] = lambda request, _: server.types.RunPodSandboxResponse(
        pod_sandbox_id=f"{request.runtime_handler} {request.config.metadata.name}"
    )
    config = {"metadata": {"name": "p"}, "labels": {"a": "b"}, "linux": {"cgroup_parent": "/c"}}
    said = client.call("RunPodSandbox", seconds=10, config=config, runtime_handler="runc")
    assert "runc p" == said.pod_sandbox_id
    (method, request) = server.asked[0]
    assert ("/runtime.v1.RuntimeService/RunPodSandbox", {"a": "b"}, "/c") == (
        method,
        dict(request.config.labels),
        request.config.linux.cgroup_parent,
    )


def test_images_are_another_service(server: Any, client: Client) -> None:
    """Of the two services each verb goes to its own."""
    server.answers["ImageStatus"] = lambda *_: server.types.ImageStatusResponse(image={"id": "i"})
    assert "i" == client.call("ImageStatus", seconds=10, image={"image": "x"}).image.id
    assert "/runtime.v1.ImageService/ImageStatus" == server.asked[0][0]


def test_a_refusal_has_code_and_words(server: Any, client: Client) -> None:
    """An engine's error is one exception, whatever the code; the connection serves on."""

    def refuse(_: Any, context: Any) -> Any:
        context.abort(server.grpc.StatusCode.NOT_FOUND, "no such container")

    server.answers["StopContainer"] = refuse
    server.answers["Version"] = lambda *_: server.types.VersionResponse(runtime_version="1.6")
    with pytest.raises(Refused) as caught:
        client.call("StopContainer", seconds=10, container_id="c")
    refusal = caught.value
    assert ("StopContainer", "NOT_FOUND", "no such container") == (refusal.verb, refusal.code, refusal.words)
    assert "1.6" == client.call("Version", seconds=10).runtime_version


def test_a_call_that_takes_too_long_is_given_up(server: Any, client: Client) -> None:
    """With a code of its own."""
    done = threading.Event()
    server.answers["Version"] = lambda *_: (done.wait(10), server.types.VersionResponse())[1]
    with pytest.raises(Refused) as caught:
        client.call("Version", seconds=0.1)
    done.set()
    assert "DEADLINE_EXCEEDED" == caught.value.code


def test_large_answers_fit(server: Any, client: Client) -> None:
    """What a command wrote may be larger than gRPC takes unasked, which is 4 MiB; not larger than an engine sends."""
    size = {"now": 15 << 20}
    server.answers["ExecSync"] = lambda *_: server.types.ExecSyncResponse(stdout=b"x" * size["now"])
    assert 15 << 20 == len(client.call("ExecSync", seconds=20, container_id="c").stdout)
    size["now"] = 17 << 20
    with pytest.raises(Refused) as caught:
        client.call("ExecSync", seconds=20, container_id="c")
    assert "RESOURCE_EXHAUSTED" == caught.value.code


def test_nobody_at_the_socket_is_no_riddle(tmp_path: Path, messages: Path, server: Any, client: Client) -> None:
    """Neither ready nor answering, within the time that is given."""
    assert client.ready(10)
    nobody = Client(tmp_path / "none", stubs=messages)
    assert not nobody.ready(0.1)
    with pytest.raises(Refused) as caught:
        nobody.call("Version", seconds=0.5)
    nobody.close()
    assert caught.value.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    assert [] == server.asked
