"""Retention curves: what each row keeps of its output for every number of pruned weights.

Row i's dense output is Y_i = W_i X. With its k lowest-score weights removed it is Ŷ_i(k). One sweep over the
sorted columns gives, for every k from 0 to N,

    dot_i(k) = ⟨Y_i, Ŷ_i(k)⟩      energy_i(k) = ‖Ŷ_i(k)‖²      error_i(k) = ‖Y_i − Ŷ_i(k)‖²

and from then on any allocation of sparsity over the rows is judged by looking up D numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from trim.errors import NonFiniteError, ShapeError
from trim.masks import keep_mask
from trim.scores import ranks_of, score_order

# A block of rows and a chunk of columns whose running outputs (rows × columns × vectors × 4 bytes, about 2 MiB
# at 128 vectors) stay in a core's cache; found by measuring.
BLOCK_ROWS = 128
CHUNK_COLUMNS = 32


@dataclass(frozen=True, eq=False)
class RetentionCurves:
    """The three curves of a layer, and what the direct qualities need to multiply masked weights.

    Attributes:
        dot, energy, error: (D, N + 1) float64; column k belongs to k pruned weights in the row.
        order: (D, N) int64, each row's columns by ascending score.
        weight: (D, N) float32.
        inputs: (N, L) float32.
        output: (D, L) float32, the dense output Y.
    """

    dot: Tensor
    energy: Tensor
    error: Tensor
    order: Tensor
    weight: Tensor
    inputs: Tensor
    output: Tensor = field(repr=False)

    @property
    def rows(self) -> int:
        """D, the output dimensions."""
        return self.weight.shape[0]

    @property
    def columns(self) -> int:
        """N, the weights in a row."""
        return self.weight.shape[1]

    @property
    def vectors(self) -> int:
        """L, the calibration vectors."""
        return self.inputs.shape[1]

    @property
    def output_energy(self) -> Tensor:
        """‖Y_i‖², (D,) float64."""
        return self.energy[:, 0]

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
        return self.output.double().square().amax(dim=1)

    @cached_property
    def dead_rows(self) -> Tensor:
        """Rows whose dense output is zero on every calibration vector, (D,) bool."""
        return self.output_energy == 0

    @cached_property
    def ranks(self) -> Tensor:
        """How many columns row i loses before column j, (D, N) int32."""
        return ranks_of(self.order)

    @cached_property
    def row_start(self) -> Tensor:
        """Where each row begins in a flattened curve, (D,) int64."""
        return torch.arange(self.rows, device=self.dot.device) * (self.columns + 1)

    def at(self, counts: Tensor, part: Tensor | None = None) -> "Retained":
        """What is retained when row i loses its `counts[..., i]` lowest-score weights.

        Args:
            counts: (..., D) int64, each from 0 to N; leading dimensions are candidates judged together.
            part: (D',) int64, the rows that `counts` (..., D') speaks of; None: all of them.
        """
        return Retained(self, counts, part)

    @cached_property
    def cosine(self) -> Tensor:
        """Row i's cosine similarity to its dense output after k pruned weights, (D, N + 1) float64."""
        return row_cosine(self.dot, self.output_norm[:, None], self.energy)


EPSILON = 1e-8  # beside each norm in the authors' code


def row_cosine(dot: Tensor, output_norm: Tensor, energy: Tensor) -> Tensor:
    """dot / ((‖Y_i‖ + n)(√energy + n)) clamped to [−1, 1]; a row without output has cosine 0."""
    return (dot / ((output_norm + EPSILON) * (energy.sqrt() + EPSILON))).clamp_(-1.0, 1.0)


