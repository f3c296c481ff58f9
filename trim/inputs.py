"""What the layers of a block receive: feature norms over all real tokens, and some input vectors."""

import contextlib
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trim.errors import ModelError, NonFiniteError, SettingsError
from trim.products import HALF


@dataclass(frozen=True, eq=False)
class Calibration:
    """The calibration text.

    Attributes:
        tokens: (sequences, length) int64.
        mask: (sequences, length) bool, False where there is padding; None: all tokens are real.
        positions: (sequences, V) int64, ascending: whose input vectors are kept.
    """

    tokens: Tensor = field(repr=False)
    mask: Tensor | None = field(repr=False)
    positions: Tensor = field(repr=False)

    @classmethod
    def of(
        cls, tokens: Tensor, mask: Tensor | None = None, *, vectors_per_sequence: int = 2, seed: int = 0
    ) -> "Calibration":
        """Choose distinct random positions among the real tokens of each sequence.

        Raises:
            SettingsError: a sequence has fewer real tokens than vectors are asked of it.
        """
        if tokens.ndim != 2 or 0 in tokens.shape:
            raise SettingsError(
                f"windows must be (sequences, length) tokens and not empty, not {tuple(tokens.shape)}"
            )
        if mask is not None and (mask.shape != tokens.shape or mask.dtype != torch.bool):
            raise SettingsError(f"the mask must be bool of shape {tuple(tokens.shape)}")
        draws = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(seed))
        real = tokens.shape[1]
        if mask is not None:
            draws, real = draws.masked_fill(~mask, torch.inf), int(mask.sum(dim=1).min())
        if not 1 <= vectors_per_sequence <= real:
            raise SettingsError(
                f"between 1 and {real} input vectors can be kept of a window of {real} tokens, "
                f"not {vectors_per_sequence}"
            )
        positions = draws.argsort(dim=1)[:, :vectors_per_sequence].sort(dim=1).values
        return cls(tokens, None if mask is None or bool(mask.all()) else mask, positions)

    def first(self, windows: int) -> "Calibration":
        """Its first windows."""
        mask = None if self.mask is None else self.mask[:windows]
        return Calibration(self.tokens[:windows], mask, self.positions[:windows])

    @property
    def sequences(self) -> int:
        """How many windows there are."""
        return self.tokens.shape[0]

    @property
    def length(self) -> int:
        """Tokens per window, padding included."""
        return self.tokens.shape[1]

    @property
    def real_tokens(self) -> int:
        """Tokens that are no padding."""
        return self.tokens.numel() if self.mask is None else int(self.mask.sum())


@dataclass(frozen=True, eq=False)
class LayerInputs:
    """What one layer received.

    Attributes:
        inputs: (N, L), the kept input vectors.
        input_norm: (N,) float32, √(Σ x_j² over real tokens / sequences).
        gram: (N, N) float32, Σ x xᵀ over real tokens; None: it was not asked for.
    """

    inputs: Tensor = field(repr=False)
    input_norm: Tensor = field(repr=False)
    gram: Tensor | None = field(default=None, repr=False)


