"""From the search's real-valued row sparsities to exact counts of pruned weights. Arrays need no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trim.errors import SparsityError

if TYPE_CHECKING:
    from torch import Tensor


def largest_count(columns: int, max_row_sparsity: float) -> int:
    """The most weights that a row of N columns may lose: floor(cap · N)."""
    # 0.29 · 100 is 28.999999999999996 in float64: a hair of room keeps the floor of exact products exact.
    return min(columns, math.floor(max_row_sparsity * columns + 1e-9))


def total_count(target_sparsity: float, rows: int, columns: int, max_row_sparsity: float) -> int:
    """How many weights a layer loses: round(T · D · N).

    Raises:
        SparsityError: the target is not a share, or no rows under the cap can lose that many.
    """
    if not 0 <= target_sparsity <= 1:
        raise SparsityError(f"the target sparsity of a layer is a share from 0 to 1, not {target_sparsity}")
    total = round(target_sparsity * rows * columns)
    room = rows * largest_count(columns, max_row_sparsity)
    if total > room:
        reachable = room / (rows * columns)
        raise SparsityError(
            f"a layer sparsity of {target_sparsity:g} cannot be reached: with at most {max_row_sparsity:g} of each "
            f"row's {columns} weights pruned the layer reaches {reachable:.4g}. Lower the target or raise the row cap."
        )
    return total


def exact_counts(
    row_sparsity: np.ndarray, target_sparsity: float, columns: int, max_row_sparsity: float
) -> np.ndarray:
    """The exact counts nearest in shape to `row_sparsity`.

    One common shift of all rows, clamped to [0, floor(cap · N)], so that the counts add up to round(T · D · N);
    what rounding down leaves over goes to the rows with the largest remainders, lower rows first among equals.

    Args:
        row_sparsity: (D,) float64, the search's x.
        target_sparsity: T of the layer.
        columns: N.
        max_row_sparsity: the cap on a row's sparsity.

    Returns:
        (D,) int64.

    Raises:
        SparsityError: the target is out of reach under the cap.
    """
    total = total_count(target_sparsity, len(row_sparsity), columns, max_row_sparsity)
    limit = largest_count(columns, max_row_sparsity)
    from trim.compiled.counts import nearest_counts

    return nearest_counts(np.ascontiguousarray(row_sparsity * columns), total, limit)


def project_counts(
    row_sparsity: Tensor, target_sparsity: float, columns: int, max_row_sparsity: float
) -> Tensor:
    """Compute `exact_counts` of a tensor, as a tensor on its device."""
    import torch

    # D numbers, and float64 all through: on the CPU, wherever the search ran.
    wanted: np.ndarray = row_sparsity.double().cpu().numpy()
    counts = exact_counts(wanted, target_sparsity, columns, max_row_sparsity)
    return torch.from_numpy(counts).to(row_sparsity.device)


def equal_counts(rows: int, target_sparsity: float, columns: int, max_row_sparsity: float) -> np.ndarray:
    """Plain Wanda's allocation, (D,) int64: every row loses the same, the first rows one more where T·D·N asks it."""
    each, left_over = divmod(total_count(target_sparsity, rows, columns, max_row_sparsity), rows)
    counts = np.full(rows, each)
    counts[:left_over] += 1
    return counts


def uniform_counts(rows: int, target_sparsity: float, columns: int, max_row_sparsity: float) -> Tensor:
    """Compute `equal_counts` as a tensor."""
    import torch

    return torch.from_numpy(equal_counts(rows, target_sparsity, columns, max_row_sparsity))


def even_counts(counts: Tensor) -> Tensor:
    """The uniform allocation of as many weights as `counts` (D,) int64 prune together, without reading them back."""
    import torch

    rows, total = len(counts), counts.sum()
    each = total // rows
    return each + (torch.arange(rows, device=counts.device) < total - each * rows)
