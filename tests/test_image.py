"""Which image containers run in, and that the host image is complete."""

from __future__ import annotations

import io
import os
import select
import struct
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from suites.catalog import Privilege
from suites.framework.cleanup import RUN_LABEL
from suites.framework.environments import image as image_module
from suites.framework.environments.container import ContainerDriver
from suites.framework.environments.engine import Engine, EngineError, connect
from suites.framework.environments.image import DOCKERFILE, Image, base_of, choose, host_image, host_python, host_tar
from suites.framework.errors import CannotRunError, InfrastructureError
from suites.framework.model import Limits

RUN = f"image-{os.getpid()}"


class Registry:
    """An engine of which only the images are there; it notes what it was asked."""

    def __init__(self, *present: str, reachable: bool = True, builds: bool = True) -> None:
        self.images, self.reachable, self.builds = set(present), reachable, builds
        self.asked: list[str] = []

    def has_image(self, name: str) -> bool:
        """Say whether it is present."""
        return name in self.images

    def pull(self, name: str) -> None:
        """Make it present, or not."""
        self.asked.append(f"pull {name}")
        if not self.reachable:
            raise EngineError("pull", why="no such host")
        self.images.add(name)

    def build(self, dockerfile: bytes, *, name: str, labels: Mapping[str, str]) -> None:  # noqa: ARG002 - as Engine
        """Make it present, or not."""
        self.asked.append("build")
        if not self.builds:
            raise EngineError("build", why="apt-get failed")
        self.images.add(name)

    def import_image(self, tar: bytes, *, name: str, changes: Sequence[str]) -> None:  # noqa: ARG002 - as Engine
        """Make it present."""
        self.asked.append("import")
        self.images.add(name)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not asked of a registry")


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Connect to a real Docker engine."""
    try:
        with connect() as engine:
            yield engine
            engine.remove_labelled({RUN_LABEL: RUN})
    except EngineError as error:
        pytest.skip(f"no Docker engine: {error.why}")


@pytest.fixture
def dockerfile(tmp_path: Path) -> Path:
    """Write a Dockerfile whose base has an argument."""
    file = tmp_path / "Dockerfile"
    file.write_text("ARG BASE=base:1\nFROM ${BASE}\nRUN true\n")
    return file


def test_the_named_image_is_used(dockerfile: Path) -> None:
    """A present one is not pulled, an absent one is."""
    registry = Registry("mine:1")
    assert choose(registry, name="mine:1", dockerfile=dockerfile).name == "mine:1"
    assert registry.asked == []
    assert choose(registry, name="other:1", dockerfile=dockerfile).name == "other:1"
    assert registry.asked == ["pull other:1"]


@pytest.mark.parametrize(("offline", "asked"), [(True, []), (False, ["pull mine:1"])])
def test_a_named_image_that_cannot_be_had_is_an_error(offline: bool, asked: list[str]) -> None:
    """Nothing else is run in its place, and offline asks nobody."""
    registry = Registry(reachable=False)
    with pytest.raises(InfrastructureError, match="mine:1"):
        choose(registry, name="mine:1", offline=offline)
    assert registry.asked == asked


def test_the_dockerfile_is_built_once(dockerfile: Path) -> None:
    """Its base is pulled, the image built, and found again by the Dockerfile's content."""
    registry = Registry()
    first = choose(registry, dockerfile=dockerfile)
    assert registry.asked == ["pull base:1", "build"]
    assert choose(registry, dockerfile=dockerfile) == first
    assert registry.asked == ["pull base:1", "build"]
    dockerfile.write_text(dockerfile.read_text() + "RUN false\n")
    assert choose(registry, dockerfile=dockerfile).name != first.name


@pytest.mark.parametrize(
    ("registry", "offline", "asked", "why"),
    [
        (Registry(reachable=False), False, ["pull base:1", "import"], "no such host"),
        (Registry(), True, ["import"], "--offline"),
        (Registry("base:1"), True, ["import"], "needs the network"),
        (Registry(builds=False), False, ["pull base:1", "build", "import"], "apt-get failed"),
    ],
    ids=["unreachable", "offline", "offline-with-base", "build-fails"],
)
def test_the_host_image_takes_its_place(
    registry: Registry, offline: bool, asked: list[str], why: str, dockerfile: Path
) -> None:
    """Without a base or a build the host image is used, and the description says why."""
    image = choose(registry, offline=offline, dockerfile=dockerfile)
    assert image.name.startswith("seatrial-host:")
    assert registry.asked == asked
    assert why in image.description
    host_image(registry)
    assert registry.asked == asked


def test_our_own_dockerfile_names_its_base() -> None:
    """The base is what is pulled beforehand."""
    assert base_of(DOCKERFILE.read_text()) == "debian:bookworm-slim"


def test_the_archive_is_the_same_each_time() -> None:
    """Otherwise every run would import another image."""
    assert host_tar() == host_tar()


