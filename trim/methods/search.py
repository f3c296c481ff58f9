"""TRIM's search for the sparsity of each row of one layer.

Beck, Rudman, Eickhoff, "TRIM: Achieving Extreme Sparsity with Targeted Row-wise Iterative Metric-driven Pruning",
arXiv 2505.16743, section 3 and algorithm 1; ties, clamps and the order of learning rates as in the authors' code.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from trim.devices import has_kernels
from trim.methods.choices import DIRECT_QUALITIES
from trim.methods.counts import largest_count, project_counts, total_count, uniform_counts
from trim.methods.quality import layer_quality, row_quality
from trim.methods.retention import RetentionCurves
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import SearchResult, SearchTrace


def search(curves: RetentionCurves, settings: SearchSettings) -> SearchResult:
    """Run TRIM on one layer.

    Rates are evaluated as the publication comes to them; `full_trace` evaluates those it leaves untried.

    Raises:
        SparsityError: no counts under the row cap reach the target.
    """
    if _by_kernels(curves, settings):
        return _search_by_kernels(curves, settings)
    target, cap = settings.target_sparsity, settings.max_row_sparsity
    uniform = uniform_counts(curves.rows, target, curves.columns, cap).to(curves.dot.device)
    trace = _begin(settings)
    # No search tries fewer than two rates, and two cost hardly more than one.
    at_once = 1 if settings.layer_quality in DIRECT_QUALITIES else 2
    qualities: dict[float, float] = {}

    def quality_of(rate: float) -> float:
        if rate not in qualities:
            place = trace.rates.index(rate)
            batch = slice(place, place + at_once)
            _evaluate(curves, settings, trace, batch)
            qualities.update(zip(trace.rates[batch], trace.quality[batch].amax(dim=1).tolist(), strict=True))
        return qualities[rate]

    quality_of(trace.rates[0])
    uniform_quality = float(trace.quality[0, 0])
    tried = _try(settings, uniform_quality, quality_of)
    rate, quality = max(tried, key=lambda pair: pair[1])
    iteration = trace.best_iteration(rate)
    row_sparsity = trace.updates[rate][iteration]
    counts = project_counts(row_sparsity, target, curves.columns, cap)
    realised = layer_quality(curves.at(torch.stack([uniform, counts])), settings.layer_quality)
    uniform_realised_quality, realised_quality = realised.tolist()
    return SearchResult(
        settings=settings,
        learning_rate=rate if iteration > 0 else None,
        tried=tried,
        layer_quality=quality,
        uniform_quality=uniform_quality,
        realised_quality=realised_quality,
        uniform_realised_quality=uniform_realised_quality,
        row_sparsity=row_sparsity,
        counts=counts,
        uniform_counts=uniform,
        dead_rows=curves.dead_rows,
        trace=trace,
    )


def full_trace(curves: RetentionCurves, settings: SearchSettings) -> SearchTrace:
    """Every rate of the grid, also those that the published search would leave untried, evaluated at once."""
    if _by_kernels(curves, settings):
        return _search_by_kernels(curves, settings).trace
    trace = _begin(settings)
    _evaluate(curves, settings, trace, slice(0, len(trace.rates)))
    return trace


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


def _begin(settings: SearchSettings) -> SearchTrace:
    """A trace of which nothing is known."""
    rates = settings.learning_rates + settings.negative_learning_rates
    shape = (len(rates), settings.iterations + 1)
    quality, row_variance = (torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(2))
    return SearchTrace(rates, quality, row_variance, {})


def _taking_part(curves: RetentionCurves, settings: SearchSettings) -> Tensor | None:
    """Return the rows that the search moves, None for all: rows without output have no `psnr`."""
    if settings.row_quality != "psnr" or not bool(curves.dead_rows.any()):
        return None
    return (~curves.dead_rows).nonzero()[:, 0]


def _floor_counts(row_sparsity: Tensor, columns: int) -> Tensor:
    """Return the publication's counts, clip(floor(N · x), 0, N): half a weight per row too few on average."""
    return (row_sparsity * columns).clamp_(0, columns).long()


def _variance(quality: Tensor) -> Tensor:
    """Population variance along the rows; 0 where no row takes part."""
    rows = max(quality.shape[-1], 1)
    mean = quality.sum(dim=-1, keepdim=True) / rows
    return (quality - mean).square_().sum(dim=-1) / rows  # a fifth of the time of Tensor.var


def _evaluate(curves: RetentionCurves, settings: SearchSettings, trace: SearchTrace, chosen: slice) -> None:
    """Fill in the updates of some rates of the grid, all at once (section 3, algorithm 1).

    Uniform is judged in the same batch as they are: sums over batches of another shape may round in another order,
    which must not make uniform beat itself.
    """
    part = _taking_part(curves, settings)
    rates = trace.rates[chosen]
    x = curves.output_energy.new_empty(len(rates), settings.iterations + 1, curves.rows)
    x[:, 0] = settings.target_sparsity
    moving = x if part is None else x[..., part]
    step = 2 * torch.tensor(rates, dtype=torch.float64, device=x.device)[:, None]
    counts, row_qualities = _follow(curves, settings, step, part, moving.unbind(1))
    if part is not None:
        x[:, 1:] = settings.target_sparsity
        x[..., part] = moving
        counts = _floor_counts(x, curves.columns)
    # Whether an update is kept does not change the next one, so all are judged together.
    quality = layer_quality(curves.at(counts), settings.layer_quality).cpu()
    if trace.updates:
        quality = torch.where(quality == quality[:, :1], trace.quality[0, 0], quality)
    trace.quality[chosen] = quality
    trace.row_variance[chosen] = _variance(row_qualities).cpu()
    if not trace.updates:
        trace.quality[:, 0] = trace.quality[0, 0]
        trace.row_variance[:, 0] = trace.row_variance[0, 0]
    trace.updates.update(zip(rates, x, strict=True))


@torch.inference_mode()
def _follow(
    curves: RetentionCurves,
    settings: SearchSettings,
    step: Tensor,
    part: Tensor | None,
    x: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor]:
    """Update x from x[0] on, and write it into the rest of `x`, each (R, D') for the D' rows that take part.

    One step: rows of high quality lose more, the mean stays T. Each operation works on so few numbers that their
    count is the cost; inference mode takes a tenth off each, and no tensor made here outlives the search.

    Args:
        step: (R, 1), twice the learning rate.

    Returns:
        (R, K + 1, D') floor counts and row quality, of uniform and after each update.
    """
    rows = max(x[0].shape[1], 1)
    share = x[0].new_full((x[0].shape[1], 1), 1 / rows)  # values @ share is their mean
    counts = [_floor_counts(x[0], curves.columns)]
    quality = row_quality(curves.at(counts[0], part), settings.row_quality)
    qualities = [quality]
    # Rows that are all alike stay: rounding in a mean must not carry N · T across a whole number.
    differing = bool((quality != quality[:, :1]).any())
    for now, moved in itertools.pairwise(x):
        if not differing:
            moved.copy_(now)
        else:
            change = quality - quality.amin(dim=1, keepdim=True)
            scale = step / (change.amax(dim=1, keepdim=True) + 1e-6)
            torch.addcmul(now, change, scale, out=moved)
            moved.sub_((change @ share).mul_(scale)).clamp_(0.0, settings.max_row_sparsity)
            moved.sub_((moved @ share).sub_(settings.target_sparsity))
        counts.append(_floor_counts(moved, curves.columns))
        quality = row_quality(curves.at(counts[-1], part), settings.row_quality)
        qualities.append(quality)
    return torch.stack(counts, dim=1), torch.stack(qualities, dim=1)
