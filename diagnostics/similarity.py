"""How each row's output turns away from the dense one as its sparsity grows (cosine similarity)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from diagnostics.numeric import Histogram, check_shape, histogram, real_array, round_edges, row_indices

PERCENTILES = (5, 25, 50, 75, 95)
DRAWN_POINTS = 97


def sparsity_grid(columns: int, points: int = DRAWN_POINTS) -> np.ndarray:
    """Return counts k (P,) at which to sample curves over 0..columns: ascending, with 0 and `columns`.

    The grid is k / columns = 1 - (1 - u)^2 at even u. Cosine curves stay near 1 and fall off a cliff close to
    sparsity 1; on real layers this spacing cuts the error of linear interpolation by more than ten times
    against an even one. Fewer than `points` where columns are few.
    """
    if columns < 1 or points < 2:
        raise ValueError(f"a grid needs a column and two points or more, got {columns} and {points}")
    if columns < points:
        return np.arange(columns + 1)
    even = np.linspace(0.0, 1.0, points)
    return np.unique(np.round((1.0 - (1.0 - even) ** 2) * columns).astype(np.int64))


@dataclass(frozen=True, eq=False)
class AllocatedCosine:
    """The rows under an allocation: row_sparsity (D,), and the rows' cosines (D,) at exactly these sparsities."""

    method: str
    label: str
    row_sparsity: np.ndarray
    cosine: np.ndarray

    def __post_init__(self) -> None:
        real_array("row_sparsity", self.row_sparsity, 1)
        check_shape("cosine", real_array("cosine", self.cosine, 1), np.shape(self.row_sparsity))


@dataclass(frozen=True, eq=False)
class CosineStatistics:
    """Percentile bands of all live rows' curves and the curves of chosen rows.

    Attributes:
        sparsity: (P,) row sparsity.
        bands: (5, P), the percentiles of PERCENTILES over live rows, NaN if there are none.
        target: the layer's sparsity T.
        dead_rows: how many rows have no output, hence no direction; the bands leave them out.
        curves: the cosines (P,) of each chosen row.
        allocations: the rows under each allocation.
    """

    sparsity: np.ndarray
    bands: np.ndarray
    target: float
    dead_rows: int
    curves: dict[int, np.ndarray]
    allocations: tuple[AllocatedCosine, ...]


def cosine_statistics(
    cosine: np.ndarray,
    sparsity: np.ndarray,
    target: float,
    allocations: Sequence[AllocatedCosine] = (),
    rows: Iterable[int] = (),
) -> CosineStatistics:
    """Compute bands over all rows, and pick the curves of `rows`.

    Args:
        cosine: (D, P), each row's cosine at each sparsity.
        sparsity: (P,), row sparsities, ascending from 0 to 1.
        target: the layer's sparsity.
        allocations: allocations of the layer, to show on the curves.
        rows: the rows whose curves are kept.

    Raises:
        ValueError: the shapes do not fit, the sparsities do not ascend from 0 to 1, or the target lies outside [0, 1].
    """
    cosine = real_array("cosine", cosine, 2)
    sparsity = real_array("sparsity", sparsity, 1)
    check_shape("sparsity", sparsity, cosine.shape[1:])
    if sparsity[0] != 0 or sparsity[-1] != 1 or (np.diff(sparsity) <= 0).any():
        raise ValueError("sparsity must ascend from 0 to 1")
    if not 0 <= target <= 1:
        raise ValueError(f"target must lie in [0, 1], got {target}")
    for allocation in allocations:
        check_shape(f"row_sparsity of {allocation.label}", allocation.row_sparsity, cosine.shape[:1])
    curves = {row: cosine[row] for row in row_indices(rows, len(cosine)).tolist()}
    dead = int((~_live(cosine)).sum())
    return CosineStatistics(sparsity, cosine_bands(cosine), float(target), dead, curves, tuple(allocations))


def cosine_bands(cosine: np.ndarray) -> np.ndarray:
    """Return the percentiles of PERCENTILES of cosines (D, P) over the rows with output, (5, P); NaN without any."""
    live = _live(cosine)
    if not live.any():
        return np.full((len(PERCENTILES), cosine.shape[1]), np.nan)
    bands: np.ndarray = np.percentile(cosine[live], PERCENTILES, axis=0)
    return bands


def _live(cosine: np.ndarray) -> np.ndarray:
    """Return which rows have output: before pruning, a row's cosine with itself is 1, and without any output 0."""
    live: np.ndarray = cosine[:, 0] > 0.5
    return live


@dataclass(frozen=True, eq=False)
class CosineDistribution:
    """The rows' cosines under several allocations, in shared bins.

    Attributes:
        methods, labels: the allocations'.
        medians: over rows with output, NaN if there is none.
        dead_rows: how many rows have no output and are left out.
    """

    methods: tuple[str, ...]
    labels: tuple[str, ...]
    histogram: Histogram
    medians: tuple[float, ...]
    dead_rows: int


def cosine_distribution(allocations: Sequence[AllocatedCosine], dead_rows: np.ndarray) -> CosineDistribution:
    """Return the distribution of the cosines (D,) under each allocation; `dead_rows` (D,) bool are left out.

    Raises:
        ValueError: there is no allocation, or one has other rows than `dead_rows`.
    """
    if not allocations:
        raise ValueError("at least one allocation is needed")
    for allocation in allocations:
        check_shape(f"cosine of {allocation.label}", allocation.cosine, np.shape(dead_rows))
    live = ~np.asarray(dead_rows, dtype=bool)
    sets = [np.where(live, allocation.cosine, np.nan) for allocation in allocations]
    return CosineDistribution(
        tuple(allocation.method for allocation in allocations),
        tuple(allocation.label for allocation in allocations),
        histogram(sets, round_edges(sets)),
        tuple(float(np.median(values[live])) if live.any() else float("nan") for values in sets),
        int(np.sum(dead_rows)),
    )
