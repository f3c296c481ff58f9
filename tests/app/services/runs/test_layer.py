"""A layer of a run in the shapes of the figures: every figure draws it, and the numbers are those of the run."""

import dataclasses

import numpy as np
import pytest

import trim
from app.services.runs.layer import LayerView
from app.ui.common.explanations import scatter_finding
from app.ui.layer import text
from app.ui.layer.cards import CHANGES, row_numbers
from diagnostics.allocation import row_scatter, row_sparsity_statistics
from diagnostics.figures.allocation import row_sparsity_histogram
from diagnostics.figures.concentration import gini_histogram
from diagnostics.figures.learning_rate import rate_figure
from diagnostics.figures.scatter import row_scatter_figure
from diagnostics.figures.similarity import cosine_figure
from diagnostics.similarity import cosine_statistics
from tests.app.small_runs import make_run
from trim.errors import RunError
from trim.runs.folder import Run
from trim.runs.record import CHANGE_ARRAYS

NAME = "1.mlp.gate_proj"


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    """A run of each allocation, and one without masks."""
    folder = tmp_path_factory.mktemp("runs")
    runs = {name: make_run(folder / name, name) for name in ("uniform", "trim", "optimal")}
    runs["bare"] = make_run(folder / "bare", mask=False)
    return {name: trim.open_run(path) for name, path in runs.items()}


def test_what_became_of_changed_weights(runs):
    """Of unchanged ones there is nothing; each array is a scatter and a column of the table."""
    record = runs["optimal"].layer(NAME)
    assert not LayerView.of(runs["optimal"], record).changes
    arrays = {key: np.linspace(0.1, 0.9, 12, dtype=np.float32) for key in CHANGE_ARRAYS}
    kept = np.zeros(12 * 40 - record.pruned, dtype=np.float16)
    changed = dataclasses.replace(record, error_left=0.5, kept_weights=kept, **arrays)
    view = LayerView.of(runs["optimal"], changed)
    assert list(view.changes) == list(CHANGES) == list(CHANGE_ARRAYS)
    assert set(CHANGE_ARRAYS) <= row_numbers(view).keys()
    for key, values in view.changes.items():
        scatter = row_scatter(view.own, key, values)
        assert row_scatter_figure([scatter]).data
        assert " pruned " in scatter_finding(scatter)


@pytest.mark.parametrize("allocation", ["uniform", "trim", "optimal"])
def test_figures_draw_it(runs, allocation):
    record = runs[allocation].layer(NAME, mask=False)
    layer = LayerView.of(runs[allocation], record)
    methods = ["uniform"] if allocation == "uniform" else ["uniform", allocation]
    assert [each.method for each in layer.allocations] == [each.method for each in layer.cosines] == methods
    assert list(layer.qualities) == methods
    assert layer.own.layer_sparsity == layer.allocations[0].layer_sparsity == layer.target == 0.5
    assert (layer.rows, layer.columns, layer.pruned) == (12, 40, record.pruned)
    assert layer.qualities[allocation] == record.realised_quality
    assert layer.qualities["uniform"] == record.uniform_quality
    np.testing.assert_array_equal(layer.cosines[-1].cosine, record.cosine)
    np.testing.assert_array_equal(layer.cosines[0].cosine, record.cosine_uniform)
    np.testing.assert_array_equal(layer.coefficients, record.gini)
    assert row_sparsity_histogram(row_sparsity_statistics(layer.allocations)).data
    assert gini_histogram(layer.gini).data
    statistics = cosine_statistics(
        layer.cosine_curves, layer.sparsity_grid, layer.target, layer.cosines, rows=[3]
    )
    assert cosine_figure(statistics).data
    assert layer.cosine_curves.shape == (12, len(layer.sparsity_grid))


def test_the_search_as_it_was_recorded(runs):
    record = runs["trim"].layer(NAME)
    search, view = record.search, LayerView.of(runs["trim"], record).search
    trace = view.trace
    assert trace.rates[trace.tried].tolist() == [rate for rate, _ in search.tried]
    assert view.learning_rate == search.learning_rate
    np.testing.assert_array_equal(view.kept_x, search.row_sparsity[search.best_iteration])
    np.testing.assert_array_equal(trace.quality, search.exact_quality)
    np.testing.assert_array_equal(trace.published, search.quality)
    assert trace.kept_iteration[trace.chosen] == search.best_iteration
    assert trace.kept_quality[trace.chosen] == pytest.approx(record.realised_quality, rel=1e-12)
    np.testing.assert_array_equal(trace.computed, np.isfinite(search.quality[:, 1:]).any(axis=1))
    assert rate_figure(trace).data
    assert LayerView.of(runs["optimal"], runs["optimal"].layer(NAME)).search is None


def test_a_run_from_before_exact_qualities_were_kept_says_so(runs):
    record = runs["trim"].layer(NAME)
    old = dataclasses.replace(record, search=dataclasses.replace(record.search, exact_quality=None))
    view = LayerView.of(runs["trim"], old).search
    np.testing.assert_array_equal(view.trace.quality, record.search.quality)
    assert view.trace.published is None
    assert "as this run kept it" in text.rate_finding(view)
    assert text.published_finding(view) == ""
    new = LayerView.of(runs["trim"], record).search
    assert "holds only" not in text.rate_finding(new)
    assert "Crosses" in text.published_finding(new)


def test_what_a_run_does_not_store(runs):
    layer = LayerView.of(runs["trim"], runs["trim"].layer(NAME, mask=False))
    assert layer.score is None
    assert layer.prices is None
    assert list(layer.masks) == ["trim"]
    np.testing.assert_array_equal((~layer.masks["trim"]()).sum(axis=1), layer.own.counts)
    bare = LayerView.of(runs["bare"], runs["bare"].layer(NAME))
    with pytest.raises(RunError, match="kept without masks"):
        bare.masks["trim"]()


def test_uniform_instead_of_the_runs_own(runs):
    layer = LayerView.of(runs["trim"], runs["trim"].layer(NAME))
    uniform = layer.showing({"uniform"})
    assert [each.method for each in uniform.allocations] == [each.method for each in uniform.cosines]
    assert uniform.own is layer.allocations[0]
    assert uniform.search is layer.search
    assert uniform.own.layer_sparsity == layer.own.layer_sparsity


def test_a_search_that_contradicts_itself_is_refused(runs):
    record = runs["trim"].layer(NAME)
    search = dataclasses.replace(record.search, quality=np.full_like(record.search.quality, np.nan))
    with pytest.raises(RunError, match="damaged"):
        LayerView.of(runs["trim"], dataclasses.replace(record, search=search))
