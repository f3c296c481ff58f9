"""Make masks from counts, or by keeping the largest values."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trim.methods.pattern import Pattern
from trim.methods.scores import as_array


def keep_mask(ranks: Tensor, counts: Tensor) -> Tensor:
    """Return which weights of a layer are kept when each row loses its lowest scores.

    Args:
        ranks: (D, N), how many columns the row loses before each column: `RetentionCurves.ranks`.
        counts: (D,), how many columns each row loses.

    Returns:
        (D, N) bool, True where a weight is kept.
    """
    return ranks >= counts[:, None]


def keep_largest(values: Tensor, kept: int, *, exactly: bool = True) -> Tensor:
    """Mark the largest values of a whole layer: (D, N) bool.

    Args:
        values: (D, N) float32, not negative and no NaN.
        kept: how many, from 0 to D · N. Among equal values the last ones are kept, row by row.
        exactly: keep exactly `kept`. False: keep every value equal to the smallest kept one, without waiting for a GPU.
    """
    pruned = values.numel() - kept
    if kept == 0 or pruned == 0:
        return torch.full_like(values, pruned == 0, dtype=torch.bool)
    least = _kth_largest(values, kept)
    keep = values >= least
    if exactly and (extra := int(keep.sum()) - kept):
        equal = values == least
        rank = equal.flatten().cumsum(0).view_as(equal)  # among the equal values, from 1
        keep.logical_and_(equal.logical_and_(rank <= extra).logical_not_())
    return keep


def _kth_largest(values: Tensor, k: int) -> Tensor:
    """Find the k-th largest of float32 values that are not negative, ()."""
    if not values.is_cuda:
        index = values.numel() - k
        return torch.tensor(np.partition(as_array(values).ravel(), index)[index])
    # Search from the end with fewer values: topk copies them.
    largest = 2 * k <= values.numel()
    number = k if largest else values.numel() - k + 1
    found = values.flatten().topk(number, largest=largest, sorted=False).values
    return found.min() if largest else found.max()


def keep_largest_of_groups(values: Tensor, pattern: Pattern) -> Tensor:
    """Mark the values to keep, (D, N) bool: each group loses its lowest ones, and the first ones among equals."""
    groups = values.view(values.shape[0], -1, pattern.group)
    lowest = groups.argsort(dim=2, stable=True)[..., : pattern.zeros]
    return torch.ones_like(groups, dtype=torch.bool).scatter_(2, lowest, False).view(values.shape)


def pack_bits(keep: Tensor) -> Tensor:
    """Pack (D, N) bool into (D, ceil(N / 8)) uint8 in `numpy.packbits` order, on the device of the mask."""
    # Eight bytes of 0 or 1 are one 64-bit integer; the product moves the bit of byte i to bit 63 − i.
    padded = torch.nn.functional.pad(keep.contiguous().view(torch.uint8), (0, -keep.shape[1] % 8))
    return (padded.view(torch.int64) * _GATHER_BITS).bitwise_right_shift_(56).to(torch.uint8)


_GATHER_BITS: int = sum(2 ** (63 - 9 * byte) for byte in range(8)) - 2**64  # as a signed number


def apply_mask(weight: Tensor, keep: Tensor, kept: Tensor | None = None) -> None:
    """Set the pruned weights of a layer to zero, in place.

    Args:
        weight: (D, N).
        keep: (D, N) bool, True where a weight is kept.
        kept: (K,) new values of the kept weights, row by row; None: they are unchanged.
    """
    with torch.no_grad():
        weight.masked_fill_(~keep, 0)
        if kept is not None:
            weight.masked_scatter_(keep, kept.to(weight.dtype))


def apply_masks(weights: Sequence[Tensor], keep: Tensor, kept: Tensor | None = None) -> None:
    """Set the pruned weights of G layers of one shape to zero, in place, as `apply_mask` does.

    Args:
        weights: (D, N) of each.
        keep: (G, D, N) bool, True where a weight is kept.
        kept: as for `apply_mask`; only with a single layer.
    """
    if len(weights) == 1:
        apply_mask(weights[0], keep[0], kept)
        return
    with torch.no_grad():
        torch._foreach_copy_(list(weights), list(torch.stack(list(weights)).masked_fill_(~keep, 0)))
