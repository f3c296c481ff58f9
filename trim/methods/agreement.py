"""Compare two masks of one layer: the share of the weights that both keep among those that either keeps.

Imports no torch.
"""

from dataclasses import dataclass

import numpy as np

from trim.errors import ShapeError


@dataclass(frozen=True, eq=False)
class MaskAgreement:
    """Intersection over union (IoU) of the kept weights of two masks; 1 where neither keeps any.

    Attributes:
        whole: over the layer.
        by_row: (D,).
        by_column: (N,).
        expected: the IoU over the layer of two random masks that keep as many of each row's weights.
    """

    whole: float
    by_row: np.ndarray
    by_column: np.ndarray
    expected: float


def mask_agreement(first: np.ndarray, second: np.ndarray) -> MaskAgreement:
    """Compare two masks (D, N), True where a weight is kept.

        mask_agreement(masks["wanda", "trim"].numpy(), masks["wanda", "uniform"].numpy()).whole

    Raises:
        ShapeError: they are not two bool matrices of one shape.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.dtype != bool or second.dtype != bool or first.ndim != 2 or first.size == 0:
        raise ShapeError("masks must be bool matrices")
    if first.shape != second.shape:
        raise ShapeError(f"masks of one layer have one shape, these have {first.shape} and {second.shape}")
    both, either = first & second, first | second
    rows, columns = ((both.sum(axis), either.sum(axis)) for axis in (1, 0))
    kept = np.stack([first.sum(1), second.sum(1)]).astype(np.float64)
    expected_both = float((kept[0] * kept[1]).sum()) / first.shape[1]
    return MaskAgreement(
        float(iou(rows[0].sum(), rows[1].sum())),
        iou(*rows),
        iou(*columns),
        float(iou(expected_both, kept.sum() - expected_both)),
    )


def iou(both: np.ndarray | float, either: np.ndarray | float) -> np.ndarray:
    """Return how many weights both masks keep over how many either keeps; 1 where neither keeps any."""
    either = np.asarray(either, dtype=np.float64)
    result: np.ndarray = np.where(either > 0, both / np.maximum(either, 1e-300), 1.0)
    return result
