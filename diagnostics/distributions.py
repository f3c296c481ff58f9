"""Numbers of the rows of several layers as distributions on shared axes: bins, shares, quartiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diagnostics.numeric import Histogram, histogram, quartiles, real_array, row_sparsity_edges

MAX_BINS = 72


@dataclass(frozen=True, eq=False)
class RowNumbers:
    """A number of each row of a layer, (D,); NaN where a row has none.

    Attributes:
        slot: index of the compared layer, 0 for A.
        columns: N if the number is a count divided by N.
    """

    label: str
    values: np.ndarray
    slot: int = 0
    columns: int | None = None


@dataclass(frozen=True, eq=False)
class Distributions:
    """Several sets in shared bins; the histogram's lines and `quartiles` (S, 3) are in the order of `sets`."""

    sets: tuple[RowNumbers, ...]
    histogram: Histogram
    quartiles: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Share of each set's rows in each bin, (S, B), which makes layers of different height comparable."""
        counts = self.histogram.counts
        shares: np.ndarray = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return shares

    @property
    def bin_width(self) -> float:
        """Width of the bins."""
        return float(self.histogram.edges[1] - self.histogram.edges[0])


def distributions(sets: Sequence[RowNumbers]) -> Distributions:
    """Put sets into shared bins. Counts of rows of one width get bins of whole counts, which avoids a comb."""
    if not sets:
        raise ValueError("at least one set is needed")
    values = [real_array(each.label, each.values, 1, finite=False) for each in sets]
    edges = row_sparsity_edges(values, (each.columns for each in sets), MAX_BINS)
    return Distributions(tuple(sets), histogram(values, edges), np.array(list(map(quartiles, values))))