class Retained:
    """The curves looked up at some counts; each is looked up when first asked for."""

    def __init__(self, curves: RetentionCurves, counts: Tensor, part: Tensor | None) -> None:
        self.curves = curves
        self.counts = counts
        self.part = part
        self._places = (counts + (curves.row_start if part is None else curves.row_start[part])).view(-1)

    def _look_up(self, curve: Tensor) -> Tensor:
        return curve.view(-1).index_select(0, self._places).view(self.counts.shape)

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
        return self._look_up(self.curves.cosine)

    @property
    def output_peak(self) -> Tensor:
        """The largest Y_i² of each row, (D,) float64."""
        return self.curves.output_peak if self.part is None else self.curves.output_peak[self.part]

    def outputs(self) -> Iterator[Tensor]:
        """The pruned output Ŷ, (D, L) float32, of one candidate after the other: a masked product for each."""
        curves = self.curves
        for counts in self.counts.reshape(-1, curves.rows):
            yield (curves.weight * keep_mask(curves.ranks, counts)) @ curves.inputs


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
    weight, inputs = weight.detach().float(), inputs.detach().float().contiguous()
    for what, values in (("weight", weight), ("calibration activation", inputs)):
        if not bool(torch.isfinite(values).all()):
            raise NonFiniteError(
                f"{name} has a {what} that is NaN or infinite; check the checkpoint, or load the model in a wider "
                "type (float32 instead of float16)"
            )
    try:
        order = score_order(score)
    except NonFiniteError as error:
        raise NonFiniteError(f"{name}: {error}") from None
    output = weight @ inputs
    sorted_weight = weight.gather(1, order)
    energy, error = _sweep(sorted_weight, inputs, order, output)
    # ⟨Y_i, Ŷ_i(k)⟩ is ‖Y_i‖² less a running sum of w_j ⟨x_j, Y_i⟩: one product for all columns of all rows.
    # Summed from the last column down it ends at exactly 0, where nothing is left of the row.
    terms = sorted_weight.double() * (output @ inputs.T).gather(1, order)
    dot = torch.zeros_like(energy)
    dot[:, :-1] = terms.flip(1).cumsum_(1).flip(1)
    for curve in (dot, energy, error):  # an overflow anywhere on the way, in Y, in a square or in a product
        if not bool(torch.isfinite(curve).all()):
            raise NonFiniteError(
                f"{name} overflows float32 on the calibration text; its weights or inputs are too large"
            )
    dot[:, 0] = energy[:, 0]
    return RetentionCurves(dot, energy, error, order, weight, inputs, output)


def _sweep(weight: Tensor, inputs: Tensor, order: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Energy and error of a layer whose weights stand in ascending order of score, (D, N + 1) float64 each.

    A chunk's running outputs come from one small matrix product per row: the lower triangle of ones, its
    columns scaled by the weights, times the inputs those weights read, plus what was pruned before the chunk.
    """
    rows, columns = weight.shape
    energy = weight.new_zeros(rows, columns + 1, dtype=torch.float64)
    error = torch.zeros_like(energy)
    energy[:, 0] = output.double().square().sum(dim=1)
    triangle = weight.new_ones(CHUNK_COLUMNS, CHUNK_COLUMNS).tril_()
    for top in range(0, rows, BLOCK_ROWS):
        block = slice(top, top + BLOCK_ROWS)
        dense = output[block, None]
        pruned = torch.zeros_like(dense)
        for left in range(0, columns, CHUNK_COLUMNS):
            chunk = order[block, left : left + CHUNK_COLUMNS]
            width = chunk.shape[1]
            read = inputs.index_select(0, chunk.reshape(-1)).view(*chunk.shape, -1)
            steps = weight[block, None, left : left + width] * triangle[:width, :width]
            running = torch.baddbmm(pruned, steps, read)
            after = slice(left + 1, left + width + 1)
            error[block, after] = torch.linalg.vector_norm(running, dim=-1).double().square_()
            pruned = running[:, -1:].clone()
            energy[block, after] = torch.linalg.vector_norm(running.sub_(dense), dim=-1).double().square_()
    energy[:, -1] = 0
    error[:, -1] = energy[:, 0]
    return energy, error
