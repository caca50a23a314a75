"""Print a run's verdict as workflow commands: an ``::error`` line for each thing that makes a gate red.

Takes the run directory, and names of gates where only those are meant; then it fails where one is red. Standard
library only. A target under test is not trusted: what it said is escaped, so that it cannot issue workflow commands of
its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MOST = 10
"""Annotations of one step that are shown; the summary has all."""


def escaped(text: str, *, title: bool = False) -> str:
    """Return text that stands on one line of a workflow command; a title has no colon and no comma either."""
    codes = [("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), *([(":", "%3A"), (",", "%2C")] if title else [])]
    return text.translate({ord(character): code for character, code in codes})


def pointed(node: str) -> str:
    """Return the property that lets an annotation point at the file of a case; nothing for other nodes."""
    file, found, _ = node.partition("::")
    return f"file={escaped(file, title=True)}," if found and file.endswith(".py") else ""


def lines(verdict: dict[str, Any]) -> Iterator[str]:
    """Yield an error for each offence, each once, and a last one that counts those that do not fit."""
    offences = {
        (offence["environment"], offence["node"]): (gate, offence["why"])
        for gate, found in verdict["gates"].items()
        for offence in found["offences"]
    }
    for (environment, node), (gate, why) in list(offences.items())[: MOST - 1]:
        title = escaped(f"Seatrial {environment}: {gate}", title=True)
        yield f"::error {pointed(node)}title={title}::{escaped(f'{node}: {why}')}"
    if (more := len(offences) - (MOST - 1)) > 0:
        yield f"::error title=Seatrial::and {more} more, see the summary"
    if not offences and verdict["exit_code"] != 0:
        yield f"::error title=Seatrial::{escaped(str(verdict['exit']))} (exit {int(verdict['exit_code'])})"


def main(words: Sequence[str]) -> int:
    """Print the annotations of the run directory that `words` name; return 1 where one of the gates named is red."""
    file = Path(words[0]) / "verdict.json"
    if not file.is_file():
        print(f"::error title=Seatrial::no verdict: {escaped(str(file))} does not exist")
        return 0
    verdict, gates = json.loads(file.read_text(encoding="utf-8")), words[1:]
    if gates:
        verdict |= {"exit_code": 0, "gates": {name: verdict["gates"][name] for name in gates}}
    found = list(lines(verdict))
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(gates and found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
