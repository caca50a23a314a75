"""The engine's configuration, read back as the TOML that it is."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from suites.framework.pod import config
from suites.framework.pod.config import Handler, Layout

SHIM = Handler(name="mine", runtime_type="io.containerd.mine.v2", annotations=("mine/*",))
RUNTIME = Handler(name="runc", binary='/opt/a "quoted" runc')


def cri(*handlers: Handler) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the whole configuration and its part about the interface."""
    layout = Layout(root=Path("/r"), socket=Path("/s"), pause="localhost/p:1", handlers=handlers)
    found = tomllib.loads(config.written(layout))
    return found, found["plugins"]["io.containerd.grpc.v1.cri"]


def test_an_ordinary_users_engine_leaves_cgroups_alone() -> None:
    """It may make none; root's engine has them."""
    plain = Layout(root=Path("/r"), socket=Path("/s"), pause="localhost/p:1")
    found = [tomllib.loads(config.written(each)) for each in (plain, replace(plain, cgroups=False))]
    assert [False, True] == [each["plugins"]["io.containerd.grpc.v1.cri"]["disable_cgroup"] for each in found]


def test_everything_is_the_runs_own() -> None:
    """Root, state, socket and the plugins of networks are where the run says, and nothing listens to the network."""
    found, part = cri()
    assert (2, "/r", "/run/containerd", "/s") == (
        found["version"],
        found["root"],
        found["state"],
        found["grpc"]["address"],
    )
    assert {"/r/cni/bin", "/r/cni/conf"} == set(part["cni"].values())
    assert ("127.0.0.1", "0", True) == (
        part["stream_server_address"],
        part["stream_server_port"],
        part["disable_tcp_service"],
    )
    assert ("localhost/p:1", True) == (part["sandbox_image"], part["restrict_oom_score_adj"])


def test_a_runtime_is_reached_by_its_path() -> None:
    """An OCI runtime is a handler of runc's shim, whatever its path looks like."""
    handler = cri(RUNTIME)[1]["containerd"]["runtimes"]["runc"]
    assert {"runtime_type": config.RUNC_SHIM, "options": {"BinaryName": RUNTIME.binary}} == handler


def test_a_shim_of_its_own_has_no_options() -> None:
    """A shim is reached by its type and is handed the annotations that it asks for."""
    handler = cri(SHIM)[1]["containerd"]["runtimes"]["mine"]
    assert {"runtime_type": SHIM.runtime_type, "pod_annotations": ["mine/*"]} == handler


def test_the_default_handler_is_one_that_there_is() -> None:
    """Without that the engine refuses its whole interface where no handler is called runc."""
    assert "mine" == cri(SHIM, RUNTIME)[1]["containerd"]["default_runtime_name"]
    assert "default_runtime_name" not in cri()[1]["containerd"]


def test_plugins_of_networks_are_where_they_were_found() -> None:
    """Their folder is the machine's or the cache's; what describes networks stays the run's own."""
    layout = Layout(root=Path("/r"), socket=Path("/s"), pause="p", plugins="/opt/cni/bin")
    part = tomllib.loads(config.written(layout))["plugins"]["io.containerd.grpc.v1.cri"]["cni"]
    assert {"bin_dir": "/opt/cni/bin", "conf_dir": "/r/cni/conf"} == part
