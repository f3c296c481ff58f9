"""The first view of the shipped layer, computed when it was shipped. Imports no numba."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from app.services.layer.array_layer import ArrayLayer
from app.services.layer.keys import FIRST_TARGET_PERCENT
from app.services.layer.swept import Optimum, optimal_cap
from diagnostics.similarity import sparsity_grid
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import SearchResult, SearchTrace

FIRST_SETTINGS = SearchSettings(FIRST_TARGET_PERCENT / 100)


@dataclass(frozen=True, eq=False)
class FirstView:
    """The outcome of a layer at the first target, and the parts of its curves that its charts need.

    Attributes:
        numbers: the scalars of a `SearchResult` and an `Optimum`, by their names.
        arrays: by their names, with "updates" (R, K + 1, D), "exact" (R, K + 1), "curves" (D, P), "cosines" (3, D)
            under uniform, TRIM and the optimum, "weight_norm" and "output_norm" (D,).
    """

    numbers: dict
    arrays: dict[str, np.ndarray] = field(repr=False)

    @classmethod
    def of(cls, layer: ArrayLayer) -> FirstView:
        """Search a layer at the first target."""
        result = layer.search(FIRST_SETTINGS, complete=True)
        best = layer.optimum(result, None)
        trace = result.trace
        three = (result.uniform_counts, result.counts, best.counts)
        names = "learning_rate tried layer_quality uniform_quality realised_quality uniform_realised_quality"
        return cls(
            {name: getattr(result, name) for name in names.split()}
            | {"rates": trace.rates, "best": best.quality, "losses": best.losses, "price": best.price},
            {
                "row_sparsity": result.row_sparsity,
                "counts": result.counts,
                "uniform_counts": result.uniform_counts,
                "dead_rows": result.dead_rows,
                "quality": trace.quality,
                "row_variance": trace.row_variance,
                "updates": np.stack([trace.updates[rate] for rate in trace.rates]),
                "exact": layer.exact_qualities(result),
                "best_counts": best.counts,
                "curves": layer.cosine_curves(sparsity_grid(layer.columns)),
                "cosines": np.stack([layer.cosine(counts) for counts in three]),
                "weight_norm": layer.weight_norm,
                "output_norm": layer.output_norm,
            },
        )

    @cached_property
    def result(self) -> SearchResult[np.ndarray]:
        """The complete search."""
        numbers, arrays = self.numbers, self.arrays
        rates = tuple(numbers["rates"])
        return SearchResult(
            FIRST_SETTINGS,
            numbers["learning_rate"],
            [(rate, quality) for rate, quality in numbers["tried"]],
            numbers["layer_quality"],
            numbers["uniform_quality"],
            numbers["realised_quality"],
            numbers["uniform_realised_quality"],
            arrays["row_sparsity"],
            arrays["counts"],
            arrays["uniform_counts"],
            arrays["dead_rows"],
            SearchTrace(
                rates,
                arrays["quality"],
                arrays["row_variance"],
                dict(zip(rates, arrays["updates"], strict=True)),
            ),
        )

    @cached_property
    def optimum(self) -> Optimum:
        """The optimum at the same target, with all rows weighing the same."""
        uniform, reached, best = self.numbers["losses"]
        return Optimum(
            self.arrays["best_counts"],
            self.numbers["best"],
            (uniform, reached, best),
            optimal_cap(FIRST_SETTINGS),
            self.numbers["price"],
        )


class PreparedLayer(ArrayLayer):
    """A layer that answers the first view's questions from its file, and is swept for any other."""

    def __init__(self, first: FirstView, *arrays: np.ndarray) -> None:
        """Take the precomputed view, and the arrays of an `ArrayLayer`."""
        super().__init__(*arrays)
        self._first = first
        for name in ("weight_norm", "output_norm", "dead_rows"):  # instead of computing them
            vars(self)[name] = first.arrays[name]

    def cosine_curves(self, counts: np.ndarray) -> np.ndarray:
        """Return each row's cosine similarity after (P,) numbers of pruned weights, (D, P)."""
        if np.array_equal(counts, sparsity_grid(self.columns)):
            return self._first.arrays["curves"]
        return super().cosine_curves(counts)

    def cosine(self, counts: np.ndarray) -> np.ndarray:
        """Return each row's cosine similarity at the counts (D,)."""
        result = self._first.result
        computed = (result.uniform_counts, result.counts, self._first.optimum.counts)
        for index, each in enumerate(computed):
            if np.array_equal(counts, each):
                cosine: np.ndarray = self._first.arrays["cosines"][index]
                return cosine
        return super().cosine(counts)

    def search(self, settings: SearchSettings, *, complete: bool = False) -> SearchResult[np.ndarray]:
        """Run TRIM; see `ArrayLayer`."""
        if complete and settings == FIRST_SETTINGS:
            return self._first.result
        return super().search(settings, complete=complete)

    def exact_qualities(self, result: SearchResult[np.ndarray]) -> np.ndarray:
        """Return the quality of every update of a search at exact counts, (R, K + 1)."""
        if result is self._first.result:
            return self._first.arrays["exact"]
        return super().exact_qualities(result)

    def optimum(self, result: SearchResult[np.ndarray], sensitivity: np.ndarray | None) -> Optimum:
        """Return the optimal counts for the total and the measure of a search."""
        if result is self._first.result and sensitivity is None:
            return self._first.optimum
        return super().optimum(result, sensitivity)
