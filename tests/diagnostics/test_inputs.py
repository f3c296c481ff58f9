"""Kept weights by input feature, against loops in float64; their figures."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from diagnostics.figures.inputs import features_by_norm_figure, features_sorted_figure, shared_features_figure
from diagnostics.inputs import feature_statistics, outlier_features

MASK = np.random.default_rng(0).random((7, 12)) < np.linspace(0.1, 0.9, 12)
NORM = np.exp(np.random.default_rng(1).normal(size=12))


def test_kept_weights_are_counted_by_column():
    found = feature_statistics("trim", "TRIM", MASK, NORM)
    kept = [sum(bool(MASK[row, column]) for row in range(7)) for column in range(12)]
    np.testing.assert_array_equal(found.kept, kept)
    np.testing.assert_allclose(found.share, np.array(kept) / 7)
    pairs = sum(abs(a - b) for a in kept for b in kept)
    assert found.gini == pytest.approx(pairs / (2 * 12 * sum(kept))), (
        "mean absolute difference over twice the mean"
    )
    assert found.top_share == max(kept) / sum(kept)
    assert found.with_norm.coefficient == pytest.approx(spearmanr(NORM, kept).statistic)
    nothing = feature_statistics("trim", "TRIM", np.zeros((2, 3), bool))
    assert np.isnan([nothing.gini, nothing.top_share]).all()
    assert nothing.with_norm is None
    with pytest.raises(ValueError, match="bool matrix"):
        feature_statistics("trim", "TRIM", MASK.astype(float))
    with pytest.raises(ValueError, match="input_norm must have shape"):
        feature_statistics("trim", "TRIM", MASK, NORM[1:])


def test_outliers_come_largest_first():
    assert outlier_features(np.array([1.0, 9, 1, 1, 30, 4.9, 1])).tolist() == [4, 1]
    assert outlier_features(np.ones(4)).tolist() == []


def test_figures_name_features():
    found = [feature_statistics(method, method, MASK, NORM) for method in ("uniform", "trim")]
    norm = NORM.copy()
    norm[3], norm[5] = 0.0, 80.0
    figure = features_by_norm_figure(found, norm, outlier_features(norm))
    assert 3 not in figure.data[0].customdata, "a feature that is always 0 has no place on a logarithmic axis"
    assert [note.text for note in figure.layout.annotations] == ["5"]
    lines = features_sorted_figure(found).data
    assert list(lines[1].y) == sorted(lines[1].y, reverse=True)
    (points,) = shared_features_figure(found[0].share, {"<b>": found[1].share}, "0.q").data
    np.testing.assert_allclose(points.y, found[1].share, rtol=1e-6)
    assert points.name == "&lt;b&gt;"
