"""A tiny model, short texts, and a sweep that is done: made once for all tests of sweeps."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

import trim
from tests.trim import tiny
from tests.trim.sweeps.grids import settings
from trim.calibration import corpora


@pytest.fixture(scope="package")
def short_texts() -> Iterator[None]:
    """The beginning of the demo's speeches: cutting all of them takes longer than pruning a tiny model."""
    text = functools.cache(corpora.demo_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "demo_text", lambda split: text(split)[:10_000])
        yield


@pytest.fixture(scope="package")
def model(short_texts: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="package")
def done(model: Path, tmp_path_factory: pytest.TempPathFactory) -> trim.Sweep:
    """Two targets by two allocations, worked through."""
    grid = settings(model, allocation=("uniform", "trim"))
    return trim.run_sweep(trim.create_sweep(tmp_path_factory.mktemp("sweeps") / "s", grid, name="first"))
