"""A toy model that a test can make fail, and what a naive forward pass shows its layers."""

import contextlib

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

import trim
from trim.models import architecture

FEATURES, INNER, VOCABULARY = 8, 12, 16


def windows(sequences: int = 6, length: int = 20, vocabulary: int = 256) -> Tensor:
    """Return random windows of token numbers."""
    return torch.randint(3, vocabulary, (sequences, length), generator=torch.Generator().manual_seed(1))


class FlatBlock(nn.Module):
    """Hands its layers (batch · tokens, features), as OPT once did."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(FEATURES, INNER), nn.Linear(INNER, FEATURES)
        self.unused = nn.Linear(3, 3)

    def forward(self, states: Tensor) -> Tensor:
        flat = self.fc2(self.fc1(states.reshape(-1, FEATURES)).relu())
        return states + flat.view_as(states)


class Toy(nn.Module):
    """The least that a model must have, and something to call with which a test can make it fail.

    Attributes:
        shapes: of the tokens of every forward pass.
        fail: called with the block's index and the tokens before each block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config = PretrainedConfig(max_position_embeddings=64)
        # transformers cannot build it to find out
        architecture._TRIALS[architecture._structure_key(self.config)] = architecture.Trial(
            {}, (FEATURES,), False
        )
        self.embedding = nn.Embedding(VOCABULARY, FEATURES)
        self.place = nn.Embedding(64, FEATURES)
        self.layers = nn.ModuleList([FlatBlock(), FlatBlock(), FlatBlock()])
        self.shapes: list[tuple[int, ...]] = []
        self.fail = lambda block, tokens: None

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def forward(self, tokens: Tensor, use_cache: bool) -> Tensor:
        assert not use_cache
        self.shapes.append(tuple(tokens.shape))
        states = self.embedding(tokens) + self.place(torch.arange(tokens.shape[1]))
        for index, block in enumerate(self.layers):
            self.fail(index, tokens)
            states = block(states)
        return states


def make_toy() -> trim.Model:
    """Return the toy with weights that are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return trim.Model("toy", "Toy", "toy-fingerprint", Toy().requires_grad_(False), None)


def toy_windows(sequences: int = 6, length: int = 10) -> Tensor:
    """Return windows that the toy can read."""
    return windows(sequences, length, VOCABULARY)


def naive(model: trim.Model, tokens: Tensor) -> dict[str, np.ndarray]:
    """Return every input of every layer, (windows, length, N) float64, one window at a time."""
    seen: dict[str, list[np.ndarray]] = {name: [] for name in model.layers}

    def note(name: str, inputs: Tensor) -> None:
        seen[name].append(inputs.double().numpy().reshape(tokens.shape[1], -1).copy())

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for name, layer in model.layers.items():
            hooks.enter_context(
                layer.register_forward_pre_hook(lambda _, given, name=name: note(name, given[0]))
            )
        for window in tokens:
            model.module(window[None], use_cache=False)
    return {name: np.stack(inputs) for name, inputs in seen.items() if inputs}


def check_samples(
    samples: dict[str, trim.LayerSample], expected: dict[str, np.ndarray], atol: float = 1e-5
) -> None:
    """Assert that samples hold the norms of what the layers received, and vectors of some tokens, in order."""
    for name, sample in samples.items():
        received = expected[name]
        norm = np.sqrt((received**2).sum(axis=(0, 1)) / len(received))
        np.testing.assert_allclose(sample.input_norm.double(), norm, rtol=1e-4, atol=atol)
        kept = sample.inputs.double().T.reshape(len(received), -1, received.shape[2]).numpy()
        for vectors, window in zip(kept, received, strict=True):
            distance = np.abs(vectors[:, None] - window[None]).max(axis=2)
            places = distance.argmin(axis=1)
            assert distance.min(axis=1).max() < atol
            assert (np.diff(places) > 0).all()  # distinct tokens, in their order
