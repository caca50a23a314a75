"""What an engine can do at all, found out with the reference's handler before anybody is judged by it (layer 1)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from suites.framework.facts import Fact, Finding
from suites.framework.model import Target
from suites.framework.pod import log
from suites.framework.pod.cri import Refused
from suites.framework.pod.driver import Program, Request, State
from suites.framework.pod.engine import Engine
from suites.framework.pod.engine_driver import EngineDriver
from suites.framework.waiting import Deadline, ticks

ROUNDS = 15
ALONE = 5
"""Further ones, each by itself."""
LAST = 40_000
NUMBERS = "".join(f"{number}\n" for number in range(1, LAST + 1)).encode()
"""229 KB, which is more than any pipe holds (pipe(7))."""
FLOOD = f"exec seq 1 {LAST}"
"""Writes them and is gone: with a shell that waits for the writer most engines are in time."""
END_S = 10.0
_PROBE = f"{ROUNDS + ALONE} programs that write {len(NUMBERS)} bytes and end at once"
_REMEDY = "use containerd >= 1.6.22 (moby issue 45689)"


def output(engine: Engine, reference: Target, *, folder: Path, cgroup: str) -> Finding:
    """Return whether all that programs wrote is in their logs."""
    folder.mkdir(exist_ok=True)
    handler = engine.handlers[reference.name].name
    driver = EngineDriver(engine, handler=handler, folder=folder, tag="calibration", cgroup=cgroup)
    try:
        cut = _cut(driver)
    except Refused as refusal:
        return unknown(f"{refusal.verb}: {refusal.words}")
    finally:
        driver.close()
        driver.leaks()
        folder.rmdir()
    return _finding(f"{cut} of {ROUNDS + ALONE} logs were not complete" if cut else "")


def unknown(why: str) -> Finding:
    """Return that it could not be found out."""
    return _finding(why)


def _finding(trouble: str) -> Finding:
    remedy = _REMEDY if trouble else ""
    return Finding(fact=Fact.ENGINE_OUTPUT, present=not trouble, probe=_PROBE, detail=trouble, remedy=remedy)


def _cut(driver: EngineDriver) -> int:
    """Return how many of the logs are not what was written.

    All programs at once, or a machine at rest hides it; then one after the other, or a busy one does.
    """
    pod = driver.run(Request(name="calibration", programs=()))
    with ThreadPoolExecutor(max_workers=ROUNDS) as pool:
        cut = sum(pool.map(lambda number: _is_cut(driver, pod, f"c{number}"), range(ROUNDS)))
    return cut + sum(_is_cut(driver, pod, f"a{number}") for number in range(ALONE))


def _is_cut(driver: EngineDriver, pod: str, name: str) -> bool:
    driver.add(pod, Program(name=name, command=("/bin/sh", "-c", FLOOD)))
    for _ in ticks(Deadline(END_S), every=0.01):
        if driver.status(pod, name).state is State.EXITED and driver.complete(pod, name):
            break
    try:
        return log.text(log.pieces(driver.log(pod, name)), "stdout") != NUMBERS
    except ValueError:
        return True
