"""What a tree holds, times included: to show that a call left it alone (layer 1)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from suites.framework.errors import UsageError
from suites.framework.manifest import Manifest, difference, manifest
from suites.framework.observation import Unmet


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything below a folder at one moment."""

    content: Manifest
    times: dict[str, int]
    """Path: when its content changed last (st_mtime_ns), the folder itself being ``.``."""

    @classmethod
    def take(cls, folder: Path) -> Inventory:
        """Look at a folder now; Unmet where a target has taken it away."""
        try:
            content, times = manifest(folder), {".": folder.stat().st_mtime_ns}
        except (OSError, UsageError) as error:
            raise Unmet(
                f"{folder.name}, which can be looked at", str(error).replace(str(folder), folder.name)
            ) from error
        for place, folders, files in os.walk(folder):
            for name in (*folders, *files):
                path = Path(place, name)
                times[str(path.relative_to(folder))] = path.lstat().st_mtime_ns
        return cls(content=content, times=times)

    def changes(self, after: Inventory) -> list[str]:
        """Return what is not as it was, by path: ``PATH added``, ``PATH written`` for a new time alone."""
        found = {each.path: str(each) for each in difference(self.content, after.content)}
        common = self.times.keys() & after.times.keys()
        written = {path: f"{path} written" for path in common if self.times[path] != after.times[path]}
        return [text for _, text in sorted({**written, **found}.items())]
