"""A stored layer in the shapes of the figures: every figure draws it, and the numbers are those of the run."""

import dataclasses

import numpy as np
import pytest

from app.services.runs.layer import StoredLayer
from diagnostics.allocation import row_sparsity_statistics
from diagnostics.figures.allocation import row_sparsity_histogram
from diagnostics.figures.concentration import gini_histogram
from diagnostics.figures.learning_rate import rate_figure
from diagnostics.figures.similarity import cosine_figure
from diagnostics.similarity import cosine_statistics
from tests.app.small_runs import record
from trim.errors import RunError


def stored(allocation: str) -> StoredLayer:
    return StoredLayer(record("1.mlp.gate_proj", allocation), "cosim")


@pytest.mark.parametrize("allocation", ["uniform", "trim", "optimal"])
def test_figures_draw_it(allocation):
    layer = stored(allocation)
    methods = ["uniform"] if allocation == "uniform" else ["uniform", allocation]
    assert [each.method for each in layer.allocations] == [each.method for each in layer.cosines] == methods
    assert layer.allocations[-1].layer_sparsity == layer.allocations[0].layer_sparsity == 0.5
    np.testing.assert_array_equal(layer.cosines[-1].cosine, layer.record.cosine)
    np.testing.assert_array_equal(layer.cosines[0].cosine, layer.record.cosine_uniform)
    assert row_sparsity_histogram(row_sparsity_statistics(layer.allocations)).data
    assert gini_histogram(layer.gini).data
    statistics = cosine_statistics(layer.cosine_curves, layer.sparsity_grid, 0.5, layer.cosines, rows=[3])
    assert cosine_figure(statistics).data
    assert layer.cosine_curves.shape == (12, len(layer.sparsity_grid))


def test_the_search_as_it_was_recorded():
    layer = stored("trim")
    search, trace = layer.record.search, layer.trace
    assert trace.rates[trace.tried].tolist() == [rate for rate, _ in search.tried]
    assert (None if trace.chosen is None else trace.rates[trace.chosen]) == search.learning_rate
    computed = np.isfinite(search.quality[:, 1:]).any(axis=1)
    assert (trace.exhaustive is None) == (not computed.all())
    assert np.isnan(trace.quality[~computed]).all()
    assert rate_figure(trace).data
    assert stored("optimal").trace is None


def test_a_search_that_contradicts_itself_is_refused():
    layer = stored("trim")
    search = dataclasses.replace(
        layer.record.search, quality=np.full_like(layer.record.search.quality, np.nan)
    )
    broken = StoredLayer(dataclasses.replace(layer.record, search=search), "cosim")
    with pytest.raises(RunError, match="damaged"):
        _ = broken.trace
