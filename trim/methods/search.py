"""TRIM's search for the sparsity of each row of one layer.

Beck, Rudman, Eickhoff, "TRIM: Achieving Extreme Sparsity with Targeted Row-wise Iterative Metric-driven Pruning",
arXiv 2505.16743, section 3 and algorithm 1; ties, clamps and the order of learning rates as in the authors' code.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trim.devices import has_kernels
from trim.measures import LAYER_MEASURES
from trim.methods.choices import DIRECT_QUALITIES
from trim.methods.counts import largest_count, project_counts, total_count, uniform_counts
from trim.methods.quality import layer_quality
from trim.methods.retention import RetentionCurves
from trim.methods.search_arrays import judge_trace, search_tables
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import SearchResult, SearchTrace, choose


def search(
    curves: RetentionCurves, settings: SearchSettings, total: int | None = None, *, complete: bool = False
) -> SearchResult[Tensor]:
    """Run TRIM on one layer.

    On the CPU a rate is evaluated only when the published search tries it; `full_trace` evaluates all of them.

    Args:
        curves: the layer's retention curves.
        settings: the search's settings.
        total: how many weights the layer loses; None: round(T · D · N).
        complete: evaluate every rate of the grid, including those that the published search does not try.

    Raises:
        SparsityError: no counts under the row cap reach the target.
    """
    if total is None:
        total = total_count(settings.target_sparsity, curves.rows, curves.columns, settings.max_row_sparsity)
    return search_layers(curves, [settings], [total], complete=complete)[0]


def search_layers(
    curves: RetentionCurves,
    settings: Sequence[SearchSettings],
    totals: Sequence[int],
    *,
    complete: bool = False,
) -> list[SearchResult[Tensor]]:
    """Run TRIM on each of several layers that were swept together; their settings differ only in the target."""
    if settings[0].layer_quality in DIRECT_QUALITIES:
        return [
            _search_directly(*each, complete=complete)
            for each in zip(curves.split_layers(), settings, totals, strict=True)
        ]
    device = curves.dot.device
    if has_kernels(device):
        return _search_by_kernels(curves, settings, totals)
    convert = torch.from_numpy if device.type == "cpu" else lambda values: torch.from_numpy(values).to(device)
    return [
        search_tables(layer.tables, layer_settings, convert, total, complete=complete)
        for layer, layer_settings, total in zip(curves.split_layers(), settings, totals, strict=True)
    ]


def full_trace(curves: RetentionCurves, settings: SearchSettings) -> SearchTrace[Tensor]:
    """Evaluate every rate of the grid, including those that the published search does not try."""
    return search(curves, settings, complete=True).trace


def exact_qualities(curves: RetentionCurves, result: SearchResult[np.ndarray]) -> np.ndarray:
    """Judge every update of a search's trace at its exact counts, (R, K + 1) float64; see `judge_trace`."""
    if result.trace.exact_quality is not None:
        return result.trace.exact_quality
    device, measure = curves.dot.device, result.settings.layer_quality
    return judge_trace(
        result,
        curves.columns,
        lambda counts: _judge(curves, torch.from_numpy(counts).to(device), measure).numpy(),
    )


def _search_by_kernels(
    curves: RetentionCurves, settings: Sequence[SearchSettings], totals: Sequence[int]
) -> list[SearchResult[Tensor]]:
    """Search on a CUDA device, where all rates are evaluated at once and the outcome is read back once."""
    from trim.kernels import search as search_kernels

    first = settings[0]
    rates = first.learning_rates + first.negative_learning_rates
    with torch.cuda.device(curves.dot.device):
        outcomes = search_kernels.run(
            curves,
            rates,
            iterations=first.iterations,
            targets=[each.target_sparsity for each in settings],
            cap=first.max_row_sparsity,
            totals=totals,
            limit=largest_count(curves.columns, first.max_row_sparsity),
            row_measure=first.row_quality,
            layer_measure=first.layer_quality,
        )
    dead_rows = curves.dead_rows.view(curves.layers, -1)
    results = []
    for layer_settings, found, dead in zip(settings, outcomes, dead_rows, strict=True):
        updates = dict(zip(rates, found.updates, strict=True))
        trace = SearchTrace(rates, found.quality, found.row_variance, updates, found.exact_quality)
        chosen = choose(layer_settings, dict(zip(rates, found.quality.tolist(), strict=True)).__getitem__)
        index, exact = rates.index(chosen.rate), found.exact_quality.tolist()
        counts = found.counts[index, chosen.iteration], found.counts[0, 0]
        qualities = exact[index][chosen.iteration], exact[0][0]
        results.append(SearchResult.of(layer_settings, chosen, trace, counts, qualities, dead))
    return results


def _search_directly(
    curves: RetentionCurves, settings: SearchSettings, total: int, *, complete: bool
) -> SearchResult[Tensor]:
    """Search by a layer quality that needs masked products; the updates of a rate do not depend on that quality."""
    full = full_trace(curves, dataclasses.replace(settings, layer_quality=SearchSettings.layer_quality))
    quality, updates = torch.full_like(full.quality, torch.nan), {}

    @functools.cache
    def quality_of(rate: float) -> list[float]:
        index, updates[rate] = full.rates.index(rate), full.updates[rate]
        floor_counts = (updates[rate] * curves.columns).clamp_(0, curves.columns).long()
        quality[index] = layer_quality(curves.at(floor_counts), settings.layer_quality).cpu()
        judged: list[float] = quality[index].tolist()
        return judged

    chosen = choose(settings, quality_of)
    if complete:
        for rate in full.rates:
            quality_of(rate)
    quality[:, 0] = quality[0, 0]
    row_variance = torch.where(quality.isnan(), torch.nan, full.row_variance)
    x = updates[chosen.rate][chosen.iteration]
    counts = project_counts(x, total, curves.columns, settings.max_row_sparsity)
    uniform = uniform_counts(curves.rows, total).to(counts.device)
    judged = _judge(curves, torch.stack([counts, uniform]), settings.layer_quality).tolist()
    trace = SearchTrace(full.rates, quality, row_variance, updates)
    return SearchResult.of(
        settings, chosen, trace, (counts, uniform), (judged[0], judged[1]), curves.dead_rows
    )


def _judge(curves: RetentionCurves, counts: Tensor, measure: str) -> Tensor:
    """Judge the layer at the counts of several candidates, (..., D): (...) float64 on the CPU."""
    if measure in LAYER_MEASURES and not has_kernels(curves.dot.device):
        return torch.from_numpy(curves.tables.judge(counts.cpu().numpy(), measure))
    return layer_quality(curves.at(counts), measure).cpu()
