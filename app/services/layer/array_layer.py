"""A layer in host memory, swept and searched without torch."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from app.services.layer.swept import Optimum, optimal_cap
from diagnostics.row_detail import RowPrices, row_prices
from trim.errors import SettingsError
from trim.methods.choices import DIRECT_QUALITIES
from trim.methods.counts import largest_count
from trim.methods.search_arrays import judge_trace, search_tables
from trim.methods.search_types import SearchResult

if TYPE_CHECKING:
    from trim.compiled.search import Tables
    from trim.methods.search_settings import SearchSettings


class ArrayLayer:
    """A `SweptLayer` of weights (D, N), input vectors (N, L) and scores (D, N), float32 each.

    It supports the qualities that curves hold, and no row weights.
    """

    def __init__(
        self, weight: np.ndarray, inputs: np.ndarray, score: np.ndarray, input_norm: np.ndarray
    ) -> None:
        """Take the arrays of the layer; `input_norm` (N,) are its input features' norms. It is swept at first use."""
        self.score, self.input_norm = score, input_norm
        self.rows, self.columns, self.vectors = *weight.shape, inputs.shape[1]
        self._weight, self._inputs = weight, inputs
        self._hulls: dict[int, tuple[np.ndarray, ...]] = {}
        self._lock = threading.Lock()

    @cached_property
    def _order(self) -> np.ndarray:
        from trim.compiled.order import order_rows

        order: np.ndarray = order_rows(self.score)[0]
        return order

    @property
    def tables(self) -> Tables:
        """The curves of the swept layer, and what else a search looks up; several threads wait for one sweep."""
        with self._lock:
            return self._swept

    @cached_property
    def _swept(self) -> Tables:
        from trim.compiled.search import Tables
        from trim.compiled.sweep import sweep

        curves, output, _ = sweep(self._weight, self._inputs, self._order)
        peak = np.square(np.abs(output).max(axis=1), dtype=np.float64)
        return Tables(curves, np.sqrt(curves[:, 0, 1]), peak, self.vectors)

    @cached_property
    def weight_norm(self) -> np.ndarray:
        """‖W_i‖, (D,)."""
        norm: np.ndarray = np.sqrt(np.square(self._weight, dtype=np.float64).sum(axis=1)).astype(np.float32)
        return norm

    @cached_property
    def output_norm(self) -> np.ndarray:
        """‖Y_i‖, (D,)."""
        return self.tables.norm

    @cached_property
    def dead_rows(self) -> np.ndarray:
        """(D,) bool."""
        return self.tables.dead_rows

    def cosine_curves(self, counts: np.ndarray) -> np.ndarray:
        """Return each row's cosine similarity after (P,) numbers of pruned weights, (D, P)."""
        return self.tables.curves[:, counts, 3]

    def cosine(self, counts: np.ndarray) -> np.ndarray:
        """Return each row's cosine similarity at the counts (D,)."""
        return self._at(counts, 3)

    def search(self, settings: SearchSettings, *, complete: bool = False) -> SearchResult[np.ndarray]:
        """Run TRIM.

        Raises:
            SettingsError: the quality needs masked products.
        """
        if settings.layer_quality in DIRECT_QUALITIES:
            raise SettingsError(
                f"The layer quality {settings.layer_quality} multiplies masked weights; it is shown as soon as the "
                "live model is loaded."
            )
        return search_tables(self.tables, settings, np.asarray, complete=complete)

    def exact_qualities(self, result: SearchResult[np.ndarray]) -> np.ndarray:
        """Return the quality of every update of a search at exact counts, (R, K + 1)."""
        measure = result.settings.layer_quality
        return judge_trace(result, self.columns, lambda counts: self.tables.judge(counts, measure))

    def optimum(self, result: SearchResult[np.ndarray], sensitivity: np.ndarray | None) -> Optimum:
        """Return the optimal counts for the total and the measure of a search."""
        from trim.compiled.hull import take_edges

        assert sensitivity is None, "sensitivities are measured with the model"
        cap = optimal_cap(result.settings)
        row, length, slope, order, before = self._edges(largest_count(self.columns, cap))
        counts = take_edges(order, row, length, int(result.counts.sum()), self.rows)
        uniform, reached, best = (
            float(self._at(each, 2).sum()) for each in (result.uniform_counts, result.counts, counts)
        )
        taken = slope[before < counts[row]]
        price = float(taken.max()) if len(taken) else 0.0
        quality = float(self.tables.judge(counts, result.settings.layer_quality))
        return Optimum(counts, quality, (uniform, reached, best), cap, price)

    def prices(self, best: Optimum, row: int) -> RowPrices:
        """Return the prices of a row's weights, and how many of them the optimum takes."""
        rows, length, slope, _, _ = self._edges(largest_count(self.columns, best.cap))
        of_row = rows == row
        return row_prices(row, length[of_row], slope[of_row], best.price, int(best.counts[row]), self.columns)

    def keep_mask(self, counts: np.ndarray) -> np.ndarray:
        """Return which weights are kept, (D, N) bool."""
        keep = np.empty(self.score.shape, bool)
        np.put_along_axis(keep, self._order, np.arange(self.columns) >= counts[:, None], axis=1)
        return keep

    def _at(self, counts: np.ndarray, curve: int) -> np.ndarray:
        values: np.ndarray = self.tables.curves[np.arange(self.rows), counts, curve]
        return values

    def _edges(self, limit: int) -> tuple[np.ndarray, ...]:
        """Return the hulls' edges: rows, lengths, slopes, order by slope, and how far into its row each begins."""
        if limit not in self._hulls:
            from trim.compiled.hull import hull_edges

            row, length, slope = hull_edges(self.tables.curves[..., 2], limit)
            before = np.cumsum(length) - length - row * limit
            self._hulls[limit] = (row, length, slope, np.argsort(slope, kind="stable"), before)
        return self._hulls[limit]
