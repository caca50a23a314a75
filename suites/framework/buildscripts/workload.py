"""What a wrapper is given to build: scripts with their needs and sources, written as its profile says (layer 1)."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from suites.framework.calls import BuildscriptsCall

SHEBANG = "#!/bin/bash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An archive that a step unpacks."""

    name: str
    content: bytes

    @property
    def sha256(self) -> str:
        """Return the digest that the script names."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One build script.

    Its body finds the function ``mark LABEL [WORD...]``, which records that it was reached and waits there until the
    test, which need not care, lets it go on. Where the body says ``{artefacts}``, ``{sources}`` or ``{root}``, the path
    of that folder is written.
    """

    name: str
    body: str = "mark ran"
    needs: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    first: str = SHEBANG
    """Its first line; empty for none."""
    executable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a workload is written to."""

    root: Path
    call: BuildscriptsCall

    def path(self, template: str, **values: str) -> Path:
        """Return the path that a template of the profile stands for."""
        return Path(filled(template, root=str(self.root), **values))

    @property
    def artefacts(self) -> Path:
        """Return the folder that the scripts fill."""
        return self.path(self.call.artefacts)

    def written(self, steps: Iterable[Step]) -> set[Path]:
        """Return the folders that `write` writes to."""
        folders = {self.artefacts, self.path(self.call.sources), *map(self.path, self.call.folders)}
        return (
            folders
            | {self.path(name).parent for name in self.call.files}
            | {self.script(step.name).parent for step in steps}
        )

    def script(self, step: str) -> Path:
        """Return where the script of a step stands."""
        return self.path(self.call.script, step=step)

    def write(self, steps: Iterable[Step], *, recording: Sequence[str]) -> None:
        """Write the scripts and sources of these steps; `recording` are the words that start a recording process."""
        self.artefacts.mkdir(parents=True, exist_ok=True)
        for folder in self.call.folders:
            self.path(folder).mkdir(parents=True, exist_ok=True)
        for name, content in self.call.files.items():
            self.path(name).write_text(content)
        for step in steps:
            self._write(step, recording)

    def _write(self, step: Step, recording: Sequence[str]) -> None:
        path = self.script(step.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()  # it may lead to what is somebody else's
        path.write_bytes(self.text(step, recording=recording).encode())
        path.chmod(0o755 if step.executable else 0o644)
        for source in step.sources:
            folder = self.path(self.call.sources)
            folder.mkdir(parents=True, exist_ok=True)
            if (archive := folder / source.name).is_symlink():
                archive.unlink()
            archive.write_bytes(source.content)

    def text(self, step: Step, *, recording: Sequence[str]) -> str:
        """Return the text of a step's script."""
        mark = f'mark() {{ {shlex.join([*recording, step.name])} "$@"; }}'
        places = {"root": self.root, "artefacts": self.artefacts, "sources": self.path(self.call.sources)}
        body = step.body
        for name, path in places.items():
            body = body.replace(f"{{{name}}}", shlex.quote(str(path)))
        return "\n".join([*([step.first] if step.first else []), *self._header(step), mark, body, ""])

    def _header(self, step: Step) -> Iterator[str]:
        for line in self.call.header:
            if "{need}" in line:
                yield from (filled(line, need=need) for need in step.needs)
            elif "{source}" in line:
                yield from (filled(line, source=source.name, sha256=source.sha256) for source in step.sources)
            else:
                yield filled(line, step=step.name)


def filled(template: str, **values: str) -> str:
    """Return a template with each ``{name}`` that has a value replaced."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), template)


def ordered(steps: Sequence[Step]) -> list[Step]:
    """Return the steps so that each comes after those that it needs, otherwise as they are given."""
    names = {step.name: step for step in steps}
    done: dict[str, Step] = {}

    def visit(step: Step, above: Mapping[str, None]) -> None:
        for need in step.needs:
            if need in names and need not in above:
                visit(names[need], {**above, step.name: None})
        done.setdefault(step.name, step)

    for step in steps:
        visit(step, {})
    return list(done.values())
