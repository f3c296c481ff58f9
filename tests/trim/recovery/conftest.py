"""A tiny model, a run of it, the run's checkpoint and its recovery: made once for all tests of recoveries."""

from pathlib import Path

import pytest

import trim
from tests.trim import rough
from tests.trim.recovery.models import LENGTH, OPTIONS


@pytest.fixture(scope="package")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rough.make_model("qwen2", tmp_path_factory.mktemp("models") / "dense")


@pytest.fixture(scope="package")
def run(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> trim.Run:
    out = tmp_path_factory.mktemp("runs") / "wanda"
    return rough.wanda(dense, out, target=0.6, windows=4, length=LENGTH)


@pytest.fixture(scope="package")
def recovered(run: trim.Run, tmp_path_factory: pytest.TempPathFactory) -> trim.Recovery:
    return trim.recover(run.path, tmp_path_factory.mktemp("recovered") / "whole", **OPTIONS)


@pytest.fixture(scope="package")
def checkpoint(run: trim.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trim.export(run, tmp_path_factory.mktemp("exported") / "pruned")
