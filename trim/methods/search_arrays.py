"""TRIM's search in host memory: arrays all through, importable without torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from trim.methods.counts import check_total, exact_counts, largest_count, total_count
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import Choice, SearchResult, SearchTrace

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
    target, cap = settings.target_sparsity, settings.max_row_sparsity
    rows, limit = len(tables.norm), largest_count(tables.columns, cap)
    if total is None:
        total = total_count(target, rows, tables.columns, cap)
    check_total(total, rows, limit)
    rates = settings.learning_rates + settings.negative_learning_rates
    found = tables.search(
        rates, len(settings.learning_rates), target, cap, settings.iterations, total, limit,
        settings.row_quality, settings.layer_quality, complete=complete,
    )  # fmt: skip
    best_of_rates = found.best.tolist()
    tried = [pair for pair in zip(rates, best_of_rates, strict=True) if not math.isnan(pair[1])]
    evaluated = rates if complete else [rate for rate, _ in tried]
    updates = {rate: found.x[rates.index(rate)] for rate in evaluated}
    return SearchResult.of(
        settings,
        Choice(
            tried, rates[found.rate], found.iteration, best_of_rates[found.rate], float(found.quality[0, 0])
        ),
        SearchTrace(rates, found.quality, found.row_variance, updates),
        (found.counts[0], found.counts[1]),
        (float(found.realised[0]), float(found.realised[1])),
        tables.dead_rows,
    )
