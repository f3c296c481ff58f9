"""Changes of a layer's kept weights, and what they do to its outputs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trim.errors import NonFiniteError
from trim.matmul import full_product


@dataclass(frozen=True, eq=False)
class Change:
    """A change of a layer's kept weights, in place of the mask alone.

    Attributes:
        weights: (K,) float16, the new ones, row by row.
        error_masked, error: (D,) float32, each row's output error over the outputs aimed at, squared, on the kept
            vectors: of the mask alone, and as changed; NaN for a row without output.
        error_left: () which part of the layer's error the mask alone has is left.
        moved: (D,) float32, ‖ŵ − w‖ / ‖w‖ over the row's kept weights; NaN where ‖w‖ is 0.
    """

    weights: Tensor
    error_masked: Tensor
    error: Tensor
    error_left: Tensor
    moved: Tensor

    def arrays(self) -> dict[str, Tensor]:
        """Return what a layer's record keeps of it for each row and weight, by its names there."""
        return {
            "kept_weights": self.weights,
            "row_error_masked": self.error_masked,
            "row_error": self.error,
            "row_moved": self.moved,
        }


def weight_change(weight: Tensor, keep: Tensor, changed: Tensor, inputs: Tensor, aimed_at: Tensor) -> Change:
    """Compare changed weights with the mask alone.

    Args:
        weight: (D, N), dense.
        keep: (D, N) bool, True where a weight is kept.
        changed: (D, N) float16, 0 where none is kept.
        inputs: (N, L), vectors that the layer receives.
        aimed_at: (D, L) float32, the outputs of these that are aimed at.
    """
    masked = weight * keep
    bare, left = (
        (aimed_at - full_product(each.to(weight.dtype), inputs)).square().sum(dim=1)
        for each in (masked, changed)
    )
    energy = aimed_at.square().sum(dim=1)
    moved, norm = (
        torch.linalg.vector_norm(each.float(), dim=1) for each in (changed.float() - masked, masked)
    )
    before, after = bare.sum(), left.sum()
    return Change(
        changed[keep],
        torch.where(energy > 0, bare / energy, torch.nan),
        torch.where(energy > 0, left / energy, torch.nan),
        torch.where(before > 0, after / before, 1.0),
        torch.where(norm > 0, moved / norm, torch.nan),
    )


def as_stored(name: str, weight: Tensor) -> Tensor:
    """Round weights to float16, as a run keeps them.

    Raises:
        NonFiniteError: one leaves its range.
    """
    half = weight.half()
    if not bool(half.isfinite().all()):
        raise NonFiniteError(
            f"{name}: a changed weight leaves the range of float16; go without --refit, or choose another --allocation"
        )
    return half
