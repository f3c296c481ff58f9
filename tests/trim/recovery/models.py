"""How the tests recover their tiny model, and the weights of a result."""

from pathlib import Path

import torch
from safetensors.torch import load_file

LENGTH = 32
OPTIONS = {"steps": 8, "windows": 24, "batch": 4, "sampled": 0.5, "learning_rate": 0.005, "device": "cpu"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint in one file."""
    return load_file(folder / "model.safetensors")
