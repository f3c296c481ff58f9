"""The optimum on the Layer page: alongside TRIM, the gap, further views, and what is kept as a run."""

import numpy as np
import pytest
import torch

import trim
from app.services.layer.keys import SolutionKey
from app.ui.common.waiting import laboratory
from tests.app.demo_layer import COLUMNS, LAYER, MAX_CHART_BYTES, ROWS, best_counts, quality_of
from tests.app.page import numbers, steps, trace
from trim.methods.least_squares import TextProducts


def test_what_is_shown_alongside_uniform(page, curves):
    rest = {name: page.charts[name] for name in ("gini", "rate")}
    best = best_counts(curves, 0.7).numpy()
    for shown, methods in (("Optimal", ["optimal"]), ("Both", ["trim", "optimal"])):
        page.set("segmented_control", "shown", shown)
        drawn = [each["style"] for each in page.charts["row_sparsity"]["marks"] if each["kind"] == "steps"]
        assert drawn == methods
        assert all(steps(page.charts["row_sparsity"], method).sum() == ROWS for method in methods)
        assert {name: page.charts[name] for name in rest} == rest, "what does not show an allocation stays"
    page.set("segmented_control", "shown", "Optimal")
    page.set("text_input", "rows", "7, 9")
    page.set("segmented_control", "part", "Rows")
    assert {each["name"] for each in page.charts["row_scores"]["data"]} == {"row 7", "Uniform", "Optimal"}
    np.testing.assert_array_equal(page.test.dataframe[0].value["pruned, Optimal"], best[[7, 9]] / COLUMNS)
    assert "row_path" not in page.charts
    (mark,) = (each for each in page.charts["row_prices"]["data"] if each["name"] == "optimal")
    assert numbers(mark["x"])[0] == pytest.approx(best[7] / COLUMNS)
    page.set("segmented_control", "shown", "Both")
    assert {"row_path", "row_prices"} <= page.charts.keys()
    page.set("segmented_control", "shown", "Optimal")
    page.set("segmented_control", "part", "Masks")
    assert {"mask_uniform", "mask_optimal"} == page.charts.keys()
    page.set("segmented_control", "shown", "TRIM")
    assert {"mask_uniform", "mask_trim"} == page.charts.keys()
    assert max(page.chart_bytes.values()) < MAX_CHART_BYTES


def test_the_gap(page, curves):
    result = trim.search(curves, trim.SearchSettings(0.7))
    best = quality_of(curves, best_counts(curves, 0.7))
    uniform = result.uniform_realised_quality
    captured = (result.realised_quality - uniform) / (best - uniform)
    page.set("text_input", "rows", "3, 17")
    page.set("segmented_control", "part", "Gap")
    assert any(f"TRIM makes {captured:.1%} of the optimum's gain" in text for text in page.texts)
    scatter, excess = page.charts["gap_rows"], result.counts.numpy() - best_counts(curves, 0.7).numpy()
    for name, side in (("too much", excess > 0), ("too little", excess < 0)):
        drawn = trace(scatter, name)
        assert numbers(drawn["customdata"]).tolist() == np.flatnonzero(side).tolist()
        np.testing.assert_allclose(numbers(drawn["y"]), 100 * excess[side] / COLUMNS, rtol=1e-5)
    assert numbers(trace(scatter, "selected rows")["customdata"]).tolist() == [3, 17]
    line = trace(page.charts["gap_curve"], "Optimal")
    np.testing.assert_allclose(numbers(line["x"])[8], 0.7, rtol=1e-6)
    assert numbers(line["y"])[8] == pytest.approx(best)
    curve = page.charts["gap_curve"]
    page.set("slider", "target", 60)
    assert page.charts["gap_curve"] == curve, "it shows all targets"
    assert page.charts["gap_rows"] != scatter
    page.set("segmented_control", "gap_curve_view", "Share captured")
    shares = trace(page.charts["gap_curve"], "of the layer quality (cosine over the layer)")
    assert numbers(shares["y"])[8] == pytest.approx(captured, rel=1e-5)
    assert not page.errors
    assert max(page.chart_bytes.values()) < MAX_CHART_BYTES


