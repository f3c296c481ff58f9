"""What goes into a search for row sparsities and what comes out of it: settings, trace and result."""

from dataclasses import dataclass, field

from torch import Tensor

from trim.methods.search_arrays import ArrayTrace, RateQualities
from trim.methods.search_settings import SearchSettings


@dataclass(frozen=True, eq=False)
class SearchTrace(RateQualities):
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

    def as_arrays(self) -> ArrayTrace:
        """Return the same in host memory."""
        updates = {rate: x.cpu().numpy() for rate, x in self.updates.items()}
        return ArrayTrace(self.rates, self.quality.numpy(), self.row_variance.numpy(), updates)


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
