"""What goes into a search for row sparsities and what comes out of it: settings, trace and result."""

import math
import numbers
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from trim.errors import SettingsError, SparsityError
from trim.methods.quality import LAYER_QUALITIES, ROW_QUALITIES


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
