"""One layer, ready to be explored: its curves, and the results of searches. Imports no torch by itself."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from app.services.layer.keys import StudyKey
from app.services.layer.swept import Optimum, SweptLayer
from app.services.layer.targets import AllTargets, all_targets
from app.services.runs.layer import METHOD_LABELS, LayerView, SearchView
from app.services.server.access import SEMINAR
from app.services.server.lru import cached
from diagnostics.allocation import RowAllocation
from diagnostics.concentration import GiniStatistics, gini, gini_statistics
from diagnostics.gap import AllocationGap, allocation_gap
from diagnostics.learning_rate import LearningRateTrace
from diagnostics.similarity import AllocatedCosine, cosine_bands, sparsity_grid
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import SearchResult
from trim.models.heads import HeadLayout, layer_heads
from trim.row_parts import Structure
from trim.runs.run_record import Compute, ModelFacts, TextFacts

if TYPE_CHECKING:  # a live layer's job has loaded torch
    from torch import Tensor

    import trim

OUTCOME_CACHE_SIZE = 32
ALL_TARGETS_CACHE_SIZE = 4


@dataclass(frozen=True)
class Origin:
    """The origin of a study, shown in its heading and stored with a kept run.

    Attributes:
        model: the model that the layer was captured from.
        text: the calibration windows.
        compute: the device and dtype of the forward pass.
        heads: the attention heads of the model; None: not known.
        structure: the parts of the rows of its blocks, as far as they are known.
    """

    model: ModelFacts
    text: TextFacts
    compute: Compute
    heads: HeadLayout | None = None
    structure: Structure = dataclasses.field(default_factory=Structure, repr=False)

    @classmethod
    def of(cls, model: trim.Model, windows: Tensor) -> Origin:
        """Return the origin of a study of `model` on `windows`."""
        from trim.models.structure import find_structure
        from trim.runs.facts import compute_facts, text_facts

        return cls(
            ModelFacts(model.title, model.fingerprint),
            text_facts(windows, bos_token=model.tokenizer.bos_token_id),
            compute_facts(model.device, model.dtype),
            HeadLayout.of(model.module.config),
            find_structure(model.blocks),
        )


@dataclass(frozen=True, eq=False)
class Outcome:
    """One search of a study.

    Attributes:
        result: the search's result.
        optimum: the optimal allocation at the same target.
        view: the layer under uniform, TRIM and the optimum, for charts. Its search has every rate of the grid, even
            untried ones, if the curves hold the quality.
    """

    result: SearchResult[np.ndarray]
    optimum: Optimum
    view: LayerView


class Study:
    """A layer with its curves. Statistics that do not depend on the target are computed once."""

    def __init__(self, key: StudyKey, layer: SweptLayer, origin: Origin, *, refining: bool = False) -> None:
        """Begin without an outcome; `refining`: a study of more of the text will replace this one."""
        self.refining = refining
        self.key = key
        self.layer = layer
        self.origin = origin
        self.rows, self.columns, self.vectors = layer.rows, layer.columns, layer.vectors
        # The bool: whether the optimum weighs rows by their sensitivities.
        self._outcomes: OrderedDict[tuple[SearchSettings, bool], Outcome] = OrderedDict()
        self._all_targets: OrderedDict[tuple[SearchSettings, bool], AllTargets] = OrderedDict()
        self._lock = threading.Lock()

    @cached_property
    def gini(self) -> GiniStatistics:
        """Return the Gini coefficient of the score in each row."""
        return gini_statistics({self.key.score: gini(self.layer.score)})

    @cached_property
    def grid(self) -> np.ndarray:
        """The counts at which cosine curves are drawn."""
        return sparsity_grid(self.columns)

    @cached_property
    def cosine(self) -> np.ndarray:
        """Each row's cosine similarity at the grid, (D, P)."""
        return self.layer.cosine_curves(self.grid)

    @cached_property
    def cosine_bands(self) -> np.ndarray:
        """Percentiles of the cosines over rows, (5, P)."""
        return cosine_bands(self.cosine)

    @property
    def latest(self) -> Outcome | None:
        """The outcome used last, if any."""
        with self._lock:
            return next(reversed(self._outcomes.values()), None)

    def outcome(self, settings: SearchSettings, sensitivity: np.ndarray | None = None) -> Outcome:
        """Search the curves, or return the cached outcome of an equal search.

        Args:
            settings: the settings of TRIM's search; the optimum uses their target and measure.
            sensitivity: (D,) row weights of the optimum; None: all rows weigh the same.

        Raises:
            PresenterNeededError: a reader of a seminar changed more than the target.
        """
        if not _differs_only_in_target(settings):  # another target costs milliseconds
            SEMINAR.require("A search with other options")
        with self._lock:
            return cached(
                self._outcomes,
                (settings, sensitivity is not None),
                lambda: self._search(settings, sensitivity),
                OUTCOME_CACHE_SIZE,
            )

    def gap(self, outcome: Outcome) -> AllocationGap:
        """Return the gap between an outcome of this study and the optimum."""
        return allocation_gap(
            outcome.view.allocation("trim"),
            outcome.view.allocation("optimal"),
            uniform_quality=outcome.result.uniform_realised_quality,
            reached_quality=outcome.result.realised_quality,
            best_quality=outcome.optimum.quality,
            losses=outcome.optimum.losses,
        )

    def all_targets(self, outcome: Outcome) -> AllTargets:
        """Return the layer at other targets, under the options of an outcome."""
        settings, weights = outcome.result.settings, outcome.optimum.sensitivity
        without_target = dataclasses.replace(settings, target_sparsity=settings.max_row_sparsity)
        with self._lock:
            return cached(
                self._all_targets,
                (without_target, weights is not None),
                lambda: all_targets(self.layer, settings, weights),
                ALL_TARGETS_CACHE_SIZE,
            )

    def _search(self, settings: SearchSettings, sensitivity: np.ndarray | None) -> Outcome:
        result = self.layer.search(settings, complete=True)
        best = self.layer.optimum(result, sensitivity)
        return Outcome(result, best, self._view(result, best))

    def _view(self, result: SearchResult[np.ndarray], best: Optimum) -> LayerView:
        counts = {"uniform": result.uniform_counts, "trim": result.counts, "optimal": best.counts}
        allocations = tuple(
            RowAllocation(method, METHOD_LABELS[method], pruned, self.columns)
            for method, pruned in counts.items()
        )
        parts = self.origin.structure.layer_parts(self.key.layer)
        return LayerView(
            key=(self.key, result.settings, best.row_weights),
            name=self.key.layer,
            columns=self.columns,
            score_name=self.key.score,
            vectors=self.vectors,
            quality_measure=result.settings.layer_quality,
            target=result.settings.target_sparsity,
            gini=self.gini,
            weight_norm=self.layer.weight_norm,
            dead_rows=self.layer.dead_rows,
            sparsity_grid=self.grid / self.columns,
            cosine_curves=self.cosine,
            cosine_bands=self.cosine_bands,
            allocations=allocations,
            cosines=tuple(
                AllocatedCosine(
                    each.method,
                    each.label,
                    each.row_sparsity,
                    self.layer.cosine(counts[each.method]),
                )
                for each in allocations
            ),
            qualities={
                "uniform": result.uniform_realised_quality,
                "trim": result.realised_quality,
                "optimal": best.quality,
            },
            caps={"trim": result.settings.max_row_sparsity, "optimal": best.cap},
            search=search_view(result, self.layer.exact_qualities(result)),
            sensitivity=best.sensitivity,
            score=self.layer.score,
            masks={method: partial(self.layer.keep_mask, pruned) for method, pruned in counts.items()},
            prices=partial(self.layer.prices, best),
            input_norm=self.layer.input_norm,
            heads=layer_heads(self.key.layer, (self.rows, self.columns), self.origin.heads, parts),
            parts=parts,
        )


