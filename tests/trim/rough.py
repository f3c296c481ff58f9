"""Tiny models of each family, whose rows, biases and norms all differ."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import trim
from tests.trim import tiny
from trim.models.checkpoint import quiet
from trim.pruning.events import BlockDone

VOCABULARY = 256
FAMILIES = tuple(family for family in tiny.SUPPORTED if family != "gemma2")


def make_model(family: str, folder: Path, seed: int = 0, **more: object) -> Path:
    """Save a model of a family with the byte tokenizer; returns the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = AutoModelForCausalLM.from_config(tiny.config(family, **more))
        with torch.no_grad():
            for parameter in module.parameters():  # also biases and norms, which begin as 0 and 1
                # A few large weights, so that rows differ.
                noise = torch.randn_like(parameter).pow_(3)
                parameter.add_(noise, alpha=0.05 if parameter.ndim > 1 else 0.02)
    with quiet():
        module.save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
    return folder


def load(folder: Path) -> torch.nn.Module:
    """Load the model with transformers alone, in float32."""
    with quiet():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def random_tokens(sequences: int = 6, length: int = 16, seed: int = 0) -> torch.Tensor:
    """Return random token ids, (sequences, length) int64."""
    return torch.randint(0, VOCABULARY, (sequences, length), generator=torch.Generator().manual_seed(seed))


def pruned(folder: Path, out: Path, **settings: object) -> trim.Run:
    """Prune on random tokens."""
    return trim.prune(folder, out, **{"tokens": random_tokens(), "target": 0.5, "device": "cpu"} | settings)


def wanda(folder: Path, out: Path, **settings: object) -> trim.Run:
    """Prune by Wanda on a few windows of the demo's text."""
    few = {"target": 0.5, "allocation": "uniform", "windows": 2, "length": 16, "device": "cpu"}
    return trim.prune(folder, out, **few | settings)


def stopped(prune: Callable[..., trim.Run], *given: object, **settings: object) -> None:
    """Prune, and stop as Ctrl-C does once a block is done."""

    def stop(event: object) -> None:
        if isinstance(event, BlockDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(*given, listener=stop, **settings)


def assert_same_blocks(one: Path, other: Path) -> None:
    """Assert that two runs have the same block files, bit for bit."""
    first, second = trim.open_run(one), trim.open_run(other)
    assert first.blocks == second.blocks
    for index in first.blocks:
        name = first.manifest["blocks"][str(index)]["file"]
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes(), name


def write_text(path: Path, paragraphs: int = 200) -> Path:
    """Write a text of many short paragraphs."""
    path.write_text(
        "\n\n".join(f"Paragraph {each} says that {each} is a number." for each in range(paragraphs))
    )
    return path


def edit_json(path: Path, **changes: object) -> dict:
    """Change members of the object in a JSON file; returns the object."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))
    return content


def edit_weight(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change a tensor of a model that is one file."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[name] = change(tensors[name].clone())
    save_file(tensors, path, metadata={"format": "pt"})


def hooks_left(module: torch.nn.Module) -> int:
    """Return the number of forward hooks on a module and its parts."""
    return sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for part in module.modules())
