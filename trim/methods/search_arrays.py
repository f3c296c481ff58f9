"""TRIM's search in host memory: arrays all through, importable without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from trim.methods.counts import equal_counts, exact_counts, total_count
from trim.methods.search_settings import SearchSettings

if TYPE_CHECKING:
    from torch import Tensor

    from trim.compiled.search import Path, Tables


class RateQualities:
    """The learning rates of a search and the layer quality at each iteration of each.

    Attributes:
        rates: the R learning rates, positive ones first, in the order in which a search would try them.
        quality: (R, K + 1); index 0 is uniform; NaN after it where a rate was not evaluated.
    """

    rates: tuple[float, ...]
    quality: Tensor | np.ndarray

    def best_iteration(self, rate: float) -> int:
        """The first iteration with the rate's best quality; 0 is uniform."""
        qualities = self._of(rate)
        return qualities.index(max(qualities))

    def best_quality(self, rate: float) -> float:
        """A rate's quality is its best, uniform included."""
        return max(self._of(rate))

    @property
    def evaluated(self) -> tuple[float, ...]:
        """The rates whose updates are known: at least those that the search tried; all of them in a full trace."""
        return tuple(rate for rate in self.rates if not np.isnan(self._of(rate)[-1]))

    def _of(self, rate: float) -> list[float]:
        qualities: list[float] = self.quality[self.rates.index(rate)].tolist()
        return qualities


@dataclass(frozen=True, eq=False)
class ArrayTrace(RateQualities):
    """Every update of every learning rate, as `SearchTrace` holds it, in arrays."""

    rates: tuple[float, ...]
    quality: np.ndarray
    row_variance: np.ndarray
    updates: dict[float, np.ndarray] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Choice:
    """What the published search tries and keeps.

    Attributes:
        tried: rates and their qualities, in order.
        rate: the best of them.
        iteration: the one kept of it; 0: none beats uniform.
        quality: the layer's there, and `uniform` in the beginning.
    """

    tried: list[tuple[float, float]]
    rate: float
    iteration: int
    quality: float
    uniform: float

    @property
    def learning_rate(self) -> float | None:
        """The chosen rate; None: none beats uniform."""
        return self.rate if self.iteration > 0 else None


class Grid:
    """The rates of a search, each followed when it is first asked for.

    Attributes:
        trace: of what was followed.
    """

    def __init__(self, settings: SearchSettings, follow: Callable[[float], Path]) -> None:
        """Take the settings, and what follows a rate."""
        rates = settings.learning_rates + settings.negative_learning_rates
        quality, row_variance = np.full((2, len(rates), settings.iterations + 1), np.nan)
        self._follow = follow
        self.trace = ArrayTrace(rates, quality, row_variance, {})

    def quality_of(self, rate: float) -> float:
        """Return a rate's quality: its best, uniform included."""
        trace, place = self.trace, self.trace.rates.index(rate)
        if rate not in trace.updates:
            path = self._follow(rate)
            trace.quality[place], trace.row_variance[place] = path.quality, path.row_variance
            if not trace.updates:
                trace.quality[:, 0], trace.row_variance[:, 0] = path.quality[0], path.row_variance[0]
            trace.updates[rate] = path.x
        return float(trace.quality[place].max())

    def choose(self, settings: SearchSettings) -> Choice:
        """Try rates as the publication does."""
        self.quality_of(self.trace.rates[0])
        uniform = float(self.trace.quality[0, 0])
        tried = try_rates(settings, uniform, self.quality_of)
        rate, quality = max(tried, key=lambda pair: pair[1])
        return Choice(tried, rate, self.trace.best_iteration(rate), quality, uniform)

    def complete(self) -> ArrayTrace:
        """Follow every rate, also those that the published search leaves untried."""
        for rate in self.trace.rates:
            self.quality_of(rate)
        return self.trace


