"""Fixtures for pages that load models of their own."""

from pathlib import Path

import pytest

from app.services.laboratory import Laboratory
from tests.trim.conftest import hub as hub


@pytest.fixture
def own_laboratory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Laboratory:
    """A server that has nothing loaded, with caches of its own."""
    made = Laboratory()
    monkeypatch.setattr("app.ui.laboratory.laboratory", lambda: made)
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "cache"))
    return made
