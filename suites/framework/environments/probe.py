"""What this machine can do, each found out by doing it once (layer 2).

Nothing is inferred from a uid, a setting or a version alone; settings are read only to choose the advice.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from select import POLLIN, poll

from suites.catalog import Privilege
from suites.framework.environments.container import ContainerDriver
from suites.framework.environments.driver import Ending, Mount, Worker, WorkerEnd, tail
from suites.framework.environments.engine import Engine, EngineError
from suites.framework.environments.image import Image
from suites.framework.environments.native import NativeDriver
from suites.framework.environments.user import User
from suites.framework.errors import SeatrialError
from suites.framework.facts import Fact, Finding, Missing
from suites.framework.model import Limits

DEADLINE_S = 30.0
CONNECT = "connect to the Docker engine"
SHELL = ("/bin/sh", "-c", 'set -- /proc/[0-9]*; [ $$ = 1 ] && [ $# -le 2 ] && echo "alone as PID 1"')
NAMESPACES = (
    "import subprocess, sys; sys.exit(subprocess.call(['unshare', '--user', '--map-root-user', '--mount', '--pid',"
    " '--fork', '--mount-proc', 'true']))"
)
SETTINGS = {
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "user.max_user_namespaces": ("0", "15000"),
}
"""Settings that forbid an ordinary user to make user namespaces: the value that does, and the one that does not."""

Choose = Callable[[Engine], Image]


def root_finding(sudo: str) -> Finding:
    """Say whether the launcher is root."""
    uid = os.geteuid()
    return Finding(fact=Fact.ROOT, present=uid == 0, probe="geteuid()", detail=f"uid {uid}", remedy=sudo if uid else "")


def user_finding(user: User | Missing) -> Finding:
    """Say under whom rootless workers run."""
    probe = "the user's account"
    if isinstance(user, Missing):
        return Finding(fact=Fact.ORDINARY_USER, present=False, probe=probe, detail=user.reason, remedy=user.remedy)
    return Finding(fact=Fact.ORDINARY_USER, present=True, probe=probe, detail=f"{user.name}, uid {user.uid}")


def wall_finding(user: User | None, *, folder: Path) -> Finding:
    """Put a shell behind the wall, as `user` too when started by root, and see whether it is alone there.

    What it says goes to a file in `folder`, which is the caller's to remove.
    """
    root = os.geteuid() == 0
    probe = "unshare --mount --uts --ipc --pid" + ("" if root else " --user")
    tried = ([Privilege.ROOT] if root else []) + ([Privilege.ROOTLESS] if user or not root else [])
    for privilege in tried:
        if failure := _try_wall(privilege, user, folder / f"wall.{privilege}"):
            detail = f"{failure} (as {privilege})" if root else failure
            return Finding(fact=Fact.NAMESPACE_WALL, present=False, probe=probe, detail=detail, remedy=wall_remedy())
    return Finding(fact=Fact.NAMESPACE_WALL, present=True, probe=probe, detail="alone as PID 1")


def wall_remedy() -> str:
    """Return the line to paste that allows the wall here."""
    if os.geteuid() == 0:
        return "run on the machine itself or in a privileged container, with util-linux >= 2.36"
    return setting_remedy() or "start with sudo, or install util-linux >= 2.36 (sudo apt-get install util-linux)"


def setting_remedy(*, sysctl: Path = Path("/proc/sys")) -> str:
    """Return the line that changes the setting which forbids user namespaces; empty where none does."""
    for name, (forbidding, allowing) in SETTINGS.items():
        file = sysctl / name.replace(".", "/")
        if file.is_file() and file.read_text().strip() == forbidding:
            return f"sudo sysctl {name}={allowing}"
    return ""


def docker_finding(engine: Engine) -> Finding:
    """Say which engine answers."""
    return Finding(fact=Fact.DOCKER, present=True, probe=CONNECT, detail=f"Docker {engine.version}")


def docker_absent(error: EngineError) -> tuple[Finding, ...]:
    """Return why three facts are missing where no engine answers, or none that can be used."""
    words = error.why or str(error)
    facts = (Fact.DOCKER, Fact.DOCKER_PRIVILEGED, Fact.DOCKER_USER_NAMESPACES)
    remedy = docker_remedy(words)
    return tuple(Finding(fact=fact, present=False, probe=CONNECT, detail=words, remedy=remedy) for fact in facts)


def docker_remedy(words: str) -> str:
    """Return the line to paste for an engine that does not answer with these words."""
    if "module docker" in words:
        return "python3 -m pip install 'docker>=7.1'"
    if "is needed" in words:
        return "install Docker 20.10 or newer"
    if "ermission denied" in words or "PermissionError" in words:
        return "sudo usermod -aG docker $USER, then log in again"
    if shutil.which("dockerd") or shutil.which("docker"):
        return "sudo systemctl start docker"
    return "sudo apt-get install docker.io"


def container_findings(engine: Engine, choose: Choose, *, run: str, folder: Path) -> tuple[Finding, Finding]:
    """Start a privileged container and an unprivileged one, labelled with `run`, and see what they can do here.

    `folder` is on this machine, the caller's to remove, and mounted into the first.
    """
    try:
        image = choose(engine)
    except SeatrialError as error:
        facts = (Fact.DOCKER_PRIVILEGED, Fact.DOCKER_USER_NAMESPACES)
        first, second = (
            Finding(fact=fact, present=False, probe="docker image", detail=str(error), remedy="use --image NAME")
            for fact in facts
        )
        return first, second
    return _privileged(engine, image, run, folder), _user_namespaces(engine, image, run, folder)


def _privileged(engine: Engine, image: Image, run: str, folder: Path) -> Finding:
    probe = "docker run --privileged python3"
    token = secrets.token_hex(8)
    (folder / "token").write_text(token)
    code = (
        f"import sys; print(sys.version.split()[0], open('{folder}/token').read());"
        "print(open('/proc/self/uid_map').read()); sys.exit(sys.version_info < (3, 11))"
    )
    mounts = (Mount(path=str(folder)),)
    end, words = _run(engine, image, Privilege.ROOT, code, run=run, log=folder / "privileged", mounts=mounts)
    if end.how is not Ending.EXIT or end.code != 0:
        remedy = "run Docker on the machine itself (not rootless, not inside an unprivileged container)"
        return _docker_refused(Fact.DOCKER_PRIVILEGED, probe, end, words, remedy)
    version, seen, *mapped = words.split()
    if seen != token or mapped != ["0", "0", "4294967295"]:
        detail = "root of the container is not root of this machine" if seen == token else "it does not see our files"
        remedy = "use an engine that runs as root on this machine: export DOCKER_HOST=unix:///var/run/docker.sock"
        return Finding(fact=Fact.DOCKER_PRIVILEGED, present=False, probe=probe, detail=detail, remedy=remedy)
    detail = f"Python {version}, {image.description}"
    return Finding(fact=Fact.DOCKER_PRIVILEGED, present=True, probe=probe, detail=detail)


def _user_namespaces(engine: Engine, image: Image, run: str, folder: Path) -> Finding:
    probe = "docker run --user 1000 unshare --user"
    end, words = _run(engine, image, Privilege.ROOTLESS, NAMESPACES, run=run, log=folder / "unprivileged")
    if end.how is not Ending.EXIT or end.code != 0:
        remedy = setting_remedy() or "use --image NAME with util-linux >= 2.36 and a user 1000"
        return _docker_refused(Fact.DOCKER_USER_NAMESPACES, probe, end, words, remedy)
    return Finding(fact=Fact.DOCKER_USER_NAMESPACES, present=True, probe=probe, detail=image.description)


def _docker_refused(fact: Fact, probe: str, end: WorkerEnd, words: str, remedy: str) -> Finding:
    detail = end.detail if end.how is Ending.NOT_STARTED or not words else f"{end.detail}: {words}"
    return Finding(fact=fact, present=False, probe=probe, detail=detail, remedy=remedy)


def _run(
    engine: Engine,
    image: Image,
    privilege: Privilege,
    code: str,
    *,
    run: str,
    log: Path,
    mounts: tuple[Mount, ...] = (),
) -> tuple[WorkerEnd, str]:
    driver = ContainerDriver(privilege, engine=engine, image=image, run=run, limits=Limits(), mounts=mounts)
    try:
        worker = driver.start([image.python, "-I", "-c", code], name="probe", env={}, log=log)
        return _finish(worker), tail(log)
    finally:
        driver.close()


def _try_wall(privilege: Privilege, user: User | None, log: Path) -> str:
    """Return why a shell behind the wall is not alone as PID 1, or an empty string."""
    driver = NativeDriver(privilege, user=user, limits=Limits())
    end = _finish(driver.start(SHELL, name="probe", env={}, log=log))
    words = tail(log)
    if end.how is Ending.EXIT and end.code == 0:
        return ""
    return words or end.detail


def _finish(worker: Worker) -> WorkerEnd:
    poller = poll()
    poller.register(worker.fileno(), POLLIN)
    if not poller.poll(DEADLINE_S * 1000):
        worker.kill()
        poller.poll(DEADLINE_S * 1000)
    return worker.end()
