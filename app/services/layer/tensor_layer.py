"""A live layer on the model's device, through the library's public functions."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

import trim
from app.services.layer.swept import Optimum, optimal_cap
from diagnostics.row_detail import RowPrices, row_prices
from trim.evaluation.agreement import allocated_mask
from trim.methods.counts import largest_count
from trim.methods.optimal import Hull, last_price
from trim.methods.search import exact_qualities
from trim.methods.search_types import SearchResult


class TensorLayer:
    """A `SweptLayer` of a layer captured from a model.

    Attributes:
        scored: the layer's curves and the scores by which they are ordered.
        curves: the same curves.
        input_norm: (N,), how large each input feature is.
    """

    def __init__(self, sample: trim.LayerSample, score: str) -> None:
        """Sweep the layer, its weights ranked by this score."""
        self.scored = sample.scored(score)
        self.curves = self.scored.curves
        self.input_norm = as_numpy(sample.input_norm.float())
        self._hulls: dict[int, Hull] = {}

    @property
    def rows(self) -> int:
        """D."""
        return self.curves.rows

    @property
    def columns(self) -> int:
        """N."""
        return self.curves.columns

    @property
    def vectors(self) -> int:
        """L."""
        return self.curves.vectors

    @cached_property
    def score(self) -> np.ndarray:
        """(D, N)."""
        return as_numpy(self.scored.score)

    @cached_property
    def weight_norm(self) -> np.ndarray:
        """‖W_i‖, (D,)."""
        return as_numpy(torch.linalg.vector_norm(self.curves.weight, dim=1, dtype=torch.float32))

    @cached_property
    def output_norm(self) -> np.ndarray:
        """‖Y_i‖, (D,)."""
        return as_numpy(self.curves.output_norm.double())

    @cached_property
    def dead_rows(self) -> np.ndarray:
        """(D,) bool."""
        return as_numpy(self.curves.dead_rows)

    def cosine_curves(self, counts: np.ndarray) -> np.ndarray:
        """Return each row's cosine similarity after (P,) numbers of pruned weights, (D, P)."""
        return as_numpy(self.curves.cosine[:, counts])

    def cosine(self, counts: np.ndarray) -> np.ndarray:
        """Return each row's cosine similarity at the counts (D,)."""
        return as_numpy(self.curves.at(self.counts(counts)).cosine)

    def search(self, settings: trim.SearchSettings, *, complete: bool = False) -> SearchResult[np.ndarray]:
        """Run TRIM; follow untried rates too if the curves hold the quality, where they cost next to nothing."""
        return search_curves(self.curves, settings, complete=complete)

    def exact_qualities(self, result: SearchResult[np.ndarray]) -> np.ndarray:
        """Return the quality of every update of a search at exact counts, (R, K + 1)."""
        return exact_qualities(self.curves, result)

    def optimum(self, result: SearchResult[np.ndarray], sensitivity: np.ndarray | None) -> Optimum:
        """Return the optimal counts for the total and the measure of a search, with row weights (D,) if given."""
        cap, weights = optimal_cap(result.settings), as_tensor(sensitivity)
        hull = self._hull(cap)
        counts = trim.optimal_counts(hull, int(result.counts.sum()), weights)
        allocations = [self.counts(result.uniform_counts), self.counts(result.counts), counts]
        error = self.curves.at(torch.stack(allocations)).error.double()
        if weights is not None:
            error = error * weights.to(error.device, torch.float64)
        uniform, reached, best = error.sum(dim=-1).tolist()
        quality = float(trim.layer_quality(self.curves.at(counts), result.settings.layer_quality))
        price = last_price(hull, counts, weights)
        return Optimum(as_numpy(counts), quality, (uniform, reached, best), cap, price, sensitivity)

    def prices(self, best: Optimum, row: int) -> RowPrices:
        """Return the prices of a row's weights, and how many of them the optimum takes."""
        hull = self._hull(best.cap)
        of_row = hull.row == row
        lengths = as_numpy(hull.length[of_row])
        prices = as_numpy(hull.price(as_tensor(best.sensitivity))[of_row])
        return row_prices(row, lengths, prices, best.price, int(best.counts[row]), self.columns)

    def keep_mask(self, counts: np.ndarray) -> np.ndarray:
        """Return which weights are kept, (D, N) bool."""
        return as_numpy(self.curves.keep_mask(self.counts(counts)))

    def allocated_mask(self, allocation: str, result: SearchResult[np.ndarray]) -> np.ndarray:
        """Return the mask (D, N) of one of `ALLOCATIONS` under the settings and total of a search."""
        total = int(result.counts.sum())
        return as_numpy(allocated_mask(self.scored, allocation, total, result.settings))

    def counts(self, counts: np.ndarray) -> Tensor:
        """Return counts (D,) on the device of the curves."""
        return torch.from_numpy(counts).to(self.curves.dot.device)

    def _hull(self, cap: float) -> Hull:
        """Return the lower hulls of the error curves up to this row cap."""
        limit = largest_count(self.columns, cap)
        if limit not in self._hulls:
            self._hulls[limit] = trim.lower_hull(self.curves.error, limit)
        return self._hulls[limit]


def as_numpy(values: Tensor) -> np.ndarray:
    """Copy a tensor to host memory."""
    array: np.ndarray = values.cpu().numpy()
    return array


def as_tensor(values: np.ndarray | None) -> Tensor | None:
    """Return an array as a tensor in host memory."""
    return None if values is None else torch.from_numpy(values)


def search_curves(
    curves: trim.RetentionCurves, settings: trim.SearchSettings, *, complete: bool = False
) -> SearchResult[np.ndarray]:
    """Run TRIM; `complete`: follow untried rates too if the curves hold the quality."""
    looked_up = settings.layer_quality not in trim.DIRECT_QUALITIES
    return trim.search(curves, settings, complete=complete and looked_up).converted(as_numpy)
