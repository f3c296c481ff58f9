"""Retention curves: what each row keeps of its output for every number of pruned weights.

Row i's dense output is Y_i = W_i X. With its k lowest-score weights removed it is Ŷ_i(k). One sweep over the
sorted columns gives, for every k from 0 to N,

    dot_i(k) = ⟨Y_i, Ŷ_i(k)⟩      energy_i(k) = ‖Ŷ_i(k)‖²      error_i(k) = ‖Y_i − Ŷ_i(k)‖²

and from then on any allocation of sparsity over the rows is judged by looking up D numbers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trim.devices import has_kernels
from trim.errors import NonFiniteError, ShapeError
from trim.matmul import HALF, full_product
from trim.measures import EPSILON
from trim.methods.masks import keep_mask
from trim.methods.scores import as_array, check_score, ranks_of

if TYPE_CHECKING:
    from trim.compiled.search import Tables

COSINE_ROWS = 1024  # at a time, so that float64 in between stays small next to float32 curves


@dataclass(frozen=True, eq=False)
class RetentionCurves:
    """The three curves of a layer, and what the direct qualities need to multiply masked weights.

    On a CUDA device the curves are float32.

    Attributes:
        dot, energy, error: (D, N + 1) float64; column k belongs to k pruned weights in the row.
        sorted_columns: (D, N), `order` in an integer type that is large enough.
        captured_weight, captured_inputs: `weight` and `inputs` in the type in which the curves were computed.
        output: (D, L) float32, the dense output Y.
        side_by_side: (D, N + 1, 4) float64, the three and the cosine in host memory, where they were computed there.
    """

    dot: Tensor
    energy: Tensor
    error: Tensor
    sorted_columns: Tensor
    captured_weight: Tensor
    captured_inputs: Tensor
    output: Tensor = field(repr=False)
    side_by_side: np.ndarray | None = field(default=None, repr=False)

    @property
    def weight(self) -> Tensor:
        """W, (D, N) float32."""
        return self.captured_weight.float()

    @property
    def inputs(self) -> Tensor:
        """X, (N, L) float32."""
        return self.captured_inputs.float()

    @property
    def rows(self) -> int:
        """D, the output dimensions."""
        return self.captured_weight.shape[0]

    @property
    def columns(self) -> int:
        """N, the weights in a row."""
        return self.captured_weight.shape[1]

    @property
    def vectors(self) -> int:
        """L, the calibration vectors."""
        return self.captured_inputs.shape[1]

    @property
    def order(self) -> Tensor:
        """Each row's columns by ascending score, (D, N) int64."""
        return self.sorted_columns.long()

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
        """‖Y‖ of the whole layer, () float64."""
        return self.output_energy.sum().sqrt()

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
    def whole_layer(self) -> Tensor:
        """‖Y‖² of the whole layer, its largest Y² and how many rows have output, (3,) float64."""
        alive = (~self.dead_rows).sum().double()
        return torch.stack([self.output_energy.sum(), self.output_peak.amax(), alive])

    @cached_property
    def tables(self) -> "Tables":
        """Return the tables that compiled searches look up, in host memory."""
        from trim.compiled.search import Tables

        curves = self.side_by_side
        if curves is None:
            curves = (
                torch.stack([self.dot, self.energy, self.error, self.cosine], dim=-1).double().cpu().numpy()
            )
        norm, peak = (values.cpu().numpy() for values in (self.output_norm, self.output_peak))
        return Tables(curves, norm, peak, self.vectors)

    @cached_property
    def ranks(self) -> Tensor:
        """How many columns row i loses before column j, (D, N) int32."""
        parts = self.sorted_columns.split(COSINE_ROWS)
        return torch.cat([ranks_of(part.long()) for part in parts])

    def at(self, counts: Tensor) -> "Retained":
        """Return what is retained when row i loses its `counts[..., i]` lowest-score weights.

        Args:
            counts: (..., D) int64, each from 0 to N; leading dimensions are candidates judged together.
        """
        return Retained(self, counts)

    @cached_property
    def cosine(self) -> Tensor:
        """Row i's cosine similarity to its dense output after k pruned weights, (D, N + 1), of the curves' type."""
        if self.side_by_side is not None:
            return torch.from_numpy(self.side_by_side[..., 3]).to(self.dot.device)
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
        dot, energy = (curve.index_select(1, counts).double() for curve in (self.dot, self.energy))
        return row_cosine(dot, self.output_norm[:, None], energy)


def row_cosine(dot: Tensor, output_norm: Tensor, energy: Tensor) -> Tensor:
    """Compute dot / ((‖Y_i‖ + n)(√energy + n)), clamped to [−1, 1]; a row without output has cosine 0."""
    return (dot / ((output_norm + EPSILON) * (energy.sqrt() + EPSILON))).clamp_(-1.0, 1.0)


