"""From the search's real-valued row sparsities to exact counts, and from counts to masks."""

import math

import torch
from torch import Tensor

from trim.errors import SparsityError


def largest_count(columns: int, max_row_sparsity: float) -> int:
    """The most weights that a row of N columns may lose: floor(cap · N)."""
    # 0.29 · 100 is 28.999999999999996 in float64: a hair of room keeps the floor of exact products exact.
    return min(columns, math.floor(max_row_sparsity * columns + 1e-9))


def total_count(target_sparsity: float, rows: int, columns: int, max_row_sparsity: float) -> int:
    """How many weights a layer loses: round(T · D · N).

    Raises:
        SparsityError: no rows under the cap can lose that many.
    """
    total = round(target_sparsity * rows * columns)
    room = rows * largest_count(columns, max_row_sparsity)
    if target_sparsity < 0 or total > room:
        reachable = room / (rows * columns)
        raise SparsityError(
            f"a layer sparsity of {target_sparsity:g} cannot be reached: with at most {max_row_sparsity:g} of each "
            f"row's {columns} weights pruned the layer reaches {reachable:.4g}. Lower the target or raise the row cap."
        )
    return total


def project_counts(row_sparsity: Tensor, target_sparsity: float, columns: int, max_row_sparsity: float) -> Tensor:
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
    rows = row_sparsity.shape[0]
    total = total_count(target_sparsity, rows, columns, max_row_sparsity)
    limit = largest_count(columns, max_row_sparsity)
    wanted = row_sparsity.double() * columns
    exact = (wanted + _common_shift(wanted, total, limit)).clamp_(0, limit)
    counts = exact.floor()
    remainders = torch.where(counts < limit, exact - counts, -1.0)
    left_over = total - counts.sum().long()
    place = _places_descending(remainders)
    return counts.long() + (place < left_over)


def uniform_counts(rows: int, target_sparsity: float, columns: int, max_row_sparsity: float) -> Tensor:
    """Plain Wanda's allocation, (D,) int64: every row loses the same, the first rows one more where T·D·N asks it."""
    each, left_over = divmod(total_count(target_sparsity, rows, columns, max_row_sparsity), rows)
    counts = torch.full((rows,), each)
    counts[:left_over] += 1
    return counts


def _places_descending(values: Tensor) -> Tensor:
    """The place of each value when the largest comes first and equals keep their order, (D,) int64."""
    place = torch.empty_like(values, dtype=torch.int64)
    place[torch.argsort(values, descending=True, stable=True)] = torch.arange(len(values), device=values.device)
    return place


def _common_shift(wanted: Tensor, total: int, limit: int) -> Tensor:
    """The s with Σ clamp(wanted + s, 0, limit) = total: a rising line with a bend where a row meets a bound."""
    bends = torch.cat([-wanted, limit - wanted]).sort().values
    # Σ clamp(w + s, 0, limit) = Σ max(w + s, 0) − Σ max(w + s − limit, 0), each from a sorted prefix sum.
    ascending = wanted.sort().values
    prefix = torch.cat([ascending.new_zeros(1), ascending.cumsum(0)])

    def excess_over(level: Tensor) -> Tensor:  # Σ_i max(w_i − level, 0)
        first = torch.searchsorted(ascending, level, right=True)
        return prefix[-1] - prefix[first] - (len(ascending) - first) * level

    sums = excess_over(-bends) - excess_over(limit - bends)
    upper = torch.searchsorted(sums, float(total)).clamp_(1, len(bends) - 1)
    rise = sums[upper] - sums[upper - 1]
    part = torch.where(rise > 0, (total - sums[upper - 1]) / rise, 0.0).clamp_(0, 1)
    return bends[upper - 1] + part * (bends[upper] - bends[upper - 1])


def keep_mask(ranks: Tensor, counts: Tensor) -> Tensor:
    """True where a weight stays: (D, N) bool from the ranks (D, N) of its row's columns and its counts (D,)."""
    return ranks >= counts[:, None]


def apply_mask(weight: Tensor, keep: Tensor) -> None:
    """Set the pruned weights of a layer to zero, in place."""
    with torch.no_grad():
        weight.mul_(keep)
