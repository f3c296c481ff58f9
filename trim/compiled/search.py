"""TRIM's search over learning rates, from a layer's curves: all their updates in one call, on one core."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trim.compiled.search_loops import follow_rates, judge_candidates, look_up, round_and_judge
from trim.measures import LAYER_MEASURES, ROW_MEASURES

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, int]  # as `search_loops` takes them


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
    def all_rows(self) -> "Rows":
        """Every row of the layer."""
        return self._rows(np.arange(len(self.norm)))

    @cached_property
    def alive(self) -> np.ndarray:
        """The indices of rows with output."""
        return np.flatnonzero(self.norm > 0)

    @cached_property
    def alive_rows(self) -> "Rows":
        """Rows with output."""
        return self._rows(self.alive)

    @cached_property
    def dead_rows(self) -> "Rows":
        """Rows without output."""
        return self._rows(np.flatnonzero(self.norm == 0))

    def _rows(self, index: np.ndarray) -> "Rows":
        table, start = self.curves.reshape(-1, 4), (index * (self.columns + 1)).astype(np.uint64)
        return table, start, self.norm[index], self.peak[index], self.columns, self.vectors

    @cached_property
    def whole(self) -> tuple[float, ...]:
        """‖Y‖ of the layer, its largest Y², how many rows it has, how many of them have output, and L."""
        norm, peak = np.sqrt(np.square(self.norm).sum()), self.peak.max()
        return tuple(map(float, (norm, peak, len(self.norm), len(self.alive), self.vectors)))


@dataclass(frozen=True, eq=False)
class Paths:
    """The paths of R learning rates; index 0 of the iterations is uniform.

    Attributes:
        x: (R, K + 1, D) float64.
        quality: (R, K + 1) float64 layer quality at floor counts; NaN where it cannot be looked up.
        row_variance: (R, K + 1) float64.
        followed: (R,) bool; what was not has only its beginning, and no x.
    """

    x: np.ndarray
    quality: np.ndarray
    row_variance: np.ndarray
    followed: np.ndarray


def follow(
    tables: Tables,
    rates: tuple[float, ...],
    positive: int,
    target: float,
    cap: float,
    iterations: int,
    row_measure: str,
    layer_measure: str,
    *,
    complete: bool = False,
) -> Paths:
    """Update x at the learning rates that the publication tries, and judge every update.

    Args:
        tables: the layer's tables.
        rates: R learning rates, in its order; the first `positive` of them are positive.
        positive: how many.
        target: T.
        cap: the highest sparsity of a row.
        iterations: K.
        row_measure: one of `ROW_MEASURES`. Rows without output have no `psnr` and stay.
        layer_measure: one of `LAYER_MEASURES`; by any other nothing is judged.
        complete: follow the rates that the publication leaves untried as well.
    """
    rows = tables.alive_rows if row_measure == "psnr" else tables.all_rows
    number, shape = len(rows[1]), (len(rates), iterations + 1)
    measure, others = LAYER_MEASURES.get(layer_measure, -1), np.zeros(6)
    if number < len(tables.norm):  # rows that stay add the same to every sum
        at_target = np.full(len(tables.norm) - number, target)
        look_up(tables.dead_rows, at_target, tables.columns, -1, measure, np.empty_like(at_target), others)
    moved, quality, row_variance = np.empty((*shape, number)), np.full(shape, np.nan), np.full(shape, np.nan)
    followed = np.zeros(len(rates), np.bool_)
    follow_rates(
        rows, tables.whole, others, np.array(rates), positive, complete, target, cap, ROW_MEASURES[row_measure],
        measure, moved, quality, row_variance, followed,
    )  # fmt: skip
    if number == len(tables.norm):
        return Paths(moved, quality, row_variance, followed)
    x = np.full((*shape, len(tables.norm)), target)
    x[..., tables.alive] = moved
    return Paths(x, quality, row_variance, followed)


def settle(
    tables: Tables, x: np.ndarray, total: int, limit: int, layer_measure: str
) -> tuple[np.ndarray, np.ndarray]:
    """Turn x (D,) into exact counts, as `nearest_counts` does.

    Returns:
        These and uniform ones, (2, D) int64; the quality of the layer at both, (2,), by one of `LAYER_MEASURES`.
    """
    counts, quality = np.empty((2, len(x)), np.int64), np.empty(2)
    round_and_judge(
        tables.all_rows, tables.whole, x, total, limit, LAYER_MEASURES[layer_measure], counts, quality
    )
    return counts, quality


def judge(tables: Tables, counts: np.ndarray, layer_measure: str) -> np.ndarray:
    """Look up the quality of the layer, (...), at the counts of candidates, (..., D), by one of `LAYER_MEASURES`."""
    candidates = counts.reshape(-1, counts.shape[-1]).astype(np.float64)
    quality = np.empty(len(candidates))
    judge_candidates(tables.all_rows, tables.whole, candidates, LAYER_MEASURES[layer_measure], quality)
    return quality.reshape(counts.shape[:-1])
