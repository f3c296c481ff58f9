"""The data that charts need of one layer: computed now, or read from a run without its model or a GPU."""

import dataclasses
from collections.abc import Callable, Container, Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np

from diagnostics.allocation import RowAllocation
from diagnostics.concentration import GiniStatistics, gini_statistics
from diagnostics.learning_rate import LearningRateTrace
from diagnostics.row_detail import RowPrices
from diagnostics.similarity import AllocatedCosine, cosine_bands
from trim.errors import RunError
from trim.models.heads import LayerHeads, layer_heads
from trim.row_parts import RowPart
from trim.runs.folder import Run
from trim.runs.record import CHANGE_ARRAYS, LayerRecord, curve_counts

METHOD_LABELS = {
    "uniform": "Uniform",
    "trim": "TRIM",
    "optimal": "Optimal",
    "variant": "Wanda variant",
    "layer": "Whole layer",
    "pattern": "Pattern",
    "solved": "Solved",
    "alps": "ALPS",
    "sparsegpt": "SparseGPT",
}


@dataclass(frozen=True, eq=False)
class SearchView:
    """TRIM's search of a layer.

    Attributes:
        trace: quality and row variance of each rate at each iteration.
        kept_iteration: the iteration of the chosen rate that was kept; 0 is uniform.
        x: (D, K + 1), the rows' x through the iterations of the chosen rate; (D, 1) if none was chosen.
        rate_sparsity: (R, D), the rows' x at the best iteration of each rate; NaN where it is not known.
    """

    trace: LearningRateTrace
    kept_iteration: int
    x: np.ndarray = field(repr=False)
    rate_sparsity: np.ndarray = field(repr=False)

    @property
    def learning_rate(self) -> float | None:
        """The chosen rate; None: no rate beat uniform."""
        return None if self.trace.chosen is None else float(self.trace.rates[self.trace.chosen])

    @property
    def kept_x(self) -> np.ndarray:
        """(D,), the x that became the counts."""
        kept: np.ndarray = self.x[:, self.kept_iteration]
        return kept


