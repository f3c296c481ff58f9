"""Measure how concentrated the score is in each row.

Source: Hurley and Rickard, "Comparing measures of sparsity", IEEE Trans. Inf. Theory 55 (2009).
"""

import torch
from torch import Tensor

from trim.devices import has_kernels
from trim.methods.scores import as_array


def gini(score: Tensor, order: Tensor | None = None) -> Tensor:
    """Compute the Gini coefficient of each row: 0 where scores are equal, close to 1 where few weights have nearly all.

    With a row's scores a ascending, G = Σ_j (2j − N − 1)·a_(j) / (N·Σ_j a_(j)).

    Args:
        score: (D, N), finite and not negative.
        order: (D, N) of any integer type, each row's columns by ascending score; None: the rows are sorted here.

    Returns:
        (D,) float64, NaN for a row of zeros.
    """
    columns = score.shape[1]
    if order is not None and has_kernels(score.device) and score.dtype == torch.float32:
        from trim.kernels.gini import sums_in_order

        with torch.cuda.device(score.device):
            weighted, total = sums_in_order(score.contiguous(), order)
        return (weighted / (columns * total)).clamp_(0.0, (columns - 1) / columns)
    from trim.compiled.gini import gini_of_rows
    from trim.compiled.order import order_rows

    values = as_array(score if score.dtype == torch.float64 else score.float())
    columns_in_order = order_rows(values)[0] if order is None else as_array(order.int())
    result = torch.from_numpy(gini_of_rows(values, columns_in_order)).to(score.device)
    return result.clamp_(0.0, (columns - 1) / columns)
