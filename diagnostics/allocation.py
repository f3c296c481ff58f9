"""Row sparsities of allocations: distribution, ranks, relation to other properties of the rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from diagnostics.numeric import (
    Histogram,
    RankCorrelation,
    bool_matrix,
    check_shape,
    histogram,
    rank_correlation,
    real_array,
    row_indices,
    row_sparsity_edges,
    spread_indices,
)

CURVE_POINTS = 1024
SCATTER_POINTS = 4000  # drawn at most
_EXTREMES = 25  # rows kept at each end of both axes of a thinned scatter


@dataclass(frozen=True, eq=False)
class RowAllocation:
    """The number of pruned weights of each row of a layer.

    Attributes:
        method: what set the counts: "uniform", "trim", "optimal" and so on.
        label: the name to display; it distinguishes allocations of one method.
        counts: (D,) integers, the number of pruned weights of each row.
        columns: N, the number of weights of a row.

    Raises:
        ValueError: counts are not integers, or lie outside 0..N.
    """

    method: str
    label: str
    counts: np.ndarray
    columns: int

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts)
        if counts.ndim != 1 or counts.size == 0 or counts.dtype.kind not in "iu":
            raise ValueError(f"counts must be a line of integers, got {counts.dtype} of shape {counts.shape}")
        if counts.min() < 0 or counts.max() > self.columns:
            raise ValueError(f"counts must lie in 0..{self.columns}, got {counts.min()}..{counts.max()}")

    @property
    def row_sparsity(self) -> np.ndarray:
        """s_i = k_i / N, (D,), share of each row's weights pruned."""
        return np.asarray(self.counts) / self.columns

    @property
    def layer_sparsity(self) -> float:
        """Share of the layer's weights pruned: the mean row sparsity."""
        return float(np.mean(self.row_sparsity))


@dataclass(frozen=True, eq=False)
class Ecdf:
    """Steps of an empirical distribution function, thinned to at most CURVE_POINTS steps, each of them exact.

    Attributes:
        values: (P,), ascending.
        share: (P,), the share of the rows that lie at or below each value.
    """

    values: np.ndarray
    share: np.ndarray


@dataclass(frozen=True, eq=False)
class RankedRows:
    """Rows by ascending sparsity, thinned to at most CURVE_POINTS.

    Attributes:
        rows, rank_fraction, row_sparsity: (P,), the rows to draw, with rank (0 to 1) and sparsity.
        all_rank_fraction: (D,), the rank of every row.
    """

    rows: np.ndarray
    rank_fraction: np.ndarray
    row_sparsity: np.ndarray
    all_rank_fraction: np.ndarray


@dataclass(frozen=True, eq=False)
class RowSparsityStatistics:
    """Several allocations on shared axes: `ecdfs`, `ranked` and the lines of the histogram are in their order."""

    allocations: tuple[RowAllocation, ...]
    histogram: Histogram
    ecdfs: tuple[Ecdf, ...]
    ranked: tuple[RankedRows, ...]


def row_sparsity_statistics(allocations: Sequence[RowAllocation]) -> RowSparsityStatistics:
    """Return distributions of the row sparsities of allocations, which may differ in rows and columns."""
    if not allocations:
        raise ValueError("at least one allocation is needed")
    sparsities = [allocation.row_sparsity for allocation in allocations]
    edges = row_sparsity_edges(sparsities, (allocation.columns for allocation in allocations))
    return RowSparsityStatistics(
        tuple(allocations),
        histogram(sparsities, edges),
        tuple(map(ecdf, sparsities)),
        tuple(map(ranked_rows, sparsities)),
    )


def ecdf(numbers: np.ndarray) -> Ecdf:
    """Return the empirical distribution function of the rows' numbers (D,)."""
    values, repeats = np.unique(real_array("numbers", numbers, 1), return_counts=True)
    share = np.cumsum(repeats) / repeats.sum()
    kept = spread_indices(len(values), CURVE_POINTS)
    return Ecdf(values[kept], share[kept])


def ranked_rows(row_sparsity: np.ndarray) -> RankedRows:
    """Rank rows (D,) by ascending sparsity, ties in row order; the rank fraction runs from 0 to 1."""
    row_sparsity = real_array("row_sparsity", row_sparsity, 1)
    order = np.argsort(row_sparsity, kind="stable")
    rank_fraction = np.argsort(order) / max(len(row_sparsity) - 1, 1)
    rows = order[spread_indices(len(order), CURVE_POINTS)]
    return RankedRows(rows, rank_fraction[rows], row_sparsity[rows], rank_fraction)


