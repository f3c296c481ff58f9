"""From the search's real-valued row sparsities to exact counts, and from counts to masks."""

import torch
from torch import Tensor


def keep_mask(ranks: Tensor, counts: Tensor) -> Tensor:
    """True where a weight stays: (D, N) bool from the ranks (D, N) of its row's columns and its counts (D,)."""
    return ranks >= counts[:, None]


def keep_highest(score: Tensor, order: Tensor, counts: Tensor) -> Tensor:
    """The same from scores (D, N) and their order (D, N), of any integer type, in which rows lose their columns.

    A weight stays if it comes no earlier than the first that stays: by score, and by column among equal scores.
    """
    columns, counts = score.shape[1], counts[:, None]
    first = order.gather(1, counts.clamp(max=columns - 1)).long()
    least = score.gather(1, first).masked_fill_(counts >= columns, torch.inf)
    keep = (score == least).logical_and_(torch.arange(columns, device=score.device) >= first)
    return keep.logical_or_(score > least)


def pack_bits(keep: Tensor) -> Tensor:
    """(D, N) bool as (D, ceil(N / 8)) uint8 in `numpy.packbits` order, where the mask is."""
    # Eight bytes of 0 or 1 are one number of 64 bits; the product brings the bit of byte i to place 63 − i.
    eights = torch.nn.functional.pad(keep.contiguous().view(torch.uint8), (0, -keep.shape[1] % 8)).view(
        torch.int64
    )
    return (eights * _GATHER_BITS).bitwise_right_shift_(56).to(torch.uint8)


_GATHER_BITS: int = sum(2 ** (63 - 9 * byte) for byte in range(8)) - 2**64  # as a signed number


def apply_mask(weight: Tensor, keep: Tensor, kept: Tensor | None = None) -> None:
    """Set the pruned weights of a layer to zero, in place.

    Args:
        weight: (D, N).
        keep: (D, N) bool, True where a weight stays.
        kept: (K,) what stands there from now on, row by row; None: what stands there now.
    """
    with torch.no_grad():
        weight.masked_fill_(~keep, 0)
        if kept is not None:
            weight.masked_scatter_(keep, kept.to(weight.dtype))
