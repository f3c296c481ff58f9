"""TRIM's search for the sparsity of each row of one layer.

Beck, Rudman, Eickhoff, "TRIM: Achieving Extreme Sparsity with Targeted Row-wise Iterative Metric-driven Pruning",
arXiv 2505.16743, section 3 and algorithm 1; ties, clamps and the order of learning rates as in the authors' code.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

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
        if not (isinstance(self.iterations, int) and self.iterations >= 1):
            raise SettingsError(f"a search needs at least one iteration, not {self.iterations!r}")
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
        row_sparsity: (R, K + 1, D) float64, x after each update, likewise, on the device of the curves.
    """

    rates: tuple[float, ...]
    quality: Tensor
    row_variance: Tensor
    row_sparsity: Tensor = field(repr=False)

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
    row_sparsity = trace.row_sparsity[trace.rates.index(rate), iteration]
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


def _try_in_order(rates: tuple[float, ...], quality_of: Callable[[float], float]) -> list[tuple[float, float]]:
    """Rates and their qualities up to and with the first that is not better than the one before it."""
    tried: list[tuple[float, float]] = []
    for rate in rates:
        tried.append((rate, quality_of(rate)))
        if len(tried) > 1 and not tried[-1][1] > tried[-2][1]:
            break
    return tried


def _floor_counts(row_sparsity: Tensor, columns: int) -> Tensor:
    """The publication's counts, clip(floor(N · x), 0, N): a little too low on average, but what it searches with."""
    return (row_sparsity * columns).floor_().clamp_(0, columns).long()


def _begin(curves: RetentionCurves, settings: SearchSettings) -> SearchTrace:
    """A trace in which every rate stands at uniform and none is evaluated."""
    rates = settings.learning_rates + settings.negative_learning_rates
    shape = (len(rates), settings.iterations + 1)
    row_sparsity = torch.full((*shape, curves.rows), torch.nan, dtype=torch.float64, device=curves.dot.device)
    row_sparsity[:, 0] = settings.target_sparsity
    quality, row_variance = (torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(2))
    retained = curves.at(_floor_counts(row_sparsity[0, 0], curves.columns))
    quality[:, 0] = layer_quality(retained, settings.layer_quality)
    row_variance[:, 0] = _variance(row_quality(retained, settings.row_quality)[_taking_part(curves, settings)])
    return SearchTrace(rates, quality, row_variance, row_sparsity)


def _taking_part(curves: RetentionCurves, settings: SearchSettings) -> Tensor | slice:
    """The rows that the search moves: under `mse` and `psnr` a row without output has no part in it."""
    if settings.row_quality == "cosim" or not bool(curves.dead_rows.any()):
        return slice(None)
    return (~curves.dead_rows).nonzero()[:, 0]


def _variance(quality: Tensor) -> Tensor:
    """Population variance along the rows; 0 where no row takes part."""
    rows = max(quality.shape[-1], 1)
    mean = quality.sum(dim=-1, keepdim=True) / rows
    return (quality - mean).square_().sum(dim=-1) / rows  # a fifth of the time of Tensor.var


def _evaluate(curves: RetentionCurves, settings: SearchSettings, trace: SearchTrace, chosen: slice) -> None:
    """Fill in the updates of some rates of the grid, all at once (section 3, algorithm 1)."""
    part = _taking_part(curves, settings)
    step = 2 * torch.tensor(trace.rates[chosen], dtype=torch.float64, device=curves.dot.device)[:, None]
    x = trace.row_sparsity[chosen, 0]
    rows = row_quality(curves.at(_floor_counts(x, curves.columns)), settings.row_quality)
    counts, row_qualities = [], []
    for iteration in range(1, settings.iterations + 1):
        moved = trace.row_sparsity[chosen, iteration]
        moved.copy_(x)
        moved[:, part] = _update(x[:, part], rows[:, part], step, settings)
        x = moved
        counts.append(_floor_counts(x, curves.columns))
        rows = row_quality(curves.at(counts[-1]), settings.row_quality)
        row_qualities.append(rows)
    # Whether an update is kept does not change the next one, so all are judged together.
    retained = curves.at(torch.stack(counts, dim=1))
    trace.quality[chosen, 1:] = layer_quality(retained, settings.layer_quality).cpu()
    trace.row_variance[chosen, 1:] = _variance(torch.stack(row_qualities, dim=1)[..., part]).cpu()


def _update(x: Tensor, quality: Tensor, step: Tensor, settings: SearchSettings) -> Tensor:
    """One step: rows of high quality lose more, the mean stays T. All (R, D) but `step` (R, 1)."""
    if x.shape[1] == 0:
        return x
    low, high = quality.amin(dim=1, keepdim=True), quality.amax(dim=1, keepdim=True)
    change = (quality - low).div_(high - low + 1e-6).mul_(step)
    moved = (x + change).sub_(change.mean(dim=1, keepdim=True)).clamp_(0.0, settings.max_row_sparsity)
    return moved.sub_(moved.mean(dim=1, keepdim=True)).add_(settings.target_sparsity)
