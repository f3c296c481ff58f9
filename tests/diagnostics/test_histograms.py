import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from diagnostics.numeric import MAX_BINS, count_edges, histogram, round_edges

VALUES = arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e4, 1e4, allow_subnormal=False))


@given(VALUES, VALUES)
def test_every_finite_value_falls_into_one_of_few_round_bins(first, second):
    edges = round_edges([first, second])
    assert 2 <= len(edges) <= MAX_BINS + 3
    assert (np.diff(edges) > 0).all()
    counts = histogram([first, second], edges).counts
    assert counts.sum(axis=1).tolist() == [len(first), len(second)]


@given(VALUES)
def test_members_are_the_rows_of_the_bars(values):
    bins = histogram([values], round_edges([values]))
    for index, count in enumerate(bins.counts[0]):
        assert len(bins.members(values, [index])) == count
    assert bins.members(values, range(len(bins.centers))).tolist() == list(range(len(values)))


def test_values_that_are_not_finite_are_counted_apart():
    values = np.array([0.5, np.nan, np.inf])
    bins = histogram([values], round_edges([values]))
    assert bins.counts.sum() == 1
    assert bins.members(values, range(len(bins.centers))).tolist() == [0]
    assert round_edges([np.array([np.nan])]).tolist() == [0.0, 1.0]


def test_bins_of_counts_hold_the_same_number_of_possible_counts():
    """Even counts give an even histogram: bins cut across counts would draw a comb."""
    columns = 576
    counts = np.arange(300, 300 + 3 * MAX_BINS)
    edges = count_edges([counts], columns)
    assert set(histogram([counts / columns], edges).counts[0].tolist()) == {3}


@pytest.mark.parametrize("counts", [np.array([7]), np.array([0, 10]), np.array([4, 5, 5])])
def test_bins_of_few_counts(counts):
    edges = count_edges([counts], 10)
    assert histogram([counts / 10], edges).counts.sum() == len(counts)
    assert len(edges) - 1 == np.ptp(counts) + 1
