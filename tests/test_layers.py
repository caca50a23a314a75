"""The layers hold: what each may import, shown in interpreters that have nothing more, and by reading every import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from suites import catalog
from suites.framework.delivery import deliver

ROOT = Path(__file__).parents[1]
LAYER_0 = (
    "suites.catalog",
    "suites.framework.calls",
    "suites.framework.codec",
    "suites.framework.errors",
    "suites.framework.facts",
    "suites.framework.model",
)
WORKER = {"pytest", "_pytest", "psutil"}
"""What a worker may import beside the standard library and layers 0 and 1."""
SUITES = sorted(
    path for folder in (*catalog.SUITES.values(), "suites/preflight") for path in (ROOT / folder).glob("*.py")
)


def name_of(path: Path) -> str:
    """Return the dotted name of a module of the checkout."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / "suites").rglob("*.py"))}
PACKAGES = sorted(name for name, path in MODULES.items() if path.name == "__init__.py")
FRAMEWORK = sorted(MODULES.keys() - PACKAGES - set(map(name_of, SUITES)))


def layer(name: str) -> int:
    """Return the layer that a module's docstring names."""
    documentation = ast.get_docstring(ast.parse(MODULES[name].read_text())) or ""
    found = re.search(r"\((?:[^()]*\b)?layer (\d)", documentation)
    assert found, f"{name} does not say its layer"
    return int(found[1])


LAYERS = {name: layer(name) for name in FRAMEWORK}
LAYER_1 = sorted(name for name, number in LAYERS.items() if number == 1)


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted name of every module that a file imports, at its top or anywhere else."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def foreign(path: Path) -> set[str]:
    """Return the packages imported that are neither ours nor the standard library's."""
    packages = {name.partition(".")[0] for name in imports(path)}
    return packages - {"suites"} - sys.stdlib_module_names


def run(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-W", "error", "-c", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", LAYER_0)
def test_layer_0_needs_only_the_standard_library(module: str) -> None:
    """Each module of layer 0 is imported by an interpreter that has no site-packages."""
    run(f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {module}")


def test_layer_0_is_what_its_docstrings_say() -> None:
    """The modules that call themselves layer 0 are the six that the noxfile may import."""
    assert sorted(LAYER_0) == sorted(name for name, number in LAYERS.items() if number == 0)


def test_layer_1_needs_only_what_a_worker_has(tmp_path: Path) -> None:
    """All of layer 1, the plugin and the suites are imported where only pytest and psutil were delivered."""
    deliver(ROOT, tmp_path)
    names = [*LAYER_1, "suites.framework.plugin", *map(name_of, SUITES)]
    lines = [f"import sys; sys.path[:0] = {[str(tmp_path / 'code'), str(tmp_path / 'site')]!r}", "import importlib"]
    lines += [f"for name in {names!r}: importlib.import_module(name)"]
    lines += [
        "outside = [n for n, m in sys.modules.items() if str(getattr(m, '__file__', '')).find('site-packages') > 0]"
    ]
    lines += ["assert not outside, outside"]
    run("\n".join(lines))


@pytest.mark.parametrize("module", ["docker", "requests", "rich", "filelock", "nox"])
def test_delivery_has_nothing_of_the_host(module: str, tmp_path: Path) -> None:
    """The folder in which the last test imports really lacks the libraries of the host side."""
    deliver(ROOT, tmp_path)
    site = str(tmp_path / "site")
    run(f"import sys; sys.path[:0] = [{site!r}]\ntry: import {module}\nexcept ImportError: pass\nelse: sys.exit(1)")


@pytest.mark.parametrize("module", FRAMEWORK)
def test_no_module_imports_a_higher_layer(module: str) -> None:
    """No module imports one of a layer above its own, not even inside a function."""
    ours = [name for name in imports(MODULES[module]) if name in LAYERS]
    assert [] == [name for name in ours if LAYERS[name] > LAYERS[module]]


@pytest.mark.parametrize("module", [name for name in FRAMEWORK if LAYERS[name] < 2])
def test_lower_layers_import_no_library_of_the_host(module: str) -> None:
    """Layer 0 imports the standard library alone, layer 1 also pytest and psutil."""
    assert foreign(MODULES[module]) <= (WORKER if LAYERS[module] else set())


@pytest.mark.parametrize("path", SUITES, ids=name_of)
def test_suites_use_layer_1_alone(path: Path) -> None:
    """A suite imports pytest, the standard library, the catalogue and modules of layer 0 or 1."""
    assert foreign(path) <= {"pytest"}
    ours = {name for name in imports(path) if name.startswith("suites.")}
    assert {2} & {LAYERS.get(name, 0) for name in ours} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_empty(package: str) -> None:
    """Importing one module never imports its siblings: a package holds a docstring and nothing else."""
    assert 1 == len(ast.parse(MODULES[package].read_text()).body)


def test_an_import_inside_a_function_is_seen(tmp_path: Path) -> None:
    """The reader of imports finds the hidden ones too, with the modules that ``from`` names."""
    path = tmp_path / "hidden.py"
    path.write_text("def late():\n    from suites.framework import session, model\n    import docker.errors\n")
    assert {"suites.framework.session", "suites.framework.model", "docker.errors"} <= set(imports(path))
    assert {"docker"} == foreign(path)
