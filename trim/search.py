"""TRIM's search for the sparsity of each row of one layer.

Beck, Rudman, Eickhoff, "TRIM: Achieving Extreme Sparsity with Targeted Row-wise Iterative Metric-driven Pruning",
arXiv 2505.16743, section 3 and algorithm 1; ties, clamps and the order of learning rates as in the authors' code.
"""

import itertools
import math
import numbers
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from trim.errors import SettingsError, SparsityError
from trim.masks import project_counts, uniform_counts
from trim.quality import DIRECT_QUALITIES, LAYER_QUALITIES, ROW_QUALITIES, layer_quality, row_quality
from trim.retention import RetentionCurves


@dataclass(frozen=True)
class SearchSettings:
    """Everything that changes the outcome of a search.

    Attributes:
        target_sparsity: T, the layer's sparsity: the mean of its rows' sparsities.
        learning_rates: positive rates, tried in this order: they take weights from rows that keep their quality.
        negative_learning_rates: tried only if no positive one beats uniform; empty: forbidden.
        iterations: updates per learning rate.
        layer_quality: what decides which update is kept, a name from `quality.LAYER_QUALITIES`.
        row_quality: what drives the updates, a name from `quality.ROW_QUALITIES`.
        max_row_sparsity: the cap on a row's sparsity.

    Raises:
        SettingsError: a value is outside what the search can do.
    """

    target_sparsity: float
    learning_rates: tuple[float, ...] = (0.01, 0.02, 0.04, 0.08, 0.12, 0.16)
    negative_learning_rates: tuple[float, ...] = (-0.01, -0.02, -0.04)
    iterations: int = 10
    layer_quality: str = "cosim_flat"
    row_quality: str = "cosim"
    max_row_sparsity: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rates", tuple(self.learning_rates))
        object.__setattr__(self, "negative_learning_rates", tuple(self.negative_learning_rates))
        if not 0 < self.max_row_sparsity <= 1:
            raise SettingsError(f"the row cap must be above 0 and at most 1, not {self.max_row_sparsity}")
        if not 0 < self.target_sparsity <= self.max_row_sparsity:
            raise SparsityError(
                f"the target sparsity of a layer must be above 0 and at most the row cap of "
                f"{self.max_row_sparsity:g}, not {self.target_sparsity}; lower the target or raise the cap"
            )
        rates = self.learning_rates + self.negative_learning_rates
        if not rates or not all(math.isfinite(rate) for rate in rates):
            raise SettingsError("give at least one learning rate, and finite ones only")
        if min(self.learning_rates, default=1) <= 0 or max(self.negative_learning_rates, default=-1) >= 0:
            raise SettingsError(
                "learning_rates must all be above 0 and negative_learning_rates below 0, not "
                f"{self.learning_rates} and {self.negative_learning_rates}"
            )
        if len(set(rates)) < len(rates):
            raise SettingsError(f"each learning rate can be given once only: {rates}")
        if not (isinstance(self.iterations, numbers.Integral) and self.iterations >= 1):
            raise SettingsError(f"iterations must be a whole number, 1 or more, not {self.iterations!r}")
        for kind, name, known in (
            ("layer_quality", self.layer_quality, LAYER_QUALITIES),
            ("row_quality", self.row_quality, ROW_QUALITIES),
        ):
            if name not in known:
                raise SettingsError(f"{kind} must be one of {', '.join(known)}, not {name!r}")


