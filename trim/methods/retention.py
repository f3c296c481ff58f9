"""Retention curves: how much of its output each row keeps for every number of pruned weights.

Row i's dense output is Y_i = W_i X. With its k lowest-score weights removed it is Ŷ_i(k). One sweep over the
sorted columns gives, for every k from 0 to N,

    dot_i(k) = ⟨Y_i, Ŷ_i(k)⟩      energy_i(k) = ‖Ŷ_i(k)‖²      error_i(k) = ‖Y_i − Ŷ_i(k)‖²

Afterwards any allocation of sparsity over the rows is judged by looking up D numbers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trim.matmul import full_product
from trim.measures import EPSILON
from trim.methods.masks import keep_mask
from trim.methods.scores import as_array, ranks_of

if TYPE_CHECKING:
    from trim.compiled.search import Tables

RANKED_WEIGHTS = 2**24  # at a time, so that intermediate int64 stays small
COSINE_ROWS = 1024  # at a time, so that intermediate float64 stays small compared with float32 curves


@dataclass(frozen=True, eq=False)
class RetentionCurves:
    """The three curves of a layer, with the weights and inputs that the direct qualities multiply.

    On a CUDA device the curves are float32. G layers of one shape may be swept together. Then D counts the rows of all
    G layers, layer after layer; the inputs are (G, N, L), and numbers of a whole layer are (G,).

    Attributes:
        dot, energy, error: (D, N + 1) float64; column k belongs to k pruned weights in the row.
        sorted_columns: (D, N), `order` in an integer type that is large enough.
        captured_weight, captured_inputs: `weight` and `inputs` in the type in which the curves were computed.
        output: (D, L) float32, the dense output Y.
        interleaved: (D, N + 1, 4) float64, dot, energy, error and cosine in host memory; None: computed on a GPU.
        layers: G.
        own_vectors: how many of the L vectors each layer has, the others being zeros; None: all have L.
    """

    dot: Tensor
    energy: Tensor
    error: Tensor
    sorted_columns: Tensor
    captured_weight: Tensor
    captured_inputs: Tensor
    output: Tensor = field(repr=False)
    interleaved: np.ndarray | None = field(default=None, repr=False)
    layers: int = 1
    own_vectors: tuple[int, ...] | None = None

    @property
    def weight(self) -> Tensor:
        """W, (D, N) float32."""
        return self.captured_weight.float()

    @property
    def inputs(self) -> Tensor:
        """X, (N, L) float32."""
        return self.captured_inputs.float()

    @cached_property
    def rows(self) -> int:
        """D, the output dimensions."""
        return self.captured_weight.shape[0]

    @property
    def layer_rows(self) -> int:
        """The rows of one layer."""
        return self.rows // self.layers

    @cached_property
    def columns(self) -> int:
        """N, the weights in a row."""
        return self.captured_weight.shape[1]

    @property
    def vectors_of_layers(self) -> tuple[int, ...]:
        """L of each layer."""
        return self.own_vectors or (self.vectors,) * self.layers

    @property
    def vectors(self) -> int:
        """L, the calibration vectors; the largest L where layers differ."""
        return self.captured_inputs.shape[-1]

    @property
    def layer_vectors(self) -> "int | Tensor":
        """L, or (G,) where layers differ."""
        if self.own_vectors is None:
            return self.vectors
        return torch.tensor(self.own_vectors, device=self.dot.device)

    @property
    def row_vectors(self) -> "int | Tensor":
        """L of each row's layer: a number, or (D,) where layers differ."""
        vectors = self.layer_vectors
        return vectors if isinstance(vectors, int) else vectors.repeat_interleave(self.layer_rows)

    def by_layer(self, values: Tensor) -> Tensor:
        """View one number for each row, (..., D), layer by layer: (..., G, D / G), or unchanged for a single layer."""
        return values if self.layers == 1 else values.unflatten(-1, (self.layers, -1))

    @property
    def order(self) -> Tensor:
        """Each row's columns by ascending score, (D, N) int64."""
        return self.sorted_columns.long()

    def split_layers(self) -> "list[RetentionCurves]":
        """Return the curves of each of the G layers, as views."""
        if self.layers == 1:
            return [self]
        rows = (self.dot, self.energy, self.error, self.sorted_columns, self.captured_weight, self.output)
        layers = zip(*(each.unflatten(0, (self.layers, -1)) for each in rows), strict=True)
        split = [None] * self.layers if self.interleaved is None else np.split(self.interleaved, self.layers)
        return [
            RetentionCurves(
                dot, energy, error, order, weight, inputs[:, :vectors], output[:, :vectors], interleaved
            )
            for (dot, energy, error, order, weight, output), inputs, interleaved, vectors in zip(
                layers, self.captured_inputs, split, self.vectors_of_layers, strict=True
            )
        ]

    @cached_property
    def output_energy(self) -> Tensor:
        """‖Y_i‖², (D,) float64."""
        return self.energy[:, 0].double().contiguous()

    @cached_property
    def output_norm(self) -> Tensor:
        """‖Y_i‖, (D,) float64."""
        return self.output_energy.sqrt()

    @cached_property
    def total_output_norm(self) -> Tensor:
        """The layer's ‖Y‖, () float64, or (G,)."""
        return self.by_layer(self.output_energy).sum(dim=-1).sqrt()

    @cached_property
    def output_peak(self) -> Tensor:
        """The largest Y_i² of each row, (D,) float64."""
        peak: Tensor = torch.linalg.vector_norm(self.output, math.inf, dim=1)
        return peak.double().square()

    @cached_property
    def dead_rows(self) -> Tensor:
        """Rows whose dense output is zero on every calibration vector, (D,) bool."""
        return self.output_energy == 0

    @cached_property
    def layer_summary(self) -> Tensor:
        """The layer's ‖Y‖², its largest Y² and how many rows have output, (3,) float64, or (G, 3)."""
        energy, peak, dead = map(self.by_layer, (self.output_energy, self.output_peak, self.dead_rows))
        alive = (~dead).sum(dim=-1).double()
        return torch.stack([energy.sum(dim=-1), peak.amax(dim=-1), alive], dim=-1)

    @cached_property
    def tables(self) -> "Tables":
        """Return the tables that compiled searches look up, in host memory."""
        from trim.compiled.search import Tables

        curves = self.interleaved
        if curves is None:
            curves = (
                torch.stack([self.dot, self.energy, self.error, self.cosine], dim=-1).double().cpu().numpy()
            )
        norm, peak = (values.cpu().numpy() for values in (self.output_norm, self.output_peak))
        return Tables(curves, norm, peak, self.vectors_of_layers[0])

    @cached_property
    def ranks(self) -> Tensor:
        """The number of columns that row i loses before column j, (D, N) int32."""
        parts = self.sorted_columns.split(max(1, RANKED_WEIGHTS // self.columns))
        return torch.cat([ranks_of(part.long()) for part in parts])

    def keep_mask(self, counts: Tensor) -> Tensor:
        """Return which weights are kept when row i loses its `counts[i]` lowest scores, (D, N) bool."""
        if self.sorted_columns.device.type != "cpu":
            return keep_mask(self.ranks, counts)
        from trim.compiled.order import kept_in_order

        return torch.from_numpy(kept_in_order(self.sorted_columns.int().numpy(), counts.long().numpy()))

    def at(self, counts: Tensor) -> "Retained":
        """Return what is retained when row i loses its `counts[..., i]` lowest-score weights.

        Args:
            counts: (..., D) int64, each from 0 to N; leading dimensions are candidates judged together.
        """
        return Retained(self, counts)

    @cached_property
    def cosine(self) -> Tensor:
        """Row i's cosine similarity to its dense output after k pruned weights, (D, N + 1), of the curves' type."""
        if self.interleaved is not None:
            return torch.from_numpy(self.interleaved[..., 3]).to(self.dot.device)
        blocks = zip(
            *(values.split(COSINE_ROWS) for values in (self.dot, self.output_norm, self.energy)), strict=True
        )
        return torch.cat(
            [
                row_cosine(dot.double(), norm[:, None], energy.double()).to(dot.dtype)
                for dot, norm, energy in blocks
            ]
        )

    def cosine_at(self, counts: Tensor) -> Tensor:
        """Compute the cosine after some numbers of pruned weights only, counts (P,) int64: (D, P) float64."""
        if self.interleaved is not None:
            return torch.from_numpy(self.interleaved[:, counts.cpu().numpy(), 3]).to(self.dot.device)
        dot, energy = (curve.index_select(1, counts).double() for curve in (self.dot, self.energy))
        return row_cosine(dot, self.output_norm[:, None], energy)


def row_cosine(dot: Tensor, output_norm: Tensor, energy: Tensor) -> Tensor:
    """Compute dot / ((‖Y_i‖ + n)(√energy + n)), clamped to [−1, 1]; a row without output has cosine 0."""
    return (dot / ((output_norm + EPSILON) * (energy.sqrt() + EPSILON))).clamp_(-1.0, 1.0)


def dense_curves(weight: Tensor, inputs: Tensor) -> RetentionCurves:
    """Return curves at k = 0 only, which are enough to judge a given mask and weights (`MaskRetained`).

    Args:
        weight: (D, N).
        inputs: (N, L).
    """
    output = full_product(weight, inputs)
    energy = output.double().square().sum(dim=1, keepdim=True)
    no_order = torch.empty(len(weight), 0, dtype=torch.int64, device=weight.device)
    return RetentionCurves(energy, energy, torch.zeros_like(energy), no_order, weight, inputs, output)


class Retained:
    """The values of the curves at some counts of pruned weights, each looked up when it is first used."""

    def __init__(self, curves: RetentionCurves, counts: Tensor) -> None:
        self.curves = curves
        self.counts = counts
        self._rows = torch.arange(curves.rows, device=counts.device)

    def _look_up(self, curve: Tensor) -> Tensor:
        return curve[self._rows, self.counts].double()

    @cached_property
    def dot(self) -> Tensor:
        """(..., D) float64."""
        return self._look_up(self.curves.dot)

    @cached_property
    def energy(self) -> Tensor:
        """(..., D) float64."""
        return self._look_up(self.curves.energy)

    @cached_property
    def error(self) -> Tensor:
        """(..., D) float64."""
        return self._look_up(self.curves.error)

    @cached_property
    def cosine(self) -> Tensor:
        """(..., D) float64."""
        if self.curves.dot.dtype == torch.float64:
            return self._look_up(self.curves.cosine)
        return row_cosine(self.dot, self.curves.output_norm, self.energy)

    def outputs(self) -> Iterator[Tensor]:
        """Yield the pruned output Ŷ, (D, L) float32, of one candidate after the other: a masked product for each."""
        curves = self.curves
        for counts in self.counts.reshape(-1, curves.rows):
            if not curves.output.is_cuda:
                from trim.compiled.sweep import kept_output

                arrays = (as_array(values) for values in (curves.weight, curves.inputs, curves.ranks, counts))
                yield torch.from_numpy(kept_output(*arrays))
                continue
            yield full_product(curves.captured_weight * curves.keep_mask(counts), curves.captured_inputs)
