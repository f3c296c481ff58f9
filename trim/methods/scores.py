"""Score how important each weight is, and order each row's columns by score.

Wanda: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", arXiv 2306.11695.
"""

import numpy as np
import torch
from torch import Tensor

from trim.errors import NonFiniteError, ShapeError
from trim.matmul import HALF


def wanda_score(weight: Tensor, input_norm: Tensor) -> Tensor:
    """Score each weight as Wanda does: abs(W) times the norm of the input feature it reads (section 3, eq. 1).

    Args:
        weight: (D, N), any float type.
        input_norm: (N,), the norm of each input feature over all calibration tokens.

    Returns:
        (D, N) float32, never negative.

    Raises:
        ShapeError: `input_norm` does not hold one number per column of `weight`.
    """
    if input_norm.shape != weight.shape[1:]:
        raise ShapeError(
            f"a weight of shape {tuple(weight.shape)} needs {weight.shape[1]} input norms, one per column, "
            f"but got {tuple(input_norm.shape)}"
        )
    size = weight.abs() if weight.dtype.itemsize == 2 else weight.float().abs()
    return size * input_norm.float()  # a 16-bit type becomes float32 on the way


def magnitude_score(weight: Tensor, input_norm: Tensor | None = None) -> Tensor:
    """Score each weight by its size alone: abs(W), (D, N) float32.

    Args:
        weight: (D, N), any float type.
        input_norm: not used; every function of `SCORES` takes it.
    """
    return weight.float().abs()


def score_order(score: Tensor) -> Tensor:
    """Sort each row's columns by ascending score; equal scores keep column order.

    Args:
        score: (D, N), not negative, finite.

    Returns:
        (D, N) int64; entry (i, k) is the column that row i loses as its (k + 1)-th.

    Raises:
        NonFiniteError: a score is NaN, infinite or negative.
    """
    from trim.compiled.order import order_rows

    order, valid = order_rows(as_array(score))
    if not valid:
        check_score(score)
    return torch.from_numpy(order).to(score.device, torch.int64)


def as_array(values: Tensor) -> np.ndarray:
    """View a tensor as an array in host memory; 16-bit types become float32."""
    values = values.detach().cpu()
    array: np.ndarray = (values.float() if values.dtype in HALF else values).numpy()
    return array


def check_score(score: Tensor) -> None:
    """Require finite scores of at least 0.

    Raises:
        NonFiniteError: a score is NaN, infinite or negative.
    """
    low, high = torch.aminmax(score)
    if not (low >= 0 and high < torch.inf):  # both are NaN if a score is, and then neither comparison holds
        raise NonFiniteError("a score is NaN, infinite or negative; scores must be finite and at least 0")


def ranks_of(order: Tensor) -> Tensor:
    """Invert an order: entry (i, j) is how many columns row i loses before column j. (D, N) int32."""
    positions = torch.arange(order.shape[1], dtype=torch.int32, device=order.device).expand_as(order)
    return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, positions)
