"""What is read of a program from below it is that program's own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from suites.framework.oci import inside
from suites.framework.process import Status
from suites.framework.recorder import Shell


@dataclass(frozen=True, slots=True)
class Here:
    """The test's own process in the place of a container's program."""

    fds: tuple[int, ...] = ()

    def sh(self, script: str) -> Shell:
        """Run a script below this process; its streams are closed to it but for stdout."""
        done = subprocess.run(
            ["/bin/sh", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, check=False, pass_fds=self.fds
        )
        return Shell(status=Status(code=done.returncode), text=done.stdout.decode())


def test_status_is_that_of_the_program_not_of_the_script() -> None:
    """Fields keep their names and lose their tabs."""
    status = inside.status(Here())
    assert (str(os.getpid()), " ".join([str(os.getuid())] * 4)) == (status["Pid"], status["Uid"])


def test_namespaces_have_their_identities() -> None:
    """Each file is asked for by its name."""
    found = inside.namespaces(Here(), ["net", "pid"])
    assert {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("net", "pid")} == found


def test_mappings_are_rows_of_numbers() -> None:
    """As the kernel lists them, without its columns."""
    rows = [[int(word) for word in row.split()] for row in Path("/proc/self/uid_map").read_text().splitlines()]
    assert rows == inside.mapping(Here(), "uid_map")


def test_descriptors_are_those_that_a_child_holds() -> None:
    """What the shell opens to look is not among them, what it was given is."""
    reading, writing = os.pipe()
    try:
        assert [0, 1, 2] == inside.descriptors(Here())
        assert sorted([0, 1, 2, writing]) == inside.descriptors(Here(fds=(writing,)))
    finally:
        os.close(reading)
        os.close(writing)
