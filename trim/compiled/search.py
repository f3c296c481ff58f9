"""TRIM's search over learning rates, from a layer's curves: all of it in one call, on one core."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from trim.compiled import search_loops
from trim.measures import LAYER_MEASURES, ROW_MEASURES


class SearchOutcome(NamedTuple):
    """The outcome of a search at R learning rates; index 0 of the iterations is uniform.

    Attributes:
        x: (R, K + 1, D) float64; not set where a rate was not evaluated.
        quality, row_variance: (R, K + 1) float64, of the layer at floor counts; NaN after uniform in the same places.
        best: (R,) float64, each rate's best quality; NaN where the publication does not try it.
        rate, iteration: indices of the first update that is best.
        counts: (2, D) int64, the exact counts of that update, and uniform ones.
        realised: (2,) float64, the quality of the layer at both.
    """

    x: np.ndarray
    quality: np.ndarray
    row_variance: np.ndarray
    best: np.ndarray
    rate: int
    iteration: int
    counts: np.ndarray
    realised: np.ndarray


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables that all searches of a layer look up.

    Attributes:
        curves: dot, energy, error and cosine, (D, N + 1, 4) float64.
        norm, peak: ‖Y_i‖ and the largest Y_i² of each row, (D,) float64.
        vectors: L.
    """

    curves: np.ndarray
    norm: np.ndarray
    peak: np.ndarray
    vectors: int

    @property
    def columns(self) -> int:
        """N, the weights in a row."""
        return len(self.curves[0]) - 1

    @cached_property
    def dead_rows(self) -> np.ndarray:
        """Rows without output, (D,) bool."""
        dead: np.ndarray = self.norm == 0
        return dead

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, int]:
        """The tables in the form in which `search_loops` takes them."""
        start = np.arange(len(self.norm), dtype=np.uint64) * np.uint64(self.columns + 1)
        return self.curves.reshape(-1, 4), start, self.norm, self.peak, self.columns, self.vectors

    @cached_property
    def layer_summary(self) -> tuple[float, ...]:
        """‖Y‖ of the layer, its largest Y², how many rows it has, how many of them have output, and L."""
        norm, peak = np.sqrt(np.square(self.norm).sum()), self.peak.max()
        alive = len(self.norm) - self.dead_rows.sum()
        return tuple(map(float, (norm, peak, len(self.norm), alive, self.vectors)))

    def search(
        self,
        rates: tuple[float, ...],
        positive: int,
        target: float,
        cap: float,
        iterations: int,
        total: int,
        limit: int,
        row_measure: str,
        layer_measure: str,
        *,
        complete: bool = False,
    ) -> SearchOutcome:
        """Update x at the learning rates that the publication tries, judge every update, and round the best to counts.

        Args:
            rates: R learning rates, in the order of the publication.
            positive: how many of them, the first ones, are positive.
            target: T.
            cap: the highest sparsity of a row.
            iterations: K.
            total: how many weights the layer loses, at most D · limit.
            limit: the most that a row may lose.
            row_measure: one of `ROW_MEASURES`. Rows without output have no `psnr` and are not updated.
            layer_measure: one of `LAYER_MEASURES`.
            complete: evaluate the rates that the publication leaves untried too.
        """
        shape, rows = (len(rates), iterations + 1), len(self.norm)
        x, quality, row_variance = np.empty((*shape, rows)), np.empty(shape), np.empty(shape)
        best, counts, realised = np.empty(len(rates)), np.empty((2, rows), np.int64), np.empty(2)
        rate, iteration = search_loops.search_rates(
            self.arrays, self.layer_summary, self.dead_rows, np.array(rates), positive, complete, target, cap, total,
            limit, ROW_MEASURES[row_measure], LAYER_MEASURES[layer_measure], x, quality, row_variance, best, counts,
            realised,
        )  # fmt: skip
        return SearchOutcome(x, quality, row_variance, best, rate, iteration, counts, realised)

    def judge(self, counts: np.ndarray, layer_measure: str) -> np.ndarray:
        """Look up the quality of the layer, (...), at counts (..., D), by one of `LAYER_MEASURES`."""
        candidates = counts.reshape(-1, counts.shape[-1]).astype(np.float64)
        quality = np.empty(len(candidates))
        search_loops.judge_candidates(
            self.arrays, self.layer_summary, candidates, LAYER_MEASURES[layer_measure], quality
        )
        return quality.reshape(counts.shape[:-1])
