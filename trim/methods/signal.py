"""Measure how much of the spread of a layer's learned row sparsities is the same whichever inputs are drawn.

Imports no torch.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

SIGNIFICANT = 2.0  # standard deviations by which a row's sparsity must differ from the layer's


@dataclass(frozen=True, eq=False)
class RowSignal:
    """The outcomes of TRIM in several draws of the calibration inputs.

    Attributes:
        sparsity: (draws, D) row sparsities.
        gini: (draws, D) Gini coefficients of the rows' scores; NaN for a row of zeros.
        rates: the learning rate of each draw; None where uniform was best.
        titles: the names of the draws, such as "seed 3".
    """

    sparsity: np.ndarray = field(repr=False)
    gini: np.ndarray = field(repr=False)
    rates: tuple[float | None, ...]
    titles: tuple[str, ...] = field(repr=False)

    @cached_property
    def mean(self) -> np.ndarray:
        """Each row's mean sparsity over the draws, (D,)."""
        mean: np.ndarray = self.sparsity.mean(axis=0)
        return mean

    @cached_property
    def uncertainty(self) -> np.ndarray:
        """The standard deviation of each row's sparsity over the draws, (D,)."""
        spread: np.ndarray = self.sparsity.std(axis=0, ddof=1)
        return spread

    @property
    def signal_share(self) -> float:
        """Return the share of the variance of row sparsities that is not uncertainty; NaN: they do not vary.

        It is V_rows / (V_rows + V_draws). V_draws is the variance over draws, averaged over rows. V_rows is the
        variance over rows of their means, minus V_draws / draws, which the draws add to it.
        """
        draws = float((self.uncertainty**2).mean())
        varied = float(self.mean.var(ddof=1)) if len(self.mean) > 1 else 0.0
        rows = max(varied - draws / len(self.sparsity), 0.0)
        return rows / (rows + draws) if rows + draws else float("nan")

    @property
    def significant_share(self) -> float:
        """Return the share of rows whose sparsity differs from the layer's by more than twice their uncertainty."""
        distance = np.abs(self.mean - self.mean.mean())
        return float((distance > np.maximum(SIGNIFICANT * self.uncertainty, 1e-12)).mean())

    def columns(self) -> dict[str, np.ndarray]:
        """Return a table with one line per row."""
        with np.errstate(invalid="ignore"):
            gini = {"gini": self.gini.mean(axis=0), "gini_uncertainty": self.gini.std(axis=0, ddof=1)}
        return {
            "row": np.arange(len(self.mean)),
            "row_sparsity": self.mean,
            "uncertainty": self.uncertainty,
            **gini,
        }
