"""Failure, environment and resources."""

from __future__ import annotations

from signal import SIGUSR1

from suites.catalog import Mode, Privilege
from suites.framework.marks import case, modes, within
from suites.framework.process import exited
from suites.framework.signals import names
from suites.framework.targets.init import Init


@case("FA-06")
def test_init_runs_under_an_init(init: Init) -> None:
    """An init that is the child of an init passes code and signals on (an image with one, and `docker run --init`).

    Why: it is a common accident, and must be a harmless one.
    By hand:
        $INIT $INIT sh -c 'exit 7'
        echo $?    # 7
        # (a signal to the outer one reaches the shell)
    """
    inner = init.command(init.recorder_words())
    with init.start(inner) as run:
        run.child.ready()
        assert "USR1" == names(run.heard(SIGUSR1))
        run.child.tell("exit 7")
        assert exited(7) == run.ended()


@case("FA-07")
@modes(Mode.PID1)
@within(privilege=Privilege.ROOTLESS)
def test_init_runs_as_mapped_root(init: Init) -> None:
    """As PID 1 of an ordinary user's namespaces, root only by mapping, the init works (user_namespaces(7)).

    Why: rootless podman starts it in exactly this way.
    By hand:
        unshare --user --map-root-user --pid --fork --mount-proc $INIT sh -c 'id -u; exit 7'
        # 0
        echo $?    # 7
    """
    with init.start() as run:
        state = run.child.ready()
        assert 0 == state.uid
        run.child.tell("exit 7")
        assert exited(7) == run.ended()


@case("FA-08")
@modes(Mode.PLAIN)
def test_init_runs_as_an_ordinary_process(init: Init) -> None:
    """An init that is not PID 1 still runs its command and passes its code on (`docker run --pid=host`, a debugger).

    Why: refusing to start, or never ending, breaks every use outside a container.
    By hand:
        $INIT sh -c 'exit 7'
        echo $?    # 7
        # (echo $$ is not 1)
    """
    with init.start() as run:
        state = run.child.ready()
        assert "a process below the init" == ("the init itself" if state.pid == run.pid else "a process below the init")
        run.child.tell("exit 7")
        assert exited(7) == run.ended()