def try_rates(
    settings: SearchSettings, uniform_quality: float, quality_of: Callable[[float], float]
) -> list[tuple[float, float]]:
    """The rates that the publication tries, with their qualities: negative ones if no positive one beats uniform."""
    tried = _try_in_order(settings.learning_rates, quality_of)
    if all(quality <= uniform_quality for _, quality in tried):
        tried += _try_in_order(settings.negative_learning_rates, quality_of)
    return tried


def _try_in_order(
    rates: tuple[float, ...], quality_of: Callable[[float], float]
) -> list[tuple[float, float]]:
    """Rates and their qualities up to and with the first that is not better than the one before it."""
    tried: list[tuple[float, float]] = []
    for rate in rates:
        tried.append((rate, quality_of(rate)))
        if len(tried) > 1 and not tried[-1][1] > tried[-2][1]:
            break
    return tried


@dataclass(frozen=True, eq=False)
class ArrayResult:
    """What TRIM gave each row, as `SearchResult` holds it, in arrays.

    Attributes:
        exact: (R, K + 1) of `exact_qualities`; None unless the search was complete.
    """

    settings: SearchSettings
    learning_rate: float | None
    tried: list[tuple[float, float]]
    layer_quality: float
    uniform_quality: float
    realised_quality: float
    uniform_realised_quality: float
    row_sparsity: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    uniform_counts: np.ndarray = field(repr=False)
    trace: ArrayTrace = field(repr=False)
    exact: np.ndarray | None = field(default=None, repr=False)


def exact_qualities(
    trace: ArrayTrace,
    total: int,
    columns: int,
    max_row_sparsity: float,
    judge: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Judge every update of a search at the exact counts that its x would become.

    Args:
        trace: of the search.
        total: how many weights the layer loses.
        columns: N.
        max_row_sparsity: the cap on a row's sparsity.
        judge: the quality of the layer, (M,), at each of M candidates' counts, (M, D).

    Returns:
        (R, K + 1) float64. Column 0 is uniform; NaN after it where a rate was not evaluated.
    """
    quality = np.full_like(trace.quality, np.nan)
    for rate, x in trace.updates.items():
        quality[trace.rates.index(rate)] = judge(exact_counts(x, total, columns, max_row_sparsity))
    quality[:, 0] = quality[0, 0]
    return quality


def search_tables(tables: Tables, settings: SearchSettings, *, complete: bool = False) -> ArrayResult:
    """Run TRIM on one layer by a layer quality that can be looked up.

    Args:
        tables: of the layer.
        settings: of the search.
        complete: follow every rate of the grid, also those that the published search leaves untried, and judge every
            update at exact counts too.

    Raises:
        SparsityError: no counts under the row cap reach the target.
    """
    from trim.compiled.search import follow, judge

    target, cap, measure = settings.target_sparsity, settings.max_row_sparsity, settings.layer_quality
    total = total_count(target, len(tables.norm), tables.columns, cap)
    uniform = equal_counts(len(tables.norm), total)
    grid = Grid(
        settings,
        lambda rate: follow(tables, rate, target, cap, settings.iterations, settings.row_quality, measure),
    )
    chosen = grid.choose(settings)
    row_sparsity = grid.trace.updates[chosen.rate][chosen.iteration]
    counts = exact_counts(row_sparsity, total, tables.columns, cap)
    realised, uniform_realised = judge(tables, np.stack([counts, uniform]), measure).tolist()
    exact = None
    if complete:
        exact = exact_qualities(
            grid.complete(), total, tables.columns, cap, lambda each: judge(tables, each, measure)
        )
    return ArrayResult(
        settings=settings,
        learning_rate=chosen.learning_rate,
        tried=chosen.tried,
        layer_quality=chosen.quality,
        uniform_quality=chosen.uniform,
        realised_quality=realised,
        uniform_realised_quality=uniform_realised,
        row_sparsity=row_sparsity,
        counts=counts,
        uniform_counts=uniform,
        trace=grid.trace,
        exact=exact,
    )
