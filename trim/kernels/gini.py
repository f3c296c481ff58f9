"""Sums over a row's ascending scores on a CUDA device, in Triton: for the Gini coefficient.

Imported only where such a device is used. One program takes a row: the order is read once, scores come from the
cache that holds the row, and nothing of the layer's size is written.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


def sums_in_order(score: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """Compute Σ_j (2j − N − 1)·a_(j) and Σ_j a_(j) of each row's scores a in ascending order.

    Both in float64, which holds every product exactly and, in rows of up to 2^15 equal scores, every sum: the first
    is exactly 0 there.

    Args:
        score: (D, N) float32, contiguous.
        order: (D, N) of any integer type, each row's columns by ascending score; last stride 1.

    Returns:
        (D,) float64 each.
    """
    rows, columns = score.shape
    sums = torch.empty(2, rows, dtype=torch.float64, device=score.device)
    _sums[(rows,)](score, order, sums[0], sums[1], columns, order.stride(0), BLOCK=BLOCK, num_warps=4)
    return sums[0], sums[1]


@triton.jit
def _sums(score, order, weighted_sums, sums, columns, stride, BLOCK: tl.constexpr):
    """Store both sums of one row."""
    row = tl.program_id(0).to(tl.int64)
    weighted = tl.zeros((BLOCK,), tl.float64)
    total = tl.zeros((BLOCK,), tl.float64)
    for left in range(0, columns, BLOCK):
        place = left + tl.arange(0, BLOCK)
        inside = place < columns
        column = tl.load(order + row * stride + place, mask=inside, other=0).to(tl.int32)
        value = tl.load(score + row * columns + column, mask=inside, other=0.0).to(tl.float64)
        weighted += value * (2 * place + 1 - columns).to(tl.float64)
        total += value
    tl.store(weighted_sums + row, tl.sum(weighted, axis=0))
    tl.store(sums + row, tl.sum(total, axis=0))
