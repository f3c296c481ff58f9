"""The Layer page as it opens: its charts and its numbers are those of the library."""

import numpy as np
import torch

import trim
from diagnostics.format import number
from tests.app.demo_layer import COLUMNS, FOUR_CHARTS, MAX_CHART_BYTES, ROWS, best_counts, quality_of
from tests.app.page import steps


def test_the_first_visit_needs_no_click(first_visit):
    assert first_visit.test.title[0].value == r"15\.mlp\.gate\_proj"
    assert any("SmolLM2" in text for text in first_visit.texts)
    assert list(first_visit.charts) == FOUR_CHARTS
    assert not first_visit.errors
    assert not first_visit.test.warning
    assert first_visit.test.slider(key="target").value == 70


def test_metrics_are_what_the_library_finds(first_visit, curves):
    result = trim.search(curves, trim.SearchSettings(0.7))
    assert first_visit.metrics == {
        "Quality: Uniform": number(result.uniform_realised_quality, 5),
        "TRIM": number(result.realised_quality, 5),
        "Optimal": number(quality_of(curves, best_counts(curves, 0.7)), 5),
        "η": f"{result.learning_rate:+g}",
        "Pruned": "70.00%",
    }


def test_charts_hold_the_layers_own_numbers(first_visit, curves):
    charts, (content, places) = first_visit.charts, first_visit.linked
    assert steps(charts["gini"], "score").sum() == steps(charts["row_sparsity"], "trim").sum() == ROWS
    median = next(mark for mark in charts["cosine"]["marks"] if mark["kind"] == "line")
    counts = torch.from_numpy(np.rint(np.array(median["x"]) * COLUMNS)).long()
    expected = np.log10(np.maximum(1 - np.median(curves.cosine[:, counts].cpu().numpy(), axis=0), 1e-9))
    axis = charts["cosine"]["y"]
    np.testing.assert_allclose(median["y"], np.clip(expected, axis["low"], axis["high"]), atol=1e-4)
    result = trim.search(curves, trim.SearchSettings(0.7))
    (tried,) = [mark for mark in charts["rate"]["marks"] if mark["style"] == "gain"]
    assert len(tried["x"]) == len(result.tried)
    np.testing.assert_array_equal(places["count_trim"], result.counts)
    assert content["rows"] == ROWS
    assert {name: len(values) for name, values in places.items()}["curves"] == ROWS * len(content["samples"])


def test_no_chart_is_heavy(first_visit):
    assert max(first_visit.chart_bytes.values()) < MAX_CHART_BYTES
