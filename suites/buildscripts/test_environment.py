"""What a script finds around it: environment, tools, network; and a root folder that is none."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from suites.framework.buildscripts.canary import Canary
from suites.framework.buildscripts.workload import Place, Step, filled
from suites.framework.buildscripts.wrapper import Wrapper
from suites.framework.facts import Fact
from suites.framework.marks import case, offered, requires
from suites.framework.process import exited

SHELLS = {"PWD", "SHLVL", "_"}
"""What a shell adds to its environment (bash(1), "Shell Variables")."""
LOADED = "/no/such/library.so"
POISON = {
    "CFLAGS": "-O0 -march=native",
    "LD_PRELOAD": LOADED,
    "LD_LIBRARY_PATH": "/no/such/folder",
    "CDPATH": "/",
    "MAKEFLAGS": "-k -j64",
    "PYTHONPATH": "/no/such/folder",
    "PERL5LIB": "/no/such/folder",
    "PKG_CONFIG_PATH": "/no/such/folder",
    "CONFIG_SITE": "/no/such/file",
    "DESTDIR": "/no/such/folder",
    "SHELLOPTS": "xtrace",
    "BASH_FUNC_make%%": "() { echo nothing to be done; }",
    "LFS": "/no/such/folder",
    "LFS_TGT": "another-lfs-linux-gnu",
    "TZ": "Asia/Kathmandu",
    "IFS": "/",
    "SECRET": "of the caller",
}
"""What a caller may have in his environment, and no build may see."""


@case("W9")
@offered("environment")
def test_script_has_the_declared_environment_and_nothing_else(wrapper: Wrapper) -> None:
    r"""A script's environment is what the wrapper declares, to the letter, whoever calls (environ(7); LFS, 4.4).

    Why: CFLAGS of the host make a toolchain that only runs there, and a token of the host ends up in a log.
    By hand:
        printf '#!/bin/bash\ntr "\\0" "\\n" </proc/$$/environ\n' >$ROOT/scripts/a.sh
        CFLAGS=-O0 SECRET=1 BASH_ENV=/tmp/canary $WRAPPER run $ROOT    # its log has neither, and nobody runs the canary
    """
    canary, ran = wrapper.beside("poison").root / "canary", wrapper.place.root.parent / "poison/ran"
    canary.write_text(f'echo "$0" >>{ran}\n')
    wrapper.write(Step(name="a"))
    with wrapper.begin(environment=POISON | {"BASH_ENV": str(canary), "ENV": str(canary)}) as build:
        gate = build.gate("a")
        found = [entry.decode(errors="backslashreplace") for entry in gate.state.environment]
        gate.open()
        assert exited(0) == build.end().status
    assert _declared(wrapper) == sorted(entry for entry in found if entry.partition("=")[0] not in SHELLS)
    assert [] == (ran.read_text().split() if ran.exists() else [])


def _declared(wrapper: Wrapper) -> list[str]:
    return sorted(filled(entry, root=str(wrapper.root)) for entry in wrapper.call.environment)


ROOTS = {"unset": None, "empty": "", "slash": "/", "relative": "lfs", "link-to-slash": "/link", "dots": "/lfs/.."}
"""What a variable or an argument holds that should name the root folder, and does not. In each of them a script waits
that would be run; the folder /lfs is a good one."""


@case("W11")
@offered("root")
@requires(Fact.USER_NAMESPACE)
@pytest.mark.parametrize("given", ROOTS)
def test_root_folder_that_is_none_is_refused_before_anything_is_written(wrapper: Wrapper, given: str) -> None:
    """No root folder, `/`, a relative path, a link to `/`: a wrong call, before any write (LFS, 2.6; sysexits.h, 64).

    Why: `rm -rf $LFS/usr` with an empty LFS is how people learn what LFS stands for.
    By hand:
        unshare --mount; mount -t tmpfs none /mnt; ...; chroot /mnt    # never on a machine that you want to keep
        for root in '' / lfs /link /lfs/..; do $WRAPPER run "$root"; echo $?; done    # 64, and nothing has changed
    """
    canary = _canary(wrapper)
    before = canary.inventory()
    ended = wrapper.misled(wrapper.call.run, ROOTS[given])
    assert [] == before.changes(canary.inventory())
    assert [] == wrapper.ran()
    assert exited(wrapper.call.usage) == ended.status
    assert exited(0) == wrapper.misled(wrapper.call.run, "/lfs").status
    assert ["a"] == wrapper.ran()


@case("W11")
@offered("root", "clean")
@requires(Fact.USER_NAMESPACE)
@pytest.mark.parametrize("given", ROOTS)
def test_root_folder_that_is_none_is_refused_before_anything_is_removed(wrapper: Wrapper, given: str) -> None:
    """What cleans refuses the same folders, before any removal (LFS, 2.6; sysexits.h, 64).

    Why: as above, and `clean` is the command that does it.
    By hand:
        # in a root of your own, as above
        for root in '' / lfs /link /lfs/..; do $WRAPPER clean "$root"; echo $?; done    # 64, and nothing has changed
    """
    canary = _canary(wrapper, built=True)
    before = canary.inventory()
    ended = wrapper.misled(wrapper.call.clean, ROOTS[given])
    assert [] == before.changes(canary.inventory())
    assert exited(wrapper.call.usage) == ended.status
    assert exited(0) == wrapper.misled(wrapper.call.clean, "/lfs").status
    assert "something" == ("something" if before.changes(canary.inventory()) else "nothing was cleaned")
    assert ["a", "a"] == wrapper.ran()


def _canary(wrapper: Wrapper, *, built: bool = False) -> Canary:
    """Return a machine with something to build, and to lose, in `/` and in /lfs; calls are made in it from now on."""
    top = wrapper.beside("canary")
    for place in (top, Place(root=top.root / "lfs", call=top.call)):
        wrapper.write(Step(name="a"), at=place)
        (place.root / "kept").write_text("by all means\n")
        if built:
            assert exited(0) == wrapper.build(at=place).status
    (top.root / "link").symlink_to("/")
    canary = Canary(wrapper.bench, wrapper.target, top.root)
    wrapper.through = canary.words
    return canary


@case("W12")
@offered("environment")
def test_tool_is_used_from_the_line_after_its_installation_on(wrapper: Wrapper) -> None:
    r"""A tool that was just installed in $LFS/tools/bin is what the next line finds, before others (LFS, 4.4: set +h).

    Why: the second pass of a toolchain is linked by the linker of the host, whose place the shell remembers.
    By hand:
        printf '#!/bin/bash\nuname\nmkdir -p $LFS/tools/bin\nprintf "#!/bin/sh\necho new\n" >$LFS/tools/bin/uname
        chmod +x $LFS/tools/bin/uname\nuname\n' >$ROOT/scripts/a.sh
        PATH=/folder/with/another/uname:$PATH $WRAPPER run $ROOT    # in its log: Linux, new
    """
    callers = wrapper.beside("host").root
    _tool(callers / "uname", "of the caller")
    tool = wrapper.beside("new").root / "uname"
    _tool(tool, "new")
    install = f'mkdir -p "$LFS/tools/bin"\ncp {tool} "$LFS/tools/bin"'
    out = "{artefacts}/said"
    wrapper.write(Step(name="a", body=f'uname >{out}\n{install}\nuname >>{out}\nmark ran "$(cat {out})"'))
    path = f"{callers}:{wrapper.bench.environment['PATH']}"
    assert exited(0) == wrapper.build(environment={"PATH": path}).status
    assert [(b"Linux\nnew",)] == [gate.words for gate in wrapper.gatehouse.seen]


def _tool(path: Path, said: str) -> None:
    path.write_text(f"#!/bin/sh\necho {said}\n")
    path.chmod(0o755)


PATIENCE_S = 4.0
"""Less than a resolver waits for the answer to its first question (resolv.conf(5), timeout)."""


@case("W13")
@offered("isolated")
@requires(Fact.USER_NAMESPACE)
def test_script_without_a_network_reaches_nobody(wrapper: Wrapper) -> None:
    r"""Without a network a script reaches no listener of the host, and names fail at once (network_namespaces(7)).

    Why: a build that downloads is another one tomorrow, and one that waits for a name server hangs in the night.
    By hand:
        printf '#!/bin/bash\n(</dev/tcp/127.0.0.1/22) && echo reached\ngetent hosts a.invalid' >$ROOT/scripts/a.sh
        $WRAPPER run --no-network $ROOT    # refused, and ends at once
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        attempt = f'if (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null; then mark "reached"; else mark "refused"; fi'
        wrapper.write(Step(name="a", body=f"{attempt}\ngetent hosts seatrial.invalid >/dev/null || mark unknown"))
        assert exited(0) == wrapper.build(options=wrapper.option("isolated")).status
        assert ["refused", "unknown"] == wrapper.labels("a")
        refused, unknown = (gate.recorder.log[0].at for gate in wrapper.gatehouse.seen)
        wrapper.note("name_failed_s", unknown - refused)
        assert "at once" == ("at once" if unknown - refused < PATIENCE_S else f"after {unknown - refused:.1f} s")
        wrapper.write(Step(name="b", body=f"{attempt}"))
        assert exited(0) == wrapper.build().status  # that it is there is seen without this option
        assert ["reached"] == wrapper.labels("b")
