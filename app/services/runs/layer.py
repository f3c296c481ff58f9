"""A layer as a run recorded it, in the shapes that the figures take; needs neither its model nor a GPU."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from diagnostics.allocation import RowAllocation
from diagnostics.concentration import GiniStatistics, gini_statistics
from diagnostics.learning_rate import LearningRateTrace
from diagnostics.similarity import AllocatedCosine
from trim.errors import RunError
from trim.methods.search_settings import SearchSettings
from trim.runs.folder import Run
from trim.runs.record import LayerRecord, SearchRecord, curve_counts

METHOD_LABELS = {"uniform": "Uniform", "trim": "TRIM", "optimal": "Optimal", "variant": "Wanda variant"}


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """One layer of a run.

    Attributes:
        record: what the run keeps of it.
        row_measure: the row quality that drove TRIM's updates, if it searched.
        cap: the most of a row that could be pruned.
    """

    record: LayerRecord
    row_measure: str
    cap: float = SearchSettings.max_row_sparsity

    @classmethod
    def of(cls, run: Run, record: LayerRecord) -> "StoredLayer":
        """The layer of an opened run."""
        return cls(record, run.request.row_quality, run.request.row_cap)

    @property
    def method(self) -> str:
        """Who set the counts: "uniform", "trim", "optimal", …"""
        return self.record.allocation

    @property
    def rows(self) -> int:
        """D."""
        return self.record.rows

    @property
    def label(self) -> str:
        """The method as charts call it."""
        return METHOD_LABELS.get(self.method, self.method)

    @cached_property
    def allocations(self) -> tuple[RowAllocation, ...]:
        """Uniform at the same layer sparsity, and the run's own; a run of uniform allocation has one."""
        record = self.record
        own = RowAllocation(self.method, self.label, record.counts, record.columns)
        if self.method == "uniform":
            return (own,)
        uniform = RowAllocation("uniform", METHOD_LABELS["uniform"], record.uniform_counts, record.columns)
        return uniform, own

    @cached_property
    def cosines(self) -> tuple[AllocatedCosine, ...]:
        """Where those allocations put the rows on their cosine curves."""
        cosines = (self.record.cosine_uniform, self.record.cosine)[-len(self.allocations) :]
        return tuple(
            AllocatedCosine(allocation.method, allocation.label, allocation.row_sparsity, cosine)
            for allocation, cosine in zip(self.allocations, cosines, strict=True)
        )

    @cached_property
    def gini(self) -> GiniStatistics:
        """How concentrated the score is in each row."""
        return gini_statistics({self.record.score: self.record.gini})

    @property
    def sparsity_grid(self) -> np.ndarray:
        """(P,) the row sparsities at which cosine curves were recorded, from 0 to 1."""
        return curve_counts(self.record.columns) / self.record.columns

    @property
    def cosine_curves(self) -> np.ndarray:
        """(D, P) float32, each row's cosine at the grid."""
        return self.record.cosine_curve.astype(np.float32)

    @cached_property
    def trace(self) -> LearningRateTrace | None:
        """TRIM's search; None where TRIM did not search. Only the rates that it tried are known.

        Raises:
            RunError: the record contradicts itself.
        """
        search = self.record.search
        if search is None:
            return None
        tried = {rate for rate, _ in search.tried}
        place = {rate: index for index, rate in enumerate(search.rates.tolist())}
        chosen = place.get(search.learning_rate)
        # A rate that was not computed has its beginning only, the uniform allocation: that is not how it went.
        computed = np.isfinite(search.quality[:, 1:]).any(axis=1)[:, None]
        try:
            return LearningRateTrace(
                rates=search.rates,
                quality=np.where(computed, search.quality, np.nan),
                row_variance=np.where(computed, search.row_variance, np.nan),
                tried=np.array([rate in tried for rate in place]),
                chosen=chosen,
                exhaustive=_best_of_all(search, computed),
                layer_measure=self.record.quality_measure,
                row_measure=self.row_measure,
            )
        except ValueError as error:
            raise RunError(
                f"The search of {self.record.name} in this run is damaged: {error}. Prune again to make it."
            ) from error


def _best_of_all(search: SearchRecord, computed: np.ndarray) -> int | None:
    """The rate that an exhaustive search would have chosen; None as well where not all rates were computed."""
    if not computed.all():
        return None
    best = int(np.argmax(np.nanmax(search.quality, axis=1)))
    return best if np.nanmax(search.quality[best]) > search.uniform_quality else None
