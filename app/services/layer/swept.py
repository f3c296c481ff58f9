"""The interface of a swept layer in NumPy arrays, which live and shipped layers implement."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from diagnostics.row_detail import RowPrices
from trim.methods.choices import OPTIMAL_CAP
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import SearchResult


@dataclass(frozen=True, eq=False)
class Optimum:
    """The optimal counts of a layer.

    Attributes:
        counts: (D,) int64, with the same total as TRIM's.
        quality: the layer quality, in the measure of TRIM's search.
        losses: Σ f_i · error_i under uniform, TRIM and these counts, which minimise it.
        cap: the largest row sparsity that was allowed.
        price: λ, the cost of the most expensive pruned weight.
        sensitivity: (D,) the rows' weights f; None: all rows weigh the same.
    """

    counts: np.ndarray = field(repr=False)
    quality: float
    losses: tuple[float, float, float]
    cap: float
    price: float
    sensitivity: np.ndarray | None = field(default=None, repr=False)

    @property
    def row_weights(self) -> str:
        """Return the row weights by their name on the command line."""
        return "ones" if self.sensitivity is None else "fisher"


def optimal_cap(settings: SearchSettings) -> float:
    """Return the optimum's own row cap, unless TRIM's is higher."""
    return max(OPTIMAL_CAP, settings.max_row_sparsity)


class SweptLayer(Protocol):
    """A layer and its retention curves."""

    @property
    def rows(self) -> int:
        """D."""

    @property
    def columns(self) -> int:
        """N."""

    @property
    def vectors(self) -> int:
        """L."""

    @property
    def score(self) -> np.ndarray:
        """(D, N)."""

    @property
    def input_norm(self) -> np.ndarray:
        """Return how large each input feature is, (N,): √(Σ x_j² over all tokens / sequences)."""

    @property
    def weight_norm(self) -> np.ndarray:
        """‖W_i‖, (D,)."""

    @property
    def output_norm(self) -> np.ndarray:
        """‖Y_i‖, (D,)."""

    @property
    def dead_rows(self) -> np.ndarray:
        """(D,) bool, the rows without output on the calibration text."""

    def cosine_curves(self, counts: np.ndarray) -> np.ndarray:
        """Return each row's cosine similarity after (P,) numbers of pruned weights, (D, P)."""

    def cosine(self, counts: np.ndarray) -> np.ndarray:
        """Return each row's cosine similarity at the counts (D,)."""

    def search(self, settings: SearchSettings, *, complete: bool = False) -> SearchResult[np.ndarray]:
        """Run TRIM; `complete`: the trace has every rate of the grid where the curves hold the quality."""

    def exact_qualities(self, result: SearchResult[np.ndarray]) -> np.ndarray:
        """Return the quality of every update of a search at exact counts, (R, K + 1)."""

    def optimum(self, result: SearchResult[np.ndarray], sensitivity: np.ndarray | None) -> Optimum:
        """Return the optimal counts for the total and the measure of a search, with row weights (D,) if given."""

    def prices(self, best: Optimum, row: int) -> RowPrices:
        """Return the prices of a row's weights, and how many of them the optimum takes."""

    def keep_mask(self, counts: np.ndarray) -> np.ndarray:
        """Return which weights are kept, (D, N) bool."""
