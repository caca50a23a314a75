"""Fixtures of several test modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from suites.framework.provisioning.cache import Cache


@pytest.fixture
def said() -> list[str]:
    """Return what the cache told the user."""
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> Cache:
    """Return an empty cache."""
    return Cache(tmp_path / "cache", say=said.append)
