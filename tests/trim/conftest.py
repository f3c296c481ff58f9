"""Caches of their own for tests that fill them, and a Hub on this machine."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.trim import fake_hub, rough


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of ours for one test."""
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that no test changes."""
    return rough.make_model("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def own_llama(llama: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return shutil.copytree(llama, tmp_path / "model")


@pytest.fixture
def inference() -> Iterator[None]:
    """No gradients, as wherever models are only read."""
    with torch.inference_mode():
        yield


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.FakeHub]:
    """A Hub on this machine, and an empty cache of the Hub's own; never the network."""
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with fake_hub.serve() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", served.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield served
