"""Root file systems for bundles, copied from the provided one and used again while nothing in them changes (layer 1).

Making a tree's files costs more than most cases do. The kernel notes every change of a file's content, owner, mode,
links or attributes as the time of the last status change, which nobody can set (inode(7)); so a tree whose files all
have the times they had when it was made is as good as new.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from suites.framework.oci.config import ROOTFS

SPARE = 2
"""Trees a worker keeps; more than two at once are rare."""
APPLETS = frozenset(
    """
    awk basename cat chgrp chmod chown chroot cmp cp cut date dd df dirname echo env expr false find free grep
    head hostname id ifconfig ionice ip kill ln ls md5sum mkdir mkfifo mknod mktemp mount mv nice nproc nsenter
    od printf ps pwd readlink realpath renice rm rmdir sed seq setsid sh sha256sum sleep sort stat stty sync
    tail tee test top touch tr true truncate tty umount uname uniq unshare usleep wc which xargs yes
    """.split()  # noqa: SIM905
)
"""What scripts of cases call of busybox."""


class Trees:
    """The trees that one worker has made and keeps for its next test."""

    def __init__(self, *, keep: int = SPARE) -> None:
        """Keep at most so many."""
        self._keep, self._spare, self._made = keep, list[tuple[Path, Look]](), 0

    def take(self, bundle: Path, *, source: str, payload: str, name: str) -> Look:
        """Make a bundle's folder and in it a tree with the program `payload` as `name`; return how it must look."""
        while self._spare:
            folder, seen = self._spare.pop()
            if _restored(folder, seen):
                folder.rename(bundle)
                return seen
            shutil.rmtree(folder, ignore_errors=True)  # what withstands is in the way of nothing but the scratch's end
        bundle.mkdir(mode=0o755)
        copy(source, str(root := bundle / ROOTFS))
        shutil.copyfile(payload, inside := root / name)
        inside.chmod(0o755)
        return look(bundle)

    def give(self, bundle: Path, seen: Look | None, *, scratch: Path) -> None:
        """Keep a bundle's folder, or remove it. What may have changed in it is looked for when it is taken again."""
        if seen is None or len(self._spare) == self._keep:
            shutil.rmtree(bundle)
            return
        self._made += 1
        kept = scratch / f"tree{self._made}"
        bundle.rename(kept)
        self._spare.append((kept, seen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is equal as long as nothing in a tree has changed."""

    tops: tuple[tuple[int, ...], ...]
    """Whose and what the bundle's folder and the root are: sockets come and go in them."""
    bundle: tuple[str, ...]
    root: frozenset[str]
    """Names in these two."""
    entries: tuple[tuple[str, int, int, int], ...]
    """Of everything below the root but links: path, device, inode and the time of its last change."""


def look(bundle: Path) -> Look:
    """Return how a bundle's tree stands; OSError where it cannot be read."""
    root = f"{bundle}/{ROOTFS}"
    tops = ((top.st_ino, top.st_mode, top.st_uid, top.st_gid) for top in (bundle.lstat(), os.lstat(root)))
    return Look(
        tops=tuple(tops),
        bundle=tuple(os.listdir(bundle)),
        root=frozenset(os.listdir(root)),
        entries=tuple(_entries(root, "")),
    )


def _entries(folder: str, place: str) -> Iterator[tuple[str, int, int, int]]:
    """Yield what is in a folder; who exchanges a link, of which there are most, changes the folder that it is in.

    The order is the folder's own, which stays as long as nobody changes it.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if place and entry.is_symlink():
                continue
            name = f"{place}/{entry.name}"
            stat = entry.stat(follow_symlinks=False)
            yield name, stat.st_dev, stat.st_ino, stat.st_ctime_ns
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, name)


def _restored(bundle: Path, seen: Look) -> bool:
    """Remove what a case has laid into the top of a tree; return whether it is then as it was."""
    try:
        for name in frozenset(os.listdir(bundle / ROOTFS)) - seen.root:
            _remove(bundle / ROOTFS / name)
        return look(bundle) == seen
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def copy(source: str, target: str) -> None:
    """Copy a tree, links as links, of those to busybox only what cases call.

    In plain words of os(3): shutil.copytree copies times and attributes too, and takes ten times as long.
    """
    os.mkdir(target)  # noqa: PTH102
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{target}/{entry.name}"
            if entry.is_symlink():
                link = os.readlink(entry.path)  # noqa: PTH115
                if entry.name in APPLETS or not link.endswith("busybox"):
                    os.symlink(link, path)  # noqa: PTH211
            elif entry.is_dir():
                copy(entry.path, path)
            else:
                shutil.copyfile(entry.path, path)
                os.chmod(path, entry.stat().st_mode & 0o7777)  # noqa: PTH101
    os.chmod(target, os.stat(source).st_mode & 0o7777)  # noqa: PTH101, PTH116
