"""A stand-in for an engine: it answers over its interface, and runs nothing.

PYTEST_DONT_REWRITE: imported by several test modules.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from suites.framework.model import EnginePlace
from suites.framework.provisioning import containerd
from suites.framework.provisioning.cache import Cache
from suites.framework.provisioning.command import run
from tests.contexts import ROOT

needs_group = pytest.mark.skipif(
    any(not containerd._installed(name) for name in containerd.NEEDED), reason="the dependency group pod is not here"
)
PROGRAM = """
import sys, tomllib, importlib
from concurrent.futures import ThreadPoolExecutor
sys.path.append({stubs!r})
import grpc
types = importlib.import_module("cri_pb2")
with open(sys.argv[2], "rb") as file:
    config = tomllib.load(file)
ANSWERS = {{
    "Version": types.VersionResponse(runtime_version="9.9"),
    "ImageStatus": types.ImageStatusResponse(image=types.Image(id="i")),
    "ListContainers": types.ListContainersResponse(),
    "ListPodSandbox": types.ListPodSandboxResponse(),
}}

class Every(grpc.GenericRpcHandler):
    def service(self, details):
        said = ANSWERS[details.method.rpartition("/")[2]]
        return grpc.unary_unary_rpc_method_handler(lambda request, context: said.SerializeToString())

server = grpc.server(ThreadPoolExecutor(2), handlers=(Every(),))
server.add_insecure_port("unix://" + config["grpc"]["address"])
server.start()
print("serving", flush=True)
server.wait_for_termination()
"""


def stubs(folder: Path) -> Path:
    """Return the folder of the generated messages."""
    found = containerd._stubs(ROOT / containerd.PROTO, Cache(folder), run)
    assert isinstance(found, Path), found
    return found


def place(folder: Path) -> EnginePlace:
    """Return the programs of a stand-in: an engine that is a script of this Python, and a ctr that takes everything."""
    folder.mkdir()
    messages = stubs(folder / "cache")
    (folder / "containerd").write_text(f"#!{sys.executable}\n{PROGRAM.format(stubs=str(messages))}")
    (folder / "containerd").chmod(0o755)
    (folder / "ctr").write_text('#!/bin/sh\necho "$*" >>"$0.asked"\n')
    (folder / "ctr").chmod(0o755)
    packages = ":".join(filter(None, sys.path))
    return EnginePlace(
        containerd=str(folder / "containerd"),
        ctr=str(folder / "ctr"),
        version="9.9",
        stubs=str(messages),
        environment={"PYTHONPATH": packages},
    )
