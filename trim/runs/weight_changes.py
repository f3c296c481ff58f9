"""Changes of a layer's kept weights, and their effect on its outputs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trim.errors import NonFiniteError
from trim.matmul import full_product


@dataclass(frozen=True, eq=False)
class WeightChange:
    """New values of a layer's kept weights, compared with the mask alone.

    Attributes:
        weights: (K,) float16, the new weights, row by row.
        error_masked, error: (D,) float32, each row's squared output error over its squared target, on the kept vectors,
            for the mask alone and with the new weights; NaN for a row without output.
        error_left: () the layer's squared error with the new weights over that with the mask alone.
        moved: (D,) float32, ‖ŵ − w‖ / ‖w‖ over the row's kept weights; NaN where ‖w‖ is 0.
    """

    weights: Tensor
    error_masked: Tensor
    error: Tensor
    error_left: Tensor
    moved: Tensor

    def arrays(self) -> dict[str, Tensor]:
        """Return the arrays of a layer's record, by their names there."""
        return {
            "kept_weights": self.weights,
            "row_error_masked": self.error_masked,
            "row_error": self.error,
            "row_moved": self.moved,
        }


def weight_change(
    weight: Tensor, keep: Tensor, changed: Tensor, inputs: Tensor, target_outputs: Tensor
) -> WeightChange:
    """Compare changed weights with the mask alone.

    Args:
        weight: (D, N), dense.
        keep: (D, N) bool, True where a weight is kept.
        changed: (D, N) float16, 0 where pruned.
        inputs: (N, L), the layer's input vectors.
        target_outputs: (D, L) float32, the target outputs of these vectors.
    """
    masked = weight * keep
    error_masked, error = (
        (target_outputs - full_product(each.to(weight.dtype), inputs)).square().sum(dim=1)
        for each in (masked, changed)
    )
    energy = target_outputs.square().sum(dim=1)
    moved, norm = (
        torch.linalg.vector_norm(each.float(), dim=1) for each in (changed.float() - masked, masked)
    )
    before, after = error_masked.sum(), error.sum()
    return WeightChange(
        changed[keep],
        torch.where(energy > 0, error_masked / energy, torch.nan),
        torch.where(energy > 0, error / energy, torch.nan),
        torch.where(before > 0, after / before, 1.0),
        torch.where(norm > 0, moved / norm, torch.nan),
    )


def round_to_float16(name: str, weight: Tensor) -> Tensor:
    """Round weights to float16, as a run stores them.

    Raises:
        NonFiniteError: one exceeds its range.
    """
    half = weight.half()
    if not bool(half.isfinite().all()):
        raise NonFiniteError(
            f"{name}: a changed weight exceeds the range of float16; leave --refit out, or choose another --allocation"
        )
    return half
