"""One row: sorted scores with the borders of pruning, its path through the search, its prices under the optimum."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from diagnostics.allocation import RowAllocation
from diagnostics.numeric import check_shape, real_array, row_indices
from diagnostics.similarity import sparsity_grid

SCORE_POINTS = 513


@dataclass(frozen=True)
class PruningBorder:
    """The place where an allocation cuts one row.

    It prunes the `pruned` weights of lowest score, which hold `score_share` of the row's score; NaN for a row of zeros.
    """

    method: str
    label: str
    pruned: int
    row_sparsity: float
    score_share: float


@dataclass(frozen=True, eq=False)
class RowScores:
    """One row's scores in ascending order.

    Attributes:
        weight_fraction: (P,) in (0, 1), the middle of each drawn weight's place among the row's `columns`.
        scores: (P,) ascending, thinned to at most SCORE_POINTS, densest at the largest.
    """

    row: int
    columns: int
    weight_fraction: np.ndarray
    scores: np.ndarray
    borders: tuple[PruningBorder, ...]


def row_scores(row: int, scores: np.ndarray, allocations: Sequence[RowAllocation]) -> RowScores:
    """Return row `row`'s scores (N,) and where each allocation cuts them.

    Raises:
        ValueError: a score is negative or not finite, or an allocation has other rows.
    """
    ascending = np.sort(real_array("scores", scores, 1).astype(np.float64))
    if ascending[0] < 0:
        raise ValueError("scores must not be negative: a score is the importance of a weight")
    columns = len(ascending)
    cumulative = np.concatenate([[0.0], np.cumsum(ascending)])
    borders = []
    for allocation in allocations:
        row_indices([row], len(allocation.counts))
        if allocation.columns != columns:
            raise ValueError(f"{allocation.label} prunes rows of {allocation.columns} weights, not {columns}")
        pruned = int(allocation.counts[row])
        share = float(cumulative[pruned] / cumulative[-1]) if cumulative[-1] > 0 else float("nan")
        borders.append(PruningBorder(allocation.method, allocation.label, pruned, pruned / columns, share))
    drawn = np.arange(1) if columns == 1 else sparsity_grid(columns - 1, SCORE_POINTS)
    return RowScores(row, columns, (drawn + 0.5) / columns, ascending[drawn], tuple(borders))


@dataclass(frozen=True, eq=False)
class RowPaths:
    """How chosen rows' sparsities moved through the iterations of one learning rate.

    Attributes:
        rows: (S,) row indices.
        x: (S, K + 1), the search's real-valued row sparsity, column 0 uniform.
        row_sparsity: (S,), the final exact s_i = k_i / N.
        kept_iteration: the kept iteration (0: uniform).
        target: the layer's sparsity T.
        cap: the largest row sparsity allowed.
    """

    rows: np.ndarray
    x: np.ndarray
    row_sparsity: np.ndarray
    learning_rate: float
    kept_iteration: int
    target: float
    cap: float


def row_paths(
    x: np.ndarray,
    row_sparsity: np.ndarray,
    rows: Iterable[int],
    *,
    learning_rate: float,
    kept_iteration: int,
    target: float,
    cap: float,
) -> RowPaths:
    """Pick `rows`, at least one, out of all rows' paths: x (D, K + 1) and row_sparsity (D,).

    Raises:
        ValueError: the shapes do not fit, or there is no such iteration.
    """
    x = real_array("x", x, 2)
    check_shape("row_sparsity", real_array("row_sparsity", row_sparsity, 1), x.shape[:1])
    if not 0 <= kept_iteration < x.shape[1]:
        raise ValueError(f"kept_iteration must lie in 0..{x.shape[1] - 1}, got {kept_iteration}")
    chosen = row_indices(rows, len(x))
    paths = real_array("rows", x[chosen], 2)
    return RowPaths(chosen, paths, row_sparsity[chosen], learning_rate, kept_iteration, target, cap)


@dataclass(frozen=True, eq=False)
class RowPrices:
    """The prices of one row's weights, the least important first.

    Attributes:
        row_sparsity: (M + 1,) ascending from 0, the ends of the steps.
        prices: (M,) ascending, cost of a weight in each.
        common: λ, the price up to which all rows of the layer lose weights.
        pruned: number of weights that the optimum prunes of this row.
        columns: number of weights of the row.
    """

    row: int
    row_sparsity: np.ndarray
    prices: np.ndarray
    common: float
    pruned: int
    columns: int

    @property
    def next_price(self) -> float:
        """Return the price of one more weight; NaN at the row cap."""
        beyond = self.row_sparsity[1:] * self.columns > self.pruned + 0.5
        return float(self.prices[beyond][0]) if beyond.any() else float("nan")


def row_prices(
    row: int, lengths: np.ndarray, prices: np.ndarray, common: float, pruned: int, columns: int
) -> RowPrices:
    """Build the prices of row `row`: `prices` (M,), each for `lengths` (M,) of the row's `columns` weights.

    Raises:
        ValueError: prices decrease, or there are more weights than the row has.
    """
    lengths, prices = np.asarray(lengths), real_array("prices", prices, 1)
    check_shape("lengths", lengths, prices.shape)
    if (np.diff(prices) < 0).any():
        raise ValueError("prices must ascend: a row loses its cheapest weights first")
    ends = np.concatenate([[0], np.cumsum(lengths)])
    if ends[-1] > columns or not 0 <= pruned <= columns:
        raise ValueError(f"a row of {columns} weights cannot lose {max(int(ends[-1]), pruned)}")
    return RowPrices(row, ends / columns, prices.astype(np.float64), common, pruned, columns)