@dataclass(frozen=True, eq=False)
class RowScatter:
    """Row sparsity, or other heights, against another property of the same rows.

    Attributes:
        allocation: the allocation that set the sparsities.
        quantity: the property ("gini", "weight_norm", "cosine", "row_error").
        rows, values, heights: (M,), the points to draw, in row order.
        total_rows: the number of rows that have both numbers.
        correlation: over all of those; None: one of the two does not vary.
    """

    allocation: RowAllocation
    quantity: str
    rows: np.ndarray
    values: np.ndarray
    heights: np.ndarray
    total_rows: int
    correlation: RankCorrelation | None

    @property
    def thinned(self) -> bool:
        """Return whether rows were left out of the drawing."""
        return len(self.rows) < self.total_rows


def row_scatter(
    allocation: RowAllocation,
    quantity: str,
    values: np.ndarray,
    selected_rows: Iterable[int] = (),
    heights: np.ndarray | None = None,
) -> RowScatter:
    """Pair row sparsities, or other `heights` (D,), with `values` (D,), NaN where a row has none.

    Above SCATTER_POINTS rows a fixed sample is kept, always with `selected_rows` and both axes' extremes.
    """
    values = real_array(quantity, values, 1, finite=False)
    heights = allocation.row_sparsity if heights is None else heights
    check_shape(quantity, values, heights.shape)
    selected = row_indices(selected_rows, len(values))
    kept, total = thin_rows(values, heights, selected)
    correlation = rank_correlation(values, heights)
    return RowScatter(allocation, quantity, kept, values[kept], heights[kept], total, correlation)


def thin_rows(values: np.ndarray, others: np.ndarray, selected: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the rows (M,) that a scatter of two numbers (D,) draws, ascending, and how many have finite `values`.

    Above SCATTER_POINTS rows it draws a fixed sample, always with the `selected` rows and both axes' extremes.
    """
    paired = np.flatnonzero(np.isfinite(values))
    if len(paired) <= SCATTER_POINTS:
        return paired, len(paired)
    always = set(selected[np.isfinite(values[selected])].tolist())
    for axis in (values, others):
        order = paired[np.argsort(axis[paired], kind="stable")]
        always.update(order[:_EXTREMES].tolist(), order[-_EXTREMES:].tolist())
    # A permutation, not every n-th row: attention heads repeat at regular distances.
    rest = [row for row in np.random.default_rng(0).permutation(paired).tolist() if row not in always]
    kept = np.array([*always, *rest[: max(SCATTER_POINTS - len(always), 0)]], dtype=np.int64)
    return np.sort(kept), len(paired)


PICTURE_LIMIT = 512


@dataclass(frozen=True, eq=False)
class MaskDensity:
    """Share of kept weights per block of a (rows, columns) mask.

    Attributes:
        kept_fraction: (h, w) float32, h and w at most PICTURE_LIMIT.
        rows, columns: shape of the mask.
        row_block, column_block: rows and columns that one entry covers; the last ones cover what is left.
        layer_sparsity: share of the mask's weights that are pruned.
    """

    kept_fraction: np.ndarray
    rows: int
    columns: int
    row_block: int
    column_block: int
    layer_sparsity: float


def pool_mask(mask: np.ndarray) -> MaskDensity:
    """Pool a mask (D, N), True where a weight is kept.

    Raises:
        ValueError: the mask is not bool, or has not two axes.
    """
    mask = bool_matrix(mask)
    rows, columns = mask.shape
    row_block, column_block = (-(-size // PICTURE_LIMIT) for size in mask.shape)
    row_starts = np.arange(0, rows, row_block)
    column_starts = np.arange(0, columns, column_block)
    # Row blocks one at a time: a reduceat over the whole mask would first turn every bit into an integer.
    by_rows = np.stack([mask[start : start + row_block].sum(axis=0) for start in row_starts])
    kept = np.add.reduceat(by_rows, column_starts, axis=1)
    height = np.minimum(row_starts + row_block, rows) - row_starts
    width = np.minimum(column_starts + column_block, columns) - column_starts
    return MaskDensity(
        (kept / np.outer(height, width)).astype(np.float32),
        rows,
        columns,
        row_block,
        column_block,
        1.0 - float(kept.sum()) / mask.size,
    )
