"""A script in a container with which a case talks while it runs (layer 1).

It writes the record of its test first, as every script does; that is no part of what a case is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager

from suites.framework.model import Reason
from suites.framework.observation import Unmet
from suites.framework.pod.driver import Output, Session

INTERRUPT = b"\x03"
"""What Ctrl-C types: a terminal makes SIGINT of it (termios(3), VINTR)."""


class Conversation:
    """A script under way."""

    def __init__(
        self,
        session: Session,
        *,
        record: bytes,
        seconds: float,
        waited: Callable[[], AbstractContextManager[None]],
        proven: Callable[[], None],
    ) -> None:
        """Talk over a session; `waited` counts what is done as the target's time, `proven` is told of the record."""
        self._session, self._seconds, self._waited, self._proven = session, seconds, waited, proven
        self._records = (record, record.replace(b"\n", b"\r\n"))
        """As it is written, and as a terminal shows it (termios(3), ONLCR)."""

    def send(self, data: bytes) -> None:
        """Give it input."""
        self._session.send(data)

    def finish(self) -> None:
        """End its input behind what was sent."""
        self._session.finish()

    def resize(self, *, columns: int, rows: int) -> None:
        """Give its terminal a size."""
        self._session.resize(columns=columns, rows=rows)

    def says(self, line: str) -> None:
        """Wait until it has written a line to its stdout; Unmet where it does not."""
        wanted = re.compile(rb"^" + re.escape(line.encode()) + rb"\r?$", re.MULTILINE)

        def satisfied(written: bytes) -> bool:
            return (said := self._said(written)) is not None and wanted.search(said) is not None

        with self._waited():
            said = self._session.until(satisfied, seconds=self._seconds)
        if not said and (output := self._session.ended(seconds=0)) is not None:
            raise Unmet(f"the command says {line}", "refused" if output.refusal else f"nothing; exit {output.code}")
        if not said:
            raise Unmet(f"the command says {line}", "it does not", reason=Reason.TIMEOUT)
        self._proven()

    def ended(self) -> Output:
        """Return what came of it once it has ended, without the record; Unmet where it does not end, or lacks that."""
        with self._waited():
            output = self._session.ended(seconds=self._seconds)
        if output is None:
            raise Unmet("the command ended", "it runs", reason=Reason.TIMEOUT)
        said = self._said(output.stdout)
        if said is None:
            raise Unmet("the script's record", "refused" if output.refusal else f"none; exit {output.code}")
        self._proven()
        return Output(code=output.code, stdout=said, stderr=output.stderr, refusal=output.refusal)

    def _said(self, written: bytes) -> bytes | None:
        """Return what follows the record; None where it is not there."""
        found = next((record for record in self._records if written.startswith(record)), None)
        return None if found is None else written.removeprefix(found)
