"""The record of TRIM's outer search over learning rates (arXiv 2505.16743)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from diagnostics.numeric import check_shape, real_array

Outcome = Literal["positive", "negative", "none"]
LAYER_UNITS = {
    "cosim_flat": "cosine over the layer",
    "cosim_dim": "mean cosine of rows",
    "cosim_sample": "mean cosine of vectors",
    "mse": "−mean squared error",
    "mse_dim": "−mean squared error",
    "mae": "−mean absolute error",
    "snr": "signal to noise, dB",
    "psnr_flat": "peak signal to noise, dB",
    "psnr_dim": "mean row PSNR, dB",
    "psnr_sample": "mean vector PSNR, dB",
}


@dataclass(frozen=True, eq=False)
class LearningRateTrace:
    """The search of one layer, one line per learning rate, one column per iteration.

    Attributes:
        rates: (R,) not zero, distinct, in the order of the published grid, both signs.
        quality: (R, K + 1) layer quality at exact counts, larger is better; column 0 is the uniform allocation, so its
            entries are all equal. NaN after it where a rate was not computed, which only an untried rate may be.
        row_variance: (R, K + 1) variance of the row quality over rows; NaN as above.
        tried: (R,) bool, whether the published search got to the rate.
        chosen: index of the rate that the published search chose; None: the layer stayed uniform.
        layer_measure, row_measure: which qualities these are ("cosim_flat", "cosim", "mse", ...).
        published: (R, K + 1), the quality at the publication's counts, which are rounded down: by it the search keeps
            and chooses. None: `quality` holds these values, because the exact ones were not stored.

    Raises:
        ValueError: the arrays contradict this.
    """

    rates: np.ndarray
    quality: np.ndarray
    row_variance: np.ndarray
    tried: np.ndarray
    chosen: int | None
    layer_measure: str = "cosim_flat"
    row_measure: str = "cosim"
    published: np.ndarray | None = None

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
        for name, reading in (("quality", self.quality), ("published", self.published)):
            if reading is None:
                continue
            values = real_array(name, reading, 2, finite=False)
            check_shape(name, values, quality.shape)
            if np.isnan(values[tried]).any():
                raise ValueError(f"{name} holds NaN for a rate that was tried")
            starts = values[:, 0][~np.isnan(values[:, 0])]
            if (starts != starts[0]).any():
                raise ValueError(f"column 0 of {name} is the uniform allocation: one value for all rates")
        if self.chosen is not None and not 0 <= self.chosen < len(rates):
            raise ValueError(f"chosen must be an index of rates or None, got {self.chosen}")
        if self.chosen is not None and not tried[self.chosen]:
            raise ValueError("the chosen rate must be one that was tried")

    @cached_property
    def uniform_quality(self) -> float:
        """Layer quality of the uniform allocation."""
        return float(self.quality[np.asarray(self.tried), 0][0])

    @property
    def outcome(self) -> Outcome:
        """Sign of the published choice: "positive", "negative", or "none" if the layer stayed uniform."""
        if self.chosen is None:
            return "none"
        return "positive" if self.rates[self.chosen] > 0 else "negative"

    @cached_property
    def computed(self) -> np.ndarray:
        """Whether each rate was computed, (R,) bool."""
        computed: np.ndarray = ~np.isnan(self.quality).any(axis=1)
        return computed

    @cached_property
    def kept_iteration(self) -> np.ndarray:
        """The iteration that the published search keeps of each rate, (R,) int64; 0, uniform, if not computed."""
        reading = self.quality if self.published is None else self.published
        kept: np.ndarray = np.where(np.isnan(reading), -np.inf, reading).argmax(axis=1)
        return kept

    @cached_property
    def kept_quality(self) -> np.ndarray:
        """The quality of each rate's kept iteration, (R,); NaN if it was not computed."""
        quality = self.quality[np.arange(len(self.rates)), self.kept_iteration]
        return np.where(self.computed, quality, np.nan)

    @cached_property
    def kept_gain(self) -> np.ndarray:
        """The quality minus that of uniform sparsity, (R,); NaN where either is not finite."""
        gain = self.gain[np.arange(len(self.rates)), self.kept_iteration]
        return np.where(self.computed, gain, np.nan)

    @cached_property
    def best(self) -> int | None:
        """Index of the best rate of the full grid; None if not all were computed, or none beats uniform."""
        best = int(self.kept_quality.argmax())  # the first NaN, if a rate was not computed
        return best if self.kept_quality[best] > self.uniform_quality else None

    @cached_property
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

    Attributes:
        rate: the learning rate.
        tried: whether the published search tried it.
        quality: the layer quality at the iteration that the search keeps; None: the rate was not computed.
        gain: the quality minus that of uniform.
        iteration: the iteration; 0: uniform.
        published: the quality at the publication's counts, if these differ.
        chosen: whether the published search chose the rate.
        best: whether it is the best of all rates.
    """

    rate: float
    tried: bool
    quality: float | None
    gain: float | None
    iteration: int | None
    published: float | None
    chosen: bool
    best: bool

    @property
    def label(self) -> str:
        """The label of the chosen rate, and of the best one if it is another; "" for others."""
        if self.chosen or not self.best:
            return "chosen" if self.chosen else ""
        return "gains more"

    @property
    def drawn(self) -> bool:
        """Whether it has a point: one that was tried, or would gain; an untried one that would not has none."""
        return self.gain is not None and (self.tried or self.gain > 0)


def rate_summaries(trace: LearningRateTrace) -> tuple[RateSummary, ...]:
    """Return a summary of each rate, in the trace's order."""
    lines = []
    for index, (rate, kept) in enumerate(
        zip(trace.rates.tolist(), trace.kept_iteration.tolist(), strict=True)
    ):
        tried, marks = bool(trace.tried[index]), (index == trace.chosen, index == trace.best)
        quality, gain = float(trace.kept_quality[index]), float(trace.kept_gain[index])
        if not trace.computed[index]:
            lines.append(RateSummary(rate, tried, None, None, None, None, *marks))
            continue
        published = None if trace.published is None else float(trace.published[index, kept])
        lines.append(RateSummary(rate, tried, quality, gain, kept, published, *marks))
    return tuple(lines)
