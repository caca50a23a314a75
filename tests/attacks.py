"""What tests of hostile targets share: where they can be tried, a launcher in the safety net, attacks at one time."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from suites.framework.environments.engine import EngineError, connect
from suites.framework.results.rundir import RunDirectory
from tests import safety_net
from tests.safety_net import Report

T = TypeVar("T")
USER = "seatrial"


def obstacle(name: str) -> str:
    """Return why an environment cannot be tried here."""
    if name.startswith("root-") and os.geteuid() != 0:
        return "needs root"
    if name.startswith("rootless-") and os.geteuid() == 0 and USER not in {user.pw_name for user in pwd.getpwall()}:
        return f"started by root it needs a user: useradd -m {USER}"
    if name.endswith("container"):
        try:
            with connect():
                return ""
        except EngineError as error:
            return str(error)
    return ""


def environment_words(name: str) -> list[str]:
    """Return the options of ``run`` that choose an environment."""
    privilege, place = name.split("-")
    as_user = ["--as-user", USER] if privilege == "rootless" and os.geteuid() == 0 else []
    return ["--privilege", privilege, "--place", place, *as_user]


def precious_folder(folder: Path) -> Path:
    """Make a folder of somebody else's with something in it."""
    (precious := folder / "precious").mkdir()
    (precious / "canary").touch()
    return precious


def launched(words: Sequence[str], folder: Path) -> tuple[Report, RunDirectory]:
    """Run the launcher with these options in the safety net, everything of it in a folder."""
    run_id, runs = f"hostile-{secrets.token_hex(4)}", folder / "runs"
    command = [sys.executable, "-m", "suites.framework", "run", *words]
    command += ["--runs", str(runs), "--cache", f"{folder}/cache"]
    report = safety_net.run(command, run_id=run_id, scratch=str(folder), terminal=True)
    return report, RunDirectory.open(runs / run_id)


@contextmanager
def at_once(names: Collection[str], attack: Callable[[str, Path], T]) -> Iterator[dict[str, Future[T]]]:
    """Begin all attacks at the same time, each in a folder: most of it is waiting for deadlines."""
    folders = {name: Path(tempfile.mkdtemp(prefix=f"hostile-{name}-")) for name in names}
    for folder in folders.values():
        folder.chmod(0o755)
    with ThreadPoolExecutor(max_workers=max(1, len(folders))) as pool:
        yield {name: pool.submit(attack, name, folder) for name, folder in folders.items()}
    for folder in folders.values():
        shutil.rmtree(folder)
