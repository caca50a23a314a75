"""Archives that want out of the folder in which they are unpacked, and those of foreign owners."""

from __future__ import annotations

import io
import tarfile

import pytest

from suites.framework.buildscripts.inventory import Inventory
from suites.framework.buildscripts.package import unpack
from suites.framework.buildscripts.workload import Source, Step
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires
from suites.framework.process import exited

FOREIGN = 1234567
"""An id that no user namespace with a single one has."""
HOSTILE = {
    "absolute": ((("{outside}/file", ""),), 0),
    "absolute-inside-a-name": ((("a/{outside}/file", ""),), 0),
    "above": ((("a/../../../../outside/file", ""),), 2),
    "through-a-link": ((("a/link", "{outside}"), ("a/link/file", "")), 2),
    "through-a-relative-link": ((("a/link", "../../../../outside"), ("a/link/file", "")), 2),
}
"""The members of an archive with the target of each link; the status of GNU tar, which says what it left out."""


def _packed(*members: tuple[str, str], owner: int = 0) -> bytes:
    """Return an archive with files, and links where a target is given."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, target in members:
            member = tarfile.TarInfo(name)
            member.uid = member.gid = owner
            if target:
                member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return packed.getvalue()


def _unpacking(archive: bytes, command: str = "") -> Step:
    """Return a step that unpacks an archive as the recipe of the packages does, or by another command."""
    folder = "{root}/work/a"
    command = command or unpack("{sources}/a.tar", folder)
    return Step(
        name="a",
        body=f"mark before\nmkdir -p {folder}\n{command}\nmark after",
        sources=(Source(name="a.tar", content=archive),),
    )


@case("W45")
@offered("sources")
@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archive_stays_in_its_folder(wrapper: Wrapper, what: str) -> None:
    """Nothing of an archive lands outside the folder, and what tar refuses fails the step (CVE-2016-6321; tar(1)).

    Why: an archive with `../../.bashrc`, unpacked as root; or half of one, and the build goes on.
    By hand:
        mkdir -p a; touch a/x; tar cPf $ROOT/sources/a.tar --transform 's,a/x,a/../../../../outside/file,' a/x
        echo 'mkdir -p $LFS/work/a; tar xf $LFS/sources/a.tar -C $LFS/work/a' >>$ROOT/scripts/a.sh
        $WRAPPER run $ROOT; echo $?; ls $ROOT/../outside    # 2, and nothing there
    """
    outside = wrapper.beside("outside").root
    members, status = HOSTILE[what]
    before = Inventory.take(outside)
    wrapper.write(
        _unpacking(
            _packed(*((name.format(outside=outside), target.format(outside=outside)) for name, target in members))
        )
    )
    ended = wrapper.build()
    assert [] == before.changes(Inventory.take(outside))
    assert exited(status) == ended.status
    assert (["before"] if status else ["before", "after"]) == wrapper.labels("a")
    wrapper.write(_unpacking(_packed(("a/harmless", ""))))
    assert exited(0) == wrapper.build().status
    assert "there" == ("there" if (wrapper.root / "work/a/a/harmless").exists() else "absent")


@case("W45")
@offered("sources")
@requires(Fact.USER_NAMESPACE)
def test_archive_of_a_foreign_owner_is_unpacked_by_a_mapped_root(wrapper: Wrapper) -> None:
    """As root of a user namespace with one id an archive is unpacked as one's own (user_namespaces(7); tar(1)).

    Why: tar takes itself for root, gives the files to their owner, and fails (buildah issue 1702).
    By hand:
        tar cf $ROOT/sources/a.tar --owner=1234567 --group=1234567 a/x
        unshare --user --map-root-user $WRAPPER run $ROOT; echo $?    # 0 with tar --no-same-owner in scripts/a.sh
        # and without it 2, "Cannot change ownership to uid 1234567"
    """
    archive = _packed(("a/foreign", ""), owner=FOREIGN)
    mapped = ("/usr/bin/unshare", "--user", "--map-root-user")
    wrapper.write(_unpacking(archive, "tar --extract --directory {root}/work/a --file {sources}/a.tar"))
    with wrapper.begin(through=mapped) as build:
        assert exited(2) == build.end().status
    wrapper.write(_unpacking(archive))
    with wrapper.begin(through=mapped) as build:
        assert exited(0) == build.end().status
    assert ["before", "before", "after"] == wrapper.labels("a")
    assert wrapper.root.stat().st_uid == (wrapper.root / "work/a/a/foreign").stat().st_uid