def _differs_only_in_target(settings: SearchSettings) -> bool:
    """Return whether only the target differs from the defaults."""
    if settings.max_row_sparsity != SearchSettings.max_row_sparsity:
        return False
    return settings == SearchSettings(settings.target_sparsity)


def search_view(result: SearchResult[np.ndarray], exact: np.ndarray) -> SearchView:
    """Convert TRIM's search for charts; `exact` holds its qualities at exact counts."""
    rate, trace = result.learning_rate, result.trace
    x = result.row_sparsity[None] if rate is None else trace.updates[rate]
    kept = 0 if rate is None else trace.best_iteration(rate)
    at_rates = np.full((len(trace.rates), x.shape[1]), np.nan, dtype=np.float32)
    for index, each in enumerate(trace.rates):
        if each in trace.updates:
            at_rates[index] = trace.updates[each][trace.best_iteration(each)]
    return SearchView(learning_rate_trace(result, exact), kept, x.T, at_rates)


def learning_rate_trace(result: SearchResult[np.ndarray], exact: np.ndarray) -> LearningRateTrace:
    """Convert a complete search for the figures; `exact` holds its qualities at exact counts."""
    trace = result.trace
    tried = {rate for rate, _ in result.tried}
    index_of: dict[float | None, int] = {rate: index for index, rate in enumerate(trace.rates)}
    return LearningRateTrace(
        rates=np.array(trace.rates),
        quality=exact,
        row_variance=trace.row_variance,
        tried=np.array([rate in tried for rate in trace.rates]),
        chosen=index_of.get(result.learning_rate),
        layer_measure=result.settings.layer_quality,
        row_measure=result.settings.row_quality,
        published=trace.quality,
    )