@dataclass(frozen=True, eq=False)
class SearchTrace:
    """Every update of every learning rate; index 0 along the iterations is uniform.

    Attributes:
        rates: the R learning rates, positive ones first, in the order in which a search would try them.
        quality: (R, K + 1) float64 layer quality at floor counts, on the CPU; NaN after the first column where
            a rate was not evaluated.
        row_variance: (R, K + 1) float64 variance over the rows of their quality, likewise.
        updates: evaluated rate -> (K + 1, D) float64, x after each update, on the device of the curves.
    """

    rates: tuple[float, ...]
    quality: Tensor
    row_variance: Tensor
    updates: dict[float, Tensor] = field(repr=False)

    @cached_property
    def row_sparsity(self) -> Tensor:
        """x after each update of each rate, (R, K + 1, D) float64; NaN where a rate was not evaluated."""
        known = next(iter(self.updates.values()))
        unknown = torch.full_like(known, torch.nan)
        return torch.stack([self.updates.get(rate, unknown) for rate in self.rates])

    def best_iteration(self, rate: float) -> int:
        """The first iteration with the rate's best quality; 0 is uniform."""
        qualities = self.quality[self.rates.index(rate)].tolist()
        return qualities.index(max(qualities))

    def best_quality(self, rate: float) -> float:
        """A rate's quality is its best, uniform included."""
        return max(self.quality[self.rates.index(rate)].tolist())

    @property
    def evaluated(self) -> tuple[float, ...]:
        """The rates whose updates are known: at least those that the search tried; all of them in a full trace."""
        known = ~torch.isnan(self.quality[:, -1])
        return tuple(rate for rate, is_known in zip(self.rates, known.tolist(), strict=True) if is_known)

    @property
    def exhaustive_rate(self) -> float | None:
        """The rate with the best quality of all that were evaluated, tried by the published search or not.

        None when none of them beats uniform.
        """
        best = max(self.evaluated, key=self.best_quality)
        return best if self.best_iteration(best) > 0 else None


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What TRIM gave each row, and how it got there.

    Two readings, never mixed: `layer_quality` and `uniform_quality` are at the floor counts of the publication;
    `realised_quality` and `uniform_realised_quality` at the exact counts that masks, files and views use.

    Attributes:
        settings: what was asked for.
        learning_rate: the chosen rate; None: nothing beat uniform.
        tried: every rate that the published search tried, in order, with its quality.
        row_sparsity: (D,) float64, the search's x.
        counts, uniform_counts: (D,) int64, exact: both add up to round(T · D · N).
        dead_rows: (D,) bool, rows without output on the calibration text.
        trace: every update of every evaluated rate.
    """

    settings: SearchSettings
    learning_rate: float | None
    tried: list[tuple[float, float]]
    layer_quality: float
    uniform_quality: float
    realised_quality: float
    uniform_realised_quality: float
    row_sparsity: Tensor = field(repr=False)
    counts: Tensor = field(repr=False)
    uniform_counts: Tensor = field(repr=False)
    dead_rows: Tensor = field(repr=False)
    trace: SearchTrace = field(repr=False)


def search(curves: RetentionCurves, settings: SearchSettings) -> SearchResult:
    """Run TRIM on one layer.

    Rates are evaluated as the publication comes to them; `full_trace` evaluates those it leaves untried.

    Raises:
        SparsityError: no counts under the row cap reach the target.
    """
    target, cap = settings.target_sparsity, settings.max_row_sparsity
    uniform = uniform_counts(curves.rows, target, curves.columns, cap).to(curves.dot.device)
    trace = _begin(curves, settings)
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

    uniform_quality = float(trace.quality[0, 0])
    tried = _try_in_order(settings.learning_rates, quality_of)
    if all(quality <= uniform_quality for _, quality in tried):
        tried += _try_in_order(settings.negative_learning_rates, quality_of)
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
    trace = _begin(curves, settings)
    _evaluate(curves, settings, trace, slice(0, len(trace.rates)))
    return trace


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


def _begin(curves: RetentionCurves, settings: SearchSettings) -> SearchTrace:
    """A trace in which every rate stands at uniform and none is evaluated."""
    rates = settings.learning_rates + settings.negative_learning_rates
    shape = (len(rates), settings.iterations + 1)
    quality, row_variance = (torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(2))
    uniform = curves.dot.new_full((curves.rows,), settings.target_sparsity)
    part = _taking_part(curves, settings)
    retained = curves.at(_floor_counts(uniform, curves.columns))
    moving = retained if part is None else curves.at(retained.counts[part], part)
    quality[:, 0] = layer_quality(retained, settings.layer_quality)
    row_variance[:, 0] = _variance(row_quality(moving, settings.row_quality))
    return SearchTrace(rates, quality, row_variance, {})


def _taking_part(curves: RetentionCurves, settings: SearchSettings) -> Tensor | None:
    """The rows that the search moves, None for all: under `mse` and `psnr` those without output have no part in it."""
    if settings.row_quality == "cosim" or not bool(curves.dead_rows.any()):
        return None
    return (~curves.dead_rows).nonzero()[:, 0]


def _floor_counts(row_sparsity: Tensor, columns: int) -> Tensor:
    """The publication's counts, clip(floor(N · x), 0, N): a little too low on average, but what it searches with."""
    return (row_sparsity * columns).clamp_(0, columns).long()


def _variance(quality: Tensor) -> Tensor:
    """Population variance along the rows; 0 where no row takes part."""
    rows = max(quality.shape[-1], 1)
    mean = quality.sum(dim=-1, keepdim=True) / rows
    return (quality - mean).square_().sum(dim=-1) / rows  # a fifth of the time of Tensor.var


def _evaluate(curves: RetentionCurves, settings: SearchSettings, trace: SearchTrace, chosen: slice) -> None:
    """Fill in the updates of some rates of the grid, all at once (section 3, algorithm 1)."""
    part = _taking_part(curves, settings)
    rates = trace.rates[chosen]
    x = curves.dot.new_empty(len(rates), settings.iterations + 1, curves.rows)
    x[:, 0] = settings.target_sparsity
    moving = x if part is None else x[..., part]
    step = 2 * torch.tensor(rates, dtype=torch.float64, device=x.device)[:, None]
    counts, row_qualities = _follow(curves, settings, step, part, moving.unbind(1))
    if part is not None:
        x[:, 1:] = settings.target_sparsity
        x[..., part] = moving
        counts = _floor_counts(x[:, 1:], curves.columns)
    # Whether an update is kept does not change the next one, so all are judged together.
    quality = layer_quality(curves.at(counts), settings.layer_quality).cpu()
    # Sums over batches of another shape round in another order, which must not make uniform beat itself.
    uniform = trace.quality[chosen, :1]
    if bool(((quality - uniform).abs() <= 1e-12 * uniform.abs()).any()):
        unmoved = (counts == _floor_counts(x[:, :1], curves.columns)).all(dim=-1).cpu()
        quality = torch.where(unmoved, uniform, quality)
    trace.quality[chosen, 1:] = quality
    trace.row_variance[chosen, 1:] = _variance(row_qualities).cpu()
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
        (R, K, D') floor counts and (R, K, D') row quality after each update.
    """
    rows = max(x[0].shape[1], 1)
    share = x[0].new_full((x[0].shape[1], 1), 1 / rows)  # values @ share is their mean
    quality = row_quality(curves.at(_floor_counts(x[0], curves.columns), part), settings.row_quality)
    counts, qualities = [], []
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
