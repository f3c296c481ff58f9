"""The tiny model that evaluations read."""

from pathlib import Path

import pytest

import trim
from tests.trim import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder, which no test changes."""
    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def model(folder: Path) -> trim.Model:
    """The model, loaded."""
    return trim.load_model(folder, device="cpu")
