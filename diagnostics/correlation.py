"""Spearman's rank correlation, with a defined outcome where there is none."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from diagnostics.arrays import check_shape, real_array


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's coefficient in [-1, 1], its two-sided p-value, and the rows it was computed over."""

    coefficient: float
    p_value: float
    rows: int


def rank_correlation(first: np.ndarray, second: np.ndarray) -> RankCorrelation | None:
    """Spearman correlation of two (D,) arrays over the rows where both are finite.

    None where it is not defined: fewer than three such rows, or one of the two is constant.
    """
    first = real_array("first", first, 1, finite=False)
    second = real_array("second", second, 1, finite=False)
    check_shape("second", second, first.shape)
    both = np.isfinite(first) & np.isfinite(second)
    first, second = first[both], second[both]
    if len(first) < 3 or (first == first[0]).all() or (second == second[0]).all():
        return None
    result = spearmanr(first, second)
    return RankCorrelation(float(result.statistic), float(result.pvalue), len(first))
