"""The settings of TRIM's search."""

import math
import numbers
from dataclasses import dataclass

from trim.errors import SettingsError, SparsityError
from trim.methods.choices import LAYER_QUALITIES, ROW_QUALITIES


@dataclass(frozen=True)
class SearchSettings:
    """Everything that changes the outcome of a search.

    Attributes:
        target_sparsity: T, the layer's sparsity: the mean of its rows' sparsities.
        learning_rates: positive rates, tried in this order; they prune rows that keep their quality harder.
        negative_learning_rates: tried only if no positive rate beats uniform; empty: forbidden.
        iterations: updates per learning rate.
        layer_quality: a name from `choices.LAYER_QUALITIES`; decides which update is kept.
        row_quality: a name from `choices.ROW_QUALITIES`; drives the updates.
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
        for kind, name, choices in (
            ("layer_quality", self.layer_quality, LAYER_QUALITIES),
            ("row_quality", self.row_quality, ROW_QUALITIES),
        ):
            if name not in choices:
                raise SettingsError(f"{kind} must be one of {', '.join(choices)}, not {name!r}")
