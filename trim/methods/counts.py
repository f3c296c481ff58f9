"""Round the search's real-valued row sparsities to exact counts of pruned weights. Only tensors import torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from trim.errors import SparsityError

if TYPE_CHECKING:
    from torch import Tensor


def largest_count(columns: int, max_row_sparsity: float) -> int:
    """Return how many weights a row of N columns may lose at most: floor(cap · N)."""
    # 0.29 · 100 is 28.999999999999996 in float64: 1e-9 keeps the floor of exact products exact.
    return min(columns, math.floor(max_row_sparsity * columns + 1e-9))


def total_count(target_sparsity: float, rows: int, columns: int, max_row_sparsity: float) -> int:
    """Return how many weights a layer loses: round(T · D · N).

    Raises:
        SparsityError: the target is not a share, or the row cap makes it unreachable.
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


def exact_counts(row_sparsity: np.ndarray, total: int, columns: int, max_row_sparsity: float) -> np.ndarray:
    """Round row sparsities to counts that add up to the total.

    All rows are shifted by the same number and clamped to [0, floor(cap · N)], so that their sum is the total. They are
    rounded by largest remainder, lower rows first among equals.

    Args:
        row_sparsity: (..., D) float64, the search's x; leading dimensions are candidates.
        total: how many weights the layer loses; `total_count` computes it from a sparsity.
        columns: N.
        max_row_sparsity: the cap on a row's sparsity.

    Returns:
        (..., D) int64.

    Raises:
        SparsityError: the rows cannot lose `total` weights under the cap.
    """
    limit = largest_count(columns, max_row_sparsity)
    check_total(total, row_sparsity.shape[-1], limit)
    from trim.compiled.counts import nearest_counts

    return nearest_counts(row_sparsity * columns, total, limit)


def project_counts(row_sparsity: Tensor, total: int, columns: int, max_row_sparsity: float) -> Tensor:
    """Compute `exact_counts` for a tensor, and return a tensor on its device."""
    import torch

    # These are only D numbers, so the CPU computes them in float64 wherever the search ran.
    wanted: np.ndarray = row_sparsity.double().cpu().numpy()
    counts = exact_counts(wanted, total, columns, max_row_sparsity)
    return torch.from_numpy(counts).to(row_sparsity.device)


def check_total(total: int, rows: int, limit: int) -> None:
    """Require that rows that may lose `limit` weights each can lose `total` together.

    Raises:
        SparsityError: the rows cannot lose `total` weights.
    """
    if not 0 <= total <= rows * limit:
        raise SparsityError(f"{rows} rows that may lose {limit} weights each cannot lose {total} together")


def uniform_counts(rows: int, total: int | Tensor) -> Tensor:
    """Share totals (...) evenly among rows, as plain Wanda does: (..., D) int64; the first rows take the remainder."""
    import torch

    total = torch.as_tensor(total)[..., None]
    base = total // rows
    return base + (torch.arange(rows, device=total.device) < total - base * rows)
