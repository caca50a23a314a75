"""The run directory: making, joining, opening and handing it over (layer 2).

The layout is part of the interface; everything else in ``results`` reads it through this module.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from suites.framework import codec
from suites.framework.errors import ExitCode, InfrastructureError, UsageError
from suites.framework.events import legible
from suites.framework.facts import Fact, Finding
from suites.framework.model import SCHEMA

T = TypeVar("T")
RUN_VARIABLE = "SEATRIAL_RUN"
"""Environment variable with the run's id: the sessions of one nox invocation share a directory."""
LATEST = "latest"
LOCK_S = 60.0
"""How long one session waits for another that writes the derived files."""
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_EVENTS = re.compile(r"(?P<phase>[^.@]+)\.(?P<worker>[^@]+?)(?:@(?P<source>[^@]+))?\.jsonl")


NOTHING: Mapping[str, Sequence[Fact]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The content of run.json."""

    schema: int
    id: str
    start: float
    """Unix seconds."""
    argv: tuple[str, ...]
    versions: dict[str, str]
    findings: tuple[Finding, ...] = ()
    """Facts of the host."""
    promised: dict[str, tuple[Fact, ...]] = field(default_factory=dict)
    """Environment, or ``host``: the facts whose absence there is a failure."""
    merged: tuple[str, ...] = ()
    """Ids of the runs that this one was put together from."""
    logs_removed: float = 0.0
    """When `clean` took the logs away, results being kept longer: Unix seconds, 0 while they are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FactSheet:
    """The content of <environment>/facts.json: what was probed inside."""

    schema: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """The content of <environment>/session.json: how the session of an environment ended, for the noxfile."""

    schema: int
    code: int
    reason: str = ""
    """Why not 0: for 77 what session.skip() says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFile:
    """Where an event file stands and what its name says."""

    path: Path
    environment: str
    phase: str
    worker: str
    source: str = ""
    """The run it came from, in a merged directory."""


def united(*promised: Mapping[str, Sequence[Fact]]) -> dict[str, tuple[Fact, ...]]:
    """Return the promises of several sessions or runs as one, each fact once."""
    names = dict.fromkeys(name for one in promised for name in one)
    return {name: tuple(dict.fromkeys(fact for one in promised for fact in one.get(name, ()))) for name in names}


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """An existing run directory."""

    path: Path

    # ---- making and finding ----

    @classmethod
    def create(
        cls,
        runs: Path,
        *,
        argv: Sequence[str] = (),
        versions: Mapping[str, str] | None = None,
        run: str = "",
        now: Callable[[], float] = time.time,
        owner: tuple[int, int] | None = None,
    ) -> RunDirectory:
        """Make ``runs/<id>`` and point ``runs/latest`` at it, or join it when another session of this run made it.

        `run` is the id (empty: a new one); `owner` a uid and gid that get what is made here, when started by root.
        Raises UsageError when the place is not writable or is no run directory.
        """
        start = now()
        name = checked_id(run) if run else new_id(start)
        with _explained(runs, f"cannot make a run directory in {runs}"):
            runs.mkdir(parents=True, exist_ok=True)
            with _lock(runs / ".lock"):
                found = cls._made(runs.absolute() / name, start=start, argv=argv, versions=versions or {})
                found._point_latest()
                if owner:
                    _give((runs, runs / ".lock", runs / LATEST, found.path, found.path / "run.json"), owner)
        return found

    @classmethod
    def _made(cls, path: Path, *, start: float, argv: Sequence[str], versions: Mapping[str, str]) -> RunDirectory:
        if path.exists():
            return cls._joined(path)
        path.mkdir()
        run = cls(path)
        run._write(RunRecord(schema=SCHEMA, id=path.name, start=start, argv=redacted(argv), versions=dict(versions)))
        return run

    @classmethod
    def _joined(cls, path: Path) -> RunDirectory:
        found = cls.open(path)
        if found.record().id != path.name:
            raise UsageError(
                f"{path} belongs to run {found.record().id}", why="it was renamed", remedy=f"unset {RUN_VARIABLE}"
            )
        return found

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Return the run directory at `path`, links such as ``latest`` followed; raise UsageError if it is none."""
        if not path.exists():
            raise UsageError(
                f"no run directory at {path}", remedy="run a session first, or give the path that it printed last"
            )
        found = cls(path.resolve())
        found.record()
        return found

    def _point_latest(self) -> None:
        link = self.path.parent / LATEST
        if link.exists() and not link.is_symlink():
            raise UsageError(f"{link} is in the way", why="it is not a link of ours", remedy="move it elsewhere")
        fresh = self.path.parent / f".{LATEST}.{os.getpid()}.{secrets.token_hex(2)}"
        fresh.symlink_to(self.path.name)
        fresh.replace(link)

    # ---- run.json, facts.json, session.json ----

    def record(self) -> RunRecord:
        """Return run.json; raise UsageError when it is absent, damaged or of a newer version."""
        path = self.path / "run.json"
        if not path.is_file():
            raise UsageError(
                f"{self.path} is not a run directory",
                why="it has no run.json",
                remedy="give another place with --runs DIR",
            )
        record = read_json(RunRecord, path)
        if not _ID.fullmatch(record.id):
            raise UsageError(
                f"{path} is damaged", why=f"{record.id!r} is no run id", remedy="remove this run directory"
            )
        return record

    def update(self, change: Callable[[RunRecord], RunRecord]) -> RunRecord:
        """Replace run.json by what `change` makes of it, under the run's lock."""
        with self.locked():
            record = change(self.record())
            self._write(record)
        return record

    def add(self, *, findings: Sequence[Finding] = (), promised: Mapping[str, Sequence[Fact]] = NOTHING) -> RunRecord:
        """Add what a session probed on the host and promised, by environment; the later verdict on a fact counts."""
        probed = {finding.fact for finding in findings}
        return self.update(
            lambda record: replace(
                record,
                findings=(*(known for known in record.findings if known.fact not in probed), *findings),
                promised=united(record.promised, promised),
            )
        )

    def _write(self, record: RunRecord) -> None:
        write_json(self.path / "run.json", record)

    def write_facts(self, environment: str, findings: Sequence[Finding]) -> None:
        """Write what was probed inside an environment."""
        sheet = FactSheet(schema=SCHEMA, findings=tuple(findings))
        write_json(self.environment(environment) / "facts.json", sheet)

    def facts(self, environment: str) -> tuple[Finding, ...]:
        """Return what was probed inside an environment; of a merged run everything that was probed anywhere."""
        sheets = sorted((self.path / environment).glob("facts*.json"))
        return tuple(finding for sheet in sheets for finding in read_json(FactSheet, sheet).findings)

    def conclude(self, environment: str, code: ExitCode, reason: str = "") -> None:
        """Write how the session of an environment ended.

        Codes that follow from no event (130, 3, 64, 77) must be written before `derive`, which reads them.
        """
        conclusion = Conclusion(schema=SCHEMA, code=int(code), reason=reason)
        write_json(self.environment(environment) / "session.json", conclusion)

    def conclusions(self) -> dict[str, Conclusion]:
        """Return how each session that wrote it ended, by environment."""
        found = sorted(self.path.glob("*/session.json"))
        return {path.parent.name: read_json(Conclusion, path) for path in found}

    # ---- layout ----

    def environment(self, name: str) -> Path:
        """Return the folder of an environment, made with its subfolders where it is absent."""
        folder = self.path / name
        with _explained(folder, f"cannot make {folder}"):
            for below in ("events", "logs", "metrics", "artefacts"):
                (folder / below).mkdir(parents=True, exist_ok=True)
        return folder

    def events(self, environment: str, phase: str, worker: str | int) -> Path:
        """Return the path of a writer's event file, in a folder that exists."""
        return self.environment(environment) / "events" / f"{phase}.{worker}.jsonl"

    def event_files(self) -> tuple[EventFile, ...]:
        """Return every event file in a fixed order."""
        found = []
        for path in sorted(self.path.glob("*/events/*.jsonl")):
            if (name := _EVENTS.fullmatch(path.name)) and not path.is_symlink():
                parts = {key: value or "" for key, value in name.groupdict().items()}
                found.append(EventFile(path=path, environment=path.parent.parent.name, **parts))
        return tuple(found)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that everything written into the directory's root is written under."""
        with _explained(self.path, f"cannot write into {self.path}"), _lock(self.path / ".lock"):
            yield

    def hand_over(self, uid: int, gid: int, *, below: str = "") -> None:
        """Give everything (or one environment) to the invoking user.

        Links are not followed, mounts not entered, and files with another name elsewhere left alone: a target may
        have put one of them there to get hold of a file of root's.
        """
        with _explained(self.path, f"cannot give {self.path} to uid {uid}"):
            _hand_over(self.path / below, uid, gid)


# ---- ids and owners --------------------------------------------------------------------------------------------------


def new_id(now: float, *, token: Callable[[int], str] = secrets.token_hex) -> str:
    """Return an id such as ``20261121T101530-3f9a`` for a time in Unix seconds."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}-{token(2)}"


def checked_id(run: str) -> str:
    """Return the id, or raise UsageError when it cannot be the name of a run directory."""
    if not _ID.fullmatch(run) or run == LATEST:
        raise UsageError(
            f"{RUN_VARIABLE}={run!r} is no run id",
            why="letters, digits, '.', '_' and '-', at most 64",
            remedy=f"unset {RUN_VARIABLE}",
        )
    return run


def invoking_user(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """Return uid and gid of the user who called sudo, or None when this process is not root's or nobody did."""
    uid, gid = environment.get("SUDO_UID", ""), environment.get("SUDO_GID", "")
    if os.geteuid() != 0 or not (uid.isdigit() and gid.isdigit()) or uid == "0":
        return None
    return int(uid), int(gid)


def redacted(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the words without the values of ``--target-env``: run directories are passed around."""
    words: list[str] = []
    for word in argv:
        option, equals, value = word.partition("=")
        if words and words[-1] == "--target-env":
            words.append(f"{option}=..." if equals else word)
        elif option == "--target-env" and equals:
            words.append(f"{option}={value.partition('=')[0]}=...")
        else:
            words.append(word)
    return tuple(map(legible, words))


def _give(paths: Sequence[Path], owner: tuple[int, int]) -> None:
    for path in paths:
        if os.path.lexists(path) and path.lstat().st_uid == 0 and os.geteuid() == 0:
            os.chown(path, *owner, follow_symlinks=False)


def _hand_over(top: Path, uid: int, gid: int) -> None:
    device = top.lstat().st_dev
    for _, folders, files, fd in os.fwalk(top, follow_symlinks=False):
        os.fchown(fd, uid, gid)
        folders[:] = [name for name in folders if _ours(name, fd, device)]
        for name in (*folders, *(name for name in files if _ours(name, fd, device))):
            os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)


def _ours(name: str, fd: int, device: int) -> bool:
    """Return False for what vanished, stands on another file system or has a second name elsewhere."""
    try:
        state = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return state.st_dev == device and not (stat.S_ISREG(state.st_mode) and state.st_nlink > 1)


# ---- files -----------------------------------------------------------------------------------------------------------


def write_json(path: Path, value: Any) -> None:
    """Write a dataclass as readable JSON, whole or not at all."""
    text = json.dumps(legible(codec.encode(value)), indent=2, ensure_ascii=False, default=str)
    write_whole(path, text + "\n")


def write_whole(path: Path, text: str) -> None:
    """Replace a file by `text`, so that a reader sees the old or the new one; raise InfrastructureError if it fails."""
    fresh = path.parent / f".{path.name}.{os.getpid()}"
    try:
        fresh.unlink(missing_ok=True)
        with fresh.open("x", encoding="utf-8") as file:
            file.write(text)
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise InfrastructureError(
            f"cannot write {path}", why=error.strerror or "", remedy=_remedy(error, path.parent)
        ) from error


def read_json(wanted: type[T], path: Path, *, remedy: str = "remove this run directory") -> T:
    """Return a persisted value, all of which have `schema`; raise UsageError where it is absent, damaged or newer."""
    try:
        data = json.loads(path.read_bytes())
        if isinstance(data, dict) and isinstance(schema := data.get("schema"), int) and schema > SCHEMA:
            raise UsageError(
                f"{path} was written by a newer Seatrial",
                why=f"schema {schema}, this one knows {SCHEMA}",
                remedy="update this one",
            )
        return codec.decode(wanted, data)
    except OSError as error:
        raise UsageError(f"cannot read {path}", why=error.strerror or "", remedy=_remedy(error, path.parent)) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is damaged", why=str(error), remedy=remedy) from error


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    try:
        with FileLock(path, timeout=LOCK_S):
            yield
    except Timeout as error:
        raise InfrastructureError(
            f"{path} is held by another session", why=f"for more than {LOCK_S:.0f} s", remedy="end that session"
        ) from error


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = InfrastructureError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else UsageError
        raise kind(what, why=error.strerror or str(error), remedy=_remedy(error, path)) from error


def _remedy(error: OSError, path: Path) -> str:
    """Return what to do about a place that cannot be written or read."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space or give another --runs DIR"
    foreign = next(
        (place for place in (path, *path.parents) if place.exists() and place.stat().st_uid != os.geteuid()), None
    )
    if error.errno in (errno.EACCES, errno.EPERM) and foreign and foreign.stat().st_uid == 0:
        return f"root left it there: sudo chown -R $(id -u):$(id -g) {path}, or give another --runs DIR"
    return "give a writable --runs DIR"
