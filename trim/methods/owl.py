"""OWL's layer budgets: blocks with more outliers keep more.

Yin et al., "Outlier Weighed Layerwise Sparsity", arXiv 2310.05175, section 3.
"""

import numpy as np
import torch
from torch import Tensor

from trim.methods.budgets import Shapes, layer_ratios, scale_linearly


def outlier_share(scores: list[Tensor], multiple: float) -> float:
    """Compute OWL's outlier distribution of a block: the share of scores above `multiple` times their mean."""
    entries = sum(score.numel() for score in scores)
    mean = sum(float(score.sum(dtype=torch.float64)) for score in scores) / entries
    return sum(int((score > multiple * mean).sum()) for score in scores) / entries


def owl_budgets(outliers: list[float], shapes: Shapes, target: float, width: float) -> dict[str, float]:
    """Compute OWL's budgets: blocks with more outliers keep more, and all layers of a block keep the same share.

    Args:
        outliers: each block's `outlier_share`.
        shapes: (D, N) of the layers, named by block index first.
        target: T.
        width: λ; keep ratios differ by at most 2λ.
    """
    return layer_ratios(
        1 - scale_linearly(outliers, 0.0, 2 * width), shapes, lambda mean: target - mean, np.add
    )