def dense_curves(weight: Tensor, inputs: Tensor) -> RetentionCurves:
    """Return what curves say of no pruned weights: enough to judge a mask and weights that are given (`MaskRetained`).

    Args:
        weight: (D, N).
        inputs: (N, L).
    """
    output = full_product(weight, inputs)
    energy = output.double().square().sum(dim=1, keepdim=True)
    nowhere = torch.empty(len(weight), 0, dtype=torch.int64, device=weight.device)
    return RetentionCurves(energy, energy, torch.zeros_like(energy), nowhere, weight, inputs, output)


class Retained:
    """The curves looked up at some counts; each is looked up when first asked for."""

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
            yield full_product(
                curves.captured_weight * keep_mask(curves.ranks, counts), curves.captured_inputs
            )


def retention_curves(
    weight: Tensor, inputs: Tensor, score: Tensor, *, name: str = "the layer"
) -> RetentionCurves:
    """Sweep a layer once.

    Products are float32, sums over columns and over rows float64. The error is accumulated from the least
    important column up and never formed as a difference of large sums, which would be wrong near k = 0.

    Args:
        weight: (D, N).
        inputs: (N, L) calibration activations entering the layer.
        score: (D, N) importance of each weight, finite and not negative.
        name: what an error message calls the layer.

    Raises:
        ShapeError: the three do not fit each other.
        NonFiniteError: NaN or infinity in any of them, or in their product.
    """
    if (
        weight.ndim != 2
        or inputs.ndim != 2
        or inputs.shape[0] != weight.shape[1]
        or score.shape != weight.shape
    ):
        raise ShapeError(
            f"{name}: weight {tuple(weight.shape)} must be (D, N), inputs {tuple(inputs.shape)} (N, L) "
            f"and score {tuple(score.shape)} (D, N)"
        )
    if 0 in weight.shape or 0 in inputs.shape:
        raise ShapeError(
            f"{name}: weight {tuple(weight.shape)} and inputs {tuple(inputs.shape)} must not be empty"
        )
    weight, inputs, score = weight.detach(), inputs.detach(), score.detach()
    if has_kernels(weight.device) and score.dtype != torch.float64:
        return _curves_by_kernels(weight, inputs, score, name)
    return _compiled_curves(weight, inputs, score, name)


def _compiled_curves(weight: Tensor, inputs: Tensor, score: Tensor, name: str) -> RetentionCurves:
    """Sweep on the CPU, wherever the tensors are; the curves are where they are."""
    from trim.compiled.order import order_rows
    from trim.compiled.sweep import sweep

    device, weight, inputs = weight.device, weight.float(), inputs.float()
    order, sound_scores = order_rows(as_array(score))
    table, output, sound_curves = sweep(as_array(weight), as_array(inputs), order)
    dot, energy, error, _ = torch.from_numpy(table).unbind(-1)
    if device.type != "cpu":
        dot, energy, error = (curve.to(device).contiguous() for curve in (dot, energy, error))
    sorted_columns, dense = (torch.from_numpy(array).to(device) for array in (order, output))
    curves = RetentionCurves(dot, energy, error, sorted_columns, weight, inputs, dense, table)
    if not (sound_scores and sound_curves):  # what was wrong is found out only now
        _check_finite(weight, inputs, score, name)
        _check_overflow(curves, name)
    return curves


def _curves_by_kernels(weight: Tensor, inputs: Tensor, score: Tensor, name: str) -> RetentionCurves:
    from trim.kernels.sweep import retention

    if weight.dtype not in HALF:
        weight = weight.float()
    if inputs.dtype not in HALF:
        inputs = inputs.float()
    score = score.float().contiguous()
    with torch.cuda.device(weight.device):
        dot, energy, error, order, output, invalid = retention(weight.contiguous(), inputs, score)
    curves = RetentionCurves(dot, energy, error, order, weight, inputs, output)
    # What every search begins with: on its way before the sweep is waited for.
    _ = curves.output_norm, curves.whole_layer
    if bool(invalid):  # what was wrong is found out only now: the kernels looked at everything on the way
        _check_finite(weight, inputs, score, name)
        _check_overflow(curves, name)
    return curves


def _check_finite(weight: Tensor, inputs: Tensor, score: Tensor, name: str) -> None:
    for what, values in (("weight", weight), ("calibration activation", inputs)):
        if not math.isfinite(values.sum(dtype=torch.float64)):
            raise NonFiniteError(
                f"{name} has a {what} that is NaN or infinite; check the checkpoint, or load the model in a wider "
                "type (float32 instead of float16)"
            )
    try:
        check_score(score)
    except NonFiniteError as error:
        raise NonFiniteError(f"{name}: {error}") from None


def _check_overflow(curves: RetentionCurves, name: str) -> None:
    """Look for an overflow: anywhere on the way, in Y, a square or a product, it shows in a sum over a curve."""
    for curve in (curves.dot, curves.energy, curves.error):
        if not math.isfinite(curve.sum(dtype=torch.float64)):
            raise NonFiniteError(
                f"{name} overflows float32 on the calibration text: its weights or inputs are too large; check the "
                "checkpoint, or leave the layer out"
            )
