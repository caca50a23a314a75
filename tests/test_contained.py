"""A container init under the docker command: started, stopped, and removed with everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from signal import SIGINT

import pytest

from suites.framework import probes
from suites.framework.bench import Bench
from suites.framework.environments.engine import EngineError, connect
from suites.framework.environments.image import Image, host_image
from suites.framework.observation import Unmet
from suites.framework.targets.contained import ContainedInit
from suites.framework.terminal import INTERRUPT, Terminal
from tests.contexts import TWIN, bench, context, target


@pytest.fixture(scope="module")
def image() -> Image:
    """Return the image that is made of this machine."""
    try:
        with connect() as engine:
            return host_image(engine)
    except EngineError as error:
        pytest.skip(f"no Docker engine: {error}")


@pytest.fixture
def made(image: Image, tmp_path: Path) -> Iterator[Bench]:
    """Yield a bench with an image; nothing is left of it afterwards, no container either."""
    if not Path(probes.tool("docker")).exists():
        pytest.skip("no docker command: install docker-cli")
    for word in (TWIN[-1], *target().argv[1:2]):
        assert Path(word).is_file()
    made = bench(tmp_path, image=image.name, image_mounts=tuple(mount.path for mount in image.mounts))
    yield made
    for launch in made.launches:
        launch.close()
    for cleanup in reversed(made._cleanups):
        cleanup()
    assert not list((tmp_path / "s/home").iterdir())
    with connect() as engine:
        assert [] == engine.list_labelled({"seatrial.run": context(tmp_path).run})


def reference(made: Bench) -> ContainedInit:
    return ContainedInit(made, target(argv=("/bin/sh", target().argv[1], "python3")))


def test_docker_stop_ends_a_container_with_its_code(made: Bench) -> None:
    """The child gets TERM as PID 1's child, and its code is what docker wait says."""
    with reference(made).run() as container:
        state = container.child.ready()
        assert 1 == state.ppid
        container.child.ask("default")
        assert ("the container is running", None) == container.fate()
        assert len(container.watch()) == 1
        code, took = container.stop(seconds=20)
        container.note("took_s", took)
        assert "exit 143" == code
        assert 0 < took < 20
    assert (True, "took_s") == (made.proven, made.notes[0][0])
    assert container.cost[0] > took
    assert ("the container ended: exit 143", ()) == (container.fate()[0], container.watch())


def test_a_child_that_ignores_term_is_killed(made: Bench) -> None:
    """Past the time of docker stop the whole container dies, with 137."""
    with reference(made).run() as container:
        container.child.ready()
        code, took = container.stop(seconds=1)
        assert "exit 137" == code
        assert took >= 1


def test_an_init_that_does_not_start_is_unmet_with_evidence(made: Bench) -> None:
    """A container that ends at once has no child, and its output says why."""
    contained = ContainedInit(made, target(argv=("/bin/sh", "-c", "echo no way; exit 3"), environment={"A": "b"}))
    expected = "expected the payload ready under the target, but the container ended: exit 3"
    with pytest.raises(Unmet, match=expected), contained.run() as container:
        container.child.ready()
    assert not made.proven
    shown = {evidence.title: evidence.text for evidence in made.failure_evidence}
    assert ("nothing was recorded", "no way") == (shown["records"], shown["docker run"].strip())


def test_a_container_that_is_gone_cannot_be_stopped(made: Bench) -> None:
    """The engine's own words come with the failure."""
    with reference(made).run() as container:
        container.child.ready()
        container.close()
        with pytest.raises(Unmet, match="docker stop succeeded"):
            container.stop(seconds=1)


def test_the_command_is_that_of_the_container(tmp_path: Path) -> None:
    """The words stand for programs inside, with the separator of the profile."""
    made = bench(tmp_path)
    contained = ContainedInit(made, target(argv=("{python}", "init")))
    assert ["python3", "init", "--", "true", "{python}"] == contained.words(["true", "{python}"])
    recorder = contained.recorder_words(tmp_path / "c")
    assert ["python3", *TWIN[1:], "agent", str(tmp_path / "c"), made.nonce] == recorder
    made.settle()


def test_options_reach_docker_run_and_the_code_comes_back(made: Bench) -> None:
    """The container is what the options make of it, and its end by itself is told as docker wait does."""
    with reference(made).run(options=("--user", "1000:1000")) as container:
        assert 1000 == container.child.ready().uid
        container.child.tell("exit 7")
        assert "exit 7" == container.ended()


def test_a_terminal_is_the_containers(made: Bench) -> None:
    """With a terminal a key that is pressed there is a signal in the container."""
    with Terminal() as terminal, reference(made).run(terminal=terminal) as container:
        container.child.ready()
        terminal.press(INTERRUPT)
        assert SIGINT == container.child.next_signal()["number"]


def test_a_command_of_the_image_runs_detached(made: Bench) -> None:
    """Two containers of one test stand side by side; one without a recorder proves nothing."""
    with reference(made).run(command=("sleep", "60")) as first, reference(made).run(command=("sleep", "60")) as second:
        assert first.name != second.name
        assert ("the container is running", None) == first.fate() == second.fate()
        assert "exit 143" == first.stop(seconds=20)[0]
        assert not made.proven


def test_a_process_that_entered_is_heard_and_its_orphan_watched(made: Bench) -> None:
    """What docker exec started records, and the end of what it left behind is told by its number inside."""
    if missing := probes.docker_exec(made).missing:
        pytest.skip(missing.reason)
    with reference(made).run() as container:
        container.child.ready()
        entered = container.enter()
        assert 0 == entered.ready().ppid
        orphan, state = entered.fork("orphan")
        assert 1 == orphan.reparented()
        assert "reaped" == container.end_of(99999999)
        orphan.tell("exit 0")
        assert "reaped" == container.end_of(state.pid)
