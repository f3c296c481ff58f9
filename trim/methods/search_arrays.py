"""TRIM's search of a layer's tables, in host memory. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from trim.methods.counts import check_total, exact_counts, largest_count, total_count
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import SearchResult, SearchTrace, Values

if TYPE_CHECKING:
    from trim.compiled.search import Tables


def judge_trace(
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
    tables: Tables,
    settings: SearchSettings,
    convert: Callable[[np.ndarray], Values],
    total: int | None = None,
    *,
    complete: bool = False,
) -> SearchResult[Values]:
    """Run TRIM on one layer by a layer quality that can be looked up.

    Args:
        tables: the layer's tables.
        settings: the search's settings.
        convert: makes of an array what the result holds: `np.asarray`, or `torch.from_numpy`.
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
    best = found.best.tolist()
    tried = [pair for pair in zip(rates, best, strict=True) if not math.isnan(pair[1])]
    evaluated = rates if complete else [rate for rate, _ in tried]
    updates = {rate: convert(found.x[rates.index(rate)]) for rate in evaluated}
    return SearchResult(
        settings=settings,
        learning_rate=rates[found.rate] if found.iteration > 0 else None,
        tried=tried,
        layer_quality=best[found.rate],
        uniform_quality=float(found.quality[0, 0]),
        realised_quality=float(found.realised[0]),
        uniform_realised_quality=float(found.realised[1]),
        row_sparsity=convert(found.x[found.rate, found.iteration]),
        counts=convert(found.counts[0]),
        uniform_counts=convert(found.counts[1]),
        dead_rows=convert(tables.dead_rows),
        trace=SearchTrace(rates, convert(found.quality), convert(found.row_variance), updates),
    )
