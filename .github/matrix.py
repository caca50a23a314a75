"""Turn nox's own list of sessions into the matrix of a workflow: one job for each acceptance session.

Reads ``nox --list --json --tags acceptance`` on standard input and prints ``matrix={"include": [...]}``, a line for
$GITHUB_OUTPUT. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

TAG = "acceptance"
PROMISES = Path(__file__).with_name("promises")
"""What a hosted runner must have, one fact a line, followed by the environments in which it holds (none: all)."""
_SESSION = re.compile(r"acceptance-(?P<privilege>root|rootless)\((?P<place>\w+)\)")


def promised(text: str, environment: str) -> list[str]:
    """Return the facts that a list of promises makes for one environment."""
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [words[0] for words in lines if words and (len(words) == 1 or environment in words[1:])]


def jobs(sessions: Iterable[dict[str, Any]], *, promises: str, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return a job for each acceptance session, or for those in `only`; an unknown one raises SystemExit."""
    found: dict[str, dict[str, Any]] = {}
    for listed in sessions:
        name = _SESSION.fullmatch(listed["session"])
        if TAG in listed["tags"] and name is not None:
            environment = f"{name['privilege']}-{name['place']}"
            found[environment] = {
                "environment": environment,
                "session": listed["session"],
                "root": name["privilege"] == "root",
                "promises": " ".join(promised(promises, environment)),
            }
    if strange := [name for name in only if name not in found]:
        raise SystemExit(f"matrix.py: no session for {', '.join(strange)}; there is: {', '.join(found) or 'none'}")
    if not found:
        raise SystemExit(f"matrix.py: no session is tagged {TAG}; call nox with --tags {TAG}")
    return [found[name] for name in only or found]


def main(words: Sequence[str]) -> int:
    """Print the matrix; `words` are those of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("environments", nargs="*", metavar="ENVIRONMENT", help="default: all")
    only = list(dict.fromkeys(parser.parse_args(words).environments))
    include = jobs(json.load(sys.stdin), promises=PROMISES.read_text(encoding="utf-8"), only=only)
    print(f"matrix={json.dumps({'include': include})}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
