"""How two allocations differ: as distributions, and row by row if they have the same rows."""

from dataclasses import dataclass

import numpy as np

from diagnostics.allocation import RowAllocation
from diagnostics.numeric import RankCorrelation, rank_correlation


@dataclass(frozen=True)
class RowMove:
    """One row's sparsity (share of the row) under both allocations."""

    row: int
    first: float
    second: float

    @property
    def change(self) -> float:
        """Return second - first: positive if the second allocation prunes more of the row."""
        return self.second - self.first


@dataclass(frozen=True)
class AllocationComparison:
    """Distances between two distributions of row sparsity, and the moves of single rows.

    Attributes:
        first, second: the allocations.
        ks_distance: largest gap between the two distribution functions, in [0, 1] (Kolmogorov-Smirnov).
        wasserstein_distance: mean shift in row sparsity needed to turn one into the other (Wasserstein-1).
        correlation: Spearman over the rows; None if not defined or the rows are not the same.
        moved: rows with the largest absolute change, largest first, equal ones by row; without unchanged rows.
        why_unpaired: why rows cannot be paired; None if they can.
    """

    first: RowAllocation
    second: RowAllocation
    ks_distance: float
    wasserstein_distance: float
    correlation: RankCorrelation | None
    moved: tuple[RowMove, ...]
    why_unpaired: str | None


def compare_allocations(
    first: RowAllocation, second: RowAllocation, limit: int = 10, *, why_unpaired: str | None = None
) -> AllocationComparison:
    """Compare two allocations; layers of another shape are compared as distributions only.

    Args:
        first: the allocation to start from.
        second: the allocation that is compared with it.
        limit: the largest number of moved rows to list.
        why_unpaired: why the rows are not the same, if that is known.
    """
    from scipy.stats import wasserstein_distance  # takes seconds to import

    a, b = first.row_sparsity, second.row_sparsity
    reason = _why_unpaired(first, second) or why_unpaired
    moved: tuple[RowMove, ...] = ()
    if reason is None:
        # In counts, whose differences are exact: equal moves tie, and ties go by row.
        change = np.abs(np.subtract(second.counts, first.counts, dtype=np.int64))
        order = np.argsort(-change, kind="stable")[:limit]
        moved = tuple(RowMove(row, float(a[row]), float(b[row])) for row in order.tolist() if change[row] > 0)
    return AllocationComparison(
        first,
        second,
        _ks_distance(a, b),
        float(wasserstein_distance(a, b)),
        rank_correlation(a, b) if reason is None else None,
        moved,
        reason,
    )


def _why_unpaired(first: RowAllocation, second: RowAllocation) -> str | None:
    rows = len(first.counts), len(second.counts)
    if rows[0] != rows[1]:
        return f"the layers have {rows[0]:,} and {rows[1]:,} rows"
    if first.columns != second.columns:
        return f"the layers' rows have {first.columns:,} and {second.columns:,} weights"
    return None


def _ks_distance(a: np.ndarray, b: np.ndarray) -> float:
    values = np.concatenate([a, b])
    below = (np.searchsorted(np.sort(side), values, side="right") / len(side) for side in (a, b))
    return float(np.abs(np.subtract(*below)).max())
