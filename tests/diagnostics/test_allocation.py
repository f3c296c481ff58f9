import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from diagnostics.allocation import (
    CURVE_POINTS,
    SCATTER_POINTS,
    ecdf,
    ranked_rows,
    row_scatter,
    row_sparsity_statistics,
)
from diagnostics.comparison import compare_allocations
from diagnostics.numeric import rank_correlation
from tests.diagnostics.figure_cases import allocation

COUNTS = arrays(np.int64, st.integers(1, 30), elements=st.integers(0, 50))


@pytest.mark.parametrize("counts", [[1.5], [-1], [51], [[1]], []])
def test_allocation_refuses(counts):
    with pytest.raises(ValueError, match="counts"):
        allocation(counts)


def test_allocation_states_its_sparsities():
    trim = allocation([0, 25, 50])
    assert trim.row_sparsity.tolist() == [0, 0.5, 1]
    assert trim.layer_sparsity == 0.5


@given(COUNTS)
def test_ecdf_rises_to_one_and_counts_rows(counts):
    sparsity = counts / 50
    steps = ecdf(sparsity)
    assert (np.diff(steps.values) > 0).all()
    assert (np.diff(steps.share) > 0).all()
    assert steps.share[-1] == 1
    for value, share in zip(steps.values, steps.share, strict=True):
        assert share == pytest.approx(np.mean(sparsity <= value))


def test_curves_of_wide_layers_are_thinned_exactly():
    sparsity = np.random.default_rng(0).permutation(14_000) / 14_000
    steps, ranked = ecdf(sparsity), ranked_rows(sparsity)
    assert len(steps.share) == len(ranked.rows) == CURVE_POINTS
    assert steps.share[-1] == 1
    np.testing.assert_allclose(steps.share, steps.values + 1 / 14_000)
    np.testing.assert_array_equal(sparsity[ranked.rows], ranked.row_sparsity)
    assert (ranked.row_sparsity[0], ranked.row_sparsity[-1]) == (sparsity.min(), sparsity.max())


def test_ranks_break_ties_by_row():
    ranked = ranked_rows(np.array([0.5, 0.1, 0.5]))
    assert ranked.rows.tolist() == [1, 0, 2]
    assert ranked.all_rank_fraction.tolist() == [0.5, 0, 1]
    assert ranked_rows(np.array([0.7])).rank_fraction.tolist() == [0]


def test_statistics_of_allocations_of_any_shape():
    same = row_sparsity_statistics([allocation([10, 20], method="uniform"), allocation([5, 25])])
    assert same.histogram.counts.sum(axis=1).tolist() == [2, 2]
    other = row_sparsity_statistics([allocation([10, 20]), allocation([5, 25, 30], columns=64)])
    assert other.histogram.counts.sum(axis=1).tolist() == [2, 3]
    with pytest.raises(ValueError, match="at least one"):
        row_sparsity_statistics([])


def test_correlation_equals_scipy():
    rng = np.random.default_rng(0)
    first = rng.normal(size=50)
    second = first + rng.normal(size=50)
    result = rank_correlation(np.append(first, np.nan), np.append(second, 1))
    assert (result.coefficient, result.p_value) == pytest.approx(spearmanr(first, second))
    assert result.rows == 50


@pytest.mark.parametrize(
    ("first", "second"),
    [([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3], [5, 5, 5]), ([1, 2], [2, 1]), ([np.nan] * 4, [1, 2, 3, 4])],
)
def test_no_correlation_where_there_is_none(first, second):
    assert rank_correlation(np.array(first, float), np.array(second, float)) is None


def test_scatter_keeps_all_rows_of_small_layers():
    scatter = row_scatter(allocation([1, 2, 3, 4]), "gini", np.array([0.1, np.nan, 0.3, 0.2]))
    assert scatter.rows.tolist() == [0, 2, 3]
    assert (scatter.total_rows, scatter.thinned) == (3, False)
    with pytest.raises(ValueError, match="gini"):
        row_scatter(allocation([1, 2]), "gini", np.ones(3))


def test_scatter_thins_wide_layers_the_same_way_each_time():
    rng = np.random.default_rng(0)
    wide = allocation(rng.integers(0, 51, 14_000))
    values = rng.normal(size=14_000)
    selected = [3, 7_000, 13_999]
    scatter = row_scatter(wide, "gini", values, selected)
    assert len(scatter.rows) == SCATTER_POINTS
    assert scatter.thinned
    assert {*selected, int(values.argmin()), int(values.argmax())} <= set(scatter.rows.tolist())
    assert {scatter.heights.min(), scatter.heights.max()} == {0, 1}
    assert scatter.correlation.rows == 14_000
    np.testing.assert_array_equal(scatter.rows, row_scatter(wide, "gini", values, selected).rows)
    np.testing.assert_array_equal(values[scatter.rows], scatter.values)


def test_scatter_of_more_selected_rows_than_points_keeps_all_of_them():
    wide = allocation(np.arange(14_000) % 50)
    everything = range(14_000)
    scatter = row_scatter(wide, "gini", np.arange(14_000.0), everything)
    assert len(scatter.rows) == 14_000


def test_rows_moved_most_come_first():
    comparison = compare_allocations(allocation([10, 10, 10, 10]), allocation([10, 5, 20, 14]))
    assert [(move.row, move.change) for move in comparison.moved] == [
        (2, pytest.approx(0.2)),
        (1, pytest.approx(-0.1)),
        (3, pytest.approx(0.08)),
    ]
    assert comparison.correlation is None
    assert len(compare_allocations(allocation([1, 2, 3]), allocation([3, 4, 6]), limit=1).moved) == 1


def test_rows_that_moved_alike_come_in_row_order():
    # As shares, 3/10 - 1/10, 5/10 - 3/10 and 9/10 - 7/10 differ in their last bits.
    comparison = compare_allocations(
        allocation([7, 3, 1, 0], columns=10),
        allocation(np.array([9, 5, 3, 2], np.uint8), columns=10),
        limit=3,
    )
    assert [move.row for move in comparison.moved] == [0, 1, 2]


def test_identical_allocations_do_not_differ():
    comparison = compare_allocations(allocation([1, 2, 3]), allocation([1, 2, 3]))
    assert (comparison.ks_distance, comparison.wasserstein_distance, comparison.moved) == (0, 0, ())
    assert comparison.correlation.coefficient == pytest.approx(1)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (allocation([1, 2, 3, 4]), "3 and 4 rows"),
        (allocation([1, 2, 3], columns=1024), "50 and 1,024 weights"),
    ],
)
def test_layers_of_another_shape_are_compared_as_distributions_only(other, reason):
    comparison = compare_allocations(allocation([1, 2, 3]), other)
    assert reason in comparison.why_unpaired
    assert (comparison.correlation, comparison.moved) == (None, ())
    assert comparison.ks_distance > 0