def test_a_distribution_that_keeps_its_folders_apart_has_them_mounted(tmp_path: Path) -> None:
    """Links into /usr are links in the image, folders are folders and mounted."""
    (tmp_path / "usr").mkdir()
    (tmp_path / "lib").mkdir()
    (tmp_path / "bin").symlink_to("usr/bin")
    with tarfile.open(fileobj=io.BytesIO(host_tar(tmp_path))) as archive:
        assert archive.getmember("bin").linkname == "usr/bin"
        assert archive.getmember("lib").isdir()
        assert "lib64" not in archive.getnames()
        assert "/run" == archive.getmember("var/run").linkname
    mounts = [mount.path for mount in host_image(Registry(), root=tmp_path).mounts]
    assert mounts[:2] == ["/usr", "/lib"]
    assert "/bin" not in mounts


def test_programs_carry_their_capability_in_the_archive() -> None:
    """The value is the kernel's vfs_cap_data, revision 2, with one permitted and effective capability."""
    info = image_module._capable("x", b"", 7)
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    value = struct.pack("<5I", 0x02000001, 128, 0, 0, 0)
    assert b"SCHILY.xattr.security.capability=" + value in buffer.getvalue()
    assert b"hdrcharset=BINARY" in buffer.getvalue()


def test_an_old_system_python_is_replaced_by_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Our own interpreter comes with its folder; without any there is no host image."""
    own = tmp_path / "bin" / "python3"
    own.parent.mkdir()
    own.touch()
    monkeypatch.setattr(sys, "executable", str(own))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    python, mounts = host_python("/nonexistent")
    assert (python, [mount.path for mount in mounts]) == (str(own), [str(tmp_path)])
    monkeypatch.setattr(sys, "base_prefix", "/elsewhere")
    with pytest.raises(CannotRunError):
        host_python("/nonexistent")


# ---- with a real engine ----------------------------------------------------------------------------------------------


def inside(engine: Engine, image: Image, privilege: Privilege, code: str, tmp_path: Path) -> str:
    log = tmp_path / f"{privilege}.log"
    driver = ContainerDriver(privilege, engine=engine, image=image, run=RUN, limits=Limits())
    worker = driver.start([image.python, "-I", "-c", code], name="w1", env={}, log=log)
    try:
        assert select.select([worker], [], [], 20)[0]
        assert worker.end().code == 0, log.read_text()
    finally:
        driver.close()
    return log.read_text()


def test_an_ordinary_user_of_the_host_image_maps_subordinate_ids(engine: Engine, tmp_path: Path) -> None:
    """There newuidmap works without setuid root, and mounts in the namespace do."""
    image = host_image(engine)
    if not os.access("/usr/bin/newuidmap", os.X_OK):
        pytest.skip("this machine has no newuidmap (sudo apt-get install uidmap)")
    code = (
        "import subprocess; subprocess.run(['unshare', '--user', '--map-root-user', '--map-auto', '--mount', '--pid',"
        "'--fork', '--mount-proc', 'sh', '-c', 'cat /proc/self/uid_map; mount -t tmpfs x /mnt && echo mounted'],"
        "check=True)"
    )
    words = inside(engine, image, Privilege.ROOTLESS, code, tmp_path).split()
    assert words == ["0", "1000", "1", "1", "100000", "65535", "mounted"]


def test_programs_behind_alternatives_work_in_the_host_image(engine: Engine, tmp_path: Path) -> None:
    """On Debian awk is a link through /etc/alternatives; accounts are found by name."""
    code = (
        "import os, pwd; print(os.popen('echo a b | awk \"{print \\$2}\"').read().strip(), pwd.getpwuid(1000).pw_name)"
    )
    assert inside(engine, host_image(engine), Privilege.ROOT, code, tmp_path) == "b seatrial\n"


def test_our_own_python_runs_in_the_host_image(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter outside of /usr is mounted where it is, also below a private home."""
    monkeypatch.setattr(image_module, "_recent", lambda _python: False)
    image = host_image(engine)
    for privilege in Privilege:
        words = inside(engine, image, privilege, "import sys; print(sys.version.split()[0])", tmp_path)
        assert words == sys.version.split()[0] + "\n"


def test_a_dockerfile_is_really_built(engine: Engine, tmp_path: Path) -> None:
    """The classic builder takes a Dockerfile without a context and labels the image."""
    base = host_image(engine)
    file = tmp_path / "Dockerfile"
    file.write_text(f"FROM {base.name}\nENV BUILT={os.getpid()}\n")
    image = choose(engine, dockerfile=file)
    try:
        assert image.name.startswith("seatrial:")
        assert engine.has_image(image.name)
        file.write_text(f"FROM {base.name}\nRUN true\n")  # its /bin/sh is in /usr, which is not mounted
        assert choose(engine, dockerfile=file).name == base.name
    finally:
        pytest.importorskip("docker").from_env().images.remove(image.name)


def test_an_unreachable_registry_is_given_up_soon(engine: Engine) -> None:
    """A registry that cannot be reached is an error in the engine's words."""
    with pytest.raises(EngineError, match=r"127\.0\.0\.1"):
        engine.pull("127.0.0.1:1/nothing:1")
