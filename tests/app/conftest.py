"""Fixtures for pages that load models of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.services.laboratory import Laboratory
from app.services.seminar import SEMINAR, Seminar
from tests.trim.conftest import hub as hub


@pytest.fixture
def own_laboratory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Laboratory:
    """A server that has nothing loaded, with caches of its own."""
    made = Laboratory()
    monkeypatch.setattr("app.ui.laboratory.laboratory", lambda: made)
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "cache"))
    return made


@pytest.fixture
def seminar() -> Iterator[Seminar]:
    """A seminar on this server, code "open sesame"; whoever asks is the session named by `.asking`."""
    before = SEMINAR.__dict__
    SEMINAR.__dict__ = Seminar("open sesame").__dict__ | {"who": lambda: SEMINAR.asking, "asking": "somebody"}
    yield SEMINAR
    SEMINAR.__dict__ = before
