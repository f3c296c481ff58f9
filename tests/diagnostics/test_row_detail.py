import numpy as np
import pytest

from diagnostics.allocation import PICTURE_LIMIT, pool_mask
from diagnostics.row_detail import SCORE_POINTS, row_paths, row_prices, row_scores
from tests.diagnostics.figure_cases import allocation


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (512, 513), (1025, 700), (1, 2000)])
def test_pooled_mask_equals_the_means_of_its_blocks(shape):
    mask = np.random.default_rng(0).random(shape) < 0.3
    density = pool_mask(mask)
    assert max(density.kept_fraction.shape) <= PICTURE_LIMIT
    expected = [
        [
            mask[top : top + density.row_block, left : left + density.column_block].mean()
            for left in range(0, shape[1], density.column_block)
        ]
        for top in range(0, shape[0], density.row_block)
    ]
    np.testing.assert_allclose(density.kept_fraction, expected, rtol=1e-6)
    assert density.layer_sparsity == pytest.approx(1 - mask.mean())


def test_mask_must_be_a_bool_matrix():
    with pytest.raises(ValueError, match="bool matrix"):
        pool_mask(np.ones((2, 2)))
    with pytest.raises(ValueError, match="bool matrix"):
        pool_mask(np.ones(2, bool))


def test_row_scores_are_sorted_and_cut_where_the_count_says():
    result = row_scores(1, np.array([3.0, 1, 4, 2]), [allocation([0, 2], 4)])
    assert result.scores.tolist() == [1, 2, 3, 4]
    assert result.weight_fraction.tolist() == [0.125, 0.375, 0.625, 0.875]
    (border,) = result.borders
    assert (border.pruned, border.row_sparsity, border.score_share) == (2, 0.5, pytest.approx(0.3))


def test_row_scores_of_wide_zero_and_single_rows():
    wide = row_scores(0, np.arange(14_000.0), [])
    assert len(wide.scores) <= SCORE_POINTS
    assert (wide.scores[0], wide.scores[-1]) == (0, 13_999)
    assert np.isnan(row_scores(0, np.zeros(4), [allocation([2], 4)]).borders[0].score_share)
    assert row_scores(0, np.array([5.0]), []).weight_fraction.tolist() == [0.5]


def test_row_scores_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="negative"):
        row_scores(0, np.array([-1.0, 1]), [])
    with pytest.raises(ValueError, match="trim prunes rows of 5 weights, not 2"):
        row_scores(0, np.array([1.0, 1]), [allocation([1], 5)])
    with pytest.raises(ValueError, match="0 to 0"):
        row_scores(1, np.array([1.0, 1]), [allocation([1], 2)])


def test_row_paths_pick_rows():
    settings = {"learning_rate": 0.01, "target": 0.5, "cap": 0.95}
    x = np.array([[0.5, 0.4], [0.5, 0.6], [0.5, 0.5]])
    paths = row_paths(x, x[:, 1], [2, 0], kept_iteration=1, **settings)
    assert paths.rows.tolist() == [2, 0]
    assert paths.x.tolist() == [[0.5, 0.5], [0.5, 0.4]]
    with pytest.raises(ValueError, match="kept_iteration"):
        row_paths(x, x[:, 1], [0], kept_iteration=2, **settings)
    with pytest.raises(ValueError, match="row_sparsity"):
        row_paths(x, x[:2, 1], [0], kept_iteration=0, **settings)


def test_row_prices():
    prices = row_prices(7, [3, 1, 2], np.array([0.0, 0.5, 2.0]), 0.5, 4, 8)
    assert prices.row_sparsity.tolist() == [0, 3 / 8, 4 / 8, 6 / 8]
    assert prices.next_price == 2
    assert row_prices(7, [3, 1, 2], np.array([0.0, 0.5, 2.0]), 0.5, 5, 8).next_price == 2  # within a step
    assert np.isnan(row_prices(7, [3, 1, 2], np.array([0.0, 0.5, 2.0]), 9.0, 6, 8).next_price)
    with pytest.raises(ValueError, match="ascend"):
        row_prices(0, [1, 1], np.array([2.0, 1.0]), 1.0, 1, 4)
    with pytest.raises(ValueError, match="4 weights cannot lose 5"):
        row_prices(0, [3, 2], np.array([1.0, 2.0]), 1.0, 1, 4)
    with pytest.raises(ValueError, match="lengths"):
        row_prices(0, [3], np.array([1.0, 2.0]), 1.0, 1, 4)
