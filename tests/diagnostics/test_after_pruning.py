"""What is left after pruning: Gini of the kept scores, and the cosines of the rows."""

import numpy as np
import pytest

from diagnostics.concentration import gini, gini_of_kept
from diagnostics.figures.similarity import cosine_histogram
from diagnostics.similarity import AllocatedCosine, cosine_distribution


def test_gini_of_kept_is_the_gini_of_the_scores_that_are_left():
    random = np.random.default_rng(0)
    scores = random.exponential(size=(12, 20))
    counts = random.integers(0, 20, size=12)
    expected = [
        gini(np.sort(row)[None, count:])[0] for row, count in zip(scores, counts.tolist(), strict=True)
    ]
    np.testing.assert_allclose(gini_of_kept(scores, counts), expected, atol=1e-12)


def test_nothing_left_has_no_gini():
    scores = np.array([[0.0, 0.0, 3.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    assert np.isnan(gini_of_kept(scores, np.array([1, 3, 0]))).tolist() == [False, True, True]
    with pytest.raises(ValueError, match=r"0\.\.3"):
        gini_of_kept(scores, np.array([0, 4, 0]))


def test_cosine_distribution_shares_bins_and_leaves_dead_rows_out():
    uniform = AllocatedCosine("uniform", "Uniform", np.full(4, 0.5), np.array([0.9, 0.8, 0.7, 0.0]))
    trim = AllocatedCosine("trim", "TRIM", np.full(4, 0.5), np.array([0.85, 0.85, 0.8, 0.0]))
    distribution = cosine_distribution([uniform, trim], np.array([False, False, False, True]))
    assert distribution.medians == (0.8, 0.85)
    assert distribution.histogram.counts.sum(axis=1).tolist() == [3, 3]
    figure = cosine_histogram(distribution)
    assert [trace.name for trace in figure.data] == ["Uniform", "TRIM"]
    assert figure.data[0].line.color != figure.data[1].line.color
    assert figure.layout.xaxis.range[1] < 1, "no label widens the axis"
    assert "1 row" in figure.layout.title.subtitle.text
    assert "cosine" in figure.layout.xaxis.title.text


def test_cosine_distribution_needs_matching_rows():
    one = AllocatedCosine("trim", "TRIM", np.full(2, 0.5), np.array([0.9, 0.8]))
    with pytest.raises(ValueError, match="cosine of TRIM"):
        cosine_distribution([one], np.zeros(3, dtype=bool))
    with pytest.raises(ValueError, match="at least one"):
        cosine_distribution([], np.zeros(3, dtype=bool))


def test_a_layer_of_dead_rows_only_still_draws():
    one = AllocatedCosine("trim", "TRIM", np.full(2, 0.5), np.zeros(2))
    figure = cosine_histogram(cosine_distribution([one], np.ones(2, dtype=bool)))
    assert figure.data[0].y.sum() == 0
