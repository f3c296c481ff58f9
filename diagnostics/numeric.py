"""Arrays checked and counted: validation, histograms, rank correlation."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


def real_array(name: str, values: object, ndim: int, *, finite: bool = True) -> np.ndarray:
    """Return `values` as an array of real numbers with `ndim` axes; float64 unless already a float type.

    Raises:
        ValueError: the array named `name` has another number of axes, is empty, or holds values that are not real
            numbers or (if `finite`) not finite.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, not {array.dtype}")
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must have {ndim} non-empty axes, its shape is {array.shape}")
    if finite and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return array


def bool_matrix(mask: np.ndarray) -> np.ndarray:
    """Return a mask as an array.

    Raises:
        ValueError: the mask is not bool, or has not two axes.
    """
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"mask must be a bool matrix, got {mask.dtype} of shape {mask.shape}")
    return mask


def row_indices(rows: Iterable[int], count: int) -> np.ndarray:
    """Return `rows` as distinct int64 indices in the order given, shape (S,).

    Raises:
        ValueError: an index lies outside 0..count-1.
    """
    indices = np.fromiter(dict.fromkeys(int(row) for row in rows), dtype=np.int64)
    outside = indices[(indices < 0) | (indices >= count)]
    if outside.size:
        raise ValueError(f"rows are numbered 0 to {count - 1}, got {outside.tolist()}")
    return indices


def check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError, naming the argument, unless `array` has this shape."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, its shape is {array.shape}")


def spread_indices(length: int, points: int) -> np.ndarray:
    """Return at most `points` (>= 2) indices into 0..length-1, evenly spread, the first and the last among them."""
    if length <= points:
        return np.arange(length)
    return np.unique(np.round(np.linspace(0, length - 1, points)).astype(np.int64))


MAX_BINS = 48


@dataclass(frozen=True, eq=False)
class Histogram:
    """The number of each set's values in each bin.

    Attributes:
        edges: (B + 1,) ascending; bin b holds edges[b] <= value < edges[b + 1], the outer bins also values that
            rounding puts just outside.
        counts: (S, B), one line per set.
    """

    edges: np.ndarray
    counts: np.ndarray

    @property
    def centers(self) -> np.ndarray:
        """Middle of each bin, (B,)."""
        centers: np.ndarray = (self.edges[:-1] + self.edges[1:]) / 2
        return centers

    def bin_of(self, values: np.ndarray) -> np.ndarray:
        """Return the bin of each of the finite values, (V,)."""
        return _bin_of(values, self.edges)

    def members(self, values: np.ndarray, bins: Sequence[int]) -> np.ndarray:
        """Return the indices of the values in any of `bins`, such as the rows of selected bars."""
        values = np.asarray(values)
        finite = np.flatnonzero(np.isfinite(values))
        chosen = np.asarray(bins, dtype=np.int64)
        return finite[np.isin(_bin_of(values[finite], self.edges), chosen)]


def histogram(sets: Sequence[np.ndarray], edges: np.ndarray) -> Histogram:
    """Count each set's finite values in the bins between `edges` (B + 1,)."""
    counts = []
    for values in sets:
        array = real_array("values", values, 1, finite=False)
        found = _bin_of(array[np.isfinite(array)], edges)
        counts.append(np.bincount(found, minlength=len(edges) - 1))
    return Histogram(np.asarray(edges), np.array(counts))


def round_edges(sets: Sequence[np.ndarray], max_bins: int = MAX_BINS) -> np.ndarray:
    """Return edges (B + 1,) over all finite values, B <= max_bins + 1; a bin is 1, 2 or 5 times a power of ten wide.

    Without any finite value the one bin is [0, 1].
    """
    finite = [array[np.isfinite(array)] for array in map(np.asarray, sets)]
    finite = [array for array in finite if array.size]
    if not finite:
        return np.array([0.0, 1.0])
    low = min(float(array.min()) for array in finite)
    high = max(float(array.max()) for array in finite)
    # Equal values still need a bin of some width; a thousandth of their size keeps the label readable.
    least = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-12) / max_bins
    decade = 10.0 ** math.floor(math.log10(least))
    width = next(decade * step for step in (1, 2, 5, 10) if decade * step >= least * (1 - 1e-9))
    first, last = math.floor(low / width), max(math.ceil(high / width), math.floor(low / width) + 1)
    return np.arange(first, last + 1) * width


def count_edges(counts: Sequence[np.ndarray], columns: int, max_bins: int = MAX_BINS) -> np.ndarray:
    """Return edges (B + 1,) for row sparsities k / columns, each bin covering the same whole number of counts k.

    Bins whose width is not a multiple of 1 / columns would hold now m, now m + 1 possible counts and draw a
    comb that is not in the data.
    """
    low = min(int(array.min()) for array in counts)
    high = max(int(array.max()) for array in counts)
    per_bin = math.ceil((high - low + 1) / max_bins)
    bins = math.ceil((high - low + 1) / per_bin)
    return (low - 0.5 + per_bin * np.arange(bins + 1)) / columns


def row_sparsity_edges(
    sparsities: Sequence[np.ndarray], columns: Iterable[int | None], max_bins: int = MAX_BINS
) -> np.ndarray:
    """Return edges for row sparsities: bins of whole counts if all rows have as many columns, or round ones."""
    widths = set(columns)
    width = widths.pop() if len(widths) == 1 else None
    if width is None:
        return round_edges(sparsities, max_bins)
    return count_edges([np.rint(each * width).astype(np.int64) for each in sparsities], width, max_bins)


def quartiles(values: np.ndarray) -> np.ndarray:
    """Return the quartiles of the finite values, (3,); NaN if there is none."""
    finite = values[np.isfinite(values)]
    found: np.ndarray = np.percentile(finite, [25, 50, 75]) if finite.size else np.full(3, np.nan)
    return found


def _bin_of(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's coefficient in [-1, 1], and the rows it was computed over."""

    coefficient: float
    rows: int

    @property
    def p_value(self) -> float:
        """Two-sided, by Student's t."""
        if abs(self.coefficient) >= 1:
            return 0.0
        from scipy.special import stdtr  # takes long to import

        freedom = self.rows - 2
        t = abs(self.coefficient) * math.sqrt(freedom / (1 - self.coefficient**2))
        return float(2 * stdtr(freedom, -t))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> RankCorrelation | None:
    """Compute the Spearman correlation of two (D,) arrays over the rows where both are finite.

    None if it is not defined: there are fewer than three such rows, or one of the arrays is constant.
    """
    first = real_array("first", first, 1, finite=False)
    second = real_array("second", second, 1, finite=False)
    check_shape("second", second, first.shape)
    both = np.isfinite(first) & np.isfinite(second)
    first, second = first[both], second[both]
    if len(first) < 3 or (first == first[0]).all() or (second == second[0]).all():
        return None
    coefficient = np.corrcoef(_average_ranks(first), _average_ranks(second))[0, 1]
    return RankCorrelation(float(np.clip(coefficient, -1, 1)), len(first))


def _average_ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value, (D,); equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def level(shares: np.ndarray, weights: int) -> np.ndarray:
    """Return shares of `weights` weights, or their mean if they differ by at most one weight, which is rounding."""
    if len(shares) and np.ptp(shares) * weights < 1.5:
        return np.full(len(shares), shares.mean())
    return shares
