"""The outcome of a search for row sparsities: trace, choice and result, of tensors or arrays. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from trim.methods.search_settings import SearchSettings

if TYPE_CHECKING:
    from torch import Tensor

Values = TypeVar("Values", np.ndarray, "Tensor")
OtherValues = TypeVar("OtherValues", np.ndarray, "Tensor")


@dataclass(frozen=True, eq=False)
class SearchTrace(Generic[Values]):
    """Every update of every learning rate; index 0 along the iterations is uniform.

    Attributes:
        rates: the R learning rates, positive ones first, in the order in which a search would try them.
        quality: (R, K + 1) float64 layer quality at floor counts, on the CPU; NaN after the first column where
            a rate was not evaluated.
        row_variance: (R, K + 1) float64 variance of the rows' quality, NaN in the same places.
        updates: evaluated rate -> (K + 1, D) float64, x after each update, on the device of the curves.
        exact_quality: (R, K + 1) float64, quality at exact counts; None: the search did not compute it.
    """

    rates: tuple[float, ...]
    quality: Values
    row_variance: Values
    updates: dict[float, Values] = field(repr=False)
    exact_quality: Values | None = None

    def best_iteration(self, rate: float) -> int:
        """Return the first iteration with the rate's best quality; 0 is uniform."""
        qualities = self.quality[self.rates.index(rate)].tolist()
        best: int = qualities.index(max(qualities))
        return best


@dataclass(frozen=True, eq=False)
class Choice:
    """The rates that the published search tries, and the one that it keeps.

    Attributes:
        tried: rates and their qualities, in order.
        rate: the best of them.
        iteration: its best iteration; 0: no rate beats uniform.
        quality, uniform: the layer's quality at that iteration, and at uniform.
    """

    tried: list[tuple[float, float]]
    rate: float
    iteration: int
    quality: float
    uniform: float

    @property
    def learning_rate(self) -> float | None:
        """The chosen rate; None: no rate beats uniform."""
        return self.rate if self.iteration > 0 else None


def choose(settings: SearchSettings, quality_of: Callable[[float], Sequence[float]]) -> Choice:
    """Try rates as the publication does: negative ones if no positive one beats uniform.

    Args:
        settings: the search's settings.
        quality_of: returns the layer quality at each iteration of a rate, that of uniform at index 0; called for the
            first rate, and for those that are tried.
    """
    uniform = quality_of((settings.learning_rates + settings.negative_learning_rates)[0])[0]
    tried = _try_in_order(settings.learning_rates, quality_of)
    if all(quality <= uniform for _, quality in tried):
        tried += _try_in_order(settings.negative_learning_rates, quality_of)
    rate, quality = max(tried, key=lambda pair: pair[1])
    return Choice(tried, rate, list(quality_of(rate)).index(quality), quality, uniform)


def _try_in_order(
    rates: tuple[float, ...], quality_of: Callable[[float], Sequence[float]]
) -> list[tuple[float, float]]:
    """Try rates until one is not better than the previous one; return the tried rates and their qualities."""
    tried: list[tuple[float, float]] = []
    for rate in rates:
        tried.append((rate, max(quality_of(rate))))
        if len(tried) > 1 and not tried[-1][1] > tried[-2][1]:
            break
    return tried


@dataclass(frozen=True, eq=False)
class SearchResult(Generic[Values]):
    """The sparsity that TRIM gave each row, and the path of the search.

    `layer_quality` and `uniform_quality` are measured at the floor counts of the publication; `realised_quality` and
    `uniform_realised_quality` at the exact counts that masks, files and views use.

    Attributes:
        settings: the search's settings.
        learning_rate: the chosen rate; None: no rate beats uniform.
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
    row_sparsity: Values = field(repr=False)
    counts: Values = field(repr=False)
    uniform_counts: Values = field(repr=False)
    dead_rows: Values = field(repr=False)
    trace: SearchTrace[Values] = field(repr=False)

    def converted(self, convert: Callable[[Values], OtherValues]) -> SearchResult[OtherValues]:
        """Return the same result with its values converted."""
        trace = self.trace
        updates = {rate: convert(x) for rate, x in trace.updates.items()}
        exact = None if trace.exact_quality is None else convert(trace.exact_quality)
        return SearchResult(
            self.settings,
            self.learning_rate,
            self.tried,
            self.layer_quality,
            self.uniform_quality,
            self.realised_quality,
            self.uniform_realised_quality,
            convert(self.row_sparsity),
            convert(self.counts),
            convert(self.uniform_counts),
            convert(self.dead_rows),
            SearchTrace(trace.rates, convert(trace.quality), convert(trace.row_variance), updates, exact),
        )

    @classmethod
    def of(
        cls,
        settings: SearchSettings,
        chosen: Choice,
        trace: SearchTrace[Values],
        counts: tuple[Values, Values],
        qualities: tuple[float, float],
        dead_rows: Values,
    ) -> SearchResult[Values]:
        """Assemble a result.

        Args:
            settings: the search's settings.
            chosen: the rates that were tried, and the chosen one.
            trace: the search's trace.
            counts: the exact counts of TRIM and of uniform.
            qualities: the layer's quality at both.
            dead_rows: (D,) bool.
        """
        return cls(
            settings,
            chosen.learning_rate,
            chosen.tried,
            chosen.quality,
            chosen.uniform,
            *qualities,
            trace.updates[chosen.rate][chosen.iteration],
            *counts,
            dead_rows,
            trace,
        )
