"""The record of TRIM's outer search over learning rates (arXiv 2505.16743)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from diagnostics.numeric import check_shape, real_array

Outcome = Literal["positive", "negative", "none"]


@dataclass(frozen=True, eq=False)
class LearningRateTrace:
    """The search of one layer, one line per learning rate, one column per iteration.

    rates: (R,) not zero, distinct, in the order of the published grid, both signs.
    quality: (R, K + 1) layer quality, larger is better; column 0 is the uniform allocation, so its entries
    are all equal. NaN where a rate was not computed at all, which only an untried rate may be.
    row_variance: (R, K + 1) variance of the row quality over rows; NaN as above.
    tried: (R,) bool, whether the published search got to the rate.
    chosen: index of the rate the published search chose, None if the layer stayed uniform.
    exhaustive: index of the rate that is best over the full grid, None if none beats uniform.
    layer_measure, row_measure: which qualities these are ("cosim_flat", "cosim", "mse", ...).
    Raises ValueError for anything that contradicts this.
    """

    rates: np.ndarray
    quality: np.ndarray
    row_variance: np.ndarray
    tried: np.ndarray
    chosen: int | None
    exhaustive: int | None
    layer_measure: str = "cosim_flat"
    row_measure: str = "cosim"

    def __post_init__(self) -> None:
        rates = real_array("rates", self.rates, 1)
        quality = real_array("quality", self.quality, 2, finite=False)
        tried = np.asarray(self.tried)
        if (rates == 0).any() or len(np.unique(rates)) != len(rates):
            raise ValueError(f"rates must be distinct and not zero, got {rates.tolist()}")
        check_shape("quality", quality, (len(rates), quality.shape[1]))
        check_shape(
            "row_variance", real_array("row_variance", self.row_variance, 2, finite=False), quality.shape
        )
        check_shape("tried", tried, rates.shape)
        if tried.dtype != bool or not tried.any():
            raise ValueError("tried must be bool, and at least one rate must have been tried")
        if np.isnan(quality[tried]).any():
            raise ValueError("quality holds NaN for a rate that was tried")
        starts = quality[:, 0][~np.isnan(quality[:, 0])]
        if (starts != starts[0]).any():
            raise ValueError("column 0 of quality is the uniform allocation: one value for all rates")
        for name, index in (("chosen", self.chosen), ("exhaustive", self.exhaustive)):
            if index is not None and not 0 <= index < len(rates):
                raise ValueError(f"{name} must be an index of rates or None, got {index}")
        if self.chosen is not None and not tried[self.chosen]:
            raise ValueError("the chosen rate must be one that was tried")

    @property
    def uniform_quality(self) -> float:
        """Layer quality of the uniform allocation."""
        return float(self.quality[np.asarray(self.tried), 0][0])

    @property
    def outcome(self) -> Outcome:
        """Sign of the published choice: "positive", "negative", or "none" if the layer stayed uniform."""
        return self._sign(self.chosen)

    @property
    def exhaustive_outcome(self) -> Outcome:
        """Return the outcome of the best rate of the full grid."""
        return self._sign(self.exhaustive)

    def _sign(self, index: int | None) -> Outcome:
        if index is None:
            return "none"
        return "positive" if self.rates[index] > 0 else "negative"

    @property
    def gain(self) -> np.ndarray:
        """Quality minus uniform quality, (R, K + 1); NaN where the quality is not finite."""
        usable = np.isfinite(self.quality) & np.isfinite(self.uniform_quality)
        gain = np.full(usable.shape, np.nan)
        np.subtract(self.quality, self.uniform_quality, out=gain, where=usable)
        return gain

    @property
    def gain_limit(self) -> float:
        """Size of the gains worth telling apart: the largest gain, or the largest loss if nothing is gained.

        High rates lose a hundred times more than the best one gains; a scale over both hides every gain.
        """
        gain = self.gain[np.isfinite(self.gain)]
        if not gain.any():
            return 1.0
        return float(gain.max()) if gain.max() > 0 else float(-gain.min())


@dataclass(frozen=True)
class RateSummary:
    """The summary of one learning rate.

    Whether it was tried, its best quality over all iterations (uniform included), that minus the uniform quality, and
    the iteration it was reached at (0: uniform). None if not computed.
    """

    rate: float
    tried: bool
    best_quality: float | None
    gain: float | None
    best_iteration: int | None
    chosen: bool
    exhaustive: bool


def rate_summaries(trace: LearningRateTrace) -> tuple[RateSummary, ...]:
    """One line per rate, in the trace's order: the table beside the figures."""
    lines = []
    for index, rate in enumerate(np.asarray(trace.rates).tolist()):
        marks = bool(trace.tried[index]), index == trace.chosen, index == trace.exhaustive
        quality = trace.quality[index]
        if np.isnan(quality).all():
            lines.append(RateSummary(rate, marks[0], None, None, None, *marks[1:]))
            continue
        best = int(np.nanargmax(quality))
        gain = float(trace.gain[index, best])
        lines.append(RateSummary(rate, marks[0], float(quality[best]), gain, best, *marks[1:]))
    return tuple(lines)
