"""How concentrated the score is in each row: the Gini coefficient and its picture, the Lorenz curve.

Source: Hurley and Rickard, "Comparing measures of sparsity", IEEE Trans. Inf. Theory 55 (2009); applied to
the rows of a pruning score in TRIM (arXiv 2505.16743), figures 3a and 4.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from diagnostics.numeric import (
    Histogram,
    check_shape,
    histogram,
    quartiles,
    real_array,
    round_edges,
    row_indices,
)

# Entries sorted at a time: bounds the float64 copy to 128 MiB however large the layer is.
_BLOCK_ENTRIES = 2**24


def gini(scores: np.ndarray) -> np.ndarray:
    """Compute the Gini coefficient of each row, (D,) float64, in [0, 1); NaN for a row of zeros.

    With a row's scores a in ascending order, G = sum_j (2j - N - 1) a_(j) / (N sum_j a_(j)): 0 if all are equal,
    (N - 1) / N if all but one are 0.

    Args:
        scores: (D, N), not negative.

    Raises:
        ValueError: a score is negative or not finite.
    """
    scores = _scores(scores, 2)
    rows, columns = scores.shape
    weight = 2.0 * np.arange(1, columns + 1) - columns - 1
    result = np.full(rows, np.nan)
    step = max(1, _BLOCK_ENTRIES // columns)
    for start in range(0, rows, step):
        block = scores[start : start + step].astype(np.float64)
        block.sort(axis=1)
        largest = block[:, -1]
        live = largest > 0
        # Divided by the row's largest score: no sum can overflow, and equal scores give exactly 0.
        block = block[live] / largest[live, None]
        result[start : start + step][live] = (block @ weight) / (columns * block.sum(axis=1))
    bounded: np.ndarray = np.clip(result, 0.0, (columns - 1) / columns)
    return bounded


def gini_of_kept(scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute the Gini coefficient of the kept scores of each row, (D,) float64.

    It is NaN where only zeros, or no scores, are left.

    Args:
        scores: (D, N), not negative.
        counts: (D,), how many of each row's lowest scores are pruned.

    Raises:
        ValueError: a score is negative or not finite, or a count lies outside 0..N.
    """
    ascending = np.sort(_scores(scores, 2).astype(np.float64), axis=1)
    rows, columns = ascending.shape
    check_shape("counts", np.asarray(counts), (rows,))
    if np.min(counts) < 0 or np.max(counts) > columns:
        raise ValueError(f"counts must lie in 0..{columns}")
    kept = columns - np.asarray(counts)
    # Rank j among the kept is the rank among all less the count, so the weight 2j − n − 1 only shifts.
    rank = np.arange(1, columns + 1)[None, :] - np.asarray(counts)[:, None]
    ascending[rank < 1] = 0.0
    total = ascending.sum(axis=1)
    weighted = (ascending * (2 * rank - kept[:, None] - 1)).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > 0, weighted / (kept * total), np.nan)


def lorenz(row_scores: np.ndarray, points: int = 129) -> tuple[np.ndarray, np.ndarray]:
    """Compute the Lorenz curve of one row: the share of the score that the least important weights hold.

    With points = N + 1 the Gini coefficient is 1 - 2 x the trapezoid area under the curve.

    Args:
        row_scores: (N,), not negative.
        points: P, the number of points.

    Returns:
        The population (P,) and its share (P,), both from 0 to 1; the share is NaN for a row of zeros.

    Raises:
        ValueError: a score is negative or not finite, or there are fewer than two points.
    """
    ascending = np.sort(_scores(row_scores, 1).astype(np.float64))
    if points < 2:
        raise ValueError(f"a curve needs two points or more, got {points}")
    population = np.linspace(0.0, 1.0, points)
    if ascending[-1] == 0:
        return population, np.full(points, np.nan)
    cumulative = np.concatenate([[0.0], np.cumsum(ascending / ascending[-1])])
    reached = np.linspace(0.0, 1.0, len(cumulative))
    return population, np.interp(population, reached, cumulative / cumulative[-1])


@dataclass(frozen=True)
class GiniSummary:
    """Quartiles of the rows' Gini coefficients (NaN if no row has one), and the number of rows without one."""

    rows: int
    undefined: int
    lower_quartile: float
    median: float
    upper_quartile: float


def summarise_gini(coefficients: np.ndarray) -> GiniSummary:
    """Summarise Gini coefficients (D,), in which NaN marks a row of zeros."""
    coefficients = real_array("coefficients", coefficients, 1, finite=False)
    undefined = int((~np.isfinite(coefficients)).sum())
    return GiniSummary(coefficients.size, undefined, *map(float, quartiles(coefficients)))


@dataclass(frozen=True, eq=False)
class GiniStatistics:
    """Gini coefficients of the rows under one or several scores, with their histogram in shared bins.

    Attributes:
        labels: one per score ("wanda", "magnitude", or a model's name).
        coefficients: (D,) for each label.
        histogram: one line per label.
        summaries: one per label.
    """

    labels: tuple[str, ...]
    coefficients: tuple[np.ndarray, ...]
    histogram: Histogram
    summaries: tuple[GiniSummary, ...]


def gini_statistics(coefficients: Mapping[str, np.ndarray]) -> GiniStatistics:
    """Compute statistics of {label: Gini coefficients (D,)}; the sets may differ in length."""
    if not coefficients:
        raise ValueError("at least one set of Gini coefficients is needed")
    sets = tuple(real_array(label, values, 1, finite=False) for label, values in coefficients.items())
    return GiniStatistics(
        tuple(coefficients), sets, histogram(sets, round_edges(sets)), tuple(map(summarise_gini, sets))
    )


@dataclass(frozen=True, eq=False)
class LorenzCurve:
    """One row's Lorenz curve, population (P,) and share (P,), and its Gini; NaN for a row of zeros."""

    row: int
    gini: float
    population: np.ndarray
    share: np.ndarray


def lorenz_curves(scores: np.ndarray, rows: Iterable[int]) -> tuple[LorenzCurve, ...]:
    """Compute the Lorenz curves of the chosen rows of scores (D, N)."""
    curves = []
    for row in row_indices(rows, len(scores)).tolist():
        coefficient = float(gini(scores[row : row + 1])[0])
        curves.append(LorenzCurve(row, coefficient, *lorenz(scores[row])))
    return tuple(curves)


def _scores(scores: np.ndarray, ndim: int) -> np.ndarray:
    scores = real_array("scores", scores, ndim)
    if (scores < 0).any():
        raise ValueError("scores must not be negative: a score is the importance of a weight")
    return scores
