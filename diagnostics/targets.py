"""The rows of one layer at several targets: how their sparsities spread, and whether they keep their order."""

from dataclasses import dataclass

import numpy as np

from diagnostics.numeric import rank_correlation
from diagnostics.similarity import PERCENTILES


@dataclass(frozen=True, eq=False)
class TargetPaths:
    """One method's rows at P targets.

    Attributes:
        method, label: the method's.
        columns: N.
        targets: (P,) layer sparsities, ascending.
        counts: (P, D), pruned weights of each row.
        bands: (5, P), percentiles of the row sparsities over rows.
        order: (P,), Spearman correlation of the rows' sparsities with those at the last target; NaN where one of the
            two does not vary.
        given_back: share of the rows that lose fewer weights at one target than at a lower one.
    """

    method: str
    label: str
    columns: int
    targets: np.ndarray
    counts: np.ndarray
    bands: np.ndarray
    order: np.ndarray
    given_back: float

    @property
    def row_sparsity(self) -> np.ndarray:
        """(P, D), share of each row's weights pruned."""
        return self.counts / self.columns


def target_paths(
    method: str, label: str, targets: np.ndarray, counts: np.ndarray, columns: int
) -> TargetPaths:
    """Compute the paths of a layer's rows over targets.

    Args:
        method: the pruning method.
        label: the method's label.
        targets: (P,) layer sparsities, ascending.
        counts: (P, D) integers, the number of pruned weights of each row.
        columns: number of weights of a row.

    Raises:
        ValueError: the shapes do not fit, or targets do not ascend.
    """
    targets, counts = np.asarray(targets, dtype=np.float64), np.asarray(counts)
    if counts.ndim != 2 or counts.size == 0 or len(targets) != len(counts) or (np.diff(targets) <= 0).any():
        raise ValueError(
            f"{len(targets)} ascending targets and counts of shape {counts.shape} do not fit together"
        )
    correlations = [rank_correlation(each, counts[-1]) for each in counts]
    return TargetPaths(
        method,
        label,
        columns,
        targets,
        counts,
        np.percentile(counts / columns, PERCENTILES, axis=1),
        np.array([np.nan if each is None else each.coefficient for each in correlations]),
        float((np.diff(counts, axis=0) < 0).any(axis=0).mean()),
    )
