"""TRIM's search in host memory: arrays all through, importable without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from trim.methods.counts import check_total, exact_counts, largest_count, total_count
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import SearchResult, SearchTrace, choose

if TYPE_CHECKING:
    from trim.compiled.search import Tables


def exact_qualities(
    result: SearchResult[np.ndarray], columns: int, judge: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Judge every update of a search at the exact counts of its x.

    Args:
        result: the search's result.
        columns: N.
        judge: returns the quality of the layer, (...), at the counts of candidates, (..., D).

    Returns:
        (R, K + 1) float64. Column 0 is uniform; NaN after it where a rate was not evaluated.
    """
    trace, total = result.trace, int(result.counts.sum())
    quality = np.full_like(trace.quality, np.nan)
    counts = exact_counts(
        np.stack(list(trace.updates.values())), total, columns, result.settings.max_row_sparsity
    )
    quality[[trace.rates.index(rate) for rate in trace.updates]] = judge(counts)
    quality[:, 0] = quality[0, 0]
    return quality


def search_tables(
    tables: Tables, settings: SearchSettings, total: int | None = None, *, complete: bool = False
) -> SearchResult[np.ndarray]:
    """Run TRIM on one layer by a layer quality that can be looked up.

    Args:
        tables: the layer's tables.
        settings: the search's settings.
        total: how many weights the layer loses; None: round(T · D · N).
        complete: follow every rate of the grid, including those that the published search does not try.

    Raises:
        SparsityError: no counts under the row cap reach the target.
    """
    from trim.compiled.search import follow, settle

    target, cap, measure = settings.target_sparsity, settings.max_row_sparsity, settings.layer_quality
    if total is None:
        total = total_count(target, len(tables.norm), tables.columns, cap)
    rates = settings.learning_rates + settings.negative_learning_rates
    paths = follow(
        tables, rates, len(settings.learning_rates), target, cap, settings.iterations, settings.row_quality, measure,
        complete=complete,
    )  # fmt: skip
    updates = {rate: x for rate, x, known in zip(rates, paths.x, paths.followed, strict=True) if known}
    qualities = dict(zip(rates, paths.quality.tolist(), strict=True))
    chosen = choose(settings, qualities.__getitem__)
    limit = largest_count(tables.columns, cap)
    check_total(total, len(tables.norm), limit)
    x = updates[chosen.rate][chosen.iteration]
    (counts, uniform), (realised, at_uniform) = settle(tables, x, total, limit, measure)
    return SearchResult.of(
        settings,
        chosen,
        SearchTrace(rates, paths.quality, paths.row_variance, updates),
        (counts, uniform),
        (float(realised), float(at_uniform)),
        tables.norm == 0,
    )
