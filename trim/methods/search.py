"""TRIM's search for the sparsity of each row of one layer.

Beck, Rudman, Eickhoff, "TRIM: Achieving Extreme Sparsity with Targeted Row-wise Iterative Metric-driven Pruning",
arXiv 2505.16743, section 3 and algorithm 1; ties, clamps and the order of learning rates as in the authors' code.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from trim.devices import has_kernels
from trim.methods.choices import DIRECT_QUALITIES
from trim.methods.counts import largest_count, project_counts, total_count, uniform_counts
from trim.methods.quality import layer_quality
from trim.methods.retention import RetentionCurves
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import SearchResult, SearchTrace


def search(curves: RetentionCurves, settings: SearchSettings) -> SearchResult:
    """Run TRIM on one layer.

    On the CPU rates are evaluated as the publication comes to them; `full_trace` evaluates those it leaves untried.

    Raises:
        SparsityError: no counts under the row cap reach the target.
    """
    if _by_kernels(curves, settings):
        return _search_by_kernels(curves, settings)
    target, cap = settings.target_sparsity, settings.max_row_sparsity
    uniform = uniform_counts(curves.rows, target, curves.columns, cap).to(curves.dot.device)
    grid = _Grid(curves, settings)
    first = grid.trace.rates[0]
    grid.quality_of(first)
    uniform_quality = float(grid.trace.quality[0, 0])
    tried = _try(settings, uniform_quality, grid.quality_of)
    rate, quality = max(tried, key=lambda pair: pair[1])
    iteration = grid.trace.best_iteration(rate)
    row_sparsity = grid.trace.updates[rate][iteration]
    counts = project_counts(row_sparsity, target, curves.columns, cap)
    return SearchResult(
        settings=settings,
        learning_rate=rate if iteration > 0 else None,
        tried=tried,
        layer_quality=quality,
        uniform_quality=uniform_quality,
        realised_quality=_judge(curves, counts, settings.layer_quality),
        uniform_realised_quality=_judge(curves, uniform, settings.layer_quality),
        row_sparsity=row_sparsity,
        counts=counts,
        uniform_counts=uniform,
        dead_rows=curves.dead_rows,
        trace=grid.trace,
    )


def full_trace(curves: RetentionCurves, settings: SearchSettings) -> SearchTrace:
    """Evaluate every rate of the grid, also those that the published search would leave untried."""
    if _by_kernels(curves, settings):
        return _search_by_kernels(curves, settings).trace
    grid = _Grid(curves, settings)
    for rate in grid.trace.rates:
        grid.quality_of(rate)
    return grid.trace


def _by_kernels(curves: RetentionCurves, settings: SearchSettings) -> bool:
    return has_kernels(curves.dot.device) and settings.layer_quality not in DIRECT_QUALITIES


def _search_by_kernels(curves: RetentionCurves, settings: SearchSettings) -> SearchResult:
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
            total=total_count(target, curves.rows, curves.columns, cap),
            limit=largest_count(curves.columns, cap),
            row_measure=settings.row_quality,
            layer_measure=settings.layer_quality,
        )
    trace = SearchTrace(rates, found.quality, found.row_variance, found.updates)
    qualities = dict(zip(rates, found.quality.tolist(), strict=True))
    uniform_quality = qualities[rates[0]][0]
    tried = _try(settings, uniform_quality, lambda rate: max(qualities[rate]))
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


def _try(
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


class _Grid:
    """The rates of a search, each evaluated when it is first asked for.

    Attributes:
        trace: of what was evaluated.
    """

    def __init__(self, curves: RetentionCurves, settings: SearchSettings) -> None:
        rates = settings.learning_rates + settings.negative_learning_rates
        quality, row_variance = np.full((2, len(rates), settings.iterations + 1), np.nan)
        self._curves, self._settings = curves, settings
        self._quality, self._row_variance = quality, row_variance
        self.trace = SearchTrace(rates, torch.from_numpy(quality), torch.from_numpy(row_variance), {})

    def quality_of(self, rate: float) -> float:
        """Return a rate's quality: its best, uniform included."""
        place = self.trace.rates.index(rate)
        if rate not in self.trace.updates:
            x, quality, self._row_variance[place] = self._follow(rate)
            self._quality[place] = quality
            if not self.trace.updates:
                self._quality[:, 0], self._row_variance[:, 0] = quality[0], self._row_variance[place, 0]
            self.trace.updates[rate] = x
        return float(self._quality[place].max())

    def _follow(self, rate: float) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """x, layer quality and row variance of a rate, as `SearchTrace` holds them."""
        curves, settings = self._curves, self._settings
        if has_kernels(curves.dot.device):  # the kernels follow, but cannot judge
            found = self._followed_by_kernels
            place = found.rates.index(rate)
            x, row_variance = found.updates[rate], found.row_variance[place].numpy()
        else:
            from trim.compiled.search import LAYER_MEASURES, follow

            path = follow(
                curves.tables, rate, settings.target_sparsity, settings.max_row_sparsity, settings.iterations,
                settings.row_quality, settings.layer_quality,
            )  # fmt: skip
            x, row_variance = torch.from_numpy(path.x).to(curves.dot.device), path.row_variance
            if settings.layer_quality in LAYER_MEASURES:
                return x, path.quality, row_variance
        quality = layer_quality(curves.at(_floor_counts(x, curves.columns)), settings.layer_quality)
        return x, quality.cpu().numpy(), row_variance

    @cached_property
    def _followed_by_kernels(self) -> SearchTrace:
        return _search_by_kernels(
            self._curves, dataclasses.replace(self._settings, layer_quality="cosim_flat")
        ).trace


def _judge(curves: RetentionCurves, counts: Tensor, measure: str) -> float:
    """The quality of the layer at some counts (D,)."""
    from trim.compiled.search import LAYER_MEASURES, judge

    if measure in LAYER_MEASURES:
        return judge(curves.tables, counts.cpu().numpy(), measure)
    return float(layer_quality(curves.at(counts), measure))


def _floor_counts(row_sparsity: Tensor, columns: int) -> Tensor:
    """Return the publication's counts, clip(floor(N · x), 0, N): half a weight per row too few on average."""
    return (row_sparsity * columns).clamp_(0, columns).long()
