"""The ordinary user of the rootless environments (layer 2, standard library only)."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass

from suites.framework.errors import UsageError
from suites.framework.facts import Fact, Missing

HOW = "sudo useradd -m seatrial, then add -- --as-user seatrial"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An account that is not root."""

    name: str
    uid: int
    gid: int
    home: str


def find_user(
    as_user: str | None, *, euid: int | None = None, environ: Mapping[str, str] = os.environ
) -> User | Missing:
    """Return under whom rootless workers run; never an account by guessing.

    Started by an ordinary user it is that user. Started by root it is `as_user`, else the one who called sudo.
    An unknown name, root, or another account than one's own raises UsageError.
    """
    caller = os.geteuid() if euid is None else euid
    if as_user:
        return _named(as_user, caller)
    if caller != 0:
        return _numbered(caller)
    sudo = environ.get("SUDO_UID", "")
    if sudo.isdigit() and int(sudo) != 0:
        return _numbered(int(sudo))
    return Missing(
        fact=Fact.ORDINARY_USER, reason="started by root, neither through sudo nor with --as-user", remedy=HOW
    )


def _named(name: str, caller: int) -> User:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"--as-user {name}", why="there is no such user", remedy=HOW) from None
    if entry.pw_uid == 0:
        raise UsageError(f"--as-user {name}", why="rootless needs a user other than root", remedy=HOW)
    if caller not in (0, entry.pw_uid):
        why = "only root can run workers as another user"
        raise UsageError(f"--as-user {name}", why=why, remedy="leave it out, or start as root")
    return _user(entry)


def _numbered(uid: int) -> User | Missing:
    try:
        return _user(pwd.getpwuid(uid))
    except KeyError:
        return Missing(fact=Fact.ORDINARY_USER, reason=f"uid {uid} has no entry in the user database", remedy=HOW)


def _user(entry: pwd.struct_passwd) -> User:
    return User(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, home=entry.pw_dir)
