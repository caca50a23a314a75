"""Delivery: what a worker needs, copied where every user can read it, and the Python that runs it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from suites.framework import delivery
from suites.framework.delivery import deliver, interpreter
from suites.framework.environments.user import User
from suites.framework.errors import InfrastructureError

ROOT = Path(__file__).parents[1]
NOBODY = User(name="nobody", uid=65534, gid=65534, home="/nonexistent")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout that only its owner can read."""
    folder = tmp_path / "checkout"
    for path in (
        "suites/framework/module.py",
        "fixtures/inits/run",
        "pyproject.toml",
        "suites/__pycache__/x.pyc",
        "secret",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
        (folder / path).chmod(0o700 if path.endswith("run") else 0o600)
    for inner in (folder, *folder.rglob("*")):
        if inner.is_dir():
            inner.chmod(0o700)
    return folder


def test_a_closed_checkout_becomes_readable(checkout: Path, tmp_path: Path) -> None:
    """Suites and fixtures are copied with their modes opened; nothing else of the checkout is."""
    folder = tmp_path / "run"
    folder.mkdir()
    deliver(checkout, folder)
    code = folder / "code"
    found = {str(path.relative_to(code)): stat.S_IMODE(path.stat().st_mode) for path in code.rglob("*")}
    assert {
        "suites": 0o755,
        "suites/framework": 0o755,
        "suites/framework/module.py": 0o644,
        "fixtures": 0o755,
        "fixtures/inits": 0o755,
        "fixtures/inits/run": 0o755,
        "pyproject.toml": 0o644,
    } == found


def test_the_sessions_own_pytest_is_delivered(tmp_path: Path) -> None:
    """The copy imports by itself and has the version that runs here."""
    deliver(ROOT, tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import pytest, psutil; print(pytest.__version__)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert pytest.__version__ == done.stdout.strip()
    assert all(path.stat().st_mode & stat.S_IROTH for path in (tmp_path / "site").rglob("*"))
    assert not (tmp_path / "bin").exists()


def test_a_distribution_without_a_list_of_files_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pytest of an unknown installation is an error with a remedy."""
    monkeypatch.setattr(
        "suites.framework.delivery.metadata.distribution", lambda _: type("Unknown", (), {"files": None})
    )
    with pytest.raises(InfrastructureError, match="the files of pytest are not known; install it with pip or uv"):
        deliver(ROOT, tmp_path)


def test_our_own_python_is_the_first_choice() -> None:
    """For this user it is the one that runs the launcher."""
    assert sys.executable == interpreter(None)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests as root")
def test_a_python_that_the_user_cannot_reach_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user gets the system's Python where ours lies in a closed folder."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "python3").symlink_to(sys.executable)
    monkeypatch.setattr("suites.framework.delivery.sys.executable", str(closed / "python3"))
    assert str(closed / "python3") == interpreter(None)
    assert "/usr/bin/python3" == interpreter(NOBODY)


def test_without_any_python_the_reasons_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each Python that was tried is named with what it said: not there, too old, broken."""
    monkeypatch.setattr("suites.framework.delivery.sys.executable", "/nowhere/python")
    monkeypatch.setattr(delivery, "OLDEST", (9, 9))
    with pytest.raises(InfrastructureError) as caught:
        interpreter(None)
    assert "/nowhere/python: " in caught.value.why
    assert "/usr/bin/python3: older than 9.9" in caught.value.why
    assert "for every user" in caught.value.remedy


def test_a_user_that_cannot_be_tried_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing tool is told as the reason, not as a traceback."""
    monkeypatch.setattr(delivery, "_as", lambda _: ("/nowhere/setpriv",))
    with pytest.raises(InfrastructureError, match="No such file or directory: '/nowhere/setpriv'"):
        interpreter(NOBODY)
