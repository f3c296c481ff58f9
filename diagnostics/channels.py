"""The channels of an MLP: whether a channel's rows of gate and up and its column of down are pruned alike."""

from dataclasses import dataclass

import numpy as np

from diagnostics.numeric import RankCorrelation, check_shape, rank_correlation, real_array

MOST_PRUNED_SHARE = 0.1  # share of channels that count as the most pruned


@dataclass(frozen=True, eq=False)
class ChannelPair:
    """Two parts of the same C channels.

    Attributes:
        first, second: (C,), the pruned share of each channel in either part.
        correlation: Spearman; None: not defined.
        shared: the share of the first part's most pruned tenth that is in the second's too; a tenth at random. Ties go
            to the first channels.
    """

    first: np.ndarray
    second: np.ndarray
    correlation: RankCorrelation | None
    shared: float


def channel_pair(first: np.ndarray, second: np.ndarray) -> ChannelPair:
    """Compare the pruned shares (C,) of two parts of the same channels: rows of gate or up, or columns of down."""
    first, second = real_array("first", first, 1), real_array("second", second, 1)
    check_shape("second", second, first.shape)
    count = max(1, round(MOST_PRUNED_SHARE * len(first)))
    one, other = (np.argsort(-each, kind="stable")[:count] for each in (first, second))
    shared = len(np.intersect1d(one, other, assume_unique=True)) / count
    return ChannelPair(first, second, rank_correlation(first, second), shared)
