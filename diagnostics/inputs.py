"""The columns of a layer: which input features are large, and how the kept weights spread over them."""

from dataclasses import dataclass

import numpy as np

from diagnostics.concentration import gini
from diagnostics.numeric import RankCorrelation, bool_matrix, check_shape, rank_correlation, real_array

OUTLIER = 5.0  # a feature is an outlier if its norm is this many times the median
TOP = 0.01  # `top_share` is the share of kept weights on this share of the features


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """The kept weights of one layer by input feature.

    Attributes:
        method, label: the pruning method, and its label.
        rows: D.
        kept: (N,), number of kept weights of each column.
        gini: the Gini of `kept`; 0: spread evenly, NaN: no weight is kept.
        top_share: the share of all kept weights on the 1% of features that keep most.
        with_norm: Spearman correlation of `kept` and the features' norms; None: not defined.
    """

    method: str
    label: str
    rows: int
    kept: np.ndarray
    gini: float
    top_share: float
    with_norm: RankCorrelation | None

    @property
    def share(self) -> np.ndarray:
        """Share of each column's weights that is kept, (N,)."""
        return self.kept / self.rows


def feature_statistics(
    method: str, label: str, mask: np.ndarray, input_norm: np.ndarray | None = None
) -> FeatureStatistics:
    """Count the kept weights of a mask by input feature.

    Args:
        method: the pruning method.
        label: the method's label.
        mask: (D, N), True where a weight is kept.
        input_norm: (N,), the features' norms; None: not known.

    Raises:
        ValueError: the mask is not a bool matrix, or `input_norm` has another size.
    """
    mask = bool_matrix(mask)
    kept = np.count_nonzero(mask, axis=0)
    top = max(1, round(TOP * len(kept)))
    total = int(kept.sum())
    with_norm = None
    if input_norm is not None:
        check_shape("input_norm", real_array("input_norm", input_norm, 1), kept.shape)
        with_norm = rank_correlation(input_norm, kept)
    return FeatureStatistics(
        method,
        label,
        len(mask),
        kept,
        float(gini(kept[None])[0]),
        float(np.sort(kept)[-top:].sum()) / total if total else float("nan"),
        with_norm,
    )


def outlier_features(input_norm: np.ndarray) -> np.ndarray:
    """Return the features whose norm is more than OUTLIER times the median one, the largest first."""
    norm = real_array("input_norm", input_norm, 1)
    order = np.argsort(-norm, kind="stable")
    outliers: np.ndarray = order[norm[order] > OUTLIER * np.median(norm)]
    return outliers
