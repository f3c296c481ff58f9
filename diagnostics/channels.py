"""The channels of an MLP: whether the rows of gate and up and the columns of down that belong together share a fate."""

from dataclasses import dataclass

import numpy as np

from diagnostics.numeric import RankCorrelation, check_shape, rank_correlation, real_array

MOST_PRUNED_SHARE = 0.1  # of the channels, called the most pruned ones


@dataclass(frozen=True, eq=False)
class ChannelPair:
    """Two parts of the same C channels.

    first, second: (C,), the share of each channel's weights that is pruned in either. correlation: Spearman; None: not
    defined. shared: of the tenth of the channels that the first prunes most, how many are in that of the second; at
    random a tenth. Of channels that are pruned alike the first ones count.
    """

    first: np.ndarray
    second: np.ndarray
    correlation: RankCorrelation | None
    shared: float


def channel_pair(first: np.ndarray, second: np.ndarray) -> ChannelPair:
    """Compare how far two parts of the same channels are pruned, (C,) each: rows of gate or up, or columns of down."""
    first, second = real_array("first", first, 1), real_array("second", second, 1)
    check_shape("second", second, first.shape)
    most = max(1, round(MOST_PRUNED_SHARE * len(first)))
    one, other = (np.argsort(-each, kind="stable")[:most] for each in (first, second))
    shared = len(np.intersect1d(one, other, assume_unique=True)) / most
    return ChannelPair(first, second, rank_correlation(first, second), shared)
