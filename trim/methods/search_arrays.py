"""TRIM's search in host memory: arrays all through, importable without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from trim.methods.counts import equal_counts, exact_counts, total_count
from trim.methods.search_settings import SearchSettings

if TYPE_CHECKING:
    from torch import Tensor

    from trim.compiled.search import Tables


class RateQualities:
    """The learning rates of a search and the layer quality at each iteration of each.

    Attributes:
        rates: the R learning rates, positive ones first, in the order in which a search would try them.
        quality: (R, K + 1); index 0 is uniform; NaN after it where a rate was not evaluated.
    """

    rates: tuple[float, ...]
    quality: Tensor | np.ndarray

    def best_iteration(self, rate: float) -> int:
        """Return the first iteration with the rate's best quality; 0 is uniform."""
        qualities = self.quality[self.rates.index(rate)].tolist()
        best: int = qualities.index(max(qualities))
        return best


@dataclass(frozen=True, eq=False)
class ArrayTrace(RateQualities):
    """Every update of every learning rate, as `SearchTrace` holds it, in arrays."""

    rates: tuple[float, ...]
    quality: np.ndarray
    row_variance: np.ndarray
    updates: dict[float, np.ndarray] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Choice:
    """The rates that the published search tries, and the one that it keeps.

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


def choose(settings: SearchSettings, quality_of: Callable[[float], Sequence[float]]) -> Choice:
    """Try rates as the publication does: negative ones if no positive one beats uniform.

    Args:
        settings: of the search.
        quality_of: the layer quality at each iteration of a rate, at index 0 of uniform; asked of the first rate, and
            of those that are tried.
    """
    uniform = quality_of((settings.learning_rates + settings.negative_learning_rates)[0])[0]
    tried = _try_in_order(settings.learning_rates, quality_of)
    if all(quality <= uniform for _, quality in tried):
        tried += _try_in_order(settings.negative_learning_rates, quality_of)
    rate, quality = max(tried, key=lambda pair: pair[1])
    return Choice(tried, rate, list(quality_of(rate)).index(quality), quality, uniform)


def _try_in_order(
    rates: tuple[float, ...], quality_of: Callable[[float], Sequence[float]]
) -> list[tuple[float, float]]:
    """Return rates and their qualities up to and with the first that is not better than the one before it."""
    tried: list[tuple[float, float]] = []
    for rate in rates:
        tried.append((rate, max(quality_of(rate))))
        if len(tried) > 1 and not tried[-1][1] > tried[-2][1]:
            break
    return tried


@dataclass(frozen=True, eq=False)
class ArrayResult:
    """The outcome of a search, as `SearchResult` holds it, in arrays.

    Attributes:
        exact: (R, K + 1) of `exact_qualities`; None: they were not asked for.
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


def search_tables(
    tables: Tables, settings: SearchSettings, total: int | None = None, *, complete: bool = False
) -> ArrayResult:
    """Run TRIM on one layer by a layer quality that can be looked up.

    Args:
        tables: of the layer.
        settings: of the search.
        total: how many weights the layer loses, where that is known to the weight; None: round(T · D · N).
        complete: follow every rate of the grid, also those that the published search leaves untried.

    Raises:
        SparsityError: no counts under the row cap reach the target.
    """
    from trim.compiled.search import follow, judge

    target, cap, measure = settings.target_sparsity, settings.max_row_sparsity, settings.layer_quality
    if total is None:
        total = total_count(target, len(tables.norm), tables.columns, cap)
    rates = settings.learning_rates + settings.negative_learning_rates
    paths = follow(
        tables, rates, len(settings.learning_rates), target, cap, settings.iterations, settings.row_quality, measure,
        complete=complete,
    )  # fmt: skip
    updates = {rate: x for rate, x, known in zip(rates, paths.x, paths.followed, strict=True) if known}
    trace = ArrayTrace(rates, paths.quality, paths.row_variance, updates)
    qualities = dict(zip(rates, paths.quality.tolist(), strict=True))
    chosen = choose(settings, qualities.__getitem__)
    row_sparsity = updates[chosen.rate][chosen.iteration]
    counts = exact_counts(row_sparsity, total, tables.columns, cap)
    uniform = equal_counts(len(tables.norm), total)
    realised, uniform_realised = judge(tables, np.stack([counts, uniform]), measure).tolist()
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
        trace=trace,
    )


def with_exact(tables: Tables, result: ArrayResult) -> ArrayResult:
    """Return the result with the quality of every update of its trace at exact counts."""
    from trim.compiled.search import judge

    settings = result.settings
    exact = exact_qualities(
        result.trace, int(result.counts.sum()), tables.columns, settings.max_row_sparsity,
        lambda counts: judge(tables, counts, settings.layer_quality),
    )  # fmt: skip
    return replace(result, exact=exact)