class InputListener:
    """Running statistics of some layers; layers called with the same tensor share one of them.

    `with_gram`: Gram matrices too, N² numbers for each input of N features.
    """

    def __init__(
        self, calibration: Calibration, layers: dict[str, nn.Linear], *, with_gram: bool = False
    ) -> None:
        self.calibration = calibration
        self.layers = layers
        self.with_gram = with_gram
        self.groups: list[list[str]] = []  # by order of use; one input per group
        self._squares: dict[str, Tensor] = {}
        self._grams: dict[str, Tensor] = {}
        self._vectors: dict[str, list[Tensor]] = {}
        self._part = slice(0)
        self._last: tuple[Tensor, list[str]] | None = None

    @contextlib.contextmanager
    def listening(self, part: slice) -> Iterator[None]:
        """Hooks on the layers while the sequences of `part` go through; gone on any exit."""
        first_batch = not self.groups
        self._part, self._last = part, None
        hooks = []
        try:
            for name, layer in self.layers.items():
                if first_batch or name in self._squares:
                    hooks.append(layer.register_forward_pre_hook(functools.partial(self._receive, name)))
            if not first_batch:  # nothing behind the last input is needed
                hooks.append(self.layers[self.groups[-1][0]].register_forward_pre_hook(_stop))
            with contextlib.suppress(_LastInputReached):
                yield
        finally:
            self._last = None
            for hook in hooks:
                hook.remove()

    def _receive(self, name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs = arguments[0]
        if self._last is not None and self._last[0] is inputs:
            if name not in self._last[1]:
                self._last[1].append(name)
            return
        group = next((group for group in self.groups if group[0] == name), None)
        if group is None:
            group = [name]
            self.groups.append(group)
        self._last = (inputs, group)
        inputs = inputs.detach()
        columns = inputs.shape[-1]
        sequences = self._part.stop - self._part.start
        if inputs.numel() != sequences * self.calibration.length * columns:
            raise ModelError(
                f"{name} receives only part of the tokens; layers behind a router cannot be pruned yet"
            )
        by_token = inputs.reshape(sequences, -1, columns)
        real = by_token
        if self.calibration.mask is not None:
            real = by_token[self.calibration.mask[self._part].to(inputs.device)]
        squares = sums_of_squares(real.reshape(-1, columns))
        self._squares[name] = self._squares[name] + squares if name in self._squares else squares
        if self.with_gram:
            products = gram(real.reshape(-1, columns))
            self._grams[name] = self._grams[name].add_(products) if name in self._grams else products
        rows = torch.arange(sequences, device=inputs.device)[:, None]
        positions = self.calibration.positions[self._part].to(inputs.device)
        self._vectors.setdefault(name, []).append(by_token[rows, positions].reshape(-1, columns))

    def add(self, other: "InputListener") -> None:
        """Go on with what another one heard of the sequences that come next."""
        self.groups = self.groups or other.groups
        for name, squares in other._squares.items():
            self._squares[name] = self._squares[name] + squares if name in self._squares else squares
            self._vectors.setdefault(name, []).extend(other._vectors[name])

    def received(self) -> dict[str, LayerInputs]:
        """What each layer received, in order of use.

        Raises:
            NonFiniteError: NaN or infinity reached a layer; the message names it.
            ModelError: a layer was never called.
        """
        result = {}
        for group in self.groups:
            norm = (self._squares[group[0]] / self.calibration.sequences).sqrt().float()
            inputs = torch.cat(self._vectors[group[0]]).T.contiguous()
            if not bool(torch.isfinite(norm).all()):
                raise NonFiniteError(
                    f"{group[0]} receives NaN or infinite activations from the calibration text; check the checkpoint, "
                    "or compute in a wider type (--dtype float32)"
                )
            result |= dict.fromkeys(group, LayerInputs(inputs, norm, self._grams.get(group[0])))
        if idle := [name for name in self.layers if name not in result]:
            raise ModelError(f"{idle[0]} is never called; leave such layers out with --layers")
        return result


def sums_of_squares(vectors: Tensor) -> Tensor:
    """Σ x_j² over vectors (L, N), (N,) float64; on a GPU in one pass, without a copy in a wider type."""
    if vectors.device.type == "cuda":
        return torch.linalg.vector_norm(vectors, dim=0, dtype=torch.float32).double().square()
    return vectors.float().square().sum(dim=0, dtype=torch.float64)


def gram(vectors: Tensor) -> Tensor:
    """Σ x xᵀ over vectors (L, N), (N, N) float32; of half types on a GPU by its tensor cores, without a wider copy."""
    if vectors.device.type == "cuda" and vectors.dtype in HALF:
        return torch.mm(vectors.T, vectors, out_dtype=torch.float32)
    vectors = vectors.float()
    return vectors.T @ vectors


class _LastInputReached(Exception):  # noqa: N818 (no error)
    """Ends the forward pass of a block."""


def _stop(module: nn.Module, arguments: tuple) -> None:
    raise _LastInputReached


def linear_layers(block: nn.Module, index: int, chosen: Iterable[str]) -> dict[str, nn.Linear]:
    """The chosen linear layers of a block, by their full names, in the model's order."""
    chosen = set(chosen)
    found = {f"{index}.{path}": part for path, part in block.named_modules() if isinstance(part, nn.Linear)}
    return {name: layer for name, layer in found.items() if name in chosen}
