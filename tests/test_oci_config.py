"""Configurations of containers: what the builder makes is what the published schema allows."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

from suites.framework.oci import config
from suites.framework.oci.spec import Spec

MODULE = "github.com/opencontainers/runtime-spec@v1.2.0"
SUM = "h1:z97+pHb3uELt/yiAWD691HNHQIF07bE7dzrbT927iTk="
"""What the Go module's files hash to: the schemas are those that were published."""


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> jsonschema.Draft4Validator:
    """Return a validator of config.json as runtime-spec publishes it; skips where it cannot be fetched."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed, which fetches the published schema")
    folder = tmp_path_factory.mktemp("module")
    (folder / "go.mod").write_text("module schema\n\ngo 1.19\n")
    done = subprocess.run(
        ["go", "mod", "download", "-json", MODULE], cwd=folder, capture_output=True, text=True, timeout=120
    )
    found = json.loads(done.stdout or "{}")
    if done.returncode or "Dir" not in found:
        pytest.skip(f"the schema cannot be fetched: {found.get('Error') or done.stderr.strip()}")
    assert SUM == found["Sum"]
    schemas = Path(found["Dir"], "schema")

    def retrieve(uri: str) -> Resource[Any]:
        contents = json.loads((schemas / uri.rpartition("/")[2]).read_text())
        return Resource.from_contents(contents, default_specification=DRAFT4)

    whole = json.loads((schemas / "config-schema.json").read_text())
    return jsonschema.Draft4Validator(whole, registry=Registry(retrieve=retrieve))  # type: ignore[call-arg]


def everything(spec: Spec) -> Spec:
    """Return a configuration with all that cases add to it."""
    spec["hostname"] = "sentinel"
    spec["annotations"] = {"org.seatrial.case": "C04"}
    spec["mounts"].append(config.bind("/tmp/x", "/x", "ro"))
    spec["hooks"] = {"poststop": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 3}]}
    spec["process"] |= {"oomScoreAdj": 7, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}]}
    spec["process"]["user"] |= {"umask": 0o27, "additionalGids": [5, 6]}
    spec["linux"] |= {
        "sysctl": {"kernel.shmmni": "777"},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "rootfsPropagation": "private",
        "resources": {"pids": {"limit": 7}, "memory": {"limit": 1 << 26}, "cpu": {"shares": 512}},
        "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}],
    }
    return spec


@pytest.mark.parametrize("rootless", [None, (1000, 1000)], ids=["root", "rootless"])
def test_configurations_are_valid(schema: jsonschema.Draft4Validator, rootless: tuple[int, int] | None) -> None:
    """The least configuration and one with everything satisfy the published schema."""
    for spec in (
        config.minimal(["/bin/true"], rootless=rootless),
        everything(config.minimal(["a"], rootless=rootless)),
    ):
        assert [] == [error.message for error in schema.iter_errors(spec)]


def test_schema_refuses_what_is_wrong(schema: jsonschema.Draft4Validator) -> None:
    """The validator is one: a missing version and a namespace without a type are noticed."""
    spec: dict[str, Any] = dict(config.minimal(["/bin/true"]))
    del spec["ociVersion"]
    assert not schema.is_valid(spec)
    other = config.minimal(["/bin/true"])
    other["linux"]["namespaces"].append({})  # type: ignore[typeddict-item]
    assert not schema.is_valid(other)


def test_rootless_maps_the_caller_alone() -> None:
    """A container of an ordinary user has a user namespace in which his id is 0, and no cgroup."""
    spec = config.minimal(["/bin/true"], rootless=(1000, 100))
    assert {"type": "user"} in spec["linux"]["namespaces"]
    assert [{"containerID": 0, "hostID": 1000, "size": 1}] == spec["linux"]["uidMappings"]
    assert [{"containerID": 0, "hostID": 100, "size": 1}] == spec["linux"]["gidMappings"]
    assert "cgroupsPath" not in spec["linux"]


def test_two_configurations_share_nothing() -> None:
    """A case may change its configuration without changing another's."""
    one, other = config.minimal(["a"]), config.minimal(["a"])
    one["mounts"].clear()
    one["linux"]["namespaces"].clear()
    one["process"]["capabilities"]["bounding"].clear()
    assert other == config.minimal(["a"])
