"""TRIM's search for the sparsity of each row of one layer.

Beck, Rudman, Eickhoff, "TRIM: Achieving Extreme Sparsity with Targeted Row-wise Iterative Metric-driven Pruning",
arXiv 2505.16743, section 3 and algorithm 1; ties, clamps and the order of learning rates as in the authors' code.
"""

import dataclasses
import functools

import numpy as np
import torch
from torch import Tensor

from trim.devices import has_kernels
from trim.methods.choices import DIRECT_QUALITIES
from trim.methods.counts import largest_count, project_counts, total_count, uniform_counts
from trim.methods.quality import layer_quality
from trim.methods.retention import RetentionCurves
from trim.methods.search_arrays import ArrayTrace, Grid, try_rates
from trim.methods.search_arrays import exact_qualities as judge_exactly
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import SearchResult, SearchTrace


def search(curves: RetentionCurves, settings: SearchSettings, total: int | None = None) -> SearchResult:
    """Run TRIM on one layer.

    On the CPU rates are evaluated as the publication comes to them; `full_trace` evaluates those it leaves untried.

    Args:
        curves: the layer's retention curves.
        settings: of the search.
        total: how many weights the layer loses, where that is known to the weight; None: round(T · D · N).

    Raises:
        SparsityError: no counts under the row cap reach the target.
    """
    if total is None:
        total = total_count(settings.target_sparsity, curves.rows, curves.columns, settings.max_row_sparsity)
    if _by_kernels(curves, settings):
        return _search_by_kernels(curves, settings, total)
    uniform = uniform_counts(curves.rows, total).to(curves.dot.device)
    grid = _grid(curves, settings)
    chosen = grid.choose(settings)
    trace = _as_tensors(grid.trace, curves)
    row_sparsity = trace.updates[chosen.rate][chosen.iteration]
    counts = project_counts(row_sparsity, total, curves.columns, settings.max_row_sparsity)
    exact = _judge(curves, torch.stack([counts, uniform]), settings.layer_quality).tolist()
    return SearchResult(
        settings=settings,
        learning_rate=chosen.learning_rate,
        tried=chosen.tried,
        layer_quality=chosen.quality,
        uniform_quality=chosen.uniform,
        realised_quality=exact[0],
        uniform_realised_quality=exact[1],
        row_sparsity=row_sparsity,
        counts=counts,
        uniform_counts=uniform,
        dead_rows=curves.dead_rows,
        trace=trace,
    )


def full_trace(curves: RetentionCurves, settings: SearchSettings) -> SearchTrace:
    """Evaluate every rate of the grid, also those that the published search would leave untried."""
    if _by_kernels(curves, settings):
        return search(curves, settings).trace
    return _as_tensors(_grid(curves, settings).complete(), curves)


def exact_qualities(curves: RetentionCurves, result: SearchResult) -> np.ndarray:
    """Judge every update of a search's trace as `search_arrays.exact_qualities` does."""
    settings, device = result.settings, curves.dot.device

    def judge(counts: np.ndarray) -> np.ndarray:
        judged: np.ndarray = _judge(
            curves, torch.from_numpy(counts).to(device), settings.layer_quality
        ).numpy()
        return judged

    return judge_exactly(
        result.trace.as_arrays(), int(result.counts.sum()), curves.columns, settings.max_row_sparsity, judge
    )


def _by_kernels(curves: RetentionCurves, settings: SearchSettings) -> bool:
    return has_kernels(curves.dot.device) and settings.layer_quality not in DIRECT_QUALITIES


def _search_by_kernels(curves: RetentionCurves, settings: SearchSettings, total: int) -> SearchResult:
    """The same on a CUDA device, where all rates are evaluated at once and the outcome is read back once."""
    from trim.kernels import search as search_kernels

    target, cap = settings.target_sparsity, settings.max_row_sparsity
    rates = settings.learning_rates + settings.negative_learning_rates
    with torch.cuda.device(curves.dot.device):
        found = search_kernels.run(
            curves,
            rates,
            positive=len(settings.learning_rates),
            iterations=settings.iterations,
            target=target,
            cap=cap,
            total=total,
            limit=largest_count(curves.columns, cap),
            row_measure=settings.row_quality,
            layer_measure=settings.layer_quality,
        )
    trace = SearchTrace(rates, found.quality, found.row_variance, found.updates)
    qualities = dict(zip(rates, found.quality.tolist(), strict=True))
    uniform_quality = qualities[rates[0]][0]
    tried = try_rates(settings, uniform_quality, lambda rate: max(qualities[rate]))
    rate, quality = max(tried, key=lambda pair: pair[1])
    iteration = qualities[rate].index(quality)
    return SearchResult(
        settings=settings,
        learning_rate=rate if iteration > 0 else None,
        tried=tried,
        layer_quality=quality,
        uniform_quality=uniform_quality,
        realised_quality=found.realised_quality,
        uniform_realised_quality=found.uniform_realised_quality,
        row_sparsity=trace.updates[rate][iteration],
        counts=found.counts,
        uniform_counts=found.uniform_counts,
        dead_rows=curves.dead_rows,
        trace=trace,
    )


def _grid(curves: RetentionCurves, settings: SearchSettings) -> Grid:
    """The rates of a search on the CPU, or of one on a GPU by a layer quality that the kernels cannot judge."""
    from trim.compiled.search import LAYER_MEASURES, Path
    from trim.compiled.search import follow as follow_tables

    @functools.cache
    def followed_by_kernels() -> SearchTrace:
        return search(curves, dataclasses.replace(settings, layer_quality="cosim_flat")).trace

    def follow(rate: float) -> Path:
        if has_kernels(curves.dot.device):
            trace = followed_by_kernels()
            x = trace.updates[rate]
            row_variance = trace.row_variance[trace.rates.index(rate)].numpy()
        else:
            path = follow_tables(
                curves.tables, rate, settings.target_sparsity, settings.max_row_sparsity, settings.iterations,
                settings.row_quality, settings.layer_quality,
            )  # fmt: skip
            if settings.layer_quality in LAYER_MEASURES:
                return path
            x, row_variance = torch.from_numpy(path.x).to(curves.dot.device), path.row_variance
        quality = layer_quality(curves.at(_floor_counts(x, curves.columns)), settings.layer_quality)
        return Path(x.cpu().numpy(), quality.cpu().numpy(), row_variance)

    return Grid(settings, follow)


def _as_tensors(trace: ArrayTrace, curves: RetentionCurves) -> SearchTrace:
    updates = {rate: torch.from_numpy(x).to(curves.dot.device) for rate, x in trace.updates.items()}
    return SearchTrace(
        trace.rates, torch.from_numpy(trace.quality), torch.from_numpy(trace.row_variance), updates
    )


def _judge(curves: RetentionCurves, counts: Tensor, measure: str) -> Tensor:
    """Judge the layer at each of some candidates' counts (M, D): (M,) float64 on the CPU."""
    from trim.compiled.search import LAYER_MEASURES, judge

    if measure in LAYER_MEASURES and not has_kernels(curves.dot.device):
        return torch.from_numpy(judge(curves.tables, counts.cpu().numpy(), measure))
    return layer_quality(curves.at(counts), measure).cpu()


def _floor_counts(row_sparsity: Tensor, columns: int) -> Tensor:
    """Return the publication's counts, clip(floor(N · x), 0, N): half a weight per row too few on average."""
    return (row_sparsity * columns).clamp_(0, columns).long()
