"""The tiny model that evaluations read, and copies of it that are pruned."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

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


@pytest.fixture
def pruned(folder: Path, tmp_path: Path) -> Callable[[Callable[[str, np.ndarray], np.ndarray]], Path]:
    """A function that writes a copy of the model with every block's matrices changed."""

    def write(change: Callable[[str, np.ndarray], np.ndarray]) -> Path:
        weights = load_file(folder / "model.safetensors")
        for name, weight in weights.items():
            if ".layers." in name and weight.dim() == 2:
                weights[name] = torch.from_numpy(change(name, weight.numpy().copy())).contiguous()
        copy = tmp_path / "pruned"
        copy.mkdir()
        save_file(weights, copy / "model.safetensors", {"format": "pt"})
        for file in folder.iterdir():
            if file.suffix == ".json":
                (copy / file.name).write_bytes(file.read_bytes())
        return copy

    return write
