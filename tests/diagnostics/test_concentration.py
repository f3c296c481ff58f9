import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from diagnostics.concentration import gini, gini_statistics, lorenz, lorenz_curves, summarise_gini

SCORES = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 12)),
    elements=st.floats(0, 1e6, allow_subnormal=False).map(lambda value: value if value > 1e-6 else 0.0),
)


def naive_gini(row):
    """Return half the relative mean absolute difference: the definition, as a double loop."""
    total = sum(abs(float(a) - float(b)) for a in row for b in row)
    return total / (2 * len(row) * float(np.sum(row, dtype=np.float64)))


def test_gini_equals_the_double_loop():
    scores = np.random.default_rng(0).lognormal(sigma=2, size=(7, 23)).astype(np.float32)
    scores[3] = 0
    found, others = gini(scores), np.arange(7) != 3
    assert np.isnan(found[3])
    np.testing.assert_allclose(found[others], [naive_gini(row) for row in scores[others]], rtol=1e-12)


def test_gini_of_rows_with_known_answers():
    one_holds_all = [0, 0, 0, 5]
    np.testing.assert_array_equal(gini(np.array([one_holds_all, [3, 3, 3, 3]])), [0.75, 0.0])
    assert np.isnan(gini(np.zeros((1, 4)))).all()
    assert gini(np.array([[2.0]])) == [0.0]


def test_gini_is_the_same_in_blocks(monkeypatch):
    scores = np.random.default_rng(1).random((11, 8))
    whole = gini(scores)
    monkeypatch.setattr("diagnostics.concentration._BLOCK_ENTRIES", 16)
    np.testing.assert_allclose(gini(scores), whole, rtol=1e-14)


def test_half_precision_neither_overflows_nor_saturates():
    scores = np.full((1, 4096), 6e4, dtype=np.float16)
    assert gini(scores) == [0.0]
    assert np.isfinite(gini(np.full((1, 3), 1e308))).all()


@pytest.mark.parametrize(
    "bad", [np.array([[-1.0, 2]]), np.array([[np.nan, 1]]), np.array([1.0]), np.ones((0, 3))]
)
def test_gini_refuses(bad):
    with pytest.raises(ValueError, match="scores"):
        gini(bad)


@given(SCORES, st.floats(1e-3, 1e3), st.randoms(use_true_random=False))
def test_gini_stays_in_range_and_ignores_scale_and_order(scores, scale, random):
    result = gini(scores)
    dead = ~scores.any(axis=1)
    np.testing.assert_array_equal(np.isnan(result), dead)
    assert ((result[~dead] >= 0) & (result[~dead] < 1)).all()
    columns = list(range(scores.shape[1]))
    random.shuffle(columns)
    np.testing.assert_allclose(gini(scale * scores[:, columns]), result, atol=1e-9)


@given(SCORES)
def test_lorenz_is_convex_below_the_diagonal_and_its_area_is_the_gini(scores):
    row = scores[0]
    population, share = lorenz(row, points=len(row) + 1)
    if not row.any():
        assert np.isnan(share).all()
        return
    assert share[0] == 0
    assert share[-1] == pytest.approx(1)
    assert (share <= population + 1e-9).all()
    assert (np.diff(share, n=2) >= -1e-9).all()
    assert 1 - 2 * np.trapezoid(share, population) == pytest.approx(gini(scores[:1])[0], abs=1e-9)


def test_lorenz_has_the_asked_points():
    population, share = lorenz(np.arange(1000.0))
    assert population.shape == share.shape == (129,)
    with pytest.raises(ValueError, match="two points"):
        lorenz(np.ones(3), points=1)


def test_summary_counts_rows_without_a_gini():
    summary = summarise_gini(np.array([0.1, 0.2, np.nan, 0.3]))
    assert (summary.rows, summary.undefined, summary.median) == (4, 1, pytest.approx(0.2))
    nothing = summarise_gini(np.full(3, np.nan))
    assert nothing.undefined == 3
    assert np.isnan(nothing.median)


def test_statistics_share_bins_between_scores_of_any_length():
    statistics = gini_statistics({"wanda": np.array([0.2, 0.4, np.nan]), "magnitude": np.array([0.3])})
    assert statistics.histogram.counts.sum(axis=1).tolist() == [2, 1]
    with pytest.raises(ValueError, match="at least one"):
        gini_statistics({})


def test_lorenz_curves_of_chosen_rows():
    scores = np.array([[1.0, 1, 1], [0, 0, 0], [0, 0, 1]])
    curves = lorenz_curves(scores, [2, 1, 2])
    assert [curve.row for curve in curves] == [2, 1]
    assert curves[0].gini == pytest.approx(2 / 3)
    assert np.isnan(curves[1].gini)
    with pytest.raises(ValueError, match="0 to 2"):
        lorenz_curves(scores, [3])
