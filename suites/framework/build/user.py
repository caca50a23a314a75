"""Under whom a checkout is built, and acting as that user (layer 2).

A checkout belongs to somebody who may have put anything into it. Root therefore reads it, copies it and takes the
products out of it with that user's rights, never with its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from suites.framework.environments.user import User
from suites.framework.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """Who builds."""

    user: User
    own: bool
    """Whether that is the one who called."""

    @property
    def other(self) -> User | None:
        """Return the user where it is another than the caller."""
        return None if self.own else self.user

    @property
    def prefix(self) -> tuple[str, ...]:
        """Return the words that make a command of root's this user's (setpriv(1)); none for the caller."""
        if self.own:
            return ()
        # Found by our own means: the PATH of a build is the caller's wish.
        setpriv = shutil.which("setpriv", path=f"/usr/sbin:{os.defpath}") or "setpriv"
        return (setpriv, f"--reuid={self.user.uid}", f"--regid={self.user.gid}", "--init-groups", "--")

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Read and write files with this user's rights (credentials(7): effective ids and supplementary groups)."""
        if self.own:
            yield
            return
        groups, gid, uid = os.getgroups(), os.getegid(), os.geteuid()
        os.setgroups(os.getgrouplist(self.user.name, self.user.gid))
        os.setegid(self.user.gid)
        os.seteuid(self.user.uid)
        try:
            yield
        finally:
            os.seteuid(uid)
            os.setegid(gid)
            os.setgroups(groups)


def builder(word: str, directory: Path, *, as_root: bool = False, euid: int | None = None) -> Builder:
    """Return who builds ``directory``: its owner when root asks, else the caller.

    One that root owns needs ``as_root``; without it, or where the owner has no account, UsageError.
    """
    caller = os.geteuid() if euid is None else euid
    owner = directory.stat().st_uid if caller == 0 else caller
    if caller == 0 and owner == 0 and not as_root:
        raise UsageError(
            f"{word}: {directory} belongs to root",
            why="a build runs whatever the checkout says, with all rights then",
            remedy="chown -R it to an ordinary user, or add --build-as-root",
        )
    return Builder(user=_account(word, directory, owner), own=owner == caller)


def _account(word: str, directory: Path, uid: int) -> User:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise UsageError(
            f"{word}: {directory} belongs to uid {uid}",
            why="which has no entry in the user database",
            remedy="chown -R it to an account of this machine",
        ) from None
    return User(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, home=entry.pw_dir)