def solved_by_hand(curves: trim.RetentionCurves) -> trim.SolvedLayer:
    """Let the server hold the layer as SparseGPT leaves it, of its vectors alone: all tokens would take seconds."""
    study = laboratory().open_studies()[0]
    outcome = study.outcome(trim.SearchSettings(0.7))
    gram = curves.inputs @ curves.inputs.T
    norm = torch.from_numpy(study.layer.input_norm)
    sample = trim.LayerSample(LAYER, curves.weight, curves.inputs, norm, TextProducts(gram, gram))
    masks = {name: torch.from_numpy(outcome.view.masks[name]()) for name in ("trim", "optimal")}
    found = trim.solve_layer(sample, 0.7, "sparsegpt", masks=masks)
    key = SolutionKey(study.key, outcome.result.settings, False, "sparsegpt")
    laboratory()._tables[SolutionKey].job(key, lambda job: found).result(60)
    return found


def test_further_views(page, curves):
    page.set("segmented_control", "part", "More")
    result = trim.search(curves, trim.SearchSettings(0.7))
    masks = [trim.keep_mask(curves.ranks, each).numpy() for each in (result.counts, result.uniform_counts)]
    assert page.charts.keys() == {"all_targets"}
    page.set("segmented_control", "more", "Agreement")
    whole = trim.mask_agreement(*masks).whole
    assert any(f"share {whole:.1%}".replace(".", r"\.") in text for text in page.texts)
    by_hand = solved_by_hand(curves)
    whole = trim.mask_agreement(by_hand.keep.numpy(), masks[0]).whole
    page.set("selectbox", "mask_other_13", ("", "sparsegpt"))
    assert any(f"SparseGPT share {whole:.1%}".replace(".", r"\.") in text for text in page.texts)
    page.set("segmented_control", "more", "Solved")
    assert not page.charts
    page.set("segmented_control", "solver", "sparsegpt")
    (points,) = [each for each in page.charts["solved"]["data"] if each["name"] == "rows"]
    np.testing.assert_allclose(numbers(points["x"]), result.counts.numpy() / COLUMNS, rtol=1e-6)
    np.testing.assert_allclose(numbers(points["y"]), by_hand.counts / COLUMNS, rtol=1e-6)
    assert any(f"shares {whole:.0%} with TRIM" in text for text in page.texts)
    page.set("segmented_control", "solved_view", "Errors")
    assert any(each["name"] == "SparseGPT, mask alone" for each in page.charts["solved"]["data"])
    page.set("segmented_control", "more", "Signal")
    page.set("number_input", "signal_draws", 3)
    page.press("Measure")
    mean = trace(page.charts["signal"], "mean over draws")["y"]
    assert numbers(mean).mean() == pytest.approx(result.counts.numpy().mean() / COLUMNS, abs=1e-6)
    assert any("is between rows, the rest is their own uncertainty" in text for text in page.texts)
    page.set("segmented_control", "more", "Input features")
    points = page.charts["inputs"]["data"][0]
    assert len(numbers(points["x"])) == COLUMNS
    page.set("segmented_control", "more", "Channels")
    gate = page.charts["channels"]["data"][0]
    np.testing.assert_allclose(numbers(gate["x"]), result.counts.numpy() / COLUMNS, rtol=1e-6)
    assert not page.errors


@pytest.mark.parametrize(("shown", "method"), [("TRIM", "trim"), ("Optimal", "optimal"), ("Both", "optimal")])
def test_what_is_kept_is_what_is_shown(page, curves, tmp_path, monkeypatch, shown, method):
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path))
    page.set("segmented_control", "shown", shown)
    if shown == "Both":
        page.set("segmented_control", "allocation_to_keep", "Optimal")
    page.press("Keep as a run")
    (folder,) = tmp_path.iterdir()
    run = trim.open_run(folder)
    record, request = run.layer(LAYER), run.request
    assert record.allocation == request.allocation == method
    assert request.max_row_sparsity == {"trim": 0.95, "optimal": 0.99}[method]
    expected = best_counts(curves, 0.7)
    if method == "trim":
        expected = trim.search(curves, trim.SearchSettings(0.7)).counts
    np.testing.assert_array_equal(record.counts, expected)
    np.testing.assert_array_equal((~record.keep()).sum(axis=1), expected)
    assert record.realised_quality == pytest.approx(quality_of(curves, expected), rel=1e-6)
    assert (record.search is None) == (method == "optimal")
