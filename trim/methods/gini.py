"""How concentrated the score is in each row.

Source: Hurley and Rickard, "Comparing measures of sparsity", IEEE Trans. Inf. Theory 55 (2009).
"""

import torch
from torch import Tensor

from trim.devices import has_kernels

# Entries brought into order at a time: bounds the float64 copy to 128 MiB however large the layer is.
_BLOCK_ENTRIES = 2**24


def gini(score: Tensor, order: Tensor | None = None) -> Tensor:
    """The Gini coefficient of each row: 0 is spread evenly, towards 1 is held by few weights.

    With a row's scores a ascending, G = Σ_j (2j − N − 1)·a_(j) / (N·Σ_j a_(j)).

    Args:
        score: (D, N), finite and not negative.
        order: (D, N) of any integer type, each row's columns by ascending score, where it is known already.

    Returns:
        (D,) float64, NaN for a row of zeros.
    """
    rows, columns = score.shape
    if order is not None and has_kernels(score.device) and score.dtype == torch.float32:
        from trim.kernels.gini import sums_in_order

        with torch.cuda.device(score.device):
            weighted, total = sums_in_order(score.contiguous(), order)
        return (weighted / (columns * total)).clamp_(0.0, (columns - 1) / columns)
    weight = 2.0 * torch.arange(1, columns + 1, dtype=torch.float64, device=score.device) - columns - 1
    result = torch.full((rows,), torch.nan, dtype=torch.float64, device=score.device)
    step = max(1, _BLOCK_ENTRIES // columns)
    for top in range(0, rows, step):
        block = score[top : top + step]
        ascending = (
            block.sort(dim=1).values if order is None else block.gather(1, order[top : top + step].long())
        )
        # Divided by the row's largest score: no sum overflows, and equal scores give exactly 0.
        ascending = ascending.double() / ascending[:, -1:].double()
        result[top : top + step] = (ascending @ weight) / (columns * ascending.sum(dim=1))
    return result.clamp_(0.0, (columns - 1) / columns)