@dataclass(frozen=True, eq=False)
class LayerView:
    """One layer of D rows and N columns with its allocations: the data of cards, tables and row pickers.

    Attributes that a run does not store are None, or missing from `masks`; only a layer computed now has all.

    Attributes:
        key: equal for views of the same layer under the same settings.
        name: such as "15.mlp.gate_proj".
        columns: N.
        score_name: the score that ranks the weights.
        vectors: number of calibration vectors behind every cosine.
        quality_measure: the measure of `qualities`.
        target: the layer's sparsity.
        gini: how concentrated the score is in each row.
        weight_norm: (D,), ‖W_i‖.
        dead_rows: (D,) bool, rows without output on the calibration text.
        sparsity_grid, cosine_curves: (P,) row sparsities from 0 to 1, and (D, P) each row's cosine there.
        cosine_bands: (5, P), percentiles of the curves, as `similarity.cosine_bands` makes them.
        allocations: uniform, then the others; a layer pruned uniformly has one.
        cosines: the rows' cosines under the same allocations.
        qualities: the layer quality of each allocation at exact counts, by method.
        caps: the largest row sparsity that each method other than uniform was allowed, by method.
        search: TRIM's search; None where TRIM did not search.
        sensitivity: (D,), the cost of an error in each row's output; None: the optimum weighs all rows the same.
        changes: for changed weights, `row_error_masked`, `row_error` and `row_moved` of `LayerRecord`, (D,) each;
            empty: kept weights are unchanged.
        score: (D, N).
        masks: by method, a function that returns the mask (D, N) bool, True where a weight is kept; a run has only
            its own method's. It raises RunError if the run was kept without masks.
        prices: returns the prices of a row's weights under the optimum.
        input_norm: (N,), the norm of each input feature.
        heads: for an attention layer, the head of each row or column.
        parts: for a fused layer, the parts of its rows; empty if they are not known.
    """

    key: Hashable
    name: str
    columns: int
    score_name: str
    vectors: int
    quality_measure: str
    target: float
    gini: GiniStatistics = field(repr=False)
    weight_norm: np.ndarray = field(repr=False)
    dead_rows: np.ndarray = field(repr=False)
    sparsity_grid: np.ndarray = field(repr=False)
    cosine_curves: np.ndarray = field(repr=False)
    cosine_bands: np.ndarray = field(repr=False)
    allocations: tuple[RowAllocation, ...] = field(repr=False)
    cosines: tuple[AllocatedCosine, ...] = field(repr=False)
    qualities: Mapping[str, float]
    caps: Mapping[str, float]
    search: SearchView | None = field(default=None, repr=False)
    sensitivity: np.ndarray | None = field(default=None, repr=False)
    changes: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    score: np.ndarray | None = field(default=None, repr=False)
    masks: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict, repr=False)
    prices: Callable[[int], RowPrices] | None = field(default=None, repr=False)
    input_norm: np.ndarray | None = field(default=None, repr=False)
    heads: LayerHeads | None = None
    parts: tuple[RowPart, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, run: Run, record: LayerRecord) -> "LayerView":
        """Build the view of a run's layer: uniform at the same layer sparsity, and the run's own allocation.

        Raises:
            RunError: the record contradicts itself.
        """
        method = record.allocation
        label = METHOD_LABELS.get(method, method)
        own = RowAllocation(method, label, record.counts, record.columns)
        allocations: tuple[RowAllocation, ...] = (own,)
        cosines: tuple[np.ndarray, ...] = (record.cosine,)
        qualities = {method: record.realised_quality}
        curves = record.cosine_curve.astype(np.float32)
        if method != "uniform":
            uniform = RowAllocation(
                "uniform", METHOD_LABELS["uniform"], record.uniform_counts, record.columns
            )
            allocations, cosines = (uniform, own), (record.cosine_uniform, record.cosine)
            qualities = {"uniform": record.uniform_quality} | qualities
        parts = _parts(run, record)
        return cls(
            key=(run.path, run.created, record.name),
            name=record.name,
            columns=record.columns,
            score_name=record.score,
            vectors=record.vectors,
            quality_measure=record.quality_measure,
            target=record.sparsity,
            gini=gini_statistics({record.score: record.gini}),
            weight_norm=record.weight_norm,
            dead_rows=record.dead_rows,
            sparsity_grid=curve_counts(record.columns) / record.columns,
            cosine_curves=curves,
            cosine_bands=cosine_bands(curves),
            allocations=allocations,
            cosines=tuple(
                AllocatedCosine(each.method, each.label, each.row_sparsity, cosine)
                for each, cosine in zip(allocations, cosines, strict=True)
            ),
            qualities=qualities,
            caps={method: run.request.row_cap},
            search=_search_view(record, run.request.row_quality),
            sensitivity=record.sensitivity,
            changes={key: value for key in CHANGE_ARRAYS if (value := getattr(record, key)) is not None},
            masks={method: lambda: run.layer(record.name).keep()},  # records in the store have no mask
            heads=layer_heads(record.name, (record.rows, record.columns), run.heads, parts),
            parts=parts,
        )

    @property
    def rows(self) -> int:
        """D."""
        return len(self.weight_norm)

    @property
    def own(self) -> RowAllocation:
        """The allocation of interest: a run's own, or the last of several."""
        return self.allocations[-1]

    @property
    def learned(self) -> tuple[RowAllocation, ...]:
        """The allocations apart from uniform."""
        return tuple(each for each in self.allocations if each.method != "uniform")

    @property
    def pruned(self) -> int:
        """Return the number of pruned weights of the layer, which all allocations share."""
        return int(np.sum(self.own.counts, dtype=np.int64))

    @property
    def coefficients(self) -> np.ndarray:
        """(D,), the Gini of each row's scores; NaN for a row of zeros."""
        return self.gini.coefficients[0]

    def allocation(self, method: str) -> RowAllocation:
        """Return the allocation of a method: "uniform", "trim", "optimal" and so on."""
        return next(each for each in self.allocations if each.method == method)

    def showing(self, methods: Container[str]) -> "LayerView":
        """Return a copy with the allocations of these methods only."""
        return dataclasses.replace(
            self,
            allocations=tuple(each for each in self.allocations if each.method in methods),
            cosines=tuple(each for each in self.cosines if each.method in methods),
        )


def _search_view(record: LayerRecord, row_measure: str) -> SearchView | None:
    search = record.search
    if search is None:
        return None
    tried = {rate for rate, _ in search.tried}
    index_of = {rate: index for index, rate in enumerate(search.rates.tolist())}
    exact = search.exact_quality
    try:
        trace = LearningRateTrace(
            rates=search.rates,
            quality=search.quality if exact is None else exact,
            row_variance=search.row_variance,
            tried=np.array([rate in tried for rate in index_of]),
            chosen=index_of.get(search.learning_rate),
            layer_measure=record.quality_measure,
            row_measure=row_measure,
            published=None if exact is None else search.quality,
        )
    except ValueError as error:
        raise RunError(
            f"The search of {record.name} in this run is damaged: {error}. Prune again to make it."
        ) from error
    x = search.row_sparsity
    rate_sparsity = np.full((len(search.rates), x.shape[1]), np.nan, dtype=np.float32)
    if trace.chosen is not None:
        rate_sparsity[trace.chosen] = x[search.best_iteration]
    return SearchView(trace, search.best_iteration, x.T, rate_sparsity)


def _parts(run: Run, record: LayerRecord) -> tuple[RowPart, ...]:
    """Return the parts of a layer's rows as the run recorded them."""
    parts = run.structure.layer_parts(record.name)
    if any(max(part.starts, default=0) + part.rows > record.rows for part in parts):
        raise RunError(f"{run.path / 'config.json'} is damaged: {record.name} has fewer rows than its parts")
    return parts
